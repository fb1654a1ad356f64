//! The stored data of a Cluster, and its changes: scripts are flushed, slots migrate, primaries change. All tests share one
//! Cluster.

mod cluster_servers;
mod indexed_table;
use mintkey_store_testkit::requests;
use mintkey_store_testkit::server::free_port;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use cluster_servers::{ClusterServers, Fixture, Migration, strings};
use indexed_table::*;
use mintkey_store::unique::Scope;
use mintkey_store::{
    Action, Error, ErrorKind, GetUnique, Guard, Item, Key, KeyKind, Operation, Outcome, Path, Put,
    Query, Remedy, Reply, Scan, Store, Table, Transaction, TransactionGet, TransactionWrite,
    Unique, Update,
};
use requests::*;

/// The shared Cluster. One test at a time.
fn shared() -> (&'static ClusterServers, MutexGuard<'static, ()>) {
    static SERVERS: OnceLock<ClusterServers> = OnceLock::new();
    static LOCK: Mutex<()> = Mutex::new(());
    let lock = LOCK.lock().unwrap_or_else(PoisonError::into_inner);
    (SERVERS.get_or_init(|| ClusterServers::start(1)), lock)
}

/// All items of pages of this size.
fn all_pages(store: &dyn Store, first: &Operation, size: usize) -> Vec<Item> {
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
    let (servers, _lock) = shared();
    let fixture = on(servers, "");
    let store = &*fixture.store;
    put(store, &ranked(), rank("01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)).unwrap();
    put(store, &orders(), order("foo", "a:b", &[])).unwrap();
    assert_eq!(
        fixture.keys(),
        [
            "{10}@:tables",
            "{10}@orders:table",
            "{10}@ranked:table",
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
fn all_slot_groups_are_read_in_one_order() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "");
    let store = &*fixture.store;
    let table = ranked();
    // Unordered ranks, some of them twice.
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
            let in_order = |rows: &[Item]| {
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
                all_pages(store, &Operation::Query(query), size),
                in_order(&ranks)
            );
            let scan = Scan {
                descending,
                ..scan_of(&table)
            };
            assert_eq!(
                all_pages(store, &Operation::Scan(scan), size),
                in_order(&by_id)
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
                all_pages(store, &Operation::Scan(scan), 50)
            })
            .collect();
        found.sort_by_key(|row| format!("{:?}", row.get("id")));
        assert_eq!(found, by_id, "{segments} segments");
    }
}

#[test]
fn an_index_that_is_added_later_has_the_rows_of_all_slot_groups() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "");
    let (old_store, new_store) = (&*fixture.store, &*fixture.reopen());
    let old_table = plain("ranked", KeyKind::String);
    let row = |number: i64| rank(&format!("row {number}"), number);
    for number in 0..100 {
        put(old_store, &old_table, row(number)).unwrap();
    }
    // The new store has extended only the slot groups that it wrote to. The old one writes to all of them.
    put(new_store, &ranked(), row(100)).unwrap();
    for number in 101..200 {
        put(old_store, &old_table, row(number)).unwrap();
    }
    let found = query(new_store, by_rank(&ranked()));
    assert_eq!(found, (0..200).map(row).collect::<Vec<_>>());
    for number in 200..300 {
        put(old_store, &old_table, row(number)).unwrap();
    }
    let found = query(new_store, by_rank(&ranked()));
    assert_eq!(found, (0..300).map(row).collect::<Vec<_>>());
    let other = plain("ranked", KeyKind::Number);
    let error = run(&*fixture.reopen(), Operation::CreateTable(other)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
}

#[test]
fn a_transaction_on_two_slot_groups_is_refused_and_names_the_items() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "");
    let table = orders();
    let write = |partition: &str| {
        let item = Arc::new(order(partition, "1", &[]));
        TransactionWrite::Put(Put::new(Arc::clone(&table), item, Guard::default()).unwrap())
    };
    let keys = ["a", "b"].map(|partition| (Arc::clone(&table), key(partition, "1")));
    for operation in [
        Operation::Transaction(Transaction {
            writes: vec![write("a"), write("b")],
        }),
        Operation::TransactionGet(TransactionGet {
            keys: keys.to_vec(),
        }),
    ] {
        let error = run(&*fixture.store, operation).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
        for named in ["(\"a\", \"1\")", "(\"b\", \"1\")"] {
            assert!(error.message.contains(named), "{error}");
        }
        let remedy = error.remedy.as_deref();
        let equal_keys = matches!(
            remedy,
            Some(Remedy::Colocate {
                equal_keys: true,
                ..
            })
        );
        assert!(equal_keys, "{remedy:?}");
    }
    assert_eq!(get(&*fixture.store, &table, key("a", "1")), None);
}

#[test]
fn a_flushed_script_is_sent_again() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "");
    for round in 0..3 {
        for port in &servers.ports {
            strings(*port, &["SCRIPT", "FLUSH"]);
        }
        for number in 0..8 {
            let row = rank(&format!("{round} {number}"), number);
            insert(&*fixture.store, &ranked(), row.clone()).unwrap();
            let submitted = submit(&*fixture.store, put_of(&ranked(), row, Guard::default()));
            submitted.1.recv().unwrap().unwrap();
        }
    }
    assert_eq!(scan(&*fixture.store, scan_of(&ranked())).len(), 24);
}

#[test]
fn one_server_that_answers_is_enough() {
    let (servers, _lock) = shared();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [silent.local_addr().unwrap().port(), free_port()];
    let last = *servers.ports.last().unwrap();
    let fixture = Fixture::at(&ClusterServers::url(&[ports[1], ports[0], last]), "");
    insert(&*fixture.store, &ranked(), rank("a", 1)).unwrap();
    let operation = put_of(&ranked(), rank("b", 2), Guard::default());
    submit(&*fixture.reopen(), operation)
        .1
        .recv()
        .unwrap()
        .unwrap();
    assert_eq!(query(&*fixture.store, by_rank(&ranked())).len(), 2);
    let fixture = Fixture::at(&ClusterServers::url(&[ports[1]]), "");
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
    let (servers, _lock) = shared();
    let server = format!("127.0.0.1:{}", servers.ports[0]);
    let store = mintkey_redis::open(&format!("redis://{server}")).unwrap();
    let error = insert(&*store, &ranked(), rank("a", 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(
        error.message.contains(&format!("redis-cluster://{server}")),
        "{error}"
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1_000]);
        let info = "redis_version:7.0.0\r\nredis_mode:standalone";
        let _ = write!(stream, "${}\r\n{info}\r\n", info.len());
    });
    let store = mintkey_redis::open(&format!("redis-cluster://{address}")).unwrap();
    let error = insert(&*store, &ranked(), rank("a", 1)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(
        error.message.contains(&format!("write redis://{address}")),
        "{error}"
    );
}

#[test]
fn rows_stay_consistent_while_their_slot_migrates() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "");
    let store = &*fixture.store;
    let impatient = mintkey_redis::open(&format!("{}&timeout=0.5", fixture.url)).unwrap();
    let table = ranked();
    let is_in_first = |id: &String| {
        let slot = strings(servers.ports[0], &["CLUSTER", "KEYSLOT", id]).remove(0);
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
        // Its index entry is the only one of the slot group. It is replaced, and changed by an update.
        put(store, &table, rank(&here, amount)).unwrap();
        let update = mintkey_store::Update {
            actions: vec![mintkey_store::Action::Set(
                mintkey_store::Path::attribute("rank"),
                (amount + 1).into(),
            )],
            ..update_of(&table, own(&here))
        };
        let (_, reply) = submit(store, Operation::Update(update));
        reply.recv().unwrap().unwrap();
        assert_eq!(
            get(store, &table, own(&here)),
            Some(rank(&here, amount + 1))
        );
        assert_eq!(query(store, by_rank(&table)), [rank(&here, amount + 1)]);
        assert_eq!(get(store, &table, own(&later)), None);
    };
    // On a busy machine, the last reply may come after the timeout.
    let attempts = |attempt: &dyn Fn() -> Error| {
        let mut errors = std::iter::repeat_with(attempt).take(5);
        let in_time = |error: &Error| !matches!(error.kind, ErrorKind::Timeout(_));
        errors.find(in_time).expect("a reply before the timeout")
    };
    let refused = || {
        let insert = || put_of(&table, rank(&later, 1), Guard::default());
        let error = attempts(&|| run(&*impatient, insert()).unwrap_err());
        let submitted = attempts(&|| {
            let (_, reply) = submit(&*impatient, insert());
            reply.recv().unwrap().unwrap_err()
        });
        for error in [error, submitted] {
            assert_eq!(
                error.kind,
                ErrorKind::Unavailable(Outcome::NotApplied),
                "{error}"
            );
        }
    };
    let migration = Migration::begin(servers, "10");
    change(10);
    refused();
    migration.move_keys();
    change(20);
    refused();
    migration.end(servers);
    change(30);
    put(store, &table, rank(&later, 1)).unwrap();
    run(store, delete_of(&table, own(&here), Guard::default())).unwrap();
    check_rows(store, vec![rank(&later, 1)]);
}

#[test]
fn slots_migrate_under_load() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "&timeout=20");
    let store = &*fixture.store;
    let (moves, kept) = with_writers(store, || {
        let mut moves = 0;
        for tag in ["10", "18", "6h", "2", "0", "x", "10", "18"] {
            let slot = Migration::begin(servers, tag);
            slot.move_keys();
            slot.end(servers);
            moves += 1;
        }
        moves
    });
    assert_eq!(moves, 8);
    assert!(!kept.is_empty());
    check_rows(store, kept);
}

#[test]
fn transactions_are_whole_while_their_slot_migrates() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "&timeout=20");
    let store = &*fixture.store;
    let table = orders();
    let is_first = |partition: &String| {
        let slot = strings(servers.ports[0], &["CLUSTER", "KEYSLOT", partition]).remove(0);
        slot.parse::<usize>().unwrap() < 256
    };
    // The rows are in the first slot group.
    let partitions = (100..10_000).map(|number| format!("p{number}"));
    let partition = partitions.into_iter().find(is_first).unwrap();
    let add = |sort: &str, amount: i64| {
        TransactionWrite::Update(Update {
            actions: vec![Action::Add(Path::attribute("amount"), amount.into())],
            ..update_of(&table, key(&partition, sort))
        })
    };
    for sort in ["from", "to"] {
        put(store, &table, order(&partition, sort, &[])).unwrap();
    }
    let stop = AtomicBool::new(false);
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::SeqCst) {
                    let writes = vec![add("from", -1), add("to", 1)];
                    run(store, Operation::Transaction(Transaction { writes })).unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for _ in 0..4 {
            let slot = Migration::begin(servers, "10");
            slot.move_keys();
            slot.end(servers);
        }
        stop.store(true, Ordering::SeqCst);
    });
    let done = i64::try_from(done.into_inner()).unwrap();
    assert!(done > 0);
    for (sort, amount) in [("from", -done), ("to", done)] {
        let row = get(store, &table, key(&partition, sort)).unwrap();
        assert_eq!(row.get("amount"), Some(&amount.into()));
    }
}

#[test]
fn values_stay_unique_while_slots_migrate() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "&timeout=20");
    let store = &*fixture.store;
    let unique = Unique {
        name: "email".into(),
        attributes: vec!["email".into()],
        scope: Scope::default(),
    };
    let table = Arc::new(Table {
        unique: vec![unique],
        ..(*plain("people", KeyKind::String)).clone()
    });
    // All rows and markers are in the first slot groups.
    let tags = ["10", "18", "6h", "6d", "29", "21", "3", "4s"];
    let texts_of = |prefix: &str, encoded: &str, count: usize| -> Vec<String> {
        let moves = |text: &String| {
            let key = format!("{encoded}{text}");
            let slot = strings(servers.ports[0], &["CLUSTER", "KEYSLOT", &key]).remove(0);
            slot.parse::<usize>().unwrap() < 256 * tags.len()
        };
        let texts = (100..1000).map(|number| format!("{prefix}{number}"));
        texts.filter(moves).take(count).collect()
    };
    let (ids, emails) = (texts_of("i", "", 7), texts_of("e", "S\0\u{4}", 11));
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3_usize {
            let (stop, table, ids, emails) = (&stop, &table, &ids, &emails);
            scope.spawn(move || {
                let mut number = writer;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    let (id, email) = (&*ids[number % 7], &*emails[number * 5 % 11]);
                    let own = item(&[("id", id.into()), ("email", email.into())]);
                    if let Err(error) = put(store, table, own) {
                        assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
                    }
                }
            });
        }
        for tag in tags {
            let slot = Migration::begin(servers, tag);
            slot.move_keys();
            slot.end(servers);
        }
        stop.store(true, Ordering::SeqCst);
    });
    let rows = scan(store, scan_of(&table));
    assert!(!rows.is_empty());
    for row in rows {
        let email = texts(std::slice::from_ref(&row), "email").remove(0);
        let find = GetUnique {
            table: Arc::clone(&table),
            unique: "email".into(),
            values: vec![string(&email)],
            attributes: None,
        };
        let found = run(store, Operation::GetUnique(find)).unwrap();
        assert_eq!(found, Reply::Item(Some(row)), "{email}");
    }
}

/// The number of connections of a server, except the one that asks.
fn connections(port: u16) -> usize {
    let listed = strings(port, &["CLIENT", "LIST", "TYPE", "normal"]);
    listed[0].lines().count() - 1
}

#[test]
fn a_manual_failover_loses_nothing() {
    let (servers, _lock) = shared();
    let fixture = on(servers, "&timeout=20");
    let store = &*fixture.store;
    let ((), kept) = with_writers(store, || {
        for primary in servers.primaries() {
            servers.wait_until("the replica is connected", |servers| {
                servers
                    .replicas(primary)
                    .iter()
                    .any(|port| ClusterServers::is_connected(*port))
            });
            let replica = servers.replicas(primary)[0];
            assert_eq!(strings(replica, &["CLUSTER", "FAILOVER"]), ["OK"]);
            servers.wait_until("the replica has taken over", |servers| {
                strings(replica, &["ROLE"])[0] == "master"
                    && strings(primary, &["ROLE"])[0] == "slave"
                    && servers
                        .ports
                        .iter()
                        .all(|port| ClusterServers::is_connected(*port))
            });
        }
    });
    assert!(!kept.is_empty());
    check_rows(store, kept);
    // After these requests all routes are known. The connections to servers without slots are closed.
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
    servers.wait_until("the connections to replicas are closed", |servers| {
        let primaries = servers.primaries();
        let replicas = servers
            .ports
            .iter()
            .filter(|port| !primaries.contains(port));
        replicas.copied().all(|port| connections(port) == 0)
    });
}
