//! Servers that refuse, vanish or stall, and crowds.

#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod server;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use mintkey_store::{Action, ErrorKind, Guard, Interrupt, KeyKind, Operation, Outcome, Path, Row};
use requests::*;
use server::Fixture;

/// A server that answers with these bytes to whatever comes, then closes.
fn answering(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(answer);
        }
    });
    format!("redis://{address}")
}

/// What is said of a server, whatever asks it; the same is said of it as the one that an address of a
/// Cluster names.
fn refusal_of(url: &str) -> mintkey_store::Error {
    let error = refusal_at(url);
    if let Some(location) = url.strip_prefix("redis://") {
        let in_cluster = refusal_at(&format!("redis-cluster://{location}"));
        assert_eq!(in_cluster.kind, error.kind, "{in_cluster}");
    }
    error
}

fn refusal_at(url: &str) -> mintkey_store::Error {
    let store = mintkey_redis::open(url).unwrap();
    let by_get = run(&*store, get_of(&orders(), key("a", "1"))).unwrap_err();
    let (_, answer) = submit(&*store, get_of(&orders(), key("a", "1")));
    let by_task = answer.recv().unwrap().unwrap_err();
    store.close(&mintkey_store::store::Never);
    assert_eq!(by_get.kind, by_task.kind);
    by_get
}

/// A server that never comes to the end of its first answer. For ten seconds, lest a test that fails should never end.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let began = Instant::now();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.write_all(b"$100000000\r\n");
            while began.elapsed().as_secs() < 10 && stream.write_all(b"x").is_ok() {}
        }
    });
    format!("redis://{address}")
}

#[test]
fn an_answer_without_end_ends_with_the_time() {
    let error = refusal_at(&format!("{}?timeout=0.4", endless()));
    let kind = ErrorKind::Timeout(Outcome::NotApplied);
    assert_eq!(error.kind, kind, "{error}");
}

#[test]
fn nobody_there_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    for url in [
        format!("redis://me:s3cret@{address}"),
        "unix:///nowhere/redis.sock".to_owned(),
    ] {
        let error = refusal_of(&url);
        assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied));
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_wrong_password_is_said_without_showing_it() {
    let answers = b"-WRONGPASS invalid username-password pair\r\n-NOAUTH x\r\n";
    let url = answering(answers).replace("redis://", "redis://me:s3cret@");
    let error = refusal_of(&url);
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert!(error.to_string().contains("password"), "{error}");
}

#[test]
fn an_old_server_is_refused() {
    let answers = b"$25\r\nx:1\r\nredis_version:5.0.14\r\n";
    let error = refusal_of(&answering(answers));
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("6.2"), "{error}");
}

#[test]
fn something_else_that_listens_is_no_redis() {
    let answers = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let error = refusal_of(&answering(answers));
    assert!(matches!(error.kind, ErrorKind::Unavailable(_)), "{error}");
}

#[test]
fn a_silent_server_ends_with_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}?timeout=0.2", listener.local_addr().unwrap());
    let error = refusal_of(&url);
    assert_eq!(
        error.kind,
        ErrorKind::Timeout(Outcome::NotApplied),
        "{error}"
    );
}

#[test]
fn many_that_wait_for_a_silent_server_wait_together() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            kept.push(stream);
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    for scheme in ["redis", "redis-cluster"] {
        let url = format!("{scheme}://{place}?timeout=0.3");
        let store = mintkey_redis::open(&url).unwrap();
        let operation = || get_of(&orders(), key("a", "1"));
        let answers: Vec<_> = (0..50).map(|_| submit(&*store, operation()).1).collect();
        for answer in answers {
            let error = answer.recv().unwrap().unwrap_err();
            assert_eq!(
                error.kind,
                ErrorKind::Timeout(Outcome::NotApplied),
                "{error}"
            );
        }
    }
    // Some may have been submitted when the first had been refused already.
    assert!(tries.load(Ordering::SeqCst) < 10, "{tries:?} connections");
}

static RAISED: AtomicBool = AtomicBool::new(false);

struct Now;

impl Interrupt for Now {
    fn raised(&self) -> bool {
        RAISED.store(true, Ordering::SeqCst);
        true
    }
}

#[test]
fn an_interrupt_ends_the_wait() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for scheme in ["redis", "redis-cluster"] {
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let store = mintkey_redis::open(&url).unwrap();
        let operation = request(get_of(&orders(), key("a", "1")));
        let error = store.execute(&operation, &Now).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
    }
    assert!(RAISED.load(Ordering::SeqCst));
}

#[test]
fn many_writers_lose_nothing() {
    let fixture = Fixture::new();
    let table = plain("counters", KeyKind::String);
    let key = || mintkey_store::Key {
        partition: string("c"),
        sort: None,
    };
    let add = || {
        Operation::Update(mintkey_store::Update {
            actions: vec![Action::Add(Path::attribute("n"), number("1"))],
            upsert: true,
            ..update_of(&table, key())
        })
    };
    let collisions = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..25 {
                    run(&*fixture.store, add()).unwrap();
                    let row = item(&[("id", format!("row {round}").as_str().into())]);
                    match insert(&*fixture.store, &table, row) {
                        Ok(_) => {}
                        Err(error) => {
                            assert_eq!(error.kind, ErrorKind::KeyCollision);
                            collisions.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            });
        }
        let answers: Vec<_> = (0..100).map(|_| submit(&*fixture.store, add()).1).collect();
        for answer in answers {
            answer.recv().unwrap().unwrap();
        }
    });
    let found = get(&*fixture.store, &table, key()).unwrap();
    assert_eq!(found.get("n"), Some(&200.into()));
    assert_eq!(collisions.load(Ordering::SeqCst), 75);
    assert_eq!(scan(&*fixture.store, scan_of(&table)).len(), 26);
}

#[test]
fn what_waits_is_finished_before_the_end_and_refused_after_it() {
    let fixture = Fixture::new();
    let answers: Vec<_> = (0..50)
        .map(|number| {
            let row = order("a", &number.to_string(), &[]);
            submit(&*fixture.store, put_of(&orders(), row, Guard::default())).1
        })
        .collect();
    fixture.store.close(&mintkey_store::store::Never);
    for answer in answers {
        answer.recv().unwrap().unwrap();
    }
    assert_eq!(
        kind(run(&*fixture.store, get_of(&orders(), key("a", "1")))),
        ErrorKind::Configuration
    );
    let (ticket, answer) = submit(&*fixture.store, get_of(&orders(), key("a", "1")));
    assert_eq!(
        answer.recv().unwrap().unwrap_err().kind,
        ErrorKind::Configuration
    );
    assert!(!ticket.withdraw());
    fixture.store.close(&mintkey_store::store::Never);
    assert_eq!(scan(&*fixture.reopen(), scan_of(&orders())).len(), 50);
}

#[test]
fn refused_writes_change_nothing() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    put(store, &orders(), order("a", "1", &[("n", 1.into())])).unwrap();
    let began = Instant::now();
    for guard in [
        Guard {
            row: Row::Absent,
            ..Guard::default()
        },
        Guard {
            version: Some(("n".into(), Some(number("2")))),
            ..Guard::default()
        },
    ] {
        let refused = put_of(&orders(), order("a", "1", &[("n", 9.into())]), guard);
        run(store, refused).unwrap_err();
    }
    assert!(
        began.elapsed().as_secs() < 5,
        "a refusal is no reason to try again"
    );
    let found = get(store, &orders(), key("a", "1")).unwrap();
    assert_eq!(found.get("n"), Some(&1.into()));
}
