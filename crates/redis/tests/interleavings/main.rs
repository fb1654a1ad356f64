//! Every interleaving of the calls of several processes on one row, and a stop of each process after each of its steps: on a
//! real server, with the slot groups of a Cluster.
//!
//! The test sends the calls of the operations one by one, and decides which process is next. It runs all orders. Calls that
//! commute with all others are sent at once: in most tests, those on other slot groups than the row's.
//!
//! These tests drive operations without a driver, through `mintkey_redis::internals`.

#![allow(
    clippy::wildcard_imports,
    reason = "the requests are the vocabulary of the tests"
)]

use std::collections::{BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_redis::internals::{
    Call, Channel, Config, Endpoint, FinalReply, Keyspace, Layout, LayoutCache, Parser, Replies,
    StoreContext, Topology, Value, decode_row, group_of,
};
use mintkey_runtime::Deadline;
use mintkey_store::store::Never;
use mintkey_store::{Item, Key, Operation, Reply, Result};

mod added_index;
mod concurrent_writers;
mod lost_replies;
use mintkey_store_testkit::{self as testkit, Trial, requests};
mod round_trips;
#[path = "../server/mod.rs"]
mod server;
mod transactions;
mod unique_values;

use requests::*;

/// No operation needs more steps, whatever the other processes do.
const MAX_STEPS: usize = 40;

/// A connection without a driver.
struct Server {
    stream: Box<dyn ReadAndWrite>,
    parser: Parser,
}

trait ReadAndWrite: Read + Write {}
impl<T: Read + Write> ReadAndWrite for T {}

impl Server {
    fn new(config: &Config) -> Self {
        let stream: Box<dyn ReadAndWrite> = match &config.endpoints[0] {
            Endpoint::Host(host, port) => {
                Box::new(TcpStream::connect((host.as_str(), *port)).unwrap())
            }
            Endpoint::Socket(path) => Box::new(UnixStream::connect(path).unwrap()),
        };
        Self {
            stream,
            parser: Parser::new(config.max_reply),
        }
    }

    /// Sends calls together.
    fn send(&mut self, calls: &[Call]) -> Vec<Value> {
        let mut output = Vec::new();
        for call in calls {
            call.write(false, &mut output);
        }
        self.stream.write_all(&output).unwrap();
        let mut values: Vec<Value> = calls.iter().map(|_| self.reply()).collect();
        for (call, value) in calls.iter().zip(&mut values) {
            if matches!(value, Value::Error(text) if text.starts_with("NOSCRIPT")) {
                output.clear();
                call.write(true, &mut output);
                self.stream.write_all(&output).unwrap();
                *value = self.reply();
            }
        }
        values
    }

    fn reply(&mut self) -> Value {
        loop {
            if let Some(value) = self.parser.next_reply().unwrap() {
                return value;
            }
            assert!(
                self.parser.fill(&mut self.stream).unwrap() > 0,
                "the server closed"
            );
        }
    }
}

/// The channel of a request.
fn channel(config: &Config) -> Channel {
    Channel::new(Deadline::new(&Never, config.timeout))
}

/// The replies to calls that were sent once.
fn final_replies(values: Vec<Value>) -> Replies {
    let final_reply = |value| {
        Ok(FinalReply {
            value,
            sent_before: false,
        })
    };
    values.into_iter().map(final_reply).collect()
}

/// A process with one operation.
struct Process {
    operation: Pin<Box<dyn Future<Output = Result<Reply>>>>,
    channel: Channel,
    waiting: VecDeque<(usize, Call)>,
    values: Vec<Value>,
    reply: Option<Result<Reply>>,
    steps: usize,
    /// Whether a call is a step of its own.
    is_step: fn(&Call) -> bool,
}

impl Process {
    fn new(store: &Arc<StoreContext>, operation: Operation, server: &mut Server) -> Self {
        Self::with(store, operation, server, |call| call.slot_group == home())
    }

    fn with(
        store: &Arc<StoreContext>,
        operation: Operation,
        server: &mut Server,
        is_step: fn(&Call) -> bool,
    ) -> Self {
        let (store, channel) = (Arc::clone(store), channel(&store.config));
        let own = channel.clone();
        let request = request(operation);
        let mut process = Self {
            operation: Box::pin(async move {
                mintkey_redis::internals::run(&store, &own, &request).await
            }),
            channel,
            waiting: VecDeque::new(),
            values: Vec::new(),
            reply: None,
            steps: 0,
            is_step,
        };
        process.advance(server);
        process
    }

    /// Polls the operation until it sends a call that is a step, or ends.
    fn advance(&mut self, server: &mut Server) {
        while self.reply.is_none() && self.waiting.is_empty() {
            let mut waker_context = Context::from_waker(Waker::noop());
            if let Poll::Ready(reply) = self.operation.as_mut().poll(&mut waker_context) {
                self.reply = Some(reply);
                return;
            }
            let calls = self.channel.take_calls();
            self.values = vec![Value::Nil; calls.len()];
            let (own, others): (Vec<_>, Vec<_>) = calls
                .into_iter()
                .enumerate()
                .partition(|(_, call)| (self.is_step)(call));
            self.waiting = own.into();
            let (indexes, others): (Vec<_>, Vec<_>) = others.into_iter().unzip();
            for (index, value) in indexes.into_iter().zip(server.send(&others)) {
                self.values[index] = value;
            }
            self.resume();
        }
    }

    fn resume(&mut self) {
        if self.waiting.is_empty() {
            let values = std::mem::take(&mut self.values);
            self.channel.resume(final_replies(values));
        }
    }

    fn step(&mut self, server: &mut Server) {
        self.steps += 1;
        assert!(self.steps < MAX_STEPS, "an operation does not end");
        let (index, call) = self.waiting.pop_front().unwrap();
        self.values[index] = server.send(&[call]).remove(0);
        self.resume();
        self.advance(server);
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
    group_of(&string("a"))
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

/// The members of a sorted set.
type Members = BTreeSet<Vec<u8>>;

/// A server, and the processes that use it.
struct World {
    server: Server,
    stores: Vec<Arc<StoreContext>>,
    keyspace: Keyspace,
}

impl World {
    fn new(processes: usize) -> Self {
        Self::with(processes, true)
    }

    fn with(processes: usize, clustered: bool) -> Self {
        let fixture = server::Fixture::new();
        let mut config = Config::parse(&fixture.url).unwrap();
        let server = Server::new(&config);
        config.keyspace.clustered = clustered;
        let store = |_| {
            Arc::new(StoreContext {
                config: config.clone(),
                layouts: LayoutCache::default(),
                topology: Topology::new(&config),
            })
        };
        Self {
            server,
            stores: (0..processes).map(store).collect(),
            keyspace: config.keyspace.clone(),
        }
    }

    fn members(&mut self, set: &[u8]) -> Members {
        let call = Call::new("ZRANGE").arg(set).arg("0").arg("-1");
        let Value::Array(members) = self.server.send(&[call]).remove(0) else {
            panic!("not a sorted set");
        };
        let bytes = members.into_iter().map(|member| match member {
            Value::Bulk(bytes) => bytes,
            other => panic!("{other:?}"),
        });
        bytes.collect()
    }
}

/// The stored row.
fn stored_row(server: &mut Server, layout: &Layout) -> Option<Item> {
    let call = Call::new("HGETALL").arg(layout.row_key(&row_key()));
    let value = server.send(&[call]).remove(0);
    let row = decode_row(value, &layout.table, &row_key()).unwrap();
    row.map(|row| row.item)
}

/// The process that stops and does not continue, and after how many steps.
type Victim = Option<(usize, usize)>;

/// Runs all orders of the steps of this number of processes, with each process stopped after each step. Returns
/// the number of runs. A run returns the most steps that a process took.
fn run_all(processes: usize, mut once: impl FnMut(Victim, &mut Choices) -> usize) -> usize {
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
                .flat_map(|process| (1..longest).map(move |steps| Some((process, steps))))
                .collect();
        }
    }
    runs
}

/// Steps the processes in the order of the choices, until all have ended or stopped. Switches away from a process that has
/// not ended at most `switches` times.
fn interleave(
    processes: &mut [Process],
    server: &mut Server,
    victim: Victim,
    choices: &mut Choices,
    mut switches: usize,
    mut after_each: impl FnMut(&mut Server),
) {
    let mut last = None;
    loop {
        let goes_on = |(number, process): &(usize, &Process)| {
            let stopped =
                victim.is_some_and(|(who, after)| who == *number && process.steps >= after);
            process.reply.is_none() && !stopped
        };
        let live: Vec<usize> = processes
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
        processes[number].step(server);
        after_each(server);
    }
}

fn most_steps(processes: &[Process]) -> usize {
    processes
        .iter()
        .map(|process| process.steps)
        .max()
        .unwrap_or(0)
}

fn trace(victim: Victim, choices: &Choices) -> String {
    format!("{victim:?} {:?}", choices.made)
}

fn run(store: &Arc<StoreContext>, operation: Operation, server: &mut Server) -> Result<Reply> {
    let mut process = Process::new(store, operation, server);
    while process.reply.is_none() {
        process.step(server);
    }
    process.reply.unwrap()
}

fn items(reply: Reply) -> Vec<Item> {
    match reply {
        Reply::Page(page) => page.items,
        other => panic!("{other:?}"),
    }
}

/// Makes trials of the functions of the modules.
macro_rules! trials {
    ($($module:ident: $($name:ident),+;)+) => {
        vec![$($(
            Trial::test(concat!(stringify!($module), "::", stringify!($name)), || {
                $module::$name();
                Ok(())
            }),
        )+)+]
    };
}

fn main() {
    let tests = trials!(
        added_index: an_index_is_added_during_a_write;
        concurrent_writers: two_writers_change_the_indexed_attribute, two_writers_add_while_a_reader_queries_the_range_of_the_row, an_insert_and_a_deletion, a_replacement_and_a_conditional_deletion, two_inserts_over_an_expired_row_that_a_reader_deletes, two_writes_of_a_row_that_the_server_deleted;
        lost_replies: the_reported_outcome_agrees_with_what_happened, the_reported_outcome_of_unique_values_agrees_with_what_happened, the_reported_outcome_of_a_transaction_agrees_with_what_happened;
        round_trips: rows_that_need_a_look_are_read_and_swapped_together, writes_of_one_row_keep_their_order, what_has_expired_behind_a_page_is_skipped_in_long_strides, what_is_interrupted_or_late_asks_nothing_more, what_was_only_looked_at_is_asked_again_after_a_doubt, an_own_insert_that_comes_late_is_no_collision;
        transactions: two_transfers_and_a_snapshot;
        unique_values: two_new_rows_with_one_value, two_new_rows_with_one_value_in_many_orders, a_value_is_given_up_and_claimed, two_changes_of_one_row, an_expired_row_has_one_successor, a_value_changes_hands_in_a_transaction;
    );
    // The tests wait for the server most of the time.
    testkit::run_on(tests, 8)
}
