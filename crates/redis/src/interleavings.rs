//! Every interleaving of what several processes do with one row, with a stop of each after every step of its
//! own: on a real server, in the buckets of a Cluster.
//!
//! Whatever an operation asks goes to the server call by call, and the test decides whose call is next. It
//! tries all orders, one run each. What concerns other buckets than the row's commutes with everything, and
//! is done at once.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use mintkey_store::{
    Action, Condition, Delete, Guard, Item, Key, Operation, Path, Query, Reply, Result, Row, Table,
    Update,
};

use crate::bucket;
use crate::catalog::Layouts;
use crate::config::Config;
use crate::connection::Connection;
use crate::engine::{Engine, perform};
use crate::layout::Layout;
use crate::resp::{Call, Value};
use crate::talk::Talk;
use crate::translate::stored;
use crate::watch::Watch;

#[path = "../../store/tests/suite/requests.rs"]
mod requests;
#[path = "../tests/server/mod.rs"]
mod server;

use requests::*;

/// No operation needs more steps than this, whoever gets in its way.
const MOST_STEPS: usize = 40;

/// A connection past all drivers.
struct Server {
    connection: Connection,
    watch: Watch,
}

impl Server {
    fn new(config: &Config) -> Self {
        let mut watch = Watch::new(None, config.timeout);
        let place = &config.places[0];
        let opened = Connection::open(config, place, &config.address, &mut watch);
        Self {
            connection: opened.unwrap(),
            watch,
        }
    }

    fn ask(&mut self, calls: &[Call]) -> Vec<Value> {
        self.watch.start_anew();
        let mut values = self.connection.exchange(calls, &mut self.watch).unwrap();
        for (call, value) in calls.iter().zip(&mut values) {
            if matches!(value, Value::Error(text) if text.starts_with("NOSCRIPT")) {
                call.write(true, self.connection.fresh_out());
                self.connection.send(&mut self.watch).unwrap();
                let answers = self.connection.receive(1, &mut self.watch);
                *value = answers.unwrap().remove(0);
            }
        }
        values
    }
}

/// What one process does.
struct Actor {
    operation: Pin<Box<dyn Future<Output = Result<Reply>>>>,
    talk: Talk,
    waiting: VecDeque<(usize, Call)>,
    values: Vec<Value>,
    reply: Option<Result<Reply>>,
    steps: usize,
}

impl Actor {
    fn new(engine: &Arc<Engine>, operation: Operation, server: &mut Server) -> Self {
        let (engine, talk) = (Arc::clone(engine), Talk::default());
        let own = talk.clone();
        let request = request(operation);
        let mut actor = Self {
            operation: Box::pin(async move { perform(&engine, &own, &request).await }),
            talk,
            waiting: VecDeque::new(),
            values: Vec::new(),
            reply: None,
            steps: 0,
        };
        actor.go_on(server);
        actor
    }

    /// Lets the operation go on until it asks something of the row's bucket, or ends.
    fn go_on(&mut self, server: &mut Server) {
        while self.reply.is_none() && self.waiting.is_empty() {
            let mut context = Context::from_waker(Waker::noop());
            if let Poll::Ready(reply) = self.operation.as_mut().poll(&mut context) {
                self.reply = Some(reply);
                return;
            }
            let (calls, _) = self.talk.asked();
            self.values = vec![Value::Nil; calls.len()];
            let (own, others): (Vec<_>, Vec<_>) = calls
                .into_iter()
                .enumerate()
                .partition(|(_, call)| call.bucket == home());
            self.waiting = own.into();
            let (places, others): (Vec<_>, Vec<_>) = others.into_iter().unzip();
            for (place, value) in places.into_iter().zip(server.ask(&others)) {
                self.values[place] = value;
            }
            self.answer();
        }
    }

    fn answer(&mut self) {
        if self.waiting.is_empty() {
            self.talk.answer(Ok(std::mem::take(&mut self.values)));
        }
    }

    fn step(&mut self, server: &mut Server) {
        self.steps += 1;
        assert!(self.steps < MOST_STEPS, "an operation does not end");
        let (place, call) = self.waiting.pop_front().unwrap();
        self.values[place] = server.ask(&[call]).remove(0);
        self.answer();
        self.go_on(server);
    }
}

/// The choices of one run, and the next run's.
#[derive(Default)]
struct Choices {
    made: Vec<(usize, usize)>,
    at: usize,
}

impl Choices {
    fn choose(&mut self, options: usize) -> usize {
        if self.at == self.made.len() {
            self.made.push((0, options));
        }
        let (chosen, known) = self.made[self.at];
        assert_eq!(known, options, "a run is not repeated by the same choices");
        self.at += 1;
        chosen
    }

    /// Goes to the next run; false after the last.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, options)) = self.made.pop() {
            if chosen + 1 < options {
                self.made.push((chosen + 1, options));
                return true;
            }
        }
        false
    }
}

/// The table, the same for all: what an engine knows of it is known from the first step on.
fn table() -> Arc<Table> {
    static TABLE: OnceLock<Arc<Table>> = OnceLock::new();
    Arc::clone(TABLE.get_or_init(orders))
}

fn home() -> u8 {
    bucket::of(&string("a"))
}

fn row_key() -> Key {
    key("a", "1")
}

fn row(status: &str, amount: i64) -> Item {
    order(
        "a",
        "1",
        &[("status", status.into()), ("amount", amount.into())],
    )
}

fn change(actions: Vec<Action>) -> Operation {
    Operation::Update(Update {
        actions,
        ..update_of(&table(), row_key())
    })
}

fn set(name: &str, value: impl Into<mintkey_store::Value>) -> Action {
    Action::Set(Path::attribute(name), value.into())
}

fn with_status(status: &str) -> Operation {
    Operation::Query(Query {
        index: Some("by_status".into()),
        ..query_of(&table(), &[string(status)])
    })
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

/// The members of a set.
type Members = BTreeSet<Vec<u8>>;

/// What is on the server.
struct World {
    server: Server,
    engines: Vec<Arc<Engine>>,
    layout: Layout,
}

impl World {
    fn new() -> Self {
        let fixture = server::Fixture::new();
        let mut config = Config::parse(&fixture.url).unwrap();
        let mut server = Server::new(&config);
        config.space.in_buckets = true;
        let engine = || {
            Arc::new(Engine {
                config: config.clone(),
                layouts: Layouts::new(&Arc::default()),
            })
        };
        let engines: Vec<_> = (0..4).map(|_| engine()).collect();
        let layout = Layout::new(&config.space, home(), table(), String::new(), Vec::new());
        for engine in &engines {
            run(engine, with_status("new"), &mut server).unwrap();
        }
        Self {
            server,
            engines,
            layout,
        }
    }

    fn begin(&mut self, scenario: &Scenario) {
        let layout = &self.layout;
        let keys = [
            layout.row(&row_key()),
            layout.order.clone(),
            layout.index("by_status"),
        ];
        let call = keys.iter().fold(Call::new("DEL"), Call::arg);
        self.server.ask(&[call]);
        if let Some(item) = &scenario.before {
            let put = put_of(&table(), item.clone(), Guard::default());
            run(&self.engines[3], put, &mut self.server).unwrap();
        }
        if scenario.vanishes {
            self.server.ask(&[Call::new("DEL").arg(&keys[0])]);
        }
    }

    fn row(&mut self) -> Option<Item> {
        let call = Call::new("HGETALL").arg(self.layout.row(&row_key()));
        let value = self.server.ask(&[call]).remove(0);
        stored(value, &self.layout.table)
            .unwrap()
            .map(|row| row.item)
    }

    fn members(&mut self, set: &[u8]) -> Members {
        let call = Call::new("ZRANGE").arg(set).arg("0").arg("-1");
        let Value::Array(members) = self.server.ask(&[call]).remove(0) else {
            panic!("no set");
        };
        let bytes = members.into_iter().map(|member| match member {
            Value::Bulk(bytes) => bytes,
            other => panic!("{other:?}"),
        });
        bytes.collect()
    }

    /// What the order and the index hold, and what they should.
    fn entries(&mut self) -> [(Members, Members); 2] {
        let row = self.row();
        let wanted = row.as_ref().map(|_| Layout::member(&row_key()));
        let indexed = row
            .as_ref()
            .and_then(|row| Layout::index_member(&by_status(), row, &row_key()));
        let (order, index) = (self.layout.order.clone(), self.layout.index("by_status"));
        [
            (self.members(&order), wanted.into_iter().collect()),
            (self.members(&index), indexed.into_iter().collect()),
        ]
    }
}

fn run(engine: &Arc<Engine>, operation: Operation, server: &mut Server) -> Result<Reply> {
    let mut actor = Actor::new(engine, operation, server);
    while actor.reply.is_none() {
        actor.step(server);
    }
    actor.reply.unwrap()
}

fn items(reply: Reply) -> Vec<Item> {
    match reply {
        Reply::Page(page) => page.items,
        other => panic!("{other:?}"),
    }
}

/// Tries all orders of the steps, and of each all places where one process may stop for ever. Gives the
/// number of runs.
fn exhaust(scenario: &Scenario) -> usize {
    let mut world = World::new();
    let mut runs = 0;
    let mut victims = VecDeque::from([None]);
    let mut longest = 0;
    while let Some(victim) = victims.pop_front() {
        let mut choices = Choices::default();
        loop {
            let steps = once(&mut world, scenario, victim, &mut choices);
            longest = longest.max(steps);
            runs += 1;
            if !choices.advance() {
                break;
            }
        }
        if victim.is_none() {
            let actors = 0..=scenario.writers.len();
            victims = actors
                .flat_map(|actor| (1..longest).map(move |steps| Some((actor, steps))))
                .collect();
        }
    }
    runs
}

/// One run; gives the most steps that any process took.
fn once(
    world: &mut World,
    scenario: &Scenario,
    victim: Option<(usize, usize)>,
    choices: &mut Choices,
) -> usize {
    world.begin(scenario);
    let operations = scenario.writers.iter().chain([&scenario.reader]);
    let mut actors: Vec<Actor> = operations
        .zip(&world.engines)
        .map(|(operation, engine)| Actor::new(engine, operation.clone(), &mut world.server))
        .collect();
    let mut versions = vec![world.row()];
    loop {
        let goes_on = |(number, actor): &(usize, &Actor)| {
            let stopped = victim.is_some_and(|(who, after)| who == *number && actor.steps >= after);
            actor.reply.is_none() && !stopped
        };
        let live: Vec<usize> = actors
            .iter()
            .enumerate()
            .filter(goes_on)
            .map(|(number, _)| number)
            .collect();
        if live.is_empty() {
            break;
        }
        let number = live[choices.choose(live.len())];
        actors[number].step(&mut world.server);
        let now = world.row();
        if versions.last() != Some(&now) {
            versions.push(now);
        }
    }
    let made: Vec<(usize, usize)> = choices.made.clone();
    judge(
        world,
        scenario,
        &mut actors,
        &versions,
        &format!("{victim:?} {made:?}"),
    );
    actors.iter().map(|actor| actor.steps).max().unwrap_or(0)
}

/// Nothing is wrong, missing, phantom or blocked.
fn judge(
    world: &mut World,
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
    for (there, wanted) in world.entries() {
        assert!(there.is_superset(&wanted), "missing: {trace}");
        assert!(scenario.vanishes || there == wanted, "phantom: {trace}");
    }
    let row = world.row().filter(|row| !is_over(row));
    let (server, engine) = (&mut world.server, &world.engines[3]);
    let own = row.as_ref().and_then(|row| row.get("status")).cloned();
    for status in ["new", "paid", "void"] {
        let wanted = row
            .clone()
            .filter(|row| row.get("status") == Some(&status.into()));
        // Where no entry is left over, one look is enough.
        if scenario.vanishes || own.is_none() || wanted.is_some() {
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
        for (there, wanted) in world.entries() {
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
    let runs = exhaust(scenario);
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
