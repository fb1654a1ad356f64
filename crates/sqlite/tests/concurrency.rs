//! Many threads and several stores on one file.

mod common;
use mintkey_store_testkit::requests;

use std::sync::Arc;
use std::thread;

use common::Fixture;
use mintkey_store::{Action, ErrorKind, Guard, Operation, Path, Reply, Store, Update};
use requests::*;

const THREADS: usize = 8;
const EACH: usize = 100;

fn add_one(table: &Arc<mintkey_store::Table>) -> Operation {
    Operation::Update(Update {
        actions: vec![Action::Add(Path::attribute("n"), number("1"))],
        ..update_of(table, key("a", "1"))
    })
}

fn run_threads(stores: &[Arc<dyn Store>]) {
    let table = orders();
    for store in stores {
        put(&**store, &table, order("a", "1", &[("n", 0.into())])).unwrap();
    }
    let taken: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (store, table) = (&stores[thread % stores.len()], &table);
                scope.spawn(move || {
                    let mut taken = 0;
                    for number in 0..EACH {
                        run(&**store, add_one(table)).unwrap();
                        put(
                            &**store,
                            table,
                            order("b", &format!("{thread}-{number}"), &[]),
                        )
                        .unwrap();
                        // All threads insert this key; exactly one succeeds.
                        match insert(&**store, table, order("c", &number.to_string(), &[])) {
                            Ok(_) => taken += 1,
                            Err(error) => {
                                assert_eq!(error.kind, ErrorKind::KeyCollision, "{error}");
                            }
                        }
                        get(&**store, table, key("a", "1")).unwrap();
                    }
                    taken
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(taken, EACH);
    let store = &*stores[0];
    let total = i64::try_from(THREADS * EACH).unwrap();
    assert_eq!(
        get(store, &table, key("a", "1")).unwrap().get("n"),
        Some(&total.into())
    );
    assert_eq!(
        query(store, query_of(&table, &[string("b")])).len(),
        THREADS * EACH
    );
    assert_eq!(query(store, query_of(&table, &[string("c")])).len(), EACH);
}

#[test]
fn threads_of_one_store_lose_nothing() {
    let fixture = Fixture::with("?sync=normal&timeout=60");
    run_threads(std::slice::from_ref(&fixture.store));
    run_threads(&[mintkey_sqlite::open("sqlite://").unwrap()]);
}

#[test]
fn stores_on_one_file_lose_nothing() {
    let fixture = Fixture::with("?timeout=60");
    // Like processes, these stores share only the file.
    run_threads(&[fixture.store.clone(), fixture.reopen(), fixture.reopen()]);
}

#[test]
fn submitted_requests_and_threads_get_along() {
    let fixture = Fixture::with("?timeout=60");
    let table = orders();
    let row = order("a", "1", &[("n", 0.into())]);
    put(&*fixture.store, &table, row).unwrap();
    thread::scope(|scope| {
        let (store, table) = (&fixture.store, &table);
        for _ in 0..3 {
            scope.spawn(move || {
                for _ in 0..EACH {
                    run(&**store, add_one(table)).unwrap();
                }
            });
        }
        let answers: Vec<_> = (0..EACH)
            .map(|_| submit(&**store, add_one(table)).1)
            .collect();
        let reads: Vec<_> = (0..EACH)
            .map(|_| submit(&**store, get_of(table, key("a", "1"))).1)
            .collect();
        for answer in answers {
            answer.recv().unwrap().unwrap();
        }
        for read in reads {
            assert!(matches!(read.recv().unwrap().unwrap(), Reply::Item(_)));
        }
    });
    let total = i64::try_from(4 * EACH).unwrap();
    assert_eq!(
        get(&*fixture.store, &table, key("a", "1"))
            .unwrap()
            .get("n"),
        Some(&total.into())
    );
}

#[test]
fn each_of_a_group_has_its_own_answer() {
    let fixture = Fixture::new();
    let table = orders();
    put(&*fixture.store, &table, order("a", "5", &[])).unwrap();
    let answers: Vec<_> = (0..10)
        .map(|number| {
            let guard = Guard {
                row: mintkey_store::Row::Absent,
                ..Guard::default()
            };
            submit(
                &*fixture.store,
                put_of(&table, order("a", &number.to_string(), &[]), guard),
            )
            .1
        })
        .collect();
    for (number, answer) in answers.into_iter().enumerate() {
        let answer = answer.recv().unwrap();
        if number == 5 {
            assert_eq!(kind(answer), ErrorKind::KeyCollision);
        } else {
            answer.unwrap();
        }
    }
    assert_eq!(
        query(&*fixture.store, query_of(&table, &[string("a")])).len(),
        10
    );
}
