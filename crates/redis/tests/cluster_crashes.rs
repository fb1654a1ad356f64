//! Primaries of a Cluster that crash or stop answering, each in a Cluster of its own.

mod cluster_servers;
mod indexed_table;
use mintkey_store_testkit::requests;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::thread;

use cluster_servers::{ClusterServers, strings};
use indexed_table::*;
use mintkey_store::{BatchWrite, ErrorKind, Guard, KeyKind, Operation, Outcome, Reply, Store};
use requests::*;

#[test]
fn a_killed_primary_is_replaced() {
    let servers = ClusterServers::start(1);
    let fixture = on(&servers, "&timeout=10");
    let store = &*fixture.store;
    let table = ranked();
    let (written, stop) = (AtomicI64::new(0), AtomicBool::new(false));
    let wait_for_more = || {
        let enough = written.load(Ordering::SeqCst) + 30;
        servers.wait_until("more rows are written", |_| {
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
                    let result = if writer % 2 == 0 {
                        submit(store, insert).1.recv().unwrap()
                    } else {
                        run(store, insert)
                    };
                    match result {
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
        let primary = servers.primaries()[0];
        let replica = servers.replicas(primary)[0];
        servers.signal(primary, "KILL");
        servers.wait_until("the replica has taken over", |servers| {
            let living = servers.ports.iter().filter(|port| **port != primary);
            strings(replica, &["ROLE"])[0] == "master"
                && living
                    .into_iter()
                    .all(|port| ClusterServers::is_connected(*port))
        });
        wait_for_more();
        stop.store(true, Ordering::SeqCst);
    });
    // All slot groups accept writes again, and the data of the replica is consistent.
    for number in 0..300 {
        put(store, &table, rank(&format!("after {number}"), number)).unwrap();
    }
    let rows = scan(store, scan_of(&table));
    assert!(rows.len() > 300);
    check_rows(store, rows);
}

#[test]
fn a_primary_that_stops_answering_is_abandoned_for_its_replica() {
    let servers = ClusterServers::start(1);
    let fixture = on(&servers, "&timeout=4");
    let store = &*fixture.store;
    let table = ranked();
    let write = |id: i64| put_of(&table, rank(&format!("row {id}"), id), Guard::default());
    // There are several idle connections to each server now.
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
    let primary = servers.primaries()[0];
    let replica = servers.replicas(primary)[0];
    servers.signal(primary, "STOP");
    servers.wait_until("the replica has taken over", |_| {
        strings(replica, &["ROLE"])[0] == "master" && ClusterServers::is_connected(replica)
    });
    let mut unanswered = 0;
    let mut count = |result: mintkey_store::Result<_>| {
        if let Err(error) = result {
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
    assert!(unanswered <= 2, "{unanswered} without a reply");
    servers.signal(primary, "CONT");
}

#[test]
fn rows_of_a_killed_primary_are_not_applied_and_all_others_are_written() {
    type Call = fn(&dyn Store, Operation) -> mintkey_store::Result<Reply>;
    let submitted: Call = |store, operation| submit(store, operation).1.recv().unwrap();
    for call in [run as Call, submitted] {
        let servers = ClusterServers::start(0);
        let fixture = on(&servers, "&timeout=5");
        let store = &*fixture.store;
        let table = plain("rows", KeyKind::String);
        let write = |name: &str, count: usize| {
            let put = |number| {
                let id = format!("{name}-{number}");
                batch_put(
                    &table,
                    item(&[("id", id.as_str().into())]),
                    Guard::default(),
                )
            };
            let batch = BatchWrite {
                table: table.clone(),
                writes: (0..count).map(put).collect(),
            };
            match call(store, Operation::BatchWrite(batch)) {
                Ok(Reply::Written(written)) => written,
                other => panic!("{other:?}"),
            }
        };
        // So many that each slot group has rows, and each server a connection.
        assert!(write("before", 1000).iter().all(Result::is_ok));
        servers.kill(servers.primaries()[0]);
        let written = write("after", 200);
        let keys = fixture.keys();
        let mut failures = 0;
        for (number, result) in written.iter().enumerate() {
            let end = format!("rows:after-{number}");
            let is_stored = keys.iter().any(|key| key.ends_with(&end));
            match result {
                Ok(()) => assert!(is_stored, "{end}"),
                Err(error) => {
                    failures += 1;
                    assert!(!is_stored, "{end}: {error}");
                    let outcome = error.kind.outcome();
                    assert_eq!(outcome, Some(Outcome::NotApplied), "{end}: {error}");
                }
            }
        }
        assert!(0 < failures && failures < written.len(), "{failures}");
    }
}
