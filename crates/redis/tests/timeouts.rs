//! Requests that take too long although the server answers all calls.

use mintkey_store_testkit::requests;
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

/// A proxy that replies to each conditional write of the row `hot` that the row has changed. It stops after ten seconds, so
/// that a failing test ends.
struct Contended {
    fixture: Fixture,
    store: Arc<dyn Store>,
    /// The connections that were opened.
    connections: Arc<AtomicUsize>,
}

impl Contended {
    fn new() -> Self {
        let fixture = Fixture::new();
        put(&*fixture.store, &orders(), order("hot", "1", &[])).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        let began = Instant::now();
        thread::spawn(move || {
            for client in listener.incoming() {
                counted.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || serve(client.unwrap(), began));
            }
        });
        let url = format!("redis://{address}?prefix={}&timeout=2", fixture.prefix);
        let store = mintkey_redis::open(&url).unwrap();
        Self {
            fixture,
            store,
            connections,
        }
    }
}

fn serve(client: TcpStream, began: Instant) -> Option<()> {
    let (mut server, mut replies) = server::connect();
    let mut own = client.try_clone().unwrap();
    let mut commands = BufReader::new(client);
    loop {
        let command = frame(&mut commands)?;
        let has = |text: &[u8]| command.windows(text.len()).any(|part| part == text);
        if has(b"EVAL") && has(b"{hot}") && began.elapsed().as_secs() < 10 {
            own.write_all(b"+CHANGED\r\n").ok()?;
            continue;
        }
        server.write_all(&command).ok()?;
        own.write_all(&frame(&mut replies)?).ok()?;
    }
}

fn change() -> Operation {
    Operation::Update(Update {
        actions: vec![Action::Add(Path::attribute("n"), number("1"))],
        ..update_of(&orders(), key("hot", "1"))
    })
}

#[test]
fn a_request_that_never_succeeds_ends_with_its_timeout() {
    let contended = Contended::new();
    let blocking = run(&*contended.store, change());
    let awaited = submit(&*contended.store, change()).1.recv().unwrap();
    for result in [blocking, awaited] {
        assert!(matches!(kind(result), ErrorKind::Timeout(_)));
    }
    let row = get(&*contended.fixture.store, &orders(), key("hot", "1")).unwrap();
    assert_eq!(row.get("n"), None);
}

#[test]
fn a_request_that_times_out_leaves_the_connection_to_others() {
    let contended = Contended::new();
    let store = &*contended.store;
    let (_, late) = submit(store, change());
    let mut written = 0;
    let result = loop {
        match late.try_recv() {
            Ok(result) => break result,
            Err(TryRecvError::Empty) => {}
            Err(TryRecvError::Disconnected) => panic!("no result"),
        }
        let row = order("cold", &written.to_string(), &[]);
        let (_, result) = submit(store, put_of(&orders(), row, Guard::default()));
        result.recv().unwrap().unwrap();
        written += 1;
    };
    assert!(matches!(kind(result), ErrorKind::Timeout(_)));
    assert!(written > 0);
    assert_eq!(contended.connections.load(Ordering::SeqCst), 1);
}
