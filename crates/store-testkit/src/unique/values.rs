//! Which values are equal, which rows have none, and which values are refused.

use std::sync::Arc;

use super::people::{
    absent, assert_email_held, assert_free, assert_held, batch, by_email, change, find, id, kinds,
    people, person, prefix, row, table_with, unique, write,
};
use crate::fixture::{Fixture, tests};
use crate::requests::{batch_put, get, insert, number, order, put, put_of, string};
use libtest_mimic::Trial;
use mintkey_store::unique::{MAX_VALUES, Scope};
use mintkey_store::{ErrorKind, Guard, Item, KeyValue, Operation, Table, Unique, Value};

/// A table with one unique value for the rows of this scope.
fn scoped(scope: Scope) -> Arc<Table> {
    table_with(vec![Unique {
        scope,
        ..unique(&["email"])
    }])
}

fn of_kind(id: &str, kind: &str, email: &str) -> Item {
    row(id, &[("kind", kind.into()), ("email", email.into())])
}

fn absent_values_are_never_in_conflict<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    for id in ["a", "b"] {
        insert(store, &table, row(id, &[])).unwrap();
    }
    for id in ["c", "d"] {
        insert(store, &table, row(id, &[("email", Value::Null)])).unwrap();
    }
    for id in ["a", "b"] {
        let update = change(&table, id, "email", Value::Null);
        write(store, Operation::Update(update)).unwrap();
        put(store, &table, row(id, &[])).unwrap();
    }
    put(store, &table, person("a", "x")).unwrap();
    assert_email_held(
        write(
            store,
            Operation::Update(change(&table, "b", "email", "x".into())),
        ),
        "x",
        "a",
    );
    put(store, &table, row("a", &[("email", Value::Null)])).unwrap();
    assert_free(store, &table, "x");
}

fn values_are_exact<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = people();
    let values: Vec<KeyValue> = vec![
        string(""),
        string("a"),
        string("A"),
        string("a "),
        string("a\0"),
        string("\u{e4}"),
        string("a\u{308}"),
        string("%"),
        string("1"),
        string("x:y"),
        string("{p}"),
        KeyValue::Number(number("1")),
        KeyValue::Number(number("-1")),
        KeyValue::Number(number("1E+30")),
        KeyValue::Number(number("0")),
        KeyValue::Binary(Vec::new()),
        KeyValue::Binary(b"a".to_vec()),
        KeyValue::Binary(vec![0, 0xFF]),
    ];
    let holder = |index: usize| row(&format!("r{index}"), &[("email", values[index].to_value())]);
    for index in 0..values.len() {
        insert(store, &table, holder(index)).unwrap();
    }
    for (index, value) in values.iter().enumerate() {
        let held = std::slice::from_ref(value);
        let second = row("second", &[("email", value.to_value())]);
        let outcome = write(store, put_of(&table, second, absent()));
        assert_held(outcome, &["email"], held, &id(&format!("r{index}")));
        assert_eq!(find(store, &table, "email", held), Some(holder(index)));
    }
}

fn equal_numbers_are_the_same_value<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let one = |text: &str| KeyValue::Number(number(text));
    let first = row("a", &[("email", one("1").to_value())]);
    insert(store, &table, first.clone()).unwrap();
    for text in ["1", "1.0", "0.1E1"] {
        let second = row("b", &[("email", one(text).to_value())]);
        let outcome = write(store, put_of(&table, second, absent()));
        assert_held(outcome, &["email"], &[one("1")], &id("a"));
        let found = find(store, &table, "email", &[one(text)]);
        assert_eq!(found.as_ref(), Some(&first));
    }
    put(store, &table, row("a", &[("email", one("1.0").to_value())])).unwrap();
    assert!(find(store, &table, "email", &[one("1")]).is_some());
}

fn several_attributes_are_one_value<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = table_with(vec![unique(&["tenant", "email"])]);
    let pair = |id: &str, tenant: &str, email: &str| {
        row(id, &[("tenant", tenant.into()), ("email", email.into())])
    };
    let find = |tenant: &str, email: &str| {
        find(
            store,
            &table,
            "tenant,email",
            &[string(tenant), string(email)],
        )
    };
    let pairs = [
        ("ab", "c"),
        ("a", "bc"),
        ("", "abc"),
        ("abc", ""),
        ("c", "ab"),
    ];
    for (index, (tenant, email)) in pairs.into_iter().enumerate() {
        insert(store, &table, pair(&format!("r{index}"), tenant, email)).unwrap();
    }
    for (index, (tenant, email)) in pairs.into_iter().enumerate() {
        let outcome = write(store, put_of(&table, pair("s", tenant, email), absent()));
        let values = [string(tenant), string(email)];
        let holder = format!("r{index}");
        assert_held(outcome, &["tenant", "email"], &values, &id(&holder));
        assert_eq!(find(tenant, email), Some(pair(&holder, tenant, email)));
    }
    // A row that lacks one of them has none.
    let half = |id: &str| row(id, &[("email", "c".into())]);
    insert(store, &table, half("s")).unwrap();
    insert(store, &table, half("t")).unwrap();
    let outcome = write(
        store,
        Operation::Update(change(&table, "t", "tenant", "ab".into())),
    );
    let values = [string("ab"), string("c")];
    assert_held(outcome, &["tenant", "email"], &values, &id("r0"));
    assert_eq!(get(store, &table, id("t")), Some(half("t")));
    put(store, &table, half("r0")).unwrap();
    assert_eq!(find("ab", "c"), None);
    let update = change(&table, "t", "tenant", "ab".into());
    write(store, Operation::Update(update)).unwrap();
    assert_eq!(find("ab", "c"), Some(pair("t", "ab", "c")));
}

fn several_values_are_independent<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = table_with(vec![unique(&["email"]), unique(&["phone"])]);
    let both = |id: &str, email: &str, phone: &str| {
        row(id, &[("email", email.into()), ("phone", phone.into())])
    };
    insert(store, &table, both("a", "x", "1")).unwrap();
    // The same text in another attribute is another value.
    insert(store, &table, both("b", "1", "x")).unwrap();
    let outcome = write(store, put_of(&table, both("c", "y", "1"), absent()));
    assert_held(outcome, &["phone"], &[string("1")], &id("a"));
    put(store, &table, both("a", "x", "2")).unwrap();
    let outcome = write(store, put_of(&table, both("c", "x", "1"), absent()));
    assert_held(outcome, &["email"], &[string("x")], &id("a"));
    insert(store, &table, both("c", "y", "1")).unwrap();
    let found = find(store, &table, "phone", &[string("1")]);
    assert_eq!(found, Some(both("c", "y", "1")));
}

fn a_prefix_of_the_key_limits_the_scope<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = scoped(Scope {
        prefixes: vec![prefix("pk", "USER#", false), prefix("sk", "0", true)],
        discriminator: None,
    });
    insert(store, &table, person("ORDER#1", "x")).unwrap();
    insert(store, &table, person("ORDER#2", "x")).unwrap();
    assert_eq!(by_email(store, &table, "x"), None);
    insert(store, &table, person("USER#1", "x")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("USER#1", "x")));
    let outcome = write(store, put_of(&table, person("USER#2", "x"), absent()));
    assert_email_held(outcome, "x", "USER#1");
    put(store, &table, person("ORDER#1", "y")).unwrap();
    insert(store, &table, person("ORDER#3", "x")).unwrap();
    // The other part of the key must be the whole text.
    let other = order("USER#2", "01", &[("email", "x".into())]);
    insert(store, &table, other).unwrap();
}

fn a_row_that_names_its_class_may_have_any_key<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = scoped(Scope {
        prefixes: vec![prefix("pk", "USER#", false)],
        ..kinds(&["user"], true)
    });
    insert(store, &table, person("ORDER#1", "x")).unwrap();
    insert(store, &table, of_kind("USER#1", "order", "x")).unwrap();
    insert(store, &table, of_kind("ADMIN#1", "user", "x")).unwrap();
    let outcome = write(store, put_of(&table, person("USER#2", "x"), absent()));
    assert_email_held(outcome, "x", "ADMIN#1");
    let update = change(&table, "ADMIN#1", "kind", Value::Null);
    write(store, Operation::Update(update)).unwrap();
    insert(store, &table, person("USER#2", "x")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("USER#2", "x")));
}

fn the_class_of_a_row_limits_the_scope<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), scoped(kinds(&["user", "admin"], false)));
    for id in ["a", "b"] {
        insert(store, &table, of_kind(id, "order", "x")).unwrap();
    }
    insert(store, &table, person("c", "x")).unwrap();
    insert(store, &table, of_kind("d", "user", "x")).unwrap();
    let outcome = write(store, put_of(&table, of_kind("e", "admin", "x"), absent()));
    assert_email_held(outcome, "x", "d");
    // A row comes into the scope when its class changes, and leaves it.
    let into = || Operation::Update(change(&table, "a", "kind", "admin".into()));
    assert_email_held(write(store, into()), "x", "d");
    assert_eq!(
        get(store, &table, id("a")),
        Some(of_kind("a", "order", "x"))
    );
    let out_of = change(&table, "d", "kind", "order".into());
    write(store, Operation::Update(out_of)).unwrap();
    assert_eq!(by_email(store, &table, "x"), None);
    write(store, into()).unwrap();
    assert_eq!(
        by_email(store, &table, "x"),
        Some(of_kind("a", "admin", "x"))
    );
    let outcome = write(
        store,
        put_of(&table, of_kind("d", "user", "x"), Guard::default()),
    );
    assert_email_held(outcome, "x", "a");
}

fn rows_without_a_class_can_be_in_the_scope<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), scoped(kinds(&["user"], true)));
    insert(store, &table, person("a", "x")).unwrap();
    let outcome = write(store, put_of(&table, of_kind("b", "user", "x"), absent()));
    assert_email_held(outcome, "x", "a");
    let null = row("b", &[("kind", Value::Null), ("email", "x".into())]);
    assert_email_held(write(store, put_of(&table, null, absent())), "x", "a");
    insert(store, &table, of_kind("b", "order", "x")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
}

fn values_that_cannot_be_unique_are_refused<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), scoped(kinds(&["user"], true)));
    let longest = "x".repeat(MAX_VALUES - 3);
    insert(store, &table, person("a", &longest)).unwrap();
    let outcome = write(store, put_of(&table, person("b", &longest), absent()));
    assert_email_held(outcome, &longest, "a");
    insert(store, &table, row("b", &[])).unwrap();
    let list = Value::List(vec!["x".into()]);
    for bad in [Value::from(format!("{longest}x")), true.into(), list] {
        let new = || row("c", &[("email", bad.clone())]);
        for operation in [
            put_of(&table, new(), absent()),
            put_of(&table, new(), Guard::default()),
            batch(&table, vec![batch_put(&table, new(), absent())]),
            Operation::Update(change(&table, "b", "email", bad.clone())),
        ] {
            let error = write(store, operation).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
            assert_eq!(error.attribute.as_deref(), Some("email"));
        }
        assert_eq!(get(store, &table, id("c")), None);
        assert_eq!(get(store, &table, id("b")), Some(row("b", &[])));
        // Outside the scope it is a value like others.
        let foreign = row("d", &[("kind", "order".into()), ("email", bad.clone())]);
        put(store, &table, foreign).unwrap();
    }
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F:
        absent_values_are_never_in_conflict,
        values_are_exact,
        equal_numbers_are_the_same_value,
        several_attributes_are_one_value,
        several_values_are_independent,
        a_prefix_of_the_key_limits_the_scope,
        a_row_that_names_its_class_may_have_any_key,
        the_class_of_a_row_limits_the_scope,
        rows_without_a_class_can_be_in_the_scope,
        values_that_cannot_be_unique_are_refused)
}
