//! A proxy in front of the server of the tests. It cuts connections, sends replies of its own, and disappears.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::io::{BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::server::{self, frame};

/// What happens to one call of a script.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// Whether the server carries it out.
    pub delivered: bool,
    pub then: Then,
}

#[derive(Clone, Copy, Debug)]
pub enum Then {
    /// The server's reply is passed on.
    Reply,
    /// The client gets this reply, with the proxy's address for `{here}`.
    Say(&'static str),
    /// The connection is closed.
    Cut,
    /// All connections are closed, and no other can be opened.
    Vanish,
}

pub const PASS: Act = act(true, Then::Reply);
pub const CUT_BEFORE: Act = act(false, Then::Cut);
pub const CUT_AFTER: Act = act(true, Then::Cut);
pub const VANISH_BEFORE: Act = act(false, Then::Vanish);
pub const VANISH_AFTER: Act = act(true, Then::Vanish);

const fn act(delivered: bool, then: Then) -> Act {
    Act { delivered, then }
}

pub const fn say(words: &'static str) -> Act {
    act(false, Then::Say(words))
}

/// A proxy in front of the server. It also acts as the only server of a Cluster.
pub struct Proxy {
    pub port: u16,
    acts: Mutex<VecDeque<Act>>,
    /// The replies to the next calls before any request: INFO at sign-in, and CLUSTER SLOTS.
    refusals: Mutex<VecDeque<&'static str>>,
    clients: Mutex<Vec<TcpStream>>,
    gone: AtomicBool,
    listening: Mutex<Option<JoinHandle<()>>>,
}

impl Proxy {
    pub fn new(acts: &[Act]) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            acts: Mutex::new(acts.iter().copied().collect()),
            refusals: Mutex::default(),
            clients: Mutex::default(),
            gone: AtomicBool::new(false),
            listening: Mutex::default(),
        });
        let own = Arc::clone(&proxy);
        let listening = thread::spawn(move || {
            for client in listener.incoming() {
                if own.gone.load(Ordering::SeqCst) {
                    return;
                }
                let client = client.unwrap();
                own.clients
                    .lock()
                    .unwrap()
                    .push(client.try_clone().unwrap());
                let own = Arc::clone(&own);
                thread::spawn(move || own.serve(client));
            }
        });
        *proxy.listening.lock().unwrap() = Some(listening);
        proxy
    }

    /// Refuses this number of calls before any request.
    pub fn refuse(&self, count: usize, words: &'static str) {
        let refusals = std::iter::repeat_n(words, count);
        self.refusals.lock().unwrap().extend(refusals);
    }

    /// The refusals that are left.
    pub fn refusals_left(&self) -> usize {
        self.refusals.lock().unwrap().len()
    }

    /// Closes all connections, and stops listening.
    pub fn vanish(&self) {
        self.gone.store(true, Ordering::SeqCst);
        if let Some(listening) = self.listening.lock().unwrap().take() {
            let _ = TcpStream::connect(("127.0.0.1", self.port));
            listening.join().unwrap();
        }
        for client in self.clients.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
    }

    fn serve(&self, client: TcpStream) -> Option<()> {
        let (mut server, mut replies) = server::connect();
        let mut own = client.try_clone().unwrap();
        let mut commands = BufReader::new(client);
        loop {
            let command = frame(&mut commands)?;
            let has = |text: &str| {
                command
                    .windows(text.len())
                    .any(|part| part == text.as_bytes())
            };
            if (has("\r\nINFO\r\n") || has("\r\nCLUSTER\r\n"))
                && let Some(words) = self.refusals.lock().unwrap().pop_front()
            {
                own.write_all(words.as_bytes()).ok()?;
                continue;
            }
            if has("\r\nINFO\r\n") {
                // The client cannot find out whether this is a Cluster.
                own.write_all(b"-NOPERM because\r\n").ok()?;
                continue;
            }
            if has("\r\nCLUSTER\r\n") {
                let port = self.port;
                let slots =
                    format!("*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:{port}\r\n");
                own.write_all(slots.as_bytes()).ok()?;
                continue;
            }
            if has("\r\nASKING\r\n") {
                own.write_all(b"+OK\r\n").ok()?;
                continue;
            }
            let act = if has("\r\nEVAL") {
                self.acts.lock().unwrap().pop_front().unwrap_or(PASS)
            } else {
                PASS
            };
            let mut reply = Vec::new();
            if act.delivered {
                server.write_all(&command).ok()?;
                reply = frame(&mut replies)?;
                if reply.starts_with(b"-NOSCRIPT") {
                    // The server does not know the script yet: nothing has happened.
                    self.acts.lock().unwrap().push_front(act);
                    own.write_all(&reply).ok()?;
                    continue;
                }
            }
            match act.then {
                Then::Reply => own.write_all(&reply).ok()?,
                Then::Say(words) => {
                    let words = words.replace("{here}", &format!("127.0.0.1:{}", self.port));
                    own.write_all(words.as_bytes()).ok()?;
                }
                Then::Cut => {
                    let _ = own.shutdown(Shutdown::Both);
                    return None;
                }
                Then::Vanish => self.vanish(),
            }
        }
    }
}
