//! Changes of a whole server: its clients are killed, its memory is full, it becomes a replica, it stalls. One test at a
//! time.

use mintkey_store_testkit::requests;
mod server;

use std::sync::{Mutex, MutexGuard, PoisonError};

use mintkey_store::{Action, ErrorKind, Guard, KeyKind, Operation, Outcome, Path, Reply};
use requests::*;
use server::{Fixture, command};

/// One test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Each kind of write, to a table with an index and to one without.
fn writes(sort: &str) -> Vec<Operation> {
    let row = || order("a", sort, &[("status", "new".into()), ("amount", 1.into())]);
    let own = plain("plain", KeyKind::String);
    vec![
        put_of(&orders(), row(), Guard::default()),
        put_of(&own, item(&[("id", sort.into())]), Guard::default()),
        Operation::Update(mintkey_store::Update {
            actions: vec![Action::Set(Path::attribute("n"), sort.into())],
            ..update_of(&orders(), key("a", "kept"))
        }),
    ]
}

fn all_writes_are_refused(fixture: &Fixture, word: &str) {
    for (number, operation) in writes("refused").into_iter().enumerate() {
        let error = run(&*fixture.store, operation.clone()).unwrap_err();
        let submitted = submit(&*fixture.store, operation)
            .1
            .recv()
            .unwrap()
            .unwrap_err();
        for error in [error, submitted] {
            assert_eq!(
                error.kind,
                ErrorKind::Unavailable(Outcome::NotApplied),
                "{number}: {error}"
            );
            assert!(error.to_string().contains(word), "{number}: {error}");
        }
    }
}

#[test]
fn a_full_server_refuses_whole_writes() {
    let _alone = alone();
    let fixture = Fixture::new();
    for operation in writes("kept") {
        run(&*fixture.store, operation).unwrap();
    }
    let before = fixture.keys();
    command(&["CONFIG", "SET", "maxmemory", "1"]);
    all_writes_are_refused(&fixture, "maxmemory");
    // Deletions are accepted.
    run(
        &*fixture.store,
        delete_of(&orders(), key("a", "none"), Guard::default()),
    )
    .unwrap();
    assert!(get(&*fixture.store, &orders(), key("a", "kept")).is_some());
    command(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(fixture.keys(), before);
}

#[test]
fn a_replica_refuses_writes() {
    let _alone = alone();
    let fixture = Fixture::new();
    for operation in writes("kept") {
        run(&*fixture.store, operation).unwrap();
    }
    let before = fixture.keys();
    command(&["REPLICAOF", "127.0.0.1", "1"]);
    all_writes_are_refused(&fixture, "replica");
    assert!(get(&*fixture.store, &orders(), key("a", "kept")).is_some());
    command(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(fixture.keys(), before);
}

#[test]
fn a_stalled_server_leaves_the_outcome_of_writes_unknown() {
    let _alone = alone();
    let fixture = Fixture::with("&timeout=2");
    let insert = || put_of(&orders(), order("a", "1", &[]), Guard::default());
    run(&*fixture.store, insert()).unwrap();
    // The server delays writes, not reads.
    command(&["CLIENT", "PAUSE", "100000", "WRITE"]);
    assert_eq!(
        kind(run(&*fixture.store, insert())),
        ErrorKind::Timeout(Outcome::Unknown)
    );
    let late = submit(&*fixture.store, insert()).1.recv().unwrap();
    assert_eq!(kind(late), ErrorKind::Timeout(Outcome::Unknown));
    assert!(get(&*fixture.store, &orders(), key("a", "1")).is_some());
    command(&["CLIENT", "UNPAUSE"]);
    run(&*fixture.store, insert()).unwrap();
}

#[test]
fn a_killed_connection_is_replaced() {
    let _alone = alone();
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let table = plain("counters", KeyKind::String);
    put(store, &table, item(&[("id", "c".into()), ("n", 0.into())])).unwrap();
    let add = || {
        Operation::Update(mintkey_store::Update {
            actions: vec![Action::Add(Path::attribute("n"), number("1"))],
            ..update_of(
                &table,
                mintkey_store::Key {
                    partition: string("c"),
                    sort: None,
                },
            )
        })
    };
    for _ in 0..20 {
        command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        run(store, add()).unwrap();
        submit(store, add()).1.recv().unwrap().unwrap();
    }
    let Reply::Item(Some(found)) = run(store, add()).unwrap() else {
        panic!("an update returns the item");
    };
    assert_eq!(found.get("n"), Some(&41.into()));
}
