//! Many writers: each value has one row.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::people::{
    absent, assert_email_held, batch, by_email, change, delete, id, people, person, put_before,
    row, write,
};
use crate::fixture::{Reopen, tests};
use crate::requests::{NOW, batch_put, get, insert, put_of};
use libtest_mimic::Trial;
use mintkey_store::{Error, ErrorKind, Guard, Operation, Store, Table, Value};

const THREADS: usize = 6;
const VALUES: usize = 8;
const STEPS: usize = 24;

/// An outcome of a write among others: done, or refused because of a value or of the row.
fn is_done(outcome: Result<(), Error>) -> bool {
    match outcome.map_err(|error| (error.kind, error)) {
        Ok(()) => true,
        Err((ErrorKind::UniqueViolation | ErrorKind::ItemGone | ErrorKind::KeyCollision, _)) => {
            false
        }
        Err((_, error)) => panic!("{error}"),
    }
}

fn each_value_has_one_holder<F: Reopen>() {
    let fixture = F::new();
    let table = people();
    insert(fixture.store(), &table, person("first", "first")).unwrap();
    let others: Vec<Arc<dyn Store>> = (0..2).map(|_| fixture.reopen()).collect();
    let holders: Vec<Mutex<Vec<String>>> = (0..VALUES).map(|_| Mutex::default()).collect();
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (table, holders) = (&table, &holders);
            let store = match number % 3 {
                0 => fixture.store(),
                other => &*others[other - 1],
            };
            scope.spawn(move || {
                for (value, holders) in holders.iter().enumerate() {
                    let (id, email) = (format!("{number}-{value}"), format!("e{value}"));
                    let new = if (number + value) % 2 == 0 {
                        put_of(table, person(&id, &email), absent())
                    } else {
                        let put = batch_put(table, person(&id, &email), Guard::default());
                        batch(table, vec![put])
                    };
                    if is_done(write(store, new)) {
                        holders.lock().unwrap().push(id);
                    }
                }
            });
        }
    });
    let store = fixture.store();
    for (value, holders) in holders.iter().enumerate() {
        let holders = holders.lock().unwrap();
        let [holder] = holders.as_slice() else {
            panic!("e{value}: {holders:?}");
        };
        let email = format!("e{value}");
        assert_eq!(
            by_email(store, &table, &email),
            Some(person(holder, &email))
        );
        for number in 0..THREADS {
            let own = format!("{number}-{value}");
            assert_eq!(get(store, &table, id(&own)).is_some(), own == *holder);
        }
    }
}

/// Changes the emails of a few rows, and deletes and writes rows, by a fixed choice for each step.
fn change_at_random(store: &dyn Store, table: &Arc<Table>, seed: usize) {
    let mut state = seed * 2 + 1;
    for _ in 0..STEPS {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let choice = state >> 33;
        let (id, email) = (format!("r{}", choice % 5), format!("e{}", choice / 8 % 4));
        let operation = match choice / 64 % 4 {
            0 => delete(table, &id),
            1 => put_of(table, person(&id, &email), Guard::default()),
            2 => put_of(table, person(&id, &email), absent()),
            _ => Operation::Update(change(table, &id, "email", email.as_str().into())),
        };
        is_done(write(store, operation));
    }
}

fn renames_and_deletes_leave_no_value_behind<F: Reopen>() {
    let fixture = F::new();
    let table = people();
    let store = fixture.store();
    insert(store, &table, person("r0", "e0")).unwrap();
    let other = fixture.reopen();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let writers: Vec<_> = (0..4)
            .map(|number| {
                let table = &table;
                let store = if number % 2 == 0 { store } else { &*other };
                scope.spawn(move || change_at_random(store, table, number))
            })
            .collect();
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                for value in 0..4 {
                    let email = format!("e{value}");
                    if let Some(found) = by_email(store, &table, &email) {
                        assert_eq!(found.get("email"), Some(&email.as_str().into()));
                    }
                }
            }
        });
        let results: Vec<_> = writers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        is_over.store(true, Ordering::SeqCst);
        for result in results {
            result.unwrap();
        }
    });
    let rows: Vec<_> = (0..5)
        .filter_map(|number| get(store, &table, id(&format!("r{number}"))))
        .collect();
    for value in 0..4 {
        let email = format!("e{value}");
        let holders: Vec<_> = rows
            .iter()
            .filter(|row| row.get("email") == Some(&email.as_str().into()))
            .collect();
        assert!(holders.len() <= 1, "{holders:?}");
        let holder = holders.first().map(|row| (*row).clone());
        assert_eq!(by_email(store, &table, &email), holder);
        let probe = write(store, put_of(&table, person("probe", &email), absent()));
        match holder.as_ref().and_then(|row| row.get("pk")) {
            Some(Value::String(holder)) => assert_email_held(probe, &email, holder),
            _ => probe.unwrap(),
        }
        write(store, delete(&table, "probe")).unwrap();
    }
}

fn an_expired_value_has_one_next_holder<F: Reopen>() {
    let fixture = F::new();
    let table = people();
    let store = fixture.store();
    let expired = row(
        "old",
        &[("email", "x".into()), ("expires", (NOW - 1).into())],
    );
    put_before(store, &table, expired);
    let done: Vec<String> = thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|number| {
                let table = &table;
                scope.spawn(move || {
                    let own = format!("r{number}");
                    let new = put_of(table, person(&own, "x"), absent());
                    is_done(write(store, new)).then_some(own)
                })
            })
            .collect();
        let writers = writers.into_iter();
        writers
            .filter_map(|writer| writer.join().unwrap())
            .collect()
    });
    let [holder] = done.as_slice() else {
        panic!("{done:?}");
    };
    assert_eq!(by_email(store, &table, "x"), Some(person(holder, "x")));
}

/// The tests of this file.
pub fn all<F: Reopen + 'static>() -> Vec<Trial> {
    tests!(F:
        each_value_has_one_holder,
        renames_and_deletes_leave_no_value_behind,
        an_expired_value_has_one_next_holder)
}
