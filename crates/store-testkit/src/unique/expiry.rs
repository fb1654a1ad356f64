//! Expired holders do not count.

use std::sync::Arc;

use super::people::{
    absent, assert_email_held, batch, by_email, change, delete, find_of, id, people, person,
    put_before, row, unique, ways_to_write, write, write_at,
};
use crate::fixture::{Fixture, tests};
use crate::requests::{
    NOW, batch_put, get, insert, order, orders, put, put_of, query, query_of, request, string,
};
use libtest_mimic::Trial;
use mintkey_store::store::Never;
use mintkey_store::{
    ErrorKind, Guard, Item, Operation, Query, Reply, Request, Store, Table, Update,
};

fn expiring(id: &str, email: &str, expires: i64) -> Item {
    row(id, &[("email", email.into()), ("expires", expires.into())])
}

fn by_email_at(store: &dyn Store, table: &Arc<Table>, now: i64, email: &str) -> Option<Item> {
    let find = Request {
        now,
        ..request(find_of(table, "email", &[string(email)]))
    };
    match store.execute(&find, &Never).unwrap() {
        Reply::Item(item) => item,
        other => panic!("{other:?}"),
    }
}

fn an_expired_holder_is_replaced<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    let mut ways = ways_to_write(&table, "b", "x");
    ways.push(Operation::Update(change(&table, "b", "email", "x".into())));
    ways.push(put_of(&table, person("b", "x"), Guard::default()));
    ways.push(batch(
        &table,
        vec![batch_put(&table, person("b", "x"), Guard::default())],
    ));
    for (index, way) in ways.into_iter().enumerate() {
        if index >= 3 {
            put(store, &table, person("b", "y")).unwrap();
        }
        put_before(store, &table, expiring("a", "x", NOW - 1));
        assert_eq!(by_email(store, &table, "x"), None);
        write(store, way).unwrap();
        assert_eq!(by_email(store, &table, "x"), Some(person("b", "x")));
        assert_eq!(by_email(store, &table, "y"), None);
        assert_eq!(get(store, &table, id("a")), None);
        // Nothing that happens to the expired row concerns the new holder.
        if index % 2 == 0 {
            write(store, delete(&table, "a")).unwrap();
        } else {
            put(store, &table, person("a", "z")).unwrap();
        }
        assert_eq!(by_email(store, &table, "x"), Some(person("b", "x")));
        let outcome = write(store, put_of(&table, person("c", "x"), absent()));
        assert_email_held(outcome, "x", "b");
        write(store, delete(&table, "a")).unwrap();
        write(store, delete(&table, "b")).unwrap();
    }
}

fn a_replaced_holder_leaves_the_indexes<F: Fixture>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = Arc::new(Table {
        unique: vec![unique(&["email"])],
        ..(*orders()).clone()
    });
    let row = |id: &str, expires: i64| {
        let others = [
            ("email", "x".into()),
            ("status", "new".into()),
            ("amount", 1.into()),
            ("expires", expires.into()),
        ];
        order(id, "0", &others)
    };
    put_before(store, &table, row("a", NOW - 1));
    insert(store, &table, row("b", NOW + 9)).unwrap();
    let query_by = Query {
        index: Some("by_status".into()),
        ..query_of(&table, &[string("new")])
    };
    assert_eq!(query(store, query_by), [row("b", NOW + 9)]);
    insert(store, &table, order("a", "0", &[("email", "y".into())])).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(row("b", NOW + 9)));
}

fn a_row_that_expired_frees_its_value_when_it_is_written_again<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    for way in ways_to_write(&table, "a", "y") {
        put_before(store, &table, expiring("a", "x", NOW));
        write(store, way).unwrap();
        assert_eq!(by_email(store, &table, "x"), None);
        insert(store, &table, person("b", "x")).unwrap();
        let outcome = write(store, put_of(&table, person("b", "y"), Guard::default()));
        assert_email_held(outcome, "y", "a");
        write(store, delete(&table, "a")).unwrap();
        write(store, delete(&table, "b")).unwrap();
    }
    // It may also have the same value again.
    put_before(store, &table, expiring("a", "x", NOW));
    insert(store, &table, person("a", "x")).unwrap();
    assert_eq!(by_email(store, &table, "x"), Some(person("a", "x")));
}

fn a_later_expiry_keeps_the_value<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), people());
    insert(store, &table, expiring("a", "x", NOW + 10)).unwrap();
    let later = |expires: i64| {
        Operation::Update(Update {
            ..change(&table, "a", "expires", expires.into())
        })
    };
    let insert_at = |now: i64| write_at(store, now, put_of(&table, person("b", "x"), absent()));
    assert_email_held(insert_at(NOW), "x", "a");
    write(store, later(NOW + 100)).unwrap();
    assert_email_held(insert_at(NOW + 50), "x", "a");
    let found = Some(expiring("a", "x", NOW + 100));
    assert_eq!(by_email_at(store, &table, NOW + 50, "x"), found);
    assert_eq!(by_email_at(store, &table, NOW + 100, "x"), None);
    // Too late: the row is gone.
    let error = write_at(store, NOW + 100, later(NOW + 200)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::ItemGone);
    insert_at(NOW + 100).unwrap();
    let found = by_email_at(store, &table, NOW + 100, "x");
    assert_eq!(found, Some(person("b", "x")));
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F:
        an_expired_holder_is_replaced,
        a_replaced_holder_leaves_the_indexes,
        a_row_that_expired_frees_its_value_when_it_is_written_again,
        a_later_expiry_keeps_the_value)
}
