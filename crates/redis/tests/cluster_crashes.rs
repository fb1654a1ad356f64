//! Primaries of a Cluster that crash or fall silent, each in a Cluster of its own.

mod cluster_servers;
mod indexed_table;
#[path = "../../store/tests/suite/requests.rs"]
mod requests;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use cluster_servers::{Members, texts};
use indexed_table::*;
use mintkey_store::{ErrorKind, Guard};
use requests::*;

#[test]
fn a_killed_primary_is_replaced() {
    let members = Members::start(1);
    let fixture = on(&members, "&timeout=10");
    let store = &*fixture.store;
    let table = ranked();
    let (written, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let wait_for_more = || {
        let enough = written.load(Ordering::SeqCst) + 30;
        members.wait_until("more rows are written", |_| {
            written.load(Ordering::SeqCst) >= enough
        });
    };
    thread::scope(|scope| {
        for writer in 0..4_i64 {
            let (table, written, stop) = (&table, &written, &stop);
            scope.spawn(move || {
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let row = rank(&format!("{writer} {number}"), number);
                    let guard = Guard {
                        row: mintkey_store::Row::Absent,
                        ..Guard::default()
                    };
                    let insert = put_of(table, row, guard);
                    let answer = if writer % 2 == 0 {
                        submit(store, insert).1.recv().unwrap()
                    } else {
                        run(store, insert)
                    };
                    match answer {
                        Ok(_) => drop(written.fetch_add(1, Ordering::SeqCst)),
                        Err(error) => assert!(
                            matches!(
                                error.kind,
                                ErrorKind::Unavailable(_) | ErrorKind::Timeout(_)
                            ),
                            "{error}"
                        ),
                    }
                }
            });
        }
        wait_for_more();
        let primary = members.primaries()[0];
        let replica = members.replicas(primary)[0];
        members.signal(primary, "KILL");
        members.wait_until("the replica has taken over", |members| {
            let living = members.ports.iter().filter(|port| **port != primary);
            texts(replica, &["ROLE"])[0] == "master"
                && living.into_iter().all(|port| Members::is_whole(*port))
        });
        wait_for_more();
        stop.store(true, Ordering::SeqCst);
    });
    // Every bucket can be written to again, and what the replica had is whole.
    for number in 0..300 {
        put(store, &table, rank(&format!("after {number}"), number)).unwrap();
    }
    let rows = scan(store, scan_of(&table));
    assert!(rows.len() > 300);
    agrees(store, rows);
}

#[test]
fn a_primary_that_falls_silent_is_left_for_the_one_that_takes_over() {
    let members = Members::start(1);
    let fixture = on(&members, "&timeout=2");
    let store = &*fixture.store;
    let table = ranked();
    let write = |id: i64| put_of(&table, rank(&format!("row {id}"), id), Guard::default());
    // Several connections to each member wait for the next call.
    thread::scope(|scope| {
        for writer in 0..8_i64 {
            let (store, write) = (&store, &write);
            scope.spawn(move || {
                for number in 0..50 {
                    run(*store, write(writer * 50 + number)).unwrap();
                }
            });
        }
    });
    let primary = members.primaries()[0];
    let replica = members.replicas(primary)[0];
    members.signal(primary, "STOP");
    members.wait_until("the replica has taken over", |_| {
        texts(replica, &["ROLE"])[0] == "master" && Members::is_whole(replica)
    });
    let mut unanswered = 0;
    let mut count = |answer: mintkey_store::Result<_>| {
        if let Err(error) = answer {
            assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
            unanswered += 1;
        }
    };
    for number in 0..60 {
        count(run(store, write(number)));
    }
    for number in 0..60 {
        count(submit(store, write(number)).1.recv().unwrap());
    }
    // Not one for each connection.
    assert!(unanswered <= 2, "{unanswered} without an answer");
    members.signal(primary, "CONT");
}
