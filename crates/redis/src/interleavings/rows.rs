//! Two writers of one row, and a reader that repairs what it meets.

use std::sync::{Arc, OnceLock};

use mintkey_store::{
    Action, Condition, Delete, Guard, Item, Operation, Path, Query, Row, Table, Update,
};

use super::requests::*;
use super::{
    Actor, Choices, Members, Victim, World, exhaust, home, interleave, items, most_steps, row,
    row_key, run, stored_row, trace,
};
use crate::keyspace::layout::Layout;
use crate::protocol::resp::Call;

/// The table, the same for all: what an engine knows of it is known from the first step on.
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

/// What several processes do at once.
struct Scenario {
    /// The row before; expired ones included.
    before: Option<Item>,
    /// Whether Redis itself drops the row, after its entries were written.
    vanishes: bool,
    writers: [Operation; 2],
    reader: Operation,
    /// Whether the reader must find the row.
    always_found: bool,
    /// Whether each writer adds one to the amount.
    adds: bool,
}

/// The table that all work with.
struct Orders {
    world: World,
    layout: Layout,
}

impl Orders {
    fn new() -> Self {
        let mut world = World::new(4);
        for engine in &world.engines {
            run(engine, with_status("new"), &mut world.server).unwrap();
        }
        let layout = Layout::new(&world.space, home(), table(), String::new(), Vec::new());
        Self { world, layout }
    }

    fn begin(&mut self, scenario: &Scenario) {
        let layout = &self.layout;
        let keys = [
            layout.row(&row_key()),
            layout.order.clone(),
            layout.index("by_status"),
        ];
        let call = keys.iter().fold(Call::new("DEL"), Call::arg);
        self.world.server.ask(&[call]);
        if let Some(item) = &scenario.before {
            let put = put_of(&table(), item.clone(), Guard::default());
            run(&self.world.engines[3], put, &mut self.world.server).unwrap();
        }
        if scenario.vanishes {
            self.world.server.ask(&[Call::new("DEL").arg(&keys[0])]);
        }
    }

    /// What the order and the index hold, and what they should.
    fn entries(&mut self) -> [(Members, Members); 2] {
        let row = stored_row(&mut self.world.server, &self.layout);
        let wanted = row.as_ref().map(|_| Layout::member(&row_key()));
        let indexed = row
            .as_ref()
            .and_then(|row| Layout::index_member(&by_status(), row, &row_key()));
        let (order, index) = (self.layout.order.clone(), self.layout.index("by_status"));
        [
            (self.world.members(&order), wanted.into_iter().collect()),
            (self.world.members(&index), indexed.into_iter().collect()),
        ]
    }
}

/// One run; gives the most steps that any process took.
fn once(own: &mut Orders, scenario: &Scenario, victim: Victim, choices: &mut Choices) -> usize {
    own.begin(scenario);
    let world = &mut own.world;
    let operations = scenario.writers.iter().chain([&scenario.reader]);
    let mut actors: Vec<Actor> = operations
        .zip(&world.engines)
        .map(|(operation, engine)| Actor::new(engine, operation.clone(), &mut world.server))
        .collect();
    let mut versions = vec![stored_row(&mut world.server, &own.layout)];
    let layout = &own.layout;
    interleave(
        &mut actors,
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
    judge(
        own,
        scenario,
        &mut actors,
        &versions,
        &trace(victim, choices),
    );
    most_steps(&actors)
}

/// Nothing is wrong, missing, phantom or blocked.
fn judge(
    own: &mut Orders,
    scenario: &Scenario,
    actors: &mut [Actor],
    versions: &[Option<Item>],
    trace: &str,
) {
    let mut stopped = actors.iter().map(|actor| actor.reply.is_none());
    let all_ended = !stopped.any(|stopped| stopped);
    // Each change that was acknowledged is there; one that was not may be, once.
    let replies: Vec<_> = actors.iter_mut().map(|actor| actor.reply.take()).collect();
    let done = replies[..2].iter().flatten().filter(|reply| reply.is_ok());
    let (done, begun) = (
        done.count(),
        replies[..2].iter().filter(|r| r.is_none()).count(),
    );
    let swaps = versions.len() - 1;
    let idle = usize::from(scenario.vanishes || scenario.before.as_ref().is_some_and(is_over));
    assert!(swaps <= done + begun + idle, "{swaps} changes: {trace}");
    if scenario.adds {
        let last = versions.last().and_then(Option::as_ref);
        let sums = (done..=done + begun).map(|sum| row("new", 1 + i64::try_from(sum).unwrap()));
        assert!(
            last.is_some_and(|last| sums.into_iter().any(|sum| sum == *last)),
            "{last:?}: {trace}"
        );
    }
    // The reader saw the row as it was at some moment, and at most once.
    if let Some(Ok(reply)) = replies.into_iter().next_back().flatten() {
        let seen = items(reply);
        let was = |item: &Item| versions.iter().flatten().any(|version| version == item);
        assert!(seen.len() <= 1 && seen.iter().all(was), "{seen:?}: {trace}");
        assert!(!seen.iter().any(is_over), "{seen:?}: {trace}");
        assert!(
            !scenario.always_found || seen.len() == 1,
            "not found: {trace}"
        );
    }
    // Nobody repaired anything yet, and no entry is missing; without what the server did itself none is
    // phantom either.
    for (there, wanted) in own.entries() {
        assert!(there.is_superset(&wanted), "missing: {trace}");
        assert!(scenario.vanishes || there == wanted, "phantom: {trace}");
    }
    let world = &mut own.world;
    let row = stored_row(&mut world.server, &own.layout).filter(|row| !is_over(row));
    let (server, engine) = (&mut world.server, &world.engines[3]);
    let status_now = row.as_ref().and_then(|row| row.get("status")).cloned();
    for status in ["new", "paid", "void"] {
        let wanted = row
            .clone()
            .filter(|row| row.get("status") == Some(&status.into()));
        // Where no entry is left over, one look is enough.
        if scenario.vanishes || status_now.is_none() || wanted.is_some() {
            let found = items(run(engine, with_status(status), server).unwrap());
            assert_eq!(found, Vec::from_iter(wanted), "{status}: {trace}");
        }
    }
    if scenario.vanishes {
        let found = items(run(engine, Operation::Scan(scan_of(&table())), server).unwrap());
        assert_eq!(found, Vec::from_iter(row), "{trace}");
    }
    // Now those have repaired what there was.
    if all_ended {
        for (there, wanted) in own.entries() {
            assert_eq!(there, wanted, "left behind: {trace}");
        }
    }
}

fn is_over(item: &Item) -> bool {
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
    })
}

fn expired() -> Item {
    let mut item = row("new", 1);
    item.insert("expires".into(), (NOW - 1).into());
    item
}

fn tried(scenario: &Scenario) {
    let mut own = Orders::new();
    let runs = exhaust(3, |victim, choices| {
        once(&mut own, scenario, victim, choices)
    });
    assert!(runs > 100, "only {runs} runs");
}

#[test]
fn two_change_what_is_indexed() {
    tried(&Scenario {
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

#[test]
fn two_add_while_one_reads_the_range_that_the_row_never_leaves() {
    let add = || change(vec![Action::Add(Path::attribute("amount"), number("1"))]);
    tried(&Scenario {
        before: Some(row("new", 1)),
        vanishes: false,
        writers: [add(), add()],
        reader: with_status("new"),
        always_found: true,
        adds: true,
    });
}

#[test]
fn one_inserts_while_one_removes() {
    tried(&Scenario {
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

#[test]
fn one_replaces_while_one_removes_what_it_read() {
    let condition = Condition::Exists(Path::attribute("status"));
    tried(&Scenario {
        before: Some(row("new", 1)),
        vanishes: false,
        writers: [writing(row("paid", 2), Row::Any), removal(Some(condition))],
        reader: with_status("new"),
        always_found: false,
        adds: false,
    });
}

#[test]
fn an_expired_row_is_replaced_while_one_clears_it() {
    for reader in [with_status("new"), Operation::Scan(scan_of(&table()))] {
        tried(&Scenario {
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

#[test]
fn what_a_vanished_row_left_is_cleared_while_it_comes_back() {
    for status in ["new", "paid"] {
        tried(&Scenario {
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
