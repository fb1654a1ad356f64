//! The round trips of operations: calls that can be sent together are.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_redis::internals::{Call, StoreContext};
use mintkey_store::{
    Action, BatchWrite, Error, ErrorKind, Guard, Item, Key, Operation, Outcome, Path, Query, Reply,
    Request, Result, Row, Table, Update, Write,
};

use super::requests::*;
use super::{Server, World, channel, final_replies};

/// Carries out a request. Returns its round trips and its result.
fn round_trips(
    store: &StoreContext,
    request: &Request,
    server: &mut Server,
) -> (usize, Result<Reply>) {
    round_trips_with_failures(store, request, server, |_| None)
}

/// The same, with failures of some round trips, by number.
fn round_trips_with_failures(
    store: &StoreContext,
    request: &Request,
    server: &mut Server,
    fails: impl Fn(usize) -> Option<ErrorKind>,
) -> (usize, Result<Reply>) {
    let channel = channel(&store.config);
    let mut operation = pin!(mintkey_redis::internals::run(store, &channel, request));
    let mut waker_context = Context::from_waker(Waker::noop());
    let mut sent = 0;
    loop {
        if let Poll::Ready(reply) = operation.as_mut().poll(&mut waker_context) {
            return (sent, reply);
        }
        sent += 1;
        let calls = channel.take_calls();
        channel.resume(match fails(sent) {
            // The exchange repeats calls that only read.
            Some(kind) => {
                let is_repeated =
                    |call: &Call| !call.writes && kind == ErrorKind::Unavailable(Outcome::Unknown);
                let reply = |call: &Call| {
                    if is_repeated(call) {
                        return final_replies(server.send(std::slice::from_ref(call))).remove(0);
                    }
                    Err(Error::new(kind, "injected"))
                };
                calls.iter().map(reply).collect()
            }
            None => final_replies(server.send(&calls)),
        });
    }
}

/// Runs a test with the keys of a single server, and with the slot groups of a Cluster.
fn on_both(mut test: impl FnMut(&StoreContext, &mut Server)) {
    for clustered in [false, true] {
        let mut world = World::with(1, clustered);
        test(&world.stores[0], &mut world.server);
    }
}

fn batch(table: &Arc<Table>, writes: Vec<Write>) -> Request {
    request(Operation::BatchWrite(BatchWrite {
        table: Arc::clone(table),
        writes,
    }))
}

fn outcomes(reply: Result<Reply>) -> Vec<Option<ErrorKind>> {
    let Reply::Written(outcomes) = reply.unwrap() else {
        panic!("not the reply to a batch");
    };
    let outcomes = outcomes.into_iter();
    outcomes
        .map(|outcome| outcome.err().map(|error| error.kind))
        .collect()
}

fn counted(number: usize, version: i64) -> Item {
    let status = format!("s{version}");
    let others = [
        ("n", version.into()),
        ("status", status.as_str().into()),
        ("amount", 1.into()),
    ];
    let (partition, sort) = key_parts(number);
    order(&partition, &sort, &others)
}

/// The key of a row: several rows share a partition.
fn key_parts(number: usize) -> (String, String) {
    (format!("p{}", number % 40), number.to_string())
}

fn key_of(number: usize) -> Key {
    let (partition, sort) = key_parts(number);
    key(&partition, &sort)
}

fn saved(table: &Arc<Table>, number: usize, version: i64) -> Write {
    let guard = Guard {
        row: if version == 1 { Row::Absent } else { Row::Any },
        version: (version > 1).then(|| ("n".into(), Some((version - 1).into()))),
        ..Guard::default()
    };
    batch_put(table, counted(number, version), guard)
}

fn added(table: &Arc<Table>, number: usize) -> Write {
    Write::Update(Update {
        actions: vec![Action::Add(Path::attribute("n"), self::number("1"))],
        ..update_of(table, key_of(number))
    })
}

pub fn rows_that_need_a_look_are_read_and_swapped_together() {
    on_both(|store, server| {
        let table = orders();
        let news = (0..40).map(|number| saved(&table, number, 1)).collect();
        let (_, reply) = round_trips(store, &batch(&table, news), server);
        assert_eq!(outcomes(reply), [None; 40]);
        // Versions, updates, new rows, in any order; one is not what it was thought to be.
        let mixed = (0..50).map(|number| match number {
            7 => saved(&table, number, 5),
            40.. => saved(&table, number, 1),
            _ if number % 2 == 0 => added(&table, number),
            _ => saved(&table, number, 2),
        });
        let (sent, reply) = round_trips(store, &batch(&table, mixed.collect()), server);
        let mut expected = [None; 50];
        expected[7] = Some(ErrorKind::VersionConflict);
        assert_eq!(outcomes(reply), expected);
        assert_eq!(sent, 2);
    });
}

pub fn writes_of_one_row_keep_their_order() {
    on_both(|store, server| {
        let table = orders();
        let writes = vec![
            saved(&table, 1, 1),
            saved(&table, 2, 1),
            saved(&table, 1, 2),
            added(&table, 2),
            saved(&table, 1, 3),
            added(&table, 1),
            saved(&table, 1, 2),
        ];
        let (_, reply) = round_trips(store, &batch(&table, writes), server);
        let mut expected = [None; 7];
        expected[6] = Some(ErrorKind::VersionConflict);
        assert_eq!(outcomes(reply), expected);
        for (number, n) in [(1, 4), (2, 2)] {
            let get = request(get_of(&table, key_of(number)));
            let Reply::Item(Some(item)) = round_trips(store, &get, server).1.unwrap() else {
                panic!("no row");
            };
            assert_eq!(item.get("n"), Some(&n.into()));
        }
    });
}

pub fn what_has_expired_behind_a_page_is_skipped_in_long_strides() {
    on_both(|store, server| {
        let table = orders();
        let rows = (0..600).map(|number| {
            let mut item = order("a", &format!("{number:03}"), &[]);
            if number > 0 {
                item.insert("expires".into(), (NOW - 1).into());
            }
            batch_put(&table, item, Guard::default())
        });
        let (_, reply) = round_trips(store, &batch(&table, rows.collect()), server);
        assert!(outcomes(reply).iter().all(Option::is_none));
        let page = request(Operation::Query(Query {
            limit: Some(1),
            ..query_of(&table, &[string("a")])
        }));
        let channel = channel(&store.config);
        let mut operation = pin!(mintkey_redis::internals::run(store, &channel, &page));
        let mut waker_context = Context::from_waker(Waker::noop());
        let (mut sent, mut restarts) = (0, 0);
        let mut end = channel.deadline().end();
        let reply = loop {
            if let Poll::Ready(reply) = operation.as_mut().poll(&mut waker_context) {
                break reply;
            }
            let calls = channel.take_calls();
            sent += 1;
            let before = std::mem::replace(&mut end, channel.deadline().end());
            restarts += usize::from(before < end);
            channel.resume(final_replies(server.send(&calls)));
        };
        let Reply::Page(page) = reply.unwrap() else {
            panic!("not a page");
        };
        assert_eq!((page.items.len(), page.next), (1, None));
        assert!(sent <= 25, "{sent} round trips");
        // Removing expired rows restarts the deadline of the page.
        assert!(restarts > 5, "{restarts} restarts");
    });
}

pub fn what_is_interrupted_or_late_asks_nothing_more() {
    on_both(|store, server| {
        let table = orders();
        let news: Vec<Write> = (0..40).map(|number| saved(&table, number, 1)).collect();
        // The layouts are known from now on.
        round_trips(store, &batch(&table, news), server).1.unwrap();
        let changed = (0..40).map(|number| saved(&table, number, 2));
        let changed: Vec<Write> = changed.chain([saved(&table, 3, 3)]).collect();
        for outcome in [Outcome::NotApplied, Outcome::Unknown] {
            let interrupted = ErrorKind::Interrupted(outcome);
            let fails = |sent| (sent == 1).then_some(interrupted);
            let request = batch(&table, changed.clone());
            let (sent, reply) = round_trips_with_failures(store, &request, server, fails);
            let error = reply.unwrap_err();
            assert_eq!(error.kind, interrupted, "{error}");
            assert_eq!(sent, 1);
        }
        // The swaps are late: what comes behind them is not begun.
        let late = ErrorKind::Timeout(Outcome::Unknown);
        let fails = |sent| (sent == 2).then_some(late);
        let request = batch(&table, changed);
        let (sent, reply) = round_trips_with_failures(store, &request, server, fails);
        let mut expected = vec![Some(late); 40];
        expected.push(Some(ErrorKind::Timeout(Outcome::NotApplied)));
        assert_eq!(outcomes(reply), expected);
        assert_eq!(sent, 2);
    });
}

pub fn what_was_only_looked_at_is_asked_again_after_a_doubt() {
    on_both(|store, server| {
        let table = orders();
        let news: Vec<Write> = (0..5).map(|number| saved(&table, number, 1)).collect();
        round_trips(store, &batch(&table, news), server).1.unwrap();
        let mixed = (0..5).map(|number| saved(&table, number, 2));
        let mixed = mixed.chain((40..45).map(|number| saved(&table, number, 1)));
        let unknown = ErrorKind::Unavailable(Outcome::Unknown);
        let fails = |sent| (sent == 1).then_some(unknown);
        let request = batch(&table, mixed.collect());
        let (_, reply) = round_trips_with_failures(store, &request, server, fails);
        assert_eq!(outcomes(reply), [None; 10]);
    });
}

pub fn an_own_insert_that_comes_late_is_no_collision() {
    on_both(|store, server| {
        let table = orders();
        let others: Vec<Write> = (0..2).map(|number| saved(&table, number, 1)).collect();
        round_trips(store, &batch(&table, others), server)
            .1
            .unwrap();
        let absent = Guard {
            row: Row::Absent,
            ..Guard::default()
        };
        for insert in [
            put_of(&table, counted(40, 1), absent),
            batch(&table, vec![saved(&table, 41, 1)]).operation,
        ] {
            let insert = request(insert);
            let unknown = ErrorKind::Unavailable(Outcome::Unknown);
            // The first is lost on its way; nothing is there yet. It comes before the second.
            let channel = channel(&store.config);
            let mut operation = pin!(mintkey_redis::internals::run(store, &channel, &insert));
            let mut waker_context = Context::from_waker(Waker::noop());
            let mut first = Vec::new();
            let mut sent = 0;
            let reply = loop {
                if let Poll::Ready(reply) = operation.as_mut().poll(&mut waker_context) {
                    break reply;
                }
                sent += 1;
                let calls = channel.take_calls();
                if sent == 1 {
                    channel.resume(Error::new(unknown, "injected").of_all(calls.len()));
                    first = calls;
                    continue;
                }
                let values = server.send(&calls);
                server.send(&std::mem::take(&mut first));
                channel.resume(final_replies(values));
            };
            match reply.unwrap() {
                Reply::Written(outcomes) => drop(outcomes.into_iter().map(Result::unwrap).count()),
                other => assert_eq!(other, Reply::Done),
            }
        }
    });
}
