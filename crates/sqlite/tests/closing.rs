//! Closing a store while threads and tasks use it, and dropping one that was not closed.

mod common;
use mintkey_store_testkit::requests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use common::Fixture;
use mintkey_store::store::Never;
use mintkey_store::{ErrorKind, Guard, Interrupt, Operation, Outcome, Store};
use requests::*;

/// Far more than any of this takes.
const LONG: Duration = Duration::from_secs(60);

/// Uses a store until it refuses, in one of four ways.
fn use_until_closed(store: &dyn Store, kind: usize, done: &AtomicUsize) -> ErrorKind {
    let sort = |number: usize| format!("{kind}-{number}");
    let write = |number| put_of(&orders(), order("a", &sort(number), &[]), Guard::default());
    let read = |number| get_of(&orders(), key("a", &sort(number)));
    for number in 0.. {
        let answered: Vec<_> = match kind % 4 {
            0 => vec![store.execute(&request(write(number)), &Never)],
            1 => {
                let several: Vec<_> = (0..3).map(|_| Arc::new(request(write(number)))).collect();
                store.execute_all(&several, &Never)
            }
            2 => (0..3)
                .map(|_| submit(store, write(number)).1)
                .map(|answer| answer.recv_timeout(LONG).unwrap())
                .collect(),
            _ => vec![
                submit(store, read(number)).1.recv_timeout(LONG).unwrap(),
                store.execute(&request(read(number)), &Never),
            ],
        };
        for answer in answered {
            match answer {
                Ok(_) => done.fetch_add(1, Ordering::SeqCst),
                Err(error) => return error.kind,
            };
        }
    }
    unreachable!()
}

fn close_amid(store: &Arc<dyn Store>) {
    let done: Arc<[AtomicUsize; 8]> = Arc::default();
    let users: Vec<_> = (0..done.len())
        .map(|kind| {
            let (store, done) = (Arc::clone(store), Arc::clone(&done));
            thread::spawn(move || use_until_closed(&*store, kind, &done[kind]))
        })
        .collect();
    while done.iter().any(|done| done.load(Ordering::SeqCst) < 5) {
        thread::yield_now();
    }
    let (sender, closed) = channel();
    let closing = Arc::clone(store);
    thread::spawn(move || {
        closing.close(&Never);
        sender.send(()).unwrap();
    });
    closed.recv_timeout(LONG).expect("closing ends");
    for user in users {
        assert_eq!(user.join().unwrap(), ErrorKind::Configuration);
    }
}

fn files(fixture: &Fixture) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(fixture.folder.path()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn closing_a_file_that_is_in_use_ends_and_leaves_nothing_open() {
    for _ in 0..10 {
        let fixture = Fixture::with("?sync=normal&timeout=60");
        close_amid(&fixture.store);
        // The last connection has removed the log.
        assert_eq!(files(&fixture), [fixture.file()]);
    }
}

#[test]
fn closing_memory_that_is_in_use_ends() {
    for _ in 0..10 {
        close_amid(&mintkey_sqlite::open("sqlite://?timeout=60").unwrap());
    }
}

#[test]
fn closing_several_times_at_once_ends() {
    let fixture = Fixture::with("?sync=normal&timeout=60");
    let (sender, closed) = channel();
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    for _ in 0..4 {
        let (store, sender) = (Arc::clone(&fixture.store), sender.clone());
        thread::spawn(move || {
            let _ = submit(&*store, Operation::Scan(scan_of(&orders())))
                .1
                .recv();
            store.close(&Never);
            sender.send(()).unwrap();
        });
    }
    for _ in 0..4 {
        closed.recv_timeout(LONG).expect("closing ends");
    }
    assert_eq!(files(&fixture), [fixture.file()]);
}

/// Submitted requests are completed, then the threads end and close their connections.
#[test]
fn a_store_that_is_dropped_without_closing_leaves_nothing_open() {
    let fixture = Fixture::with("?timeout=60");
    for round in 0..5 {
        let store = fixture.reopen();
        put(&*store, &orders(), order("a", &round.to_string(), &[])).unwrap();
        let submitted: Vec<_> = (0..9)
            .map(|number| {
                let row = order("b", &format!("{round}-{number}"), &[]);
                let write = submit(&*store, put_of(&orders(), row, Guard::default())).1;
                let read = submit(&*store, get_of(&orders(), key("a", "0"))).1;
                (write, read)
            })
            .collect();
        drop(store);
        for (write, read) in submitted {
            write.recv_timeout(LONG).unwrap().unwrap();
            read.recv_timeout(LONG).unwrap().unwrap();
        }
        // The last thread closes its connection after its last answer.
        while files(&fixture).len() > 1 {
            thread::yield_now();
        }
    }
    let store = fixture.reopen();
    assert_eq!(
        query(&*store, query_of(&orders(), &[string("b")])).len(),
        45
    );
}

/// Interrupts the leader once the write behind it has given up.
struct Leader {
    waits: AtomicBool,
    over: AtomicBool,
}

impl Interrupt for Leader {
    fn raised(&self) -> bool {
        self.waits.store(true, Ordering::SeqCst);
        self.over.load(Ordering::SeqCst)
    }
}

struct Interrupted;

impl Interrupt for Interrupted {
    fn raised(&self) -> bool {
        true
    }
}

#[test]
fn closing_ends_after_writes_that_gave_up_waiting_for_each_other() {
    static LEADER: Leader = Leader {
        waits: AtomicBool::new(false),
        over: AtomicBool::new(false),
    };
    let fixture = Fixture::with("?timeout=60");
    let write = |sort| put_of(&orders(), order("a", sort, &[]), Guard::default());
    fixture.store.execute(&request(write("1")), &Never).unwrap();
    let other = fixture.inside();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let interrupted = ErrorKind::Interrupted(Outcome::NotApplied);
    thread::scope(|scope| {
        let leader = scope.spawn(|| fixture.store.execute(&request(write("2")), &LEADER));
        while !LEADER.waits.load(Ordering::SeqCst) {
            thread::yield_now();
        }
        let behind = fixture.store.execute(&request(write("3")), &Interrupted);
        assert_eq!(behind.unwrap_err().kind, interrupted);
        LEADER.over.store(true, Ordering::SeqCst);
        assert_eq!(leader.join().unwrap().unwrap_err().kind, interrupted);
    });
    drop(other);
    let (sender, closed) = channel();
    let closing = Arc::clone(&fixture.store);
    thread::spawn(move || {
        closing.close(&Never);
        sender.send(()).unwrap();
    });
    closed.recv_timeout(LONG).expect("closing ends");
    assert_eq!(files(&fixture), [fixture.file()]);
}
