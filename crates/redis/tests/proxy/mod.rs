//! A proxy in front of the server that the tests use: it cuts connections, says other things, is gone.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::VecDeque;
use std::io::{BufReader, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::server::{self, frame};

/// What happens to one script.
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
    /// This reply is passed on, with the proxy's address for `{here}`.
    Say(&'static str),
    /// The connection is closed.
    Cut,
    /// All connections are closed, and no other can be made.
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

/// A proxy in front of the server, which also passes for the only server of a Cluster.
pub struct Proxy {
    pub port: u16,
    acts: Mutex<VecDeque<Act>>,
    /// What is said instead of replies to what is asked before any request: to whoever signs in, or asks for slots.
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

    /// Refuses this often what is asked before any request.
    pub fn refuse(&self, many: usize, words: &'static str) {
        let refusals = std::iter::repeat_n(words, many);
        self.refusals.lock().unwrap().extend(refusals);
    }

    /// The refusals that are left.
    pub fn refusals_left(&self) -> usize {
        self.refusals.lock().unwrap().len()
    }

    /// Is there no more.
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
        let (mut server, mut answers) = server::connect();
        let mut own = client.try_clone().unwrap();
        let mut asked = BufReader::new(client);
        loop {
            let command = frame(&mut asked)?;
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
                // Whether this is a Cluster is left open.
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
                reply = frame(&mut answers)?;
                if reply.starts_with(b"-NOSCRIPT") {
                    // The server does not know it yet. Nothing has happened.
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
