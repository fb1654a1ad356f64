//! Requests that take too long though their server answers them, one question after the other.

#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod server;

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::TryRecvError;
use std::thread;
use std::time::Instant;

use mintkey_store::{Action, ErrorKind, Guard, Operation, Path, Store, Update};
use requests::*;
use server::{Fixture, frame};

/// Between a store and its server: whoever swaps the row `hot` hears that another was quicker. For ten
/// seconds, lest a test that fails should never end.
struct Contended {
    fixture: Fixture,
    store: Arc<dyn Store>,
    /// How many have connected.
    connections: Arc<AtomicUsize>,
}

impl Contended {
    fn new() -> Self {
        let fixture = Fixture::new();
        put(&*fixture.store, &orders(), order("hot", "1", &[])).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let began = Instant::now();
        thread::spawn(move || {
            for client in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(client.unwrap(), began));
            }
        });
        let url = format!("redis://{place}?prefix={}&timeout=0.4", fixture.prefix);
        let store = mintkey_redis::open(&url).unwrap();
        Self {
            fixture,
            store,
            connections,
        }
    }
}

fn serve(client: TcpStream, began: Instant) -> Option<()> {
    let (mut server, mut answers) = server::connect();
    let mut own = client.try_clone().unwrap();
    let mut asked = BufReader::new(client);
    loop {
        let command = frame(&mut asked)?;
        let has = |text: &[u8]| command.windows(text.len()).any(|part| part == text);
        if has(b"EVAL") && has(b"{hot}") && began.elapsed().as_secs() < 10 {
            own.write_all(b"+MOVED\r\n").ok()?;
            continue;
        }
        server.write_all(&command).ok()?;
        own.write_all(&frame(&mut answers)?).ok()?;
    }
}

fn change() -> Operation {
    Operation::Update(Update {
        actions: vec![Action::Add(Path::attribute("n"), number("1"))],
        ..update_of(&orders(), key("hot", "1"))
    })
}

#[test]
fn a_request_that_never_gets_through_ends_with_its_time() {
    let contended = Contended::new();
    let blocking = run(&*contended.store, change());
    let awaited = submit(&*contended.store, change()).1.recv().unwrap();
    for answer in [blocking, awaited] {
        assert!(matches!(kind(answer), ErrorKind::Timeout(_)));
    }
    let row = get(&*contended.fixture.store, &orders(), key("hot", "1")).unwrap();
    assert_eq!(row.get("n"), None);
}

#[test]
fn one_that_is_late_leaves_its_neighbours_their_connection() {
    let contended = Contended::new();
    let store = &*contended.store;
    let (_, late) = submit(store, change());
    let mut written = 0;
    let answer = loop {
        match late.try_recv() {
            Ok(answer) => break answer,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => panic!("no answer"),
        }
        let row = order("cold", &written.to_string(), &[]);
        let (_, answer) = submit(store, put_of(&orders(), row, Guard::default()));
        answer.recv().unwrap().unwrap();
        written += 1;
    };
    assert!(matches!(kind(answer), ErrorKind::Timeout(_)));
    assert!(written > 0);
    assert_eq!(contended.connections.load(Ordering::SeqCst), 1);
}
