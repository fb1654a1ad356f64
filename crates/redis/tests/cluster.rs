//! What lies in a Cluster, and what happens to it: scripts are forgotten, slots move, primaries change.
//! All tests share one Cluster.

mod cluster_servers;
mod indexed_table;
#[path = "../../store/tests/suite/requests.rs"]
mod requests;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use cluster_servers::{Fixture, Members, texts};
use indexed_table::*;
use mintkey_store::{
    ErrorKind, Guard, Item, Key, KeyKind, Operation, Outcome, Query, Reply, Scan, Store,
};
use requests::*;

/// The Cluster of most tests; one test at a time.
fn shared() -> (&'static Members, MutexGuard<'static, ()>) {
    static MEMBERS: OnceLock<Members> = OnceLock::new();
    static ONE: Mutex<()> = Mutex::new(());
    let alone = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    (MEMBERS.get_or_init(|| Members::start(1)), alone)
}

/// All that pages of this size give.
fn in_pages(store: &dyn Store, first: &Operation, size: usize) -> Vec<Item> {
    let (mut items, mut after) = (Vec::new(), None);
    loop {
        let limit = Some(size);
        let operation = match first {
            Operation::Query(query) => Operation::Query(Query {
                limit,
                after,
                ..query.clone()
            }),
            Operation::Scan(scan) => Operation::Scan(Scan {
                limit,
                after,
                ..scan.clone()
            }),
            other => panic!("{other:?}"),
        };
        let page = page(run(store, operation));
        assert!(page.items.len() <= size);
        items.extend(page.items);
        if page.next.is_none() {
            return items;
        }
        after = page.next;
    }
}

#[test]
fn rows_can_be_read_with_any_client() {
    let (members, _alone) = shared();
    let fixture = on(members, "");
    let store = &*fixture.store;
    put(store, &ranked(), rank("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)).unwrap();
    put(store, &orders(), order("foo", "a:b", &[])).unwrap();
    assert_eq!(
        fixture.keys(),
        [
            "{10}@orders:master",
            "{10}@ranked:master",
            "{1k}@ranked",
            "{1k}@ranked:index:by_rank",
            "{1k}@ranked:rows",
            "{1k}ranked:01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "{y}@orders",
            "{y}@orders:rows",
            "{y}orders:{foo}:a:b",
        ]
    );
    for table in [ranked(), orders()] {
        assert_eq!(
            run(store, Operation::TableExists(table.clone())).unwrap(),
            Reply::Exists(true)
        );
        run(store, Operation::DeleteTable(table.clone())).unwrap();
        assert_eq!(
            run(store, Operation::TableExists(table)).unwrap(),
            Reply::Exists(false)
        );
    }
    assert_eq!(fixture.keys(), [""; 0]);
}

#[test]
fn all_buckets_are_read_as_one() {
    let (members, _alone) = shared();
    let fixture = on(members, "");
    let store = &*fixture.store;
    let table = ranked();
    // Ranks in no order, some of them twice.
    let mut all: Vec<(i64, String)> = (0..300)
        .map(|number| (number * 7_919 % 251, format!("row {number}")))
        .collect();
    for (number, id) in &all {
        put(store, &table, rank(id, *number)).unwrap();
    }
    let items = |all: &[(i64, String)]| -> Vec<Item> {
        all.iter().map(|(number, id)| rank(id, *number)).collect()
    };
    all.sort();
    let ranks = items(&all);
    all.sort_by(|one, other| one.1.cmp(&other.1));
    let by_id = items(&all);
    let reversed = |rows: &[Item]| rows.iter().rev().cloned().collect::<Vec<_>>();
    for size in [1, 7, 64, 299, 300, 1_000] {
        for descending in [false, true] {
            let turned = |rows: &[Item]| {
                if descending {
                    reversed(rows)
                } else {
                    rows.to_vec()
                }
            };
            let query = Query {
                descending,
                ..by_rank(&table)
            };
            assert_eq!(
                in_pages(store, &Operation::Query(query), size),
                turned(&ranks)
            );
            let scan = Scan {
                descending,
                ..scan_of(&table)
            };
            assert_eq!(
                in_pages(store, &Operation::Scan(scan), size),
                turned(&by_id)
            );
        }
    }
    let counted = Query {
        count: true,
        ..by_rank(&table)
    };
    assert_eq!(page(run(store, Operation::Query(counted))).count, 300);
    for segments in [2, 3, 64, 65, 200] {
        let mut found: Vec<Item> = (0..segments)
            .flat_map(|segment| {
                let segment = Some((segment, segments));
                let scan = Scan {
                    segment,
                    ..scan_of(&table)
                };
                in_pages(store, &Operation::Scan(scan), 50)
            })
            .collect();
        found.sort_by_key(|row| format!("{:?}", row.get("id")));
        assert_eq!(found, by_id, "{segments} segments");
    }
}

#[test]
fn an_index_that_is_added_later_has_the_rows_of_all_buckets() {
    let (members, _alone) = shared();
    let fixture = on(members, "");
    let (old_store, new_store) = (&*fixture.store, &*fixture.reopen());
    let old_class = plain("ranked", KeyKind::String);
    let row = |number: i64| rank(&format!("row {number}"), number);
    for number in 0..100 {
        put(old_store, &old_class, row(number)).unwrap();
    }
    // The new class knows only the buckets that it wrote to, the old one writes on in all.
    put(new_store, &ranked(), row(100)).unwrap();
    for number in 101..200 {
        put(old_store, &old_class, row(number)).unwrap();
    }
    let found = query(new_store, by_rank(&ranked()));
    assert_eq!(found, (0..200).map(row).collect::<Vec<_>>());
    for number in 200..300 {
        put(old_store, &old_class, row(number)).unwrap();
    }
    let found = query(new_store, by_rank(&ranked()));
    assert_eq!(found, (0..300).map(row).collect::<Vec<_>>());
    let other = plain("ranked", KeyKind::Number);
    let error = run(&*fixture.reopen(), Operation::CreateTable(other)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
}

#[test]
fn a_forgotten_script_is_sent_again() {
    let (members, _alone) = shared();
    let fixture = on(members, "");
    for round in 0..3 {
        for port in &members.ports {
            texts(*port, &["SCRIPT", "FLUSH"]);
        }
        for number in 0..8 {
            let row = rank(&format!("{round} {number}"), number);
            insert(&*fixture.store, &ranked(), row.clone()).unwrap();
            let by_task = submit(&*fixture.store, put_of(&ranked(), row, Guard::default()));
            by_task.1.recv().unwrap().unwrap();
        }
    }
    assert_eq!(scan(&*fixture.store, scan_of(&ranked())).len(), 24);
}

#[test]
fn one_server_that_answers_is_enough() {
    let (members, _alone) = shared();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [
        silent.local_addr().unwrap().port(),
        nobody.local_addr().unwrap().port(),
    ];
    drop(nobody);
    let last = *members.ports.last().unwrap();
    let fixture = Fixture::at(&Members::url(&[ports[1], ports[0], last]), "");
    insert(&*fixture.store, &ranked(), rank("a", 1)).unwrap();
    let operation = put_of(&ranked(), rank("b", 2), Guard::default());
    submit(&*fixture.reopen(), operation)
        .1
        .recv()
        .unwrap()
        .unwrap();
    assert_eq!(query(&*fixture.store, by_rank(&ranked())).len(), 2);
    let fixture = Fixture::at(&Members::url(&[ports[1]]), "");
    let error = insert(&*fixture.store, &ranked(), rank("a", 1)).unwrap_err();
    assert_eq!(
        error.kind,
        ErrorKind::Unavailable(Outcome::NotApplied),
        "{error}"
    );
    let operation = put_of(&ranked(), rank("b", 2), Guard::default());
    let error = submit(&*fixture.store, operation)
        .1
        .recv()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        error.kind,
        ErrorKind::Unavailable(Outcome::NotApplied),
        "{error}"
    );
}

#[test]
fn the_wrong_kind_of_address_names_the_right_one() {
    let (members, _alone) = shared();
    let member = format!("127.0.0.1:{}", members.ports[0]);
    let store = mintkey_redis::open(&format!("redis://{member}")).unwrap();
    let error = insert(&*store, &ranked(), rank("a", 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(
        error.message.contains(&format!("redis-cluster://{member}")),
        "{error}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1_000]);
        let info = "redis_version:7.0.0\r\nredis_mode:standalone";
        let _ = write!(stream, "${}\r\n{info}\r\n", info.len());
    });
    let store = mintkey_redis::open(&format!("redis-cluster://{place}")).unwrap();
    let error = insert(&*store, &ranked(), rank("a", 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(
        error.message.contains(&format!("write redis://{place}")),
        "{error}"
    );
}

/// Writers of both kinds that insert rows, change and remove them, until they are told to stop; gives what
/// must be there.
fn crowd<R>(store: &dyn Store, work: impl FnOnce() -> R) -> (R, Vec<Item>) {
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

/// A slot on its way to another primary.
struct Move {
    slot: String,
    from: u16,
    to: u16,
}

impl Move {
    fn begin(members: &Members, tag: &str) -> Self {
        let slot = texts(members.ports[0], &["CLUSTER", "KEYSLOT", tag]).remove(0);
        let from = members.holder(&slot);
        let to = members.primaries().into_iter().find(|port| *port != from);
        let moves = Self {
            slot,
            from,
            to: to.unwrap(),
        };
        moves.set(moves.to, "IMPORTING", moves.from);
        moves.set(moves.from, "MIGRATING", moves.to);
        moves
    }

    fn set(&self, at: u16, word: &str, other: u16) {
        let id = texts(other, &["CLUSTER", "MYID"]).remove(0);
        let words = ["CLUSTER", "SETSLOT", &self.slot, word, &id];
        assert_eq!(texts(at, &words), ["OK"], "{words:?}");
    }

    /// Takes all keys over, a few at a time.
    fn keys(&self) {
        loop {
            let keys = texts(self.from, &["CLUSTER", "GETKEYSINSLOT", &self.slot, "3"]);
            if keys.is_empty() {
                return;
            }
            let to = self.to.to_string();
            let mut words = vec!["MIGRATE", "127.0.0.1", &to, "", "0", "5000", "KEYS"];
            words.extend(keys.iter().map(String::as_str));
            let moved = texts(self.from, &words);
            assert!(["OK", "NOKEY"].contains(&moved[0].as_str()), "{moved:?}");
        }
    }

    fn end(&self, members: &Members) {
        for port in [self.to, self.from] {
            self.set(port, "NODE", self.to);
        }
        members.wait_until("all know where the slot is", |members| {
            let mut primaries = members.primaries().into_iter();
            primaries.all(|port| members.knows(port, &self.slot, self.to))
        });
    }
}

#[test]
fn rows_stay_whole_while_their_slot_moves() {
    let (members, _alone) = shared();
    let fixture = on(members, "&timeout=0.5");
    let store = &*fixture.store;
    let table = ranked();
    let is_in_first = |id: &String| {
        let slot = texts(members.ports[0], &["CLUSTER", "KEYSLOT", id]).remove(0);
        slot.parse::<u16>().unwrap() < 256
    };
    let mut ids = (0..)
        .map(|number| format!("row {number}"))
        .filter(is_in_first);
    let (here, later) = (ids.next().unwrap(), ids.next().unwrap());
    let own = |id: &str| Key {
        partition: string(id),
        sort: None,
    };
    put(store, &table, rank(&here, 1)).unwrap();
    let change = |amount: i64| {
        // Its entry is the only one of the bucket's index; it is replaced, and changed in place.
        put(store, &table, rank(&here, amount)).unwrap();
        let update = mintkey_store::Update {
            actions: vec![mintkey_store::Action::Set(
                mintkey_store::Path::attribute("rank"),
                (amount + 1).into(),
            )],
            ..update_of(&table, own(&here))
        };
        let (_, answer) = submit(store, Operation::Update(update));
        answer.recv().unwrap().unwrap();
        assert_eq!(
            get(store, &table, own(&here)),
            Some(rank(&here, amount + 1))
        );
        assert_eq!(query(store, by_rank(&table)), [rank(&here, amount + 1)]);
        assert_eq!(get(store, &table, own(&later)), None);
    };
    let refused = || {
        let insert = || put_of(&table, rank(&later, 1), Guard::default());
        let error = run(store, insert()).unwrap_err();
        let by_task = submit(store, insert()).1.recv().unwrap().unwrap_err();
        for error in [error, by_task] {
            assert_eq!(
                error.kind,
                ErrorKind::Unavailable(Outcome::NotApplied),
                "{error}"
            );
        }
    };
    let moves = Move::begin(members, "10");
    change(10);
    refused();
    moves.keys();
    change(20);
    refused();
    moves.end(members);
    change(30);
    put(store, &table, rank(&later, 1)).unwrap();
    run(store, delete_of(&table, own(&here), Guard::default())).unwrap();
    agrees(store, vec![rank(&later, 1)]);
}

#[test]
fn slots_move_under_load() {
    let (members, _alone) = shared();
    let fixture = on(members, "&timeout=20");
    let store = &*fixture.store;
    let (moves, kept) = crowd(store, || {
        let mut moves = 0;
        for tag in ["10", "18", "6h", "2", "0", "x", "10", "18"] {
            let slot = Move::begin(members, tag);
            slot.keys();
            slot.end(members);
            moves += 1;
        }
        moves
    });
    assert_eq!(moves, 8);
    assert!(kept.len() > 10, "only {}", kept.len());
    agrees(store, kept);
}

/// How many connections a server has, beside that of whoever asks.
fn connections(port: u16) -> usize {
    let listed = texts(port, &["CLIENT", "LIST", "TYPE", "normal"]);
    listed[0].lines().count() - 1
}

#[test]
fn a_failover_that_is_asked_for_loses_nothing() {
    let (members, _alone) = shared();
    let fixture = on(members, "&timeout=20");
    let store = &*fixture.store;
    let ((), kept) = crowd(store, || {
        for primary in members.primaries() {
            members.wait_until("its replica is there", |members| {
                members
                    .replicas(primary)
                    .iter()
                    .any(|port| Members::is_whole(*port))
            });
            let replica = members.replicas(primary)[0];
            assert_eq!(texts(replica, &["CLUSTER", "FAILOVER"]), ["OK"]);
            members.wait_until("the replica has taken over", |members| {
                texts(replica, &["ROLE"])[0] == "master"
                    && texts(primary, &["ROLE"])[0] == "slave"
                    && members.ports.iter().all(|port| Members::is_whole(*port))
            });
        }
    });
    assert!(kept.len() > 10, "only {}", kept.len());
    agrees(store, kept);
    // Everybody has learned where the buckets are now: no connection stays where none is.
    for number in 0..256 {
        let partition = string(&number.to_string());
        let get = get_of(
            &ranked(),
            Key {
                partition,
                sort: None,
            },
        );
        assert!(submit(store, get).1.recv().unwrap().is_ok());
    }
    members.wait_until("the replicas are let go of", |members| {
        let primaries = members.primaries();
        let replicas = members
            .ports
            .iter()
            .filter(|port| !primaries.contains(port));
        replicas.copied().all(|port| connections(port) == 0)
    });
}
