//! Two writers of one row, and a reader that repairs stale entries.

use std::sync::{Arc, OnceLock};

use mintkey_redis::internals::{Call, Layout};
use mintkey_store::{
    Action, Condition, Delete, Guard, Item, Operation, Path, Query, Row, Table, Update,
};

use super::requests::*;
use super::{
    Choices, Members, Process, Victim, World, home, interleave, items, most_steps, row, row_key,
    run, run_all, stored_row, trace,
};

/// The table, the same for all processes: they know its layout from the first step on.
fn table() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    Arc::clone(TABLE.get_or_init(orders))
}

fn change(actions: Vec<Action>) -> Operation {
    Operation::Update(Update {
        actions,
        ..update_of(&table(), row_key())
    })
}

fn with_status(status: &str) -> Operation {
    Operation::Query(Query {
        index: Some("by_status".into()),
        ..query_of(&table(), &[string(status)])
    })
}

fn set(name: &str, value: impl Into<mintkey_store::Value>) -> Action {
    Action::Set(Path::attribute(name), value.into())
}

/// What the processes do.
struct Scenario {
    /// The row before. It may have expired.
    before: Option<Item>,
    /// Whether Redis itself deletes the row, after its entries were written.
    vanishes: bool,
    writers: [Operation; 2],
    reader: Operation,
    /// Whether the reader must find the row.
    always_found: bool,
    /// Whether each writer adds one to the amount.
    adds: bool,
}

/// The table of all processes.
struct Orders {
    world: World,
    layout: Layout,
}

impl Orders {
    fn new() -> Self {
        let mut world = World::new(4);
        for store in &world.stores {
            run(store, with_status("new"), &mut world.server).unwrap();
        }
        let layout = Layout::new(&world.keyspace, home(), table(), String::new(), Vec::new());
        Self { world, layout }
    }

    fn begin(&mut self, scenario: &Scenario) {
        let layout = &self.layout;
        let keys = [
            layout.row_key(&row_key()),
            layout.row_set.clone(),
            layout.index_set("by_status"),
        ];
        let call = keys.iter().fold(Call::new("DEL"), Call::arg);
        self.world.server.send(&[call]);
        if let Some(item) = &scenario.before {
            let put = put_of(&table(), item.clone(), Guard::default());
            run(&self.world.stores[3], put, &mut self.world.server).unwrap();
        }
        if scenario.vanishes {
            self.world.server.send(&[Call::new("DEL").arg(&keys[0])]);
        }
    }

    /// The members of the row set and the index set, each with the expected ones.
    fn entries(&mut self) -> [(Members, Members); 2] {
        let row = stored_row(&mut self.world.server, &self.layout);
        let wanted = row.as_ref().map(|_| Layout::member(&row_key()));
        let indexed = row
            .as_ref()
            .and_then(|row| Layout::index_member(&by_status(), row, &row_key()));
        let (row_set, index_set) = (
            self.layout.row_set.clone(),
            self.layout.index_set("by_status"),
        );
        [
            (self.world.members(&row_set), wanted.into_iter().collect()),
            (
                self.world.members(&index_set),
                indexed.into_iter().collect(),
            ),
        ]
    }
}

/// One run. Returns the most steps that a process took.
fn once(own: &mut Orders, scenario: &Scenario, victim: Victim, choices: &mut Choices) -> usize {
    own.begin(scenario);
    let world = &mut own.world;
    let operations = scenario.writers.iter().chain([&scenario.reader]);
    let mut processes: Vec<Process> = operations
        .zip(&world.stores)
        .map(|(operation, store)| Process::new(store, operation.clone(), &mut world.server))
        .collect();
    let mut versions = vec![stored_row(&mut world.server, &own.layout)];
    let layout = &own.layout;
    interleave(
        &mut processes,
        &mut world.server,
        victim,
        choices,
        usize::MAX,
        |server| {
            let now = stored_row(server, layout);
            if versions.last() != Some(&now) {
                versions.push(now);
            }
        },
    );
    check(
        own,
        scenario,
        &mut processes,
        &versions,
        &trace(victim, choices),
    );
    most_steps(&processes)
}

/// Checks that nothing is wrong, missing, left over or blocked.
fn check(
    own: &mut Orders,
    scenario: &Scenario,
    processes: &mut [Process],
    versions: &[Option<Item>],
    trace: &str,
) {
    let mut stopped = processes.iter().map(|process| process.reply.is_none());
    let all_ended = !stopped.any(|stopped| stopped);
    // Each acknowledged change is there once. One that was not acknowledged may be there once.
    let replies: Vec<_> = processes
        .iter_mut()
        .map(|process| process.reply.take())
        .collect();
    let done = replies[..2].iter().flatten().filter(|reply| reply.is_ok());
    let (done, begun) = (
        done.count(),
        replies[..2].iter().filter(|r| r.is_none()).count(),
    );
    let swaps = versions.len() - 1;
    let expiries =
        usize::from(scenario.vanishes || scenario.before.as_ref().is_some_and(is_expired));
    assert!(swaps <= done + begun + expiries, "{swaps} changes: {trace}");
    if scenario.adds {
        let last = versions.last().and_then(Option::as_ref);
        let sums = (done..=done + begun).map(|sum| row("new", 1 + i64::try_from(sum).unwrap()));
        assert!(
            last.is_some_and(|last| sums.into_iter().any(|sum| sum == *last)),
            "{last:?}: {trace}"
        );
    }
    // The reader saw a version of the row, at most once.
    if let Some(Ok(reply)) = replies.into_iter().next_back().flatten() {
        let seen = items(reply);
        let was = |item: &Item| versions.iter().flatten().any(|version| version == item);
        assert!(seen.len() <= 1 && seen.iter().all(was), "{seen:?}: {trace}");
        assert!(!seen.iter().any(is_expired), "{seen:?}: {trace}");
        assert!(
            !scenario.always_found || seen.len() == 1,
            "not found: {trace}"
        );
    }
    // No reader has repaired anything yet, and no entry is missing. Unless the server deleted the row, none is left over.
    for (found, wanted) in own.entries() {
        assert!(found.is_superset(&wanted), "missing: {trace}");
        assert!(scenario.vanishes || found == wanted, "left over: {trace}");
    }
    let world = &mut own.world;
    let row = stored_row(&mut world.server, &own.layout).filter(|row| !is_expired(row));
    let (server, store) = (&mut world.server, &world.stores[3]);
    let status_now = row.as_ref().and_then(|row| row.get("status")).cloned();
    for status in ["new", "paid", "void"] {
        let wanted = row
            .clone()
            .filter(|row| row.get("status") == Some(&status.into()));
        // If no entry is left over, one query finds exactly the row.
        if scenario.vanishes || status_now.is_none() || wanted.is_some() {
            let found = items(run(store, with_status(status), server).unwrap());
            assert_eq!(found, Vec::from_iter(wanted), "{status}: {trace}");
        }
    }
    if scenario.vanishes {
        let found = items(run(store, Operation::Scan(scan_of(&table())), server).unwrap());
        assert_eq!(found, Vec::from_iter(row), "{trace}");
    }
    // These reads have repaired what was left over.
    if all_ended {
        for (found, wanted) in own.entries() {
            assert_eq!(found, wanted, "not repaired: {trace}");
        }
    }
}

fn is_expired(item: &Item) -> bool {
    table().is_expired(item, NOW)
}

fn writing(item: Item, row: Row) -> Operation {
    let guard = Guard {
        row,
        ..Guard::default()
    };
    put_of(&table(), item, guard)
}

fn removal(condition: Option<Condition>) -> Operation {
    let guard = Guard {
        condition,
        ..Guard::default()
    };
    Operation::Delete(Delete {
        table: table(),
        key: row_key(),
        guard,
        returns_old: false,
    })
}

fn expired() -> Item {
    let mut item = row("new", 1);
    item.insert("expires".into(), (NOW - 1).into());
    item
}

fn run_scenario(scenario: &Scenario) {
    let mut own = Orders::new();
    let runs = run_all(3, |victim, choices| {
        once(&mut own, scenario, victim, choices)
    });
    assert!(runs > 100, "only {runs} runs");
}

pub fn two_writers_change_the_indexed_attribute() {
    run_scenario(&Scenario {
        before: Some(row("new", 1)),
        vanishes: false,
        writers: [
            change(vec![set("status", "paid")]),
            change(vec![set("status", "void"), set("amount", 2)]),
        ],
        reader: with_status("new"),
        always_found: false,
        adds: false,
    });
}

pub fn two_writers_add_while_a_reader_queries_the_range_of_the_row() {
    let add = || change(vec![Action::Add(Path::attribute("amount"), number("1"))]);
    run_scenario(&Scenario {
        before: Some(row("new", 1)),
        vanishes: false,
        writers: [add(), add()],
        reader: with_status("new"),
        always_found: true,
        adds: true,
    });
}

pub fn an_insert_and_a_deletion() {
    run_scenario(&Scenario {
        before: None,
        vanishes: false,
        writers: [
            writing(row("new", 1), Row::Absent),
            removal(Some(Condition::Exists(Path::attribute("pk")))),
        ],
        reader: Operation::Scan(scan_of(&table())),
        always_found: false,
        adds: false,
    });
}

pub fn a_replacement_and_a_conditional_deletion() {
    let condition = Condition::Exists(Path::attribute("status"));
    run_scenario(&Scenario {
        before: Some(row("new", 1)),
        vanishes: false,
        writers: [writing(row("paid", 2), Row::Any), removal(Some(condition))],
        reader: with_status("new"),
        always_found: false,
        adds: false,
    });
}

pub fn two_inserts_over_an_expired_row_that_a_reader_deletes() {
    for reader in [with_status("new"), Operation::Scan(scan_of(&table()))] {
        run_scenario(&Scenario {
            before: Some(expired()),
            vanishes: false,
            writers: [
                writing(row("new", 1), Row::Absent),
                writing(row("paid", 1), Row::Absent),
            ],
            reader,
            always_found: false,
            adds: false,
        });
    }
}

pub fn two_writes_of_a_row_that_the_server_deleted() {
    for status in ["new", "paid"] {
        run_scenario(&Scenario {
            before: Some(row("new", 1)),
            vanishes: true,
            writers: [
                writing(row(status, 1), Row::Absent),
                change(vec![set("amount", 3)]),
            ],
            reader: with_status("new"),
            always_found: false,
            adds: false,
        });
    }
}
