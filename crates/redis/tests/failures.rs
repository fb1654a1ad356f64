//! Servers that refuse, disappear or stall, and concurrent requests.

use mintkey_store_testkit::requests;
use mintkey_store_testkit::server::free_port;
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

/// A server that sends these bytes in reply to the first bytes of each client, then closes.
fn replying(reply: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(reply);
        }
    });
    format!("redis://{address}")
}

/// The error of requests to a server. It is the same if the URL is that of a Cluster.
fn error_of(url: &str) -> mintkey_store::Error {
    let error = error_at(url);
    if let Some(location) = url.strip_prefix("redis://") {
        let in_cluster = error_at(&format!("redis-cluster://{location}"));
        assert_eq!(in_cluster.kind, error.kind, "{in_cluster}");
    }
    error
}

fn error_at(url: &str) -> mintkey_store::Error {
    let store = mintkey_redis::open(url).unwrap();
    let blocking = run(&*store, get_of(&orders(), key("a", "1"))).unwrap_err();
    let (_, reply) = submit(&*store, get_of(&orders(), key("a", "1")));
    let submitted = reply.recv().unwrap().unwrap_err();
    store.close(&mintkey_store::store::Never);
    assert_eq!(blocking.kind, submitted.kind);
    blocking
}

/// A server whose first reply never ends. It stops after ten seconds, so that a failing test ends.
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
fn an_endless_reply_ends_with_the_timeout() {
    let error = error_at(&format!("{}?timeout=0.4", endless()));
    let kind = ErrorKind::Timeout(Outcome::NotApplied);
    assert_eq!(error.kind, kind, "{error}");
}

#[test]
fn a_reply_that_is_too_large_is_refused() {
    let error = error_of(&format!("{}?max_reply=99999999", endless()));
    let kind = ErrorKind::Unavailable(Outcome::NotApplied);
    assert_eq!(error.kind, kind, "{error}");
    let shown = error.to_string();
    for part in ["redis", "127.0.0.1", "99999999 bytes"] {
        assert!(shown.contains(part), "{error}");
    }
}

#[test]
fn a_server_that_is_not_running_is_reported() {
    let port = free_port();
    for url in [
        format!("redis://me:s3cret@127.0.0.1:{port}"),
        "unix:///nowhere/redis.sock".to_owned(),
    ] {
        let error = error_of(&url);
        assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied));
        assert!(!error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn a_wrong_password_is_reported_without_showing_it() {
    let replies = b"-WRONGPASS invalid username-password pair\r\n-NOAUTH x\r\n";
    let url = replying(replies).replace("redis://", "redis://me:s3cret@");
    let error = error_of(&url);
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert!(error.to_string().contains("password"), "{error}");
}

#[test]
fn an_old_server_is_refused() {
    let replies = b"$25\r\nx:1\r\nredis_version:5.0.14\r\n";
    let error = error_of(&replying(replies));
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert!(error.to_string().contains("6.2"), "{error}");
}

#[test]
fn a_server_that_is_not_redis_is_reported() {
    let replies = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let error = error_of(&replying(replies));
    assert!(matches!(error.kind, ErrorKind::Unavailable(_)), "{error}");
}

#[test]
fn a_silent_server_ends_with_the_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}?timeout=0.2", listener.local_addr().unwrap());
    let error = error_of(&url);
    assert_eq!(
        error.kind,
        ErrorKind::Timeout(Outcome::NotApplied),
        "{error}"
    );
}

#[test]
fn requests_share_one_failed_attempt_to_connect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
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
        let url = format!("{scheme}://{address}?timeout=0.3");
        let store = mintkey_redis::open(&url).unwrap();
        let operation = || get_of(&orders(), key("a", "1"));
        let mut replies: Vec<_> = (0..25).map(|_| submit(&*store, operation()).1).collect();
        // The others come while the first ones wait, and are on the connection that their timeout closes.
        let meanwhile = mintkey_redis::open(&format!("redis://{address}?timeout=0.2")).unwrap();
        run(&*meanwhile, operation()).unwrap_err();
        replies.extend((0..25).map(|_| submit(&*store, operation()).1));
        for reply in replies {
            let error = reply.recv().unwrap().unwrap_err();
            // A Cluster gives a silent server up after a second, which may be before the timeout on a slow machine.
            let is_given_up = scheme == "redis-cluster"
                && error.kind == ErrorKind::Unavailable(Outcome::NotApplied);
            assert!(
                is_given_up || error.kind == ErrorKind::Timeout(Outcome::NotApplied),
                "{error}"
            );
        }
    }
    // Some may have been submitted after the first ones had failed.
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
fn an_interrupt_ends_a_wait() {
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
fn concurrent_writers_lose_nothing() {
    let fixture = Fixture::new();
    let table = plain("counters", KeyKind::String);
    let key = || mintkey_store::Key {
        partition: string("c"),
        sort: None,
    };
    let add = || {
        Operation::Update(mintkey_store::Update {
            actions: vec![Action::Add(Path::attribute("n"), number("1"))],
            ..update_of(&table, key())
        })
    };
    let row = item(&[("id", "c".into())]);
    insert(&*fixture.store, &table, row).unwrap();
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
        let replies: Vec<_> = (0..100).map(|_| submit(&*fixture.store, add()).1).collect();
        for reply in replies {
            reply.recv().unwrap().unwrap();
        }
    });
    let found = get(&*fixture.store, &table, key()).unwrap();
    assert_eq!(found.get("n"), Some(&200.into()));
    assert_eq!(collisions.load(Ordering::SeqCst), 75);
    assert_eq!(scan(&*fixture.store, scan_of(&table)).len(), 26);
}

#[test]
fn close_completes_submitted_requests_and_refuses_later_ones() {
    let fixture = Fixture::new();
    let replies: Vec<_> = (0..50)
        .map(|number| {
            let row = order("a", &number.to_string(), &[]);
            submit(&*fixture.store, put_of(&orders(), row, Guard::default())).1
        })
        .collect();
    fixture.store.close(&mintkey_store::store::Never);
    for reply in replies {
        reply.recv().unwrap().unwrap();
    }
    assert_eq!(
        kind(run(&*fixture.store, get_of(&orders(), key("a", "1")))),
        ErrorKind::Configuration
    );
    let (ticket, reply) = submit(&*fixture.store, get_of(&orders(), key("a", "1")));
    assert_eq!(
        reply.recv().unwrap().unwrap_err().kind,
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
        "a refused write must not be sent again"
    );
    let found = get(store, &orders(), key("a", "1")).unwrap();
    assert_eq!(found.get("n"), Some(&1.into()));
}
