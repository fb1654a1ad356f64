//! Transactions: their net effect must leave every value with one row.

use std::sync::Arc;

use super::people::{absent, assert_held, by_email, people, put_before, table_with, unique};
use crate::fixture::{Fixture, tests};
use crate::requests::{NOW, get, insert, key, order, put, put_of, run, string, update_of};
use libtest_mimic::Trial;
use mintkey_store::{
    Action, Check, Delete, Error, ErrorKind, Guard, Item, Operation, Path, Put, Reply, Returning,
    Row, Store, Table, Transaction, TransactionWrite, Update,
};

/// Rows of one partition, so that a Cluster allows their transactions.
fn person(sort: &str, email: &str) -> Item {
    order("p", sort, &[("email", email.into())])
}

fn put_row(table: &Arc<Table>, item: Item, row: Row) -> TransactionWrite {
    let guard = Guard {
        row,
        ..Guard::default()
    };
    TransactionWrite::Put(Put::new(Arc::clone(table), Arc::new(item), guard).unwrap())
}

fn new(table: &Arc<Table>, sort: &str, email: &str) -> TransactionWrite {
    put_row(table, person(sort, email), Row::Absent)
}

fn over(table: &Arc<Table>, sort: &str, email: &str) -> TransactionWrite {
    put_row(table, person(sort, email), Row::Any)
}

fn change(table: &Arc<Table>, sort: &str, email: &str) -> TransactionWrite {
    TransactionWrite::Update(Update {
        actions: vec![Action::Set(Path::attribute("email"), email.into())],
        returning: Returning::Nothing,
        ..update_of(table, key("p", sort))
    })
}

fn deletion(table: &Arc<Table>, sort: &str) -> TransactionWrite {
    TransactionWrite::Delete(Delete {
        table: Arc::clone(table),
        key: key("p", sort),
        guard: Guard::default(),
        returns_old: false,
    })
}

fn write(store: &dyn Store, writes: Vec<TransactionWrite>) -> Result<(), Error> {
    match run(store, Operation::Transaction(Transaction { writes }))? {
        Reply::Items(_) => Ok(()),
        other => panic!("{other:?}"),
    }
}

/// The reasons of a cancelled transaction.
fn reasons(outcome: Result<(), Error>) -> Vec<Option<Error>> {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TransactionCancelled, "{error}");
    error.reasons
}

/// Requires that the item of a reason was refused because a row of this sort key has the email.
fn assert_reason(reason: Option<Error>, email: &str, sort: &str) {
    let outcome = Err(reason.expect("the item was refused"));
    assert_held(outcome, &["email"], &[string(email)], &key("p", sort));
}

/// Requires that these rows have these emails, and that no other row can have them.
fn assert_holders(store: &dyn Store, table: &Arc<Table>, holders: &[(&str, &str)]) {
    for (sort, email) in holders {
        let found = by_email(store, table, email);
        assert_eq!(found, Some(person(sort, email)));
        assert_eq!(get(store, table, key("p", sort)), found);
        let second = super::people::write(store, put_of(table, person("second", email), absent()));
        assert_held(second, &["email"], &[string(email)], &key("p", sort));
    }
}

fn a_violation_cancels_the_transaction<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    insert(store, &table, person("b", "y")).unwrap();
    let check = TransactionWrite::Check(Check {
        table: Arc::clone(&table),
        key: key("p", "a"),
        guard: Guard {
            row: Row::Present,
            ..Guard::default()
        },
    });
    for taking in [
        new(&table, "c", "x"),
        over(&table, "c", "x"),
        change(&table, "b", "x"),
        over(&table, "b", "x"),
    ] {
        let writes = vec![new(&table, "d", "z"), check.clone(), taking];
        let mut reasons = reasons(write(store, writes));
        let last = reasons.pop().unwrap();
        let written_key = last.as_ref().and_then(|reason| reason.key.clone());
        assert!(written_key.is_some_and(|own| *own != key("p", "a")));
        assert_reason(last, "x", "a");
        assert_eq!(reasons, [None, None]);
        assert_holders(store, &table, &[("a", "x"), ("b", "y")]);
        for sort in ["c", "d"] {
            assert_eq!(get(store, &table, key("p", sort)), None);
        }
        // What the other item was to have is free.
        assert_eq!(by_email(store, &table, "z"), None);
        insert(store, &table, person("e", "z")).unwrap();
        write(store, vec![deletion(&table, "e")]).unwrap();
    }
}

fn two_rows_of_a_transaction_cannot_have_the_same_value<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("c", "y")).unwrap();
    for (one, other) in [
        (new(&table, "a", "x"), new(&table, "b", "x")),
        (new(&table, "a", "x"), change(&table, "c", "x")),
        (change(&table, "c", "x"), over(&table, "b", "x")),
    ] {
        let keys = [one.key().clone(), other.key().clone()];
        let reasons = reasons(write(store, vec![one, other]));
        assert_eq!(reasons.len(), 2);
        let refused: Vec<&Error> = reasons.iter().flatten().collect();
        assert!(!refused.is_empty());
        for (reason, key) in reasons.iter().zip(&keys) {
            if let Some(reason) = reason {
                assert_eq!(reason.kind, ErrorKind::UniqueViolation, "{reason}");
                assert_eq!(reason.key.as_deref(), Some(key));
                let violations = reason.violations.as_deref().unwrap();
                assert!(keys.contains(&violations[0].holders[0]));
            }
        }
        for sort in ["a", "b"] {
            assert_eq!(get(store, &table, key("p", sort)), None);
        }
        assert_eq!(by_email(store, &table, "x"), None);
        assert_holders(store, &table, &[("c", "y")]);
    }
}

fn a_row_that_keeps_its_value_is_not_refused_it<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    insert(store, &table, person("b", "y")).unwrap();
    let mark = TransactionWrite::Update(Update {
        actions: vec![Action::Set(Path::attribute("note"), "kept".into())],
        returning: Returning::Nothing,
        ..update_of(&table, key("p", "b"))
    });
    for writes in [
        vec![change(&table, "a", "y"), mark.clone()],
        vec![over(&table, "a", "y"), over(&table, "b", "y")],
        vec![over(&table, "a", "y"), mark],
    ] {
        let mut reasons = reasons(write(store, writes));
        assert_eq!(reasons.pop().unwrap(), None);
        assert_reason(reasons.pop().unwrap(), "y", "b");
    }
    assert_holders(store, &table, &[("a", "x"), ("b", "y")]);
}

fn a_value_changes_hands_in_a_transaction<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let to_y = || change(&table, "a", "y");
    for (away, takes) in [
        (deletion(&table, "a"), new(&table, "b", "x")),
        (to_y(), new(&table, "b", "x")),
        (over(&table, "a", "y"), over(&table, "b", "x")),
    ] {
        for order in [[0, 1], [1, 0]] {
            put(store, &table, person("a", "x")).unwrap();
            let both = [away.clone(), takes.clone()];
            let writes = order.iter().map(|index| both[*index].clone()).collect();
            write(store, writes).unwrap();
            assert_holders(store, &table, &[("b", "x")]);
            write(store, vec![deletion(&table, "a"), deletion(&table, "b")]).unwrap();
            assert_eq!(by_email(store, &table, "x"), None);
            assert_eq!(by_email(store, &table, "y"), None);
        }
    }
}

fn rows_swap_their_values<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let emails = ["x", "y", "z"];
    for (sort, email) in ["a", "b", "c"].iter().zip(emails) {
        insert(store, &table, person(sort, email)).unwrap();
    }
    let before = [("a", "x"), ("b", "y"), ("c", "z")];
    let swapped = [("a", "y"), ("b", "x"), ("c", "z")];
    match write(
        store,
        vec![change(&table, "a", "y"), over(&table, "b", "x")],
    ) {
        Ok(()) => assert_holders(store, &table, &swapped),
        Err(error) => {
            assert_eq!(error.kind, ErrorKind::Unsupported, "{error}");
            assert_holders(store, &table, &before);
            return;
        }
    }
    let turned = [("a", "x"), ("b", "z"), ("c", "y")];
    let writes = turned.map(|(sort, email)| over(&table, sort, email));
    write(store, writes.to_vec()).unwrap();
    assert_holders(store, &table, &turned);
    // A swap with one row too few.
    let reasons = reasons(write(
        store,
        vec![over(&table, "a", "z"), over(&table, "b", "y")],
    ));
    assert_eq!(reasons[0], None);
    assert_reason(reasons[1].clone(), "y", "c");
    assert_holders(store, &table, &turned);
}

fn guards_and_values_have_their_own_reasons<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    insert(store, &table, person("b", "y")).unwrap();
    let kind = |reason: &Option<Error>| reason.as_ref().map(|reason| reason.kind);
    // The guard of an item is checked before its values.
    let reasons = reasons(write(
        store,
        vec![new(&table, "b", "x"), change(&table, "c", "x")],
    ));
    assert_eq!(
        reasons.iter().map(kind).collect::<Vec<_>>(),
        [Some(ErrorKind::KeyCollision), Some(ErrorKind::ItemGone)]
    );
    assert_holders(store, &table, &[("a", "x"), ("b", "y")]);
}

fn a_value_that_cannot_be_unique_cancels<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let bad = order("p", "b", &[("email", true.into())]);
    let outcome = write(
        store,
        vec![new(&table, "a", "x"), put_row(&table, bad, Row::Absent)],
    );
    let error = outcome.unwrap_err();
    let of_item = |error: &Error| {
        assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
        assert_eq!(error.key.as_deref(), Some(&key("p", "b")));
    };
    // It is known before the transaction begins, or is the reason of its item.
    match error.reasons.as_slice() {
        [] => of_item(&error),
        reasons => of_item(reasons[1].as_ref().unwrap()),
    }
    assert_eq!(get(store, &table, key("p", "a")), None);
    assert_eq!(by_email(store, &table, "x"), None);
}

fn expired_holders_are_replaced<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let expired = order(
        "p",
        "a",
        &[("email", "x".into()), ("expires", (NOW - 1).into())],
    );
    insert(store, &table, person("c", "y")).unwrap();
    put_before(store, &table, expired);
    write(store, vec![new(&table, "b", "x"), change(&table, "c", "z")]).unwrap();
    assert_holders(store, &table, &[("b", "x"), ("c", "z")]);
    assert_eq!(get(store, &table, key("p", "a")), None);
    write(store, vec![deletion(&table, "a")]).unwrap();
    let reasons = reasons(write(store, vec![new(&table, "d", "x")]));
    assert_reason(reasons[0].clone(), "x", "b");
}

fn changed_values_count_as_items<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = table_with(vec![unique(&["email"]), unique(&["phone"])]);
    let row = |number: usize| {
        let email = format!("e{number}");
        let phone = format!("f{number}");
        let others = [("email", email.into()), ("phone", phone.into())];
        order("p", &number.to_string(), &others)
    };
    let rows = |count: usize| (0..count).map(|number| put_row(&table, row(number), Row::Absent));
    let error = write(store, rows(34).collect()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
    assert_eq!(get(store, &table, key("p", "0")), None);
    assert_eq!(by_email(store, &table, "e0"), None);
    write(store, rows(33).collect()).unwrap();
    assert_eq!(by_email(store, &table, "e32"), Some(row(32)));
    // What does not change does not count; a change frees one value and takes another.
    let again = (0..33).map(|number| {
        let mut row = row(number);
        row.insert("note".into(), "new".into());
        put_row(&table, row, Row::Present)
    });
    write(store, again.collect()).unwrap();
    let emails = |count: usize| {
        (0..count)
            .map(|number| change(&table, &number.to_string(), &format!("new{number}")))
            .collect()
    };
    // At most 33: each is an item, a value and a freed value.
    let more = |store: &dyn Store| {
        let mut writes: Vec<_> = emails(33);
        let extra = order("p", "99", &[("email", "more".into())]);
        writes.push(put_row(&table, extra, Row::Absent));
        write(store, writes)
    };
    let error = more(store).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
    assert!(by_email(store, &table, "e0").is_some());
    write(store, emails(33)).unwrap();
    assert_eq!(by_email(store, &table, "e0"), None);
    assert!(by_email(store, &table, "new32").is_some());
}

fn a_row_that_keeps_its_value<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    write(store, vec![over(&table, "a", "x"), new(&table, "b", "y")]).unwrap();
    write(
        store,
        vec![change(&table, "a", "x"), change(&table, "b", "y")],
    )
    .unwrap();
    assert_holders(store, &table, &[("a", "x"), ("b", "y")]);
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F:
        a_violation_cancels_the_transaction,
        two_rows_of_a_transaction_cannot_have_the_same_value,
        a_row_that_keeps_its_value_is_not_refused_it,
        a_value_changes_hands_in_a_transaction,
        rows_swap_their_values,
        guards_and_values_have_their_own_reasons,
        a_value_that_cannot_be_unique_cancels,
        expired_holders_are_replaced,
        changed_values_count_as_items,
        a_row_that_keeps_its_value)
}
