//! Every interleaving of what several processes do with one row, with a stop of each after every step of its
//! own: on a real server, in the buckets of a Cluster.
//!
//! Whatever an operation asks goes to the server call by call, and the test decides whose call is next. It
//! tries all orders, one run each. What concerns other buckets than the row's commutes with everything, and
//! is done at once.

use std::collections::{BTreeSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_store::{Item, Key, Operation, Reply, Result};

use crate::config::Config;
use crate::keyspace::layout::{Layout, Space};
use crate::keyspace::layout_cache::LayoutCache;
use crate::keyspace::rows::stored;
use crate::operations::{self, context::Engine};
use crate::protocol::channel::{Answered, Talk};
use crate::protocol::resp::{Call, Value};
use crate::protocol::slots;
use crate::transport::connection::Connection;
use crate::transport::deadline::Watch;

mod questions;
#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod rows;
#[path = "../tests/server/mod.rs"]
mod server;
mod unanswered;
mod upgrades;

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
        let opened = Connection::open(config, place, &config.address, &mut watch, true);
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

/// The replies to calls that were sent once.
fn answered(values: Vec<Value>) -> Vec<Answered> {
    let answered = |value| Answered {
        value,
        sent_before: false,
    };
    values.into_iter().map(answered).collect()
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
            operation: Box::pin(async move { operations::run(&engine, &own, &request).await }),
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
            let values = std::mem::take(&mut self.values);
            self.talk.answer(Ok(answered(values)));
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

fn home() -> u8 {
    slots::of(&string("a"))
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

/// The members of a set.
type Members = BTreeSet<Vec<u8>>;

/// What is on the server, and those who work with it.
struct World {
    server: Server,
    engines: Vec<Arc<Engine>>,
    space: Space,
}

impl World {
    fn new(processes: usize) -> Self {
        Self::of(processes, true)
    }

    fn of(processes: usize, in_buckets: bool) -> Self {
        let fixture = server::Fixture::new();
        let mut config = Config::parse(&fixture.url).unwrap();
        let server = Server::new(&config);
        config.space.in_buckets = in_buckets;
        let engine = |_| {
            Arc::new(Engine {
                config: config.clone(),
                layouts: LayoutCache::new(&Arc::default()),
            })
        };
        Self {
            server,
            engines: (0..processes).map(engine).collect(),
            space: config.space.clone(),
        }
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
}

/// The row as it is stored.
fn stored_row(server: &mut Server, layout: &Layout) -> Option<Item> {
    let call = Call::new("HGETALL").arg(layout.row(&row_key()));
    let value = server.ask(&[call]).remove(0);
    let row = stored(value, &layout.table).unwrap();
    row.map(|row| row.item)
}

/// Who stops for ever, and after how many steps of his own.
type Victim = Option<(usize, usize)>;

/// Tries all orders of the steps of so many processes, and of each all places where one may stop for ever.
/// Gives the number of runs; a run gives the most steps that any process took.
fn exhaust(processes: usize, mut once: impl FnMut(Victim, &mut Choices) -> usize) -> usize {
    let mut runs = 0;
    let mut victims = VecDeque::from([None]);
    let mut longest = 0;
    while let Some(victim) = victims.pop_front() {
        let mut choices = Choices::default();
        loop {
            longest = longest.max(once(victim, &mut choices));
            runs += 1;
            if !choices.advance() {
                break;
            }
        }
        if victim.is_none() {
            victims = (0..processes)
                .flat_map(|actor| (1..longest).map(move |steps| Some((actor, steps))))
                .collect();
        }
    }
    runs
}

/// Lets processes take their steps in the order of the choices, until all have ended or stopped. One that
/// has begun is held up by others only so often.
fn interleave(
    actors: &mut [Actor],
    server: &mut Server,
    victim: Victim,
    choices: &mut Choices,
    mut switches: usize,
    mut after_each: impl FnMut(&mut Server),
) {
    let mut last = None;
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
            return;
        }
        let goes_on = last.filter(|last| live.contains(last));
        let number = match goes_on {
            Some(last) if switches == 0 => last,
            _ => live[choices.choose(live.len())],
        };
        switches -= usize::from(goes_on.is_some_and(|last| last != number));
        last = Some(number);
        actors[number].step(server);
        after_each(server);
    }
}

fn most_steps(actors: &[Actor]) -> usize {
    actors.iter().map(|actor| actor.steps).max().unwrap_or(0)
}

fn trace(victim: Victim, choices: &Choices) -> String {
    format!("{victim:?} {:?}", choices.made)
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
