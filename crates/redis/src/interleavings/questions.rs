//! How often operations ask their servers: what can be asked at once is.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use mintkey_store::{
    Action, BatchWrite, Error, ErrorKind, Guard, Item, Key, Operation, Outcome, Path, Put, Query,
    Reply, Request, Result, Row, Table, Update, Write,
};

use super::requests::*;
use super::{Server, World, answered};
use crate::operations::{self, context::Engine};
use crate::protocol::channel::Talk;

/// How often a request asks, and what comes of it.
fn questions(engine: &Engine, request: &Request, server: &mut Server) -> (usize, Result<Reply>) {
    questions_until(engine, request, server, |_| None)
}

/// The same where some questions come to nothing, told by their number.
fn questions_until(
    engine: &Engine,
    request: &Request,
    server: &mut Server,
    fails: impl Fn(usize) -> Option<ErrorKind>,
) -> (usize, Result<Reply>) {
    let talk = Talk::default();
    let mut operation = pin!(operations::run(engine, &talk, request));
    let mut context = Context::from_waker(Waker::noop());
    let mut asked = 0;
    loop {
        if let Poll::Ready(reply) = operation.as_mut().poll(&mut context) {
            return (asked, reply);
        }
        asked += 1;
        let (calls, _) = talk.asked();
        talk.answer(match fails(asked) {
            Some(kind) => Err(Error::new(kind, "because")),
            None => Ok(answered(server.ask(&calls))),
        });
    }
}

/// On one server, and in the buckets of a Cluster.
fn on_both(mut test: impl FnMut(&Engine, &mut Server)) {
    for in_buckets in [false, true] {
        let mut world = World::of(1, in_buckets);
        test(&world.engines[0], &mut world.server);
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
        panic!("no batch");
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
    let (partition, sort) = place(number);
    order(&partition, &sort, &others)
}

/// Where a row is: several in each of some partitions.
fn place(number: usize) -> (String, String) {
    (format!("p{}", number % 40), number.to_string())
}

fn key_of(number: usize) -> Key {
    let (partition, sort) = place(number);
    key(&partition, &sort)
}

fn saved(table: &Arc<Table>, number: usize, version: i64) -> Write {
    let guard = Guard {
        row: if version == 1 { Row::Absent } else { Row::Any },
        version: (version > 1).then(|| ("n".into(), Some((version - 1).into()))),
        ..Guard::default()
    };
    Write::Put(Put {
        table: Arc::clone(table),
        item: Arc::new(counted(number, version)),
        guard,
    })
}

fn added(table: &Arc<Table>, number: usize) -> Write {
    Write::Update(Update {
        actions: vec![Action::Add(Path::attribute("n"), self::number("1"))],
        ..update_of(table, key_of(number))
    })
}

#[test]
fn rows_that_need_a_look_are_read_and_swapped_together() {
    on_both(|engine, server| {
        let table = orders();
        let news = (0..40).map(|number| saved(&table, number, 1)).collect();
        let (_, reply) = questions(engine, &batch(&table, news), server);
        assert_eq!(outcomes(reply), [None; 40]);
        // Versions, updates, new rows, in any order; one is not what it was thought to be.
        let mixed = (0..50).map(|number| match number {
            7 => saved(&table, number, 5),
            40.. => saved(&table, number, 1),
            _ if number % 2 == 0 => added(&table, number),
            _ => saved(&table, number, 2),
        });
        let (asked, reply) = questions(engine, &batch(&table, mixed.collect()), server);
        let mut expected = [None; 50];
        expected[7] = Some(ErrorKind::VersionConflict);
        assert_eq!(outcomes(reply), expected);
        assert_eq!(asked, 2);
    });
}

#[test]
fn writes_of_one_row_keep_their_order() {
    on_both(|engine, server| {
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
        let (_, reply) = questions(engine, &batch(&table, writes), server);
        let mut expected = [None; 7];
        expected[6] = Some(ErrorKind::VersionConflict);
        assert_eq!(outcomes(reply), expected);
        for (number, n) in [(1, 4), (2, 2)] {
            let get = request(get_of(&table, key_of(number)));
            let Reply::Item(Some(item)) = questions(engine, &get, server).1.unwrap() else {
                panic!("no row");
            };
            assert_eq!(item.get("n"), Some(&n.into()));
        }
    });
}

#[test]
fn what_has_expired_behind_a_page_is_skipped_in_long_strides() {
    on_both(|engine, server| {
        let table = orders();
        let rows = (0..600).map(|number| {
            let mut item = order("a", &format!("{number:03}"), &[]);
            if number > 0 {
                item.insert("expires".into(), (NOW - 1).into());
            }
            Write::Put(Put {
                table: Arc::clone(&table),
                item: Arc::new(item),
                guard: Guard::default(),
            })
        });
        let (_, reply) = questions(engine, &batch(&table, rows.collect()), server);
        assert!(outcomes(reply).iter().all(Option::is_none));
        let page = request(Operation::Query(Query {
            limit: Some(1),
            ..query_of(&table, &[string("a")])
        }));
        let talk = Talk::default();
        let mut operation = pin!(operations::run(engine, &talk, &page));
        let mut context = Context::from_waker(Waker::noop());
        let (mut asked, mut anew) = (0, 0);
        let reply = loop {
            if let Poll::Ready(reply) = operation.as_mut().poll(&mut context) {
                break reply;
            }
            let (calls, begins) = talk.asked();
            asked += 1;
            anew += usize::from(begins);
            talk.answer(Ok(answered(server.ask(&calls))));
        };
        let Reply::Page(page) = reply.unwrap() else {
            panic!("no page");
        };
        assert_eq!((page.items.len(), page.next), (1, None));
        assert!(asked <= 25, "{asked} questions");
        // What is cleared away does not count against the time of the page.
        assert!(anew > 5, "{anew} times anew");
    });
}

#[test]
fn what_is_interrupted_or_late_asks_nothing_more() {
    on_both(|engine, server| {
        let table = orders();
        let news: Vec<Write> = (0..40).map(|number| saved(&table, number, 1)).collect();
        // The layouts are known from now on.
        questions(engine, &batch(&table, news), server).1.unwrap();
        let changed = (0..40).map(|number| saved(&table, number, 2));
        let changed: Vec<Write> = changed.chain([saved(&table, 3, 3)]).collect();
        for outcome in [Outcome::NotApplied, Outcome::Unknown] {
            let interrupted = ErrorKind::Interrupted(outcome);
            let fails = |asked| (asked == 1).then_some(interrupted);
            let request = batch(&table, changed.clone());
            let (asked, reply) = questions_until(engine, &request, server, fails);
            let error = reply.unwrap_err();
            assert_eq!(error.kind, interrupted, "{error}");
            assert_eq!(asked, 1);
        }
        // The swaps are late: what comes behind them is not begun.
        let late = ErrorKind::Timeout(Outcome::Unknown);
        let fails = |asked| (asked == 2).then_some(late);
        let request = batch(&table, changed);
        let (asked, reply) = questions_until(engine, &request, server, fails);
        let mut expected = vec![Some(late); 40];
        expected.push(Some(ErrorKind::Timeout(Outcome::NotApplied)));
        assert_eq!(outcomes(reply), expected);
        assert_eq!(asked, 2);
    });
}

#[test]
fn what_was_only_looked_at_is_asked_again_after_a_doubt() {
    on_both(|engine, server| {
        let table = orders();
        let news: Vec<Write> = (0..5).map(|number| saved(&table, number, 1)).collect();
        questions(engine, &batch(&table, news), server).1.unwrap();
        let mixed = (0..5).map(|number| saved(&table, number, 2));
        let mixed = mixed.chain((40..45).map(|number| saved(&table, number, 1)));
        let doubtful = ErrorKind::Unavailable(Outcome::Unknown);
        let fails = |asked| (asked == 1).then_some(doubtful);
        let request = batch(&table, mixed.collect());
        let (_, reply) = questions_until(engine, &request, server, fails);
        assert_eq!(outcomes(reply), [None; 10]);
    });
}

#[test]
fn an_own_insert_that_comes_late_is_no_collision() {
    on_both(|engine, server| {
        let table = orders();
        let others: Vec<Write> = (0..2).map(|number| saved(&table, number, 1)).collect();
        questions(engine, &batch(&table, others), server).1.unwrap();
        let absent = Guard {
            row: Row::Absent,
            ..Guard::default()
        };
        for insert in [
            put_of(&table, counted(40, 1), absent),
            batch(&table, vec![saved(&table, 41, 1)]).operation,
        ] {
            let insert = request(insert);
            let doubtful = ErrorKind::Unavailable(Outcome::Unknown);
            // The first is lost on its way; nothing is there yet. It comes before the second.
            let talk = Talk::default();
            let mut operation = pin!(operations::run(engine, &talk, &insert));
            let mut context = Context::from_waker(Waker::noop());
            let mut first = Vec::new();
            let mut asked = 0;
            let reply = loop {
                if let Poll::Ready(reply) = operation.as_mut().poll(&mut context) {
                    break reply;
                }
                asked += 1;
                let (calls, _) = talk.asked();
                if asked == 1 {
                    first = calls;
                    talk.answer(Err(Error::new(doubtful, "because")));
                    continue;
                }
                let values = server.ask(&calls);
                server.ask(&std::mem::take(&mut first));
                talk.answer(Ok(answered(values)));
            };
            match reply.unwrap() {
                Reply::Written(outcomes) => drop(outcomes.into_iter().map(Result::unwrap).count()),
                other => assert_eq!(other, Reply::Done),
            }
        }
    });
}
