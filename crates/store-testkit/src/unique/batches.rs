//! Batches: each write has its own outcome, and the writes happen in order.

use std::sync::Arc;

use super::people::{
    absent, assert_email_held, assert_free, batch, by_email, change, deletion, id, people, person,
    row, written,
};
use crate::fixture::{Fixture, tests};
use crate::requests::{batch_put, get, insert, put};
use libtest_mimic::Trial;
use mintkey_store::{Error, ErrorKind, Guard, Table, Write};

fn new(table: &Arc<Table>, id: &str, email: &str) -> Write {
    batch_put(table, person(id, email), absent())
}

fn over(table: &Arc<Table>, id: &str, email: &str) -> Write {
    batch_put(table, person(id, email), Guard::default())
}

/// Requires that the last of these writes was refused because this person has the email, and no other.
fn assert_last_is_held(outcomes: Vec<Result<(), Error>>, email: &str, holder: &str) {
    let mut outcomes = outcomes;
    let last = outcomes.pop().unwrap();
    for outcome in outcomes {
        outcome.unwrap();
    }
    assert_email_held(last, email, holder);
}

fn each_write_has_its_outcome<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    let free = Guard {
        collision_free: true,
        ..absent()
    };
    let writes = vec![
        new(&table, "b", "y"),
        new(&table, "c", "x"),
        batch_put(&table, person("d", "x"), free),
        new(&table, "a", "z"),
        batch_put(&table, row("e", &[("email", true.into())]), absent()),
        new(&table, "f", "z"),
        Write::Update(change(&table, "b", "email", "x".into())),
        Write::Update(change(&table, "g", "email", "w".into())),
    ];
    let outcomes = written(store, batch(&table, writes));
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().err().map(|error| error.kind))
        .collect();
    assert_eq!(
        kinds,
        [
            None,
            Some(ErrorKind::UniqueViolation),
            Some(ErrorKind::UniqueViolation),
            Some(ErrorKind::KeyCollision),
            Some(ErrorKind::InvalidValue),
            None,
            Some(ErrorKind::UniqueViolation),
            Some(ErrorKind::ItemGone),
        ]
    );
    for (email, holder) in [("x", "a"), ("y", "b"), ("z", "f")] {
        assert_eq!(by_email(store, &table, email), Some(person(holder, email)));
    }
    for absent in ["c", "d", "e", "g"] {
        assert_eq!(get(store, &table, id(absent)), None);
    }
    assert_free(store, &table, "w");
}

fn equal_values_in_one_batch<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let writes = vec![new(&table, "a", "x"), new(&table, "b", "x")];
    let outcomes = written(store, batch(&table, writes));
    assert_last_is_held(outcomes, "x", "a");
    assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
    assert_eq!(get(store, &table, id("b")), None);
}

fn a_value_changes_hands_inside_a_batch<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let email = |id: &str, email: &str| Write::Update(change(&table, id, "email", email.into()));
    for (away, takes) in [
        (deletion(&table, "a"), new(&table, "b", "x")),
        (over(&table, "a", "y"), new(&table, "b", "x")),
        (email("a", "y"), over(&table, "b", "x")),
        (
            batch_put(&table, row("a", &[]), Guard::default()),
            new(&table, "b", "x"),
        ),
    ] {
        put(store, &table, person("a", "x")).unwrap();
        let writes = vec![away.clone(), takes.clone()];
        for outcome in written(store, batch(&table, writes)) {
            outcome.unwrap();
        }
        assert_eq!(by_email(store, &table, "x"), Some(person("b", "x")));
        // In the other order the value is not free yet.
        let clear = vec![deletion(&table, "a"), deletion(&table, "b")];
        written(store, batch(&table, clear));
        insert(store, &table, person("a", "x")).unwrap();
        let mut outcomes = written(store, batch(&table, vec![takes, away]));
        outcomes.pop().unwrap().unwrap();
        assert_last_is_held(outcomes, "x", "a");
        assert_eq!(get(store, &table, id("b")), None);
        assert_free(store, &table, "x");
        written(store, batch(&table, vec![deletion(&table, "a")]));
    }
}

fn two_writes_of_a_row_happen_in_order<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let writes = vec![
        new(&table, "a", "x"),
        over(&table, "a", "y"),
        new(&table, "b", "x"),
        deletion(&table, "b"),
        new(&table, "c", "x"),
        over(&table, "a", "z"),
        over(&table, "a", "y"),
        new(&table, "d", "y"),
    ];
    assert_last_is_held(written(store, batch(&table, writes)), "y", "a");
    assert_eq!(by_email(store, &table, "x"), Some(person("c", "x")));
    assert_eq!(by_email(store, &table, "y"), Some(person("a", "y")));
    assert_free(store, &table, "z");
}

fn a_large_batch<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("taken", "e7")).unwrap();
    let writes = (0..60).map(|index| new(&table, &format!("r{index}"), &format!("e{index}")));
    let outcomes = written(store, batch(&table, writes.collect()));
    for (index, outcome) in outcomes.into_iter().enumerate() {
        if index == 7 {
            assert_email_held(outcome, "e7", "taken");
        } else {
            outcome.unwrap();
        }
    }
    for index in [0, 59] {
        let email = format!("e{index}");
        let found = by_email(store, &table, &email);
        assert_eq!(found, Some(person(&format!("r{index}"), &email)));
    }
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F:
        each_write_has_its_outcome,
        equal_values_in_one_batch,
        a_value_changes_hands_inside_a_batch,
        two_writes_of_a_row_happen_in_order,
        a_large_batch)
}
