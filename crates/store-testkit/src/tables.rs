//! Tables without their classes: listed, described, and used as described.

use std::sync::Arc;

use crate::fixture::{Reopen, tests};
use crate::requests::{
    NOW, attribute, by_status, get, insert, key, kind, number, order, orders, plain, put, query,
    query_of, run, scan, scan_of, string, texts,
};
use crate::unique::people::{people, person};
use libtest_mimic::Trial;
use mintkey_store::description::StoredTable;
use mintkey_store::{ErrorKind, Index, KeyKind, Operation, Projection, Query, Reply, Store, Table};

fn create(store: &dyn Store, table: &Arc<Table>) {
    run(store, Operation::CreateTable(table.clone())).unwrap();
}

fn names(store: &dyn Store) -> Vec<String> {
    match run(store, Operation::ListTables).unwrap() {
        Reply::Tables(names) => names,
        other => panic!("{other:?}"),
    }
}

fn described(store: &dyn Store, name: &str) -> Option<StoredTable> {
    match run(store, Operation::DescribeTable(name.to_owned())).unwrap() {
        Reply::Described(found) => found.map(|found| *found),
        other => panic!("{other:?}"),
    }
}

/// A table as its store describes it.
fn stored(store: &dyn Store, table: &Table) -> Arc<Table> {
    Arc::new(described(store, &table.name).unwrap().table)
}

fn tables_are_listed_in_order_until_they_are_deleted<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    assert_eq!(names(store), [""; 0]);
    for table in [people(), orders(), plain("a.table", KeyKind::Number)] {
        create(store, &table);
    }
    assert_eq!(names(store), ["a.table", "orders", "people"]);
    assert_eq!(names(&*fixture.reopen()), ["a.table", "orders", "people"]);
    run(store, Operation::DeleteTable(people())).unwrap();
    run(store, Operation::DeleteTable(people())).unwrap();
    assert_eq!(names(store), ["a.table", "orders"]);
    create(store, &people());
    assert_eq!(names(&*fixture.reopen()), ["a.table", "orders", "people"]);
}

fn a_description_has_keys_indexes_expiry_and_unique_values<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let mut wanted = vec![(*orders()).clone(), (*people()).clone()];
    for (name, kind) in [("by.number", KeyKind::Number), ("bytes", KeyKind::Binary)] {
        wanted.push(Table {
            indexes: vec![Index {
                name: format!("{name} of all"),
                partition: Vec::new(),
                sort: Some(attribute("n", KeyKind::Number)),
                projection: Projection::Keys,
                local: false,
            }],
            ..(*plain(name, kind)).clone()
        });
    }
    for table in wanted {
        create(store, &Arc::new(table.clone()));
        let unnamed = Table {
            model: table.name.clone(),
            ..table
        };
        for store in [store, &*fixture.reopen()] {
            assert_eq!(described(store, &unnamed.name).unwrap().table, unnamed);
        }
    }
}

fn a_missing_table_has_no_description_and_is_not_created<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    for name in ["missing", "", "\"", "é", &"x".repeat(300)] {
        assert_eq!(described(store, name), None);
    }
    create(store, &orders());
    assert_eq!(described(store, "Orders"), None);
    run(store, Operation::DeleteTable(orders())).unwrap();
    assert_eq!(described(store, "orders"), None);
    assert_eq!(names(store), [""; 0]);
}

fn rows_are_counted_or_estimated<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = plain("counted", KeyKind::String);
    create(store, &table);
    for id in ["a", "b", "c"] {
        put(store, &table, crate::requests::item(&[("id", id.into())])).unwrap();
    }
    let found = described(store, "counted").unwrap();
    if found.is_exact {
        assert_eq!(found.rows, Some(3));
    }
    create(store, &orders());
    put(
        store,
        &orders(),
        order("a", "1", &[("expires", NOW.into())]),
    )
    .unwrap();
    assert!(!described(store, "orders").unwrap().is_exact);
}

fn a_described_table_is_used_as_its_class_uses_it<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    create(store, &orders());
    let fresh = |sort: &str| {
        let amount = number(sort).into();
        order("a", sort, &[("status", "new".into()), ("amount", amount)])
    };
    put(store, &orders(), fresh("1")).unwrap();
    let other = fixture.reopen();
    let raw = stored(&*other, &orders());
    put(&*other, &raw, fresh("2")).unwrap();
    put(&*other, &raw, order("a", "3", &[("expires", NOW.into())])).unwrap();
    assert_eq!(get(store, &orders(), key("a", "2")), Some(fresh("2")));
    assert_eq!(texts(&scan(&*other, scan_of(&raw)), "sk").len(), 2);
    for (store, table) in [(store, &orders()), (&*other, &raw)] {
        let found = Query {
            index: Some(by_status().name),
            ..query_of(table, &[string("new")])
        };
        assert_eq!(texts(&query(store, found), "sk"), ["1", "2"]);
    }
}

fn unique_values_of_a_described_table_stay_unique<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    create(store, &people());
    put(store, &people(), person("ada", "a@x")).unwrap();
    let raw = stored(store, &people());
    assert_eq!(
        kind(insert(store, &raw, person("eve", "a@x"))),
        ErrorKind::UniqueViolation
    );
    insert(store, &raw, person("bob", "b@x")).unwrap();
    assert_eq!(
        kind(put(store, &people(), person("eve", "b@x"))),
        ErrorKind::UniqueViolation
    );
}

fn a_table_is_created_elsewhere_from_its_description<F: Reopen>() {
    let (fixture, other) = (F::new(), F::new());
    for table in [orders(), people()] {
        create(fixture.store(), &table);
        let described = stored(fixture.store(), &table);
        create(other.store(), &described);
        assert_eq!(stored(other.store(), &table), described);
    }
    put(other.store(), &people(), person("ada", "a@x")).unwrap();
    put(other.store(), &orders(), order("a", "1", &[])).unwrap();
}

/// The tests of this file.
pub fn all<F: Reopen + 'static>() -> Vec<Trial> {
    tests!(F: tables_are_listed_in_order_until_they_are_deleted, a_description_has_keys_indexes_expiry_and_unique_values, a_missing_table_has_no_description_and_is_not_created, rows_are_counted_or_estimated, a_described_table_is_used_as_its_class_uses_it, unique_values_of_a_described_table_stay_unique, a_table_is_created_elsewhere_from_its_description)
}
