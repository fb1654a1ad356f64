//! Single writes: who gets a value, and what frees it.

use super::people::{
    absent, assert_email_held, assert_free, assert_held, batch, by_email, change, delete, deletion,
    find, find_of, id, people, person, row, table_with, unique, ways_to_write, without_unique,
    write,
};
use crate::fixture::{Reopen, tests};
use crate::requests::{
    batch_put, condition, delete_of, get, insert, key, kind, number, order, orders, put, put_of,
    query, query_of, run, string, update_of,
};
use libtest_mimic::Trial;
use mintkey_store::store::Never;
use mintkey_store::{
    Action, Condition, Error, ErrorKind, GetUnique, Guard, KeyValue, Operation, Path, Query, Reply,
    Row, Table, Update, Value,
};
use std::sync::Arc;

fn a_second_holder_is_refused<F: Reopen>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    for way in ways_to_write(&table, "b", "x") {
        let outcome = write(store, way);
        let error: &Error = outcome.as_ref().unwrap_err();
        assert_eq!(error.key.as_deref(), Some(&id("b")));
        assert_eq!(error.attribute.as_deref(), Some("email"));
        assert_email_held(outcome, "x", "a");
        assert_eq!(get(store, &table, id("b")), None);
    }
    insert(store, &table, person("b", "y")).unwrap();
    let present = Guard {
        row: Row::Present,
        ..Guard::default()
    };
    for way in [
        put_of(&table, person("b", "x"), Guard::default()),
        put_of(&table, person("b", "x"), present),
        Operation::Update(change(&table, "b", "email", "x".into())),
        batch(
            &table,
            vec![batch_put(&table, person("b", "x"), Guard::default())],
        ),
    ] {
        assert_email_held(write(store, way), "x", "a");
        assert_eq!(get(store, &table, id("b")), Some(person("b", "y")));
        assert_eq!(by_email(store, &table, "y"), Some(person("b", "y")));
        assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
    }
    write(store, delete(&table, "b")).unwrap();
    write(store, delete(&table, "a")).unwrap();
    assert_free(store, &table, "x");
    assert_free(store, &table, "y");
}

fn the_same_row_keeps_its_value<F: Reopen>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    for _ in 0..2 {
        put(store, &table, person("a", "x")).unwrap();
    }
    let named = row("a", &[("email", "x".into()), ("name", "Ann".into())]);
    put(store, &table, named.clone()).unwrap();
    for (name, value) in [("email", "x"), ("name", "Bea"), ("name", "Ann")] {
        let update = change(&table, "a", name, value.into());
        write(store, Operation::Update(update)).unwrap();
    }
    let batched = batch_put(&table, named.clone(), Guard::default());
    write(store, batch(&table, vec![batched])).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(named));
    assert_email_held(
        write(store, put_of(&table, person("b", "x"), absent())),
        "x",
        "a",
    );
}

fn a_changed_or_removed_value_is_free<F: Reopen>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let remove = Operation::Update(Update {
        actions: vec![Action::Remove(Path::attribute("email"))],
        ..update_of(&table, id("a"))
    });
    let guarded = condition(Condition::Exists(Path::attribute("email")));
    for way in [
        put_of(&table, person("a", "y"), Guard::default()),
        put_of(&table, person("a", "y"), guarded.clone()),
        put_of(&table, row("a", &[]), Guard::default()),
        put_of(
            &table,
            row("a", &[("email", Value::Null)]),
            Guard::default(),
        ),
        Operation::Update(change(&table, "a", "email", "y".into())),
        Operation::Update(change(&table, "a", "email", Value::Null)),
        remove,
        delete(&table, "a"),
        delete_of(&table, id("a"), guarded),
        batch(
            &table,
            vec![batch_put(&table, person("a", "y"), Guard::default())],
        ),
        batch(&table, vec![deletion(&table, "a")]),
    ] {
        put(store, &table, person("a", "x")).unwrap();
        write(store, way).unwrap();
        assert_free(store, &table, "x");
        let changed = get(store, &table, id("a"));
        let holds_y = changed == Some(person("a", "y"));
        assert_eq!(by_email(store, &table, "y"), changed.filter(|_| holds_y));
        write(store, delete(&table, "a")).unwrap();
        assert_free(store, &table, "y");
    }
}

fn a_freed_value_belongs_to_its_next_holder<F: Reopen>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    put(store, &table, person("a", "y")).unwrap();
    insert(store, &table, person("b", "x")).unwrap();
    // What the first holder does now does not concern its former value.
    put(store, &table, person("a", "z")).unwrap();
    write(store, delete(&table, "a")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("b", "x")));
    assert_email_held(
        write(store, put_of(&table, person("c", "x"), absent())),
        "x",
        "b",
    );
    // A missing row frees nothing.
    write(store, delete(&table, "a")).unwrap();
    assert_email_held(
        write(store, put_of(&table, person("a", "x"), absent())),
        "x",
        "b",
    );
}

fn a_refused_write_changes_no_holder<F: Reopen>() {
    let fixture = F::new();
    let table = table_with(vec![unique(&["email"]), unique(&["tenant", "name"])]);
    let store = fixture.store();
    let person = |id: &str, email: &str, name: &str| {
        row(
            id,
            &[
                ("email", email.into()),
                ("tenant", "t".into()),
                ("name", name.into()),
            ],
        )
    };
    let find_name = |name: &str| find(store, &table, "tenant,name", &[string("t"), string(name)]);
    insert(store, &table, person("a", "x", "Ann")).unwrap();
    let refused = condition(Condition::Missing(Path::attribute("email")));
    for operation in [
        put_of(&table, person("a", "y", "Bea"), refused.clone()),
        Operation::Update(Update {
            guard: refused.clone(),
            ..change(&table, "a", "email", "y".into())
        }),
        delete_of(&table, id("a"), refused),
    ] {
        let error = write(store, operation).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ConditionFailed, "{error}");
        assert_eq!(by_email(store, &table, "x"), Some(person("a", "x", "Ann")));
        assert_free(store, &table, "y");
    }
    // One free value and one that another row holds: the free one stays free.
    let names = ["tenant", "name"];
    let held = [string("t"), string("Ann")];
    let outcome = write(store, put_of(&table, person("b", "y", "Ann"), absent()));
    assert_held(outcome, &names, &held, &id("a"));
    assert_free(store, &table, "y");
    insert(store, &table, person("b", "z", "Bea")).unwrap();
    let both = Update {
        actions: vec![
            Action::Set(Path::attribute("email"), "y".into()),
            Action::Set(Path::attribute("name"), "Ann".into()),
        ],
        ..update_of(&table, id("b"))
    };
    assert_held(
        write(store, Operation::Update(both)),
        &names,
        &held,
        &id("a"),
    );
    assert_free(store, &table, "y");
    assert_eq!(by_email(store, &table, "z"), Some(person("b", "z", "Bea")));
    assert_eq!(find_name("Bea"), Some(person("b", "z", "Bea")));
    assert_eq!(find_name("Ann"), Some(person("a", "x", "Ann")));
}

fn the_guard_is_checked_first<F: Reopen>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    insert(store, &table, person("b", "y")).unwrap();
    let version = |version: i64| Guard {
        version: Some(("version".into(), Some(number(&version.to_string())))),
        ..Guard::default()
    };
    let present = Guard {
        row: Row::Present,
        ..Guard::default()
    };
    let never = condition(Condition::Missing(Path::attribute("pk")));
    let to_x = change(&table, "b", "email", "x".into());
    for (operation, expected) in [
        (
            put_of(&table, person("b", "x"), absent()),
            ErrorKind::KeyCollision,
        ),
        (
            put_of(&table, person("c", "x"), present),
            ErrorKind::ItemGone,
        ),
        (
            Operation::Update(change(&table, "c", "email", "x".into())),
            ErrorKind::ItemGone,
        ),
        (
            put_of(&table, person("b", "x"), version(1)),
            ErrorKind::VersionConflict,
        ),
        (
            put_of(&table, person("b", "x"), never.clone()),
            ErrorKind::ConditionFailed,
        ),
        (
            Operation::Update(Update {
                guard: never,
                ..to_x
            }),
            ErrorKind::ConditionFailed,
        ),
    ] {
        let error = write(store, operation).unwrap_err();
        assert_eq!(error.kind, expected, "{error}");
    }
    let collision = write(store, put_of(&table, person("b", "x"), absent())).unwrap_err();
    assert_eq!(collision.item.as_deref(), Some(&person("b", "y")));
    assert_eq!(collision.key.as_deref(), Some(&id("b")));
}

fn an_update_that_computes_a_value_is_checked<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = table_with(vec![unique(&["place"])]);
    let numbered = |id: &str, place: i64| row(id, &[("place", place.into())]);
    insert(store, &table, numbered("a", 1)).unwrap();
    insert(store, &table, numbered("b", 3)).unwrap();
    let next = || Update {
        actions: vec![Action::Add(Path::attribute("place"), number("1"))],
        ..update_of(&table, id("a"))
    };
    let reply = run(store, Operation::Update(next())).unwrap();
    assert_eq!(reply, Reply::Item(Some(numbered("a", 2))));
    let three = KeyValue::Number(number("3"));
    let outcome = write(store, Operation::Update(next()));
    assert_held(outcome, &["place"], &[three], &id("b"));
    let find = |place: &str| {
        let value = KeyValue::Number(number(place));
        find(store, &table, "place", &[value])
    };
    assert_eq!(find("1"), None);
    assert_eq!(find("2"), Some(numbered("a", 2)));
    assert_eq!(find("3"), Some(numbered("b", 3)));
}

fn a_row_is_found_by_its_unique_value<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = people();
    assert_eq!(by_email(store, &table, "x"), None);
    let named = row("a", &[("email", "x".into()), ("name", "Ann".into())]);
    insert(store, &table, named.clone()).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(named));
    let projected = |names: &[&str]| {
        let get = GetUnique {
            table: Arc::clone(&table),
            unique: "email".into(),
            values: vec![string("x")],
            attributes: Some(names.iter().map(|name| (*name).into()).collect()),
        };
        run(store, Operation::GetUnique(get)).unwrap()
    };
    let only_name = row("a", &[("name", "Ann".into())]);
    assert_eq!(projected(&["name"]), Reply::Item(Some(only_name)));
    assert_eq!(projected(&["other"]), Reply::Item(Some(row("a", &[]))));
    assert_eq!(
        kind(run(store, find_of(&table, "phone", &[string("x")]))),
        ErrorKind::Configuration
    );
    let two = [string("x"), string("y")];
    assert_eq!(
        kind(run(store, find_of(&table, "email", &two))),
        ErrorKind::InvalidValue
    );
}

fn indexes_and_unique_values_go_together<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = Arc::new(Table {
        unique: vec![unique(&["email"])],
        ..(*orders()).clone()
    });
    let row = |id: &str, amount: i64, email: &str| {
        let others = [
            ("email", email.into()),
            ("status", "new".into()),
            ("amount", amount.into()),
        ];
        order(id, "0", &others)
    };
    let new = || {
        let query_by = Query {
            index: Some("by_status".into()),
            ..query_of(&table, &[string("new")])
        };
        query(store, query_by)
    };
    insert(store, &table, row("a", 1, "x")).unwrap();
    write(store, put_of(&table, row("b", 2, "x"), absent())).unwrap_err();
    assert_eq!(new(), [row("a", 1, "x")]);
    put(store, &table, row("a", 3, "y")).unwrap();
    insert(store, &table, row("b", 2, "x")).unwrap();
    assert_eq!(new(), [row("b", 2, "x"), row("a", 3, "y")]);
    write(store, delete(&table, "a")).unwrap();
    assert_eq!(new(), [row("b", 2, "x")]);
}

fn tables_have_their_own_values<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = people();
    let other = Arc::new(Table {
        name: "companies".into(),
        ..(*table).clone()
    });
    insert(store, &table, person("a", "x")).unwrap();
    insert(store, &other, person("b", "x")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
    assert_eq!(by_email(store, &other, "x"), Some(person("b", "x")));
}

fn a_deleted_table_frees_its_values<F: Reopen>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, person("a", "x")).unwrap();
    run(store, Operation::DeleteTable(Arc::clone(&table))).unwrap();
    run(store, Operation::CreateTable(Arc::clone(&table))).unwrap();
    assert_free(store, &table, "x");
    // Not even the declaration stays.
    run(store, Operation::DeleteTable(Arc::clone(&table))).unwrap();
    let plain = without_unique(&table);
    for id in ["a", "b"] {
        insert(store, &plain, person(id, "x")).unwrap();
    }
    run(store, Operation::DeleteTable(Arc::clone(&table))).unwrap();
}

fn another_store_finds_the_values<F: Reopen>() {
    let fixture = F::new();
    let table = people();
    insert(fixture.store(), &table, person("a", "x")).unwrap();
    insert(fixture.store(), &table, person("b", "y")).unwrap();
    fixture.store().close(&Never);
    let other = &*fixture.reopen();
    assert_eq!(by_email(other, &table, "x"), Some(person("a", "x")));
    for way in ways_to_write(&table, "c", "x") {
        assert_email_held(write(other, way), "x", "a");
    }
    write(other, delete(&table, "a")).unwrap();
    insert(other, &table, person("c", "x")).unwrap();
    let third = &*fixture.reopen();
    assert_eq!(by_email(third, &table, "x"), Some(person("c", "x")));
    assert_email_held(
        write(third, put_of(&table, person("d", "y"), absent())),
        "y",
        "b",
    );
    assert_eq!(get(third, &table, key("d", "0")), None);
}

/// The tests of this file.
pub fn all<F: Reopen + 'static>() -> Vec<Trial> {
    tests!(F:
        a_second_holder_is_refused,
        the_same_row_keeps_its_value,
        a_changed_or_removed_value_is_free,
        a_freed_value_belongs_to_its_next_holder,
        a_refused_write_changes_no_holder,
        the_guard_is_checked_first,
        an_update_that_computes_a_value_is_checked,
        a_row_is_found_by_its_unique_value,
        indexes_and_unique_values_go_together,
        tables_have_their_own_values,
        a_deleted_table_frees_its_values,
        another_store_finds_the_values)
}
