//! A table on a Cluster with an index over all rows, and the check that index and rows agree.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use mintkey_store::{Guard, Index, Item, Key, KeyKind, Projection, Query, Store, Table};

use crate::cluster_servers::{ClusterServers, Fixture};
use crate::requests::*;

/// A store on these servers.
pub fn on(servers: &ClusterServers, parameters: &str) -> Fixture {
    Fixture::at(&ClusterServers::url(&servers.ports), parameters)
}

/// A table with an index over all rows.
pub fn ranked() -> Arc<Table> {
    Arc::new(Table {
        name: "ranked".into(),
        model: "Ranked".into(),
        indexes: vec![Index {
            name: "by_rank".into(),
            partition: Vec::new(),
            sort: Some(attribute("rank", KeyKind::Number)),
            projection: Projection::All,
            local: false,
        }],
        ..(*plain("ranked", KeyKind::String)).clone()
    })
}

pub fn rank(id: &str, rank: i64) -> Item {
    item(&[("id", id.into()), ("rank", rank.into())])
}

pub fn by_rank(table: &Arc<Table>) -> Query {
    Query {
        index: Some("by_rank".into()),
        ..query_of(table, &[])
    }
}

/// Checks that the index and the rows agree with what was written.
pub fn check_rows(store: &dyn Store, mut kept: Vec<Item>) {
    let id = |row: &Item| format!("{:?}", row.get("id"));
    let mut indexed = query(store, by_rank(&ranked()));
    let mut rows = scan(store, scan_of(&ranked()));
    for items in [&mut indexed, &mut rows, &mut kept] {
        items.sort_by_key(id);
    }
    assert_eq!(rows, kept);
    assert_eq!(indexed, kept);
}

/// Blocking and awaiting writers that insert, change and delete rows during `work`. Returns the rows that must be stored.
pub fn with_writers<R>(store: &dyn Store, work: impl FnOnce() -> R) -> (R, Vec<Item>) {
    let table = ranked();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..3_i64)
            .map(|writer| {
                let (stop, table) = (&stop, &table);
                scope.spawn(move || {
                    let mut kept = Vec::new();
                    let mut number = 0;
                    while !stop.load(Ordering::SeqCst) {
                        number += 1;
                        let own = rank(&format!("{writer} {number}"), number);
                        let guard = Guard {
                            row: mintkey_store::Row::Absent,
                            ..Guard::default()
                        };
                        let insert = put_of(table, own.clone(), guard);
                        if writer == 0 {
                            submit(store, insert).1.recv().unwrap().unwrap();
                        } else {
                            run(store, insert).unwrap();
                        }
                        let own_key = || Key {
                            partition: string(&format!("{writer} {number}")),
                            sort: None,
                        };
                        match number % 3 {
                            0 => {
                                let remove = delete_of(table, own_key(), Guard::default());
                                run(store, remove).unwrap();
                            }
                            1 => {
                                let changed = rank(&format!("{writer} {number}"), -number);
                                put(store, table, changed.clone()).unwrap();
                                kept.push(changed);
                            }
                            _ => kept.push(own),
                        }
                        if number % 10 == 0 {
                            query(
                                store,
                                Query {
                                    limit: Some(5),
                                    ..by_rank(table)
                                },
                            );
                        }
                    }
                    kept
                })
            })
            .collect();
        let done = work();
        stop.store(true, Ordering::SeqCst);
        let kept = writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap());
        (done, kept.collect())
    })
}
