//! Connections that break during a write, and servers that disappear afterwards: the reported outcome of each row agrees with
//! what is stored.

mod entry_points;
mod proxy;
use mintkey_store_testkit::requests;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use entry_points::{ENTRY_POINTS, EntryPoint};
use mintkey_store::{
    Action, BatchWrite, Delete, ErrorKind, Guard, Item, Key, KeyKind, Operation, Outcome, Path,
    Reply, Result, Row, Store, Table, Update, Write,
};
use proxy::*;
use requests::*;

/// The kinds of writes. Each is tested with three rows.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Put,
    Insert,
    InsertCollisionFree,
    VersionedPut,
    Update,
    VersionedUpdate,
    Delete,
    VersionedDelete,
}

const KINDS: [Kind; 8] = [
    Kind::Put,
    Kind::Insert,
    Kind::InsertCollisionFree,
    Kind::VersionedPut,
    Kind::Update,
    Kind::VersionedUpdate,
    Kind::Delete,
    Kind::VersionedDelete,
];

const ROWS: usize = 3;

fn row(number: usize, version: i64) -> Item {
    item(&[
        ("id", format!("row {number}").as_str().into()),
        ("version", version.into()),
    ])
}

fn key_of(number: usize) -> Key {
    Key {
        partition: string(&format!("row {number}")),
        sort: None,
    }
}

impl Kind {
    fn write(self, table: &Arc<Table>, number: usize) -> Write {
        let versioned = matches!(
            self,
            Self::VersionedPut | Self::VersionedUpdate | Self::VersionedDelete
        );
        let guard = Guard {
            row: match self {
                Self::Insert | Self::InsertCollisionFree => Row::Absent,
                _ => Row::Any,
            },
            version: versioned.then(|| ("version".into(), Some(1_i64.into()))),
            collision_free: self == Self::InsertCollisionFree,
            ..Guard::default()
        };
        let table = Arc::clone(table);
        match self {
            Self::Put | Self::Insert | Self::InsertCollisionFree | Self::VersionedPut => {
                batch_put(&table, row(number, 2), guard)
            }
            Self::Update | Self::VersionedUpdate => Write::Update(Update {
                actions: vec![Action::Add(Path::attribute("version"), self::number("1"))],
                guard,
                ..update_of(&table, key_of(number))
            }),
            Self::Delete | Self::VersionedDelete => Write::Delete(Delete {
                table,
                key: key_of(number),
                guard,
                returns_old: false,
            }),
        }
    }

    fn before(self, number: usize) -> Option<Item> {
        let new = matches!(self, Self::Insert | Self::InsertCollisionFree);
        (!new).then(|| row(number, 1))
    }

    fn after(self, number: usize) -> Option<Item> {
        let removes = matches!(self, Self::Delete | Self::VersionedDelete);
        (!removes).then(|| row(number, 2))
    }
}

fn alone(write: Write) -> Operation {
    match write {
        Write::Put(put) => Operation::Put(put),
        Write::Update(update) => Operation::Update(update),
        Write::Delete(delete) => Operation::Delete(delete),
    }
}

/// A store behind a proxy with faults, and another one on the same rows behind a proxy without.
struct Pair {
    faulty: Arc<dyn Store>,
    reliable: Arc<dyn Store>,
    proxies: [Arc<Proxy>; 2],
}

impl Pair {
    fn new(scheme: &str, acts: &[Act], timeout: f64) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let (own, process) = (COUNT.fetch_add(1, Ordering::SeqCst), std::process::id());
        let proxies = [Proxy::new(acts), Proxy::new(&[])];
        let open = |proxy: &Proxy, timeout: f64| {
            let port = proxy.port;
            let parameters = format!("prefix=lost-{process}-{own}&timeout={timeout}");
            mintkey_redis::open(&format!("{scheme}://127.0.0.1:{port}?{parameters}")).unwrap()
        };
        Self {
            faulty: open(&proxies[0], timeout),
            reliable: open(&proxies[1], 60.0),
            proxies,
        }
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for proxy in &self.proxies {
            proxy.vanish();
        }
    }
}

/// Carries out writes of one kind, with these faults. Compares the reported outcome of each row with what is stored, and
/// returns it.
fn reported(
    scheme: &str,
    acts: &[Act],
    kind: Kind,
    entry_point: EntryPoint,
    batch: bool,
    timeout: f64,
) -> Vec<Option<ErrorKind>> {
    let pair = Pair::new(scheme, acts, timeout);
    let table = plain("plain", KeyKind::String);
    run(&*pair.reliable, Operation::CreateTable(Arc::clone(&table))).unwrap();
    for row in (0..ROWS).filter_map(|number| kind.before(number)) {
        put(&*pair.reliable, &table, row).unwrap();
    }
    let writes = (0..ROWS).map(|number| kind.write(&table, number));
    let results: Vec<Result<()>> = if batch {
        let operation = Operation::BatchWrite(BatchWrite {
            table: Arc::clone(&table),
            writes: writes.collect(),
        });
        match entry_point.run(&*pair.faulty, vec![operation]).remove(0) {
            Ok(Reply::Written(outcomes)) => outcomes,
            Ok(other) => panic!("{other:?}"),
            Err(error) => error.of_all(ROWS),
        }
    } else {
        let replies = entry_point.run(&*pair.faulty, writes.map(alone).collect());
        replies.into_iter().map(|reply| reply.map(drop)).collect()
    };
    let run = format!("{scheme} {acts:?} {kind:?} {entry_point:?} batch={batch}: {results:?}");
    for (number, result) in results.iter().enumerate() {
        let stored = get(&*pair.reliable, &table, key_of(number));
        match result.as_ref().err().map(|error| error.kind.outcome()) {
            None => assert_eq!(stored, kind.after(number), "row {number} of {run}"),
            Some(Some(Outcome::Unknown)) => {
                let possible = [kind.before(number), kind.after(number)];
                assert!(possible.contains(&stored), "row {number} of {run}");
            }
            Some(_) => assert_eq!(stored, kind.before(number), "row {number} of {run}"),
        }
    }
    delete_table(&*pair.reliable, &table);
    results
        .into_iter()
        .map(|result| result.err().map(|error| error.kind))
        .collect()
}

fn delete_table(store: &dyn Store, table: &Arc<Table>) {
    run(store, Operation::DeleteTable(Arc::clone(table))).unwrap();
}

/// Tests all kinds of writes at once, through these entry points.
fn test_kinds(
    entry_points: &[EntryPoint],
    scheme: &str,
    acts: &[Act],
    timeout: f64,
    check: impl Fn(Vec<Option<ErrorKind>>, Kind) + Sync,
) {
    let check = &check;
    thread::scope(|scope| {
        for kind in KINDS {
            scope.spawn(move || {
                for &entry_point in entry_points {
                    for batch in [false, true] {
                        check(
                            reported(scheme, acts, kind, entry_point, batch, timeout),
                            kind,
                        );
                    }
                }
            });
        }
    });
}

/// The faults of a single server.
const SINGLE_SERVER: &[&[Act]] = &[
    &[CUT_BEFORE, CUT_AFTER, VANISH_BEFORE],
    &[CUT_AFTER, VANISH_BEFORE],
    &[CUT_AFTER, CUT_AFTER, CUT_AFTER, VANISH_BEFORE],
    &[
        CUT_AFTER,
        say("-NOSCRIPT No matching script.\r\n"),
        VANISH_BEFORE,
    ],
    &[CUT_AFTER, say("+STALE\r\n"), VANISH_BEFORE],
    &[
        CUT_AFTER,
        say("-OOM command not allowed\r\n"),
        PASS,
        VANISH_BEFORE,
    ],
    &[
        CUT_AFTER,
        say("-READONLY You can't write\r\n"),
        VANISH_BEFORE,
    ],
    &[PASS, CUT_AFTER, VANISH_BEFORE],
];

/// The faults of a Cluster.
const CLUSTER: &[&[Act]] = &[
    &[CUT_AFTER, say("-MOVED 1 {here}\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-ASK 1 {here}\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-TRYAGAIN because\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-CLUSTERDOWN because\r\n"), VANISH_BEFORE],
    &[CUT_AFTER, say("-LOADING because\r\n"), VANISH_BEFORE],
    &[PASS, CUT_AFTER, say("-MOVED 1 {here}\r\n"), VANISH_BEFORE],
];

#[test]
fn a_write_to_a_server_that_disappears_afterwards_has_an_unknown_outcome() {
    test_kinds(
        &ENTRY_POINTS,
        "redis",
        &[VANISH_AFTER],
        60.0,
        |reported, kind| {
            // The other rows may not have been sent.
            assert_eq!(
                reported[0],
                Some(ErrorKind::Unavailable(Outcome::Unknown)),
                "{kind:?}"
            );
        },
    );
}

#[test]
fn reported_outcomes_agree_with_stored_rows() {
    for acts in SINGLE_SERVER {
        test_kinds(&ENTRY_POINTS, "redis", acts, 60.0, |_, _| ());
    }
}

#[test]
fn reported_outcomes_agree_with_stored_rows_in_a_cluster() {
    thread::scope(|scope| {
        for acts in SINGLE_SERVER[..2].iter().chain(CLUSTER) {
            scope.spawn(|| {
                test_kinds(
                    &[EntryPoint::Execute, EntryPoint::SubmitAll],
                    "redis-cluster",
                    acts,
                    0.3,
                    |_, _| (),
                );
            });
        }
    });
}

#[test]
fn an_interrupted_deletion_of_a_table_has_an_unknown_outcome() {
    for entry_point in ENTRY_POINTS {
        let pair = Pair::new("redis-cluster", &[PASS, VANISH_BEFORE], 0.5);
        let table = plain("plain", KeyKind::String);
        for number in 0..20 {
            put(&*pair.reliable, &table, row(number, 1)).unwrap();
        }
        let drop = Operation::DeleteTable(Arc::clone(&table));
        let error = entry_point
            .run(&*pair.faulty, vec![drop])
            .remove(0)
            .unwrap_err();
        assert_eq!(error.kind.outcome(), Some(Outcome::Unknown), "{error}");
        assert_ne!(scan(&*pair.reliable, scan_of(&table)).len(), 20);
        delete_table(&*pair.reliable, &table);
    }
}
