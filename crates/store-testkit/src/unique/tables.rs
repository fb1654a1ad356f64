//! Adding unique values to a table that has rows.

use std::sync::Arc;

use super::people::{
    absent, assert_email_held, by_email, delete, find, id, kinds, people, person, put_before, row,
    table_with, unique, without_unique, write,
};
use crate::fixture::{Fixture, tests};
use crate::requests::{NOW, get, insert, put, put_of, run, string};
use libtest_mimic::Trial;
use mintkey_store::unique::MAX_VALUES;
use mintkey_store::{Error, ErrorKind, Key, Operation, Store, Table, Unique, Value};

fn create(store: &dyn Store, table: &Arc<Table>) -> Result<(), Error> {
    run(store, Operation::CreateTable(Arc::clone(table))).map(drop)
}

/// The duplicates that an error lists, with sorted values and holders.
fn duplicates(outcome: Result<(), Error>) -> Vec<(String, Vec<Key>)> {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
    let violations = error.violations.as_deref().unwrap_or_default().iter();
    let mut found: Vec<_> = violations
        .map(|violation| {
            let mut holders = violation.holders.clone();
            holders.sort_by_key(Key::to_string);
            (people().describe(violation), holders)
        })
        .collect();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn unique_values_are_built_from_the_rows<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let plain = without_unique(&table);
    for (id, email) in [("a", "x"), ("b", "y")] {
        insert(store, &plain, person(id, email)).unwrap();
    }
    insert(store, &plain, row("c", &[])).unwrap();
    insert(store, &plain, row("d", &[("email", Value::Null)])).unwrap();
    // Expired rows do not count.
    for id in ["e", "f"] {
        let others = [("email", "x".into()), ("expires", (NOW - 1).into())];
        put_before(store, &plain, row(id, &others));
    }
    create(store, &table).unwrap();
    create(store, &table).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
    for (email, holder) in [("x", "a"), ("y", "b")] {
        let outcome = write(store, put_of(&table, person("n", email), absent()));
        assert_email_held(outcome, email, holder);
    }
    put(store, &table, person("a", "z")).unwrap();
    insert(store, &table, person("n", "x")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("n", "x")));
}

fn all_duplicates_are_reported<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let plain = without_unique(&table);
    let rows = [
        ("a", "x"),
        ("b", "y"),
        ("c", "x"),
        ("d", "y"),
        ("e", "y"),
        ("f", "z"),
    ];
    for (id, email) in rows {
        insert(store, &plain, person(id, email)).unwrap();
    }
    let others = [("email", "z".into()), ("expires", NOW.into())];
    put_before(store, &plain, row("g", &others));
    let expected = [
        ("email = \"x\"".to_owned(), vec![id("a"), id("c")]),
        ("email = \"y\"".to_owned(), vec![id("b"), id("d"), id("e")]),
    ];
    for _ in 0..2 {
        assert_eq!(duplicates(create(store, &table)), expected);
    }
    // The table is as it was: writers that do not declare the values continue.
    for (name, email) in rows {
        assert_eq!(get(store, &plain, id(name)), Some(person(name, email)));
    }
    insert(store, &plain, person("h", "x")).unwrap();
    put(store, &plain, person("h", "y")).unwrap();
    for id in ["c", "d", "e", "h"] {
        write(store, delete(&plain, id)).unwrap();
    }
    create(store, &table).unwrap();
    for (email, holder) in [("x", "a"), ("y", "b"), ("z", "f")] {
        assert_eq!(by_email(store, &table, email), Some(person(holder, email)));
        let outcome = write(store, put_of(&table, person("n", email), absent()));
        assert_email_held(outcome, email, holder);
    }
}

fn a_row_whose_value_cannot_be_unique_is_reported<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let plain = without_unique(&table);
    insert(store, &plain, person("a", "x")).unwrap();
    for bad in [Value::from("x".repeat(MAX_VALUES)), true.into()] {
        put(store, &plain, row("b", &[("email", bad)])).unwrap();
        let error = create(store, &table).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
        assert_eq!(error.attribute.as_deref(), Some("email"));
        assert_eq!(error.key.as_deref(), Some(&id("b")));
    }
    put(store, &plain, row("b", &[])).unwrap();
    create(store, &table).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
}

fn a_table_gets_further_unique_values<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let both = table_with(vec![unique(&["email"]), unique(&["phone"])]);
    let pair = |id: &str, email: &str, phone: &str| {
        row(id, &[("email", email.into()), ("phone", phone.into())])
    };
    insert(store, &table, pair("a", "x", "1")).unwrap();
    insert(store, &table, pair("b", "y", "1")).unwrap();
    assert_eq!(
        duplicates(create(store, &both)),
        [("phone = \"1\"".to_owned(), vec![id("a"), id("b")])]
    );
    let outcome = write(store, put_of(&table, pair("c", "x", "3"), absent()));
    assert_email_held(outcome, "x", "a");
    put(store, &table, pair("b", "y", "2")).unwrap();
    create(store, &both).unwrap();
    let by_phone = |phone: &str| find(store, &both, "phone", &[string(phone)]);
    assert_eq!(by_phone("1"), Some(pair("a", "x", "1")));
    assert_eq!(by_phone("2"), Some(pair("b", "y", "2")));
    assert_eq!(by_email(store, &both, "x"), Some(pair("a", "x", "1")));
    let outcome = write(store, put_of(&both, pair("c", "x", "3"), absent()));
    assert_email_held(outcome, "x", "a");
    // The class that declares only the first keeps up both.
    let error = write(store, put_of(&table, pair("c", "z", "2"), absent())).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
}

fn a_new_subclass_joins_the_scope<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let scoped = |values: &[&str]| {
        table_with(vec![Unique {
            scope: kinds(values, false),
            ..unique(&["email"])
        }])
    };
    let (narrow, wide) = (scoped(&["user"]), scoped(&["admin", "user"]));
    let of_kind = |id: &str, kind: &str| row(id, &[("kind", kind.into()), ("email", "x".into())]);
    insert(store, &narrow, of_kind("a", "user")).unwrap();
    insert(store, &narrow, of_kind("b", "admin")).unwrap();
    insert(store, &narrow, of_kind("c", "order")).unwrap();
    assert_eq!(
        duplicates(create(store, &wide)),
        [("email = \"x\"".to_owned(), vec![id("a"), id("b")])]
    );
    assert_eq!(by_email(store, &narrow, "x"), Some(of_kind("a", "user")));
    write(store, delete(&narrow, "a")).unwrap();
    create(store, &wide).unwrap();
    assert_eq!(by_email(store, &wide, "x"), Some(of_kind("b", "admin")));
    let outcome = write(store, put_of(&wide, of_kind("d", "user"), absent()));
    assert_email_held(outcome, "x", "b");
    // The class that knows less follows.
    let outcome = write(store, put_of(&narrow, of_kind("d", "user"), absent()));
    assert_email_held(outcome, "x", "b");
    write(store, delete(&narrow, "b")).unwrap();
    insert(store, &wide, of_kind("d", "admin")).unwrap();
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F:
        unique_values_are_built_from_the_rows,
        all_duplicates_are_reported,
        a_row_whose_value_cannot_be_unique_is_reported,
        a_table_gets_further_unique_values,
        a_new_subclass_joins_the_scope)
}
