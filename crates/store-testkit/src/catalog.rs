//! Tables, the catalog, and what happens when classes and stored tables differ.

use std::sync::Arc;

use crate::fixture::{Reopen, tests};
use crate::requests::{
    NOW, attribute, by_status, get, key, kind, message, order, orders, put, query, query_of, run,
    scan, scan_of, string, texts,
};
use libtest_mimic::Trial;
use mintkey_store::{ErrorKind, Index, KeyKind, Operation, Query, Reply, Store, Table};

fn changed(change: impl FnOnce(&mut Table)) -> Arc<Table> {
    let mut table = (*orders()).clone();
    change(&mut table);
    Arc::new(table)
}

fn exists(store: &dyn Store, table: &Arc<Table>) -> bool {
    run(store, Operation::TableExists(table.clone())).unwrap() == Reply::Exists(true)
}

fn by_status_of(store: &dyn Store, table: &Arc<Table>) -> Vec<String> {
    let query_by = Query {
        index: Some("by_status".into()),
        ..query_of(table, &[string("new")])
    };
    texts(&query(store, query_by), "sk")
}

fn tables_are_made_and_dropped<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let table = orders();
    assert!(!exists(store, &table));
    for _ in 0..2 {
        run(store, Operation::CreateTable(table.clone())).unwrap();
    }
    assert!(exists(store, &table));
    put(store, &table, order("a", "1", &[])).unwrap();
    for _ in 0..2 {
        run(store, Operation::DeleteTable(table.clone())).unwrap();
    }
    assert!(!exists(store, &table));
    assert_eq!(scan(store, scan_of(&table)), []);
}

fn two_stores_on_one_address_see_each_others_tables<F: Reopen>() {
    let fixture = F::new();
    let (one, other) = (fixture.store(), &*fixture.reopen());
    let table = orders();
    put(one, &table, order("a", "1", &[])).unwrap();
    assert!(get(other, &table, key("a", "1")).is_some());
    run(other, Operation::DeleteTable(table.clone())).unwrap();
    assert_eq!(get(one, &table, key("a", "1")), None);
    put(other, &table, order("a", "2", &[])).unwrap();
    put(one, &table, order("a", "3", &[])).unwrap();
    assert_eq!(texts(&scan(one, scan_of(&table)), "sk"), ["2", "3"]);
}

fn what_the_class_adds_is_built_from_the_rows<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let without = changed(|table| {
        table.indexes.clear();
        table.ttl = None;
    });
    for (sort, amount) in [("1", 3), ("2", 1), ("3", 2)] {
        let others = [
            ("status", "new".into()),
            ("amount", amount.into()),
            ("expires", (NOW + amount - 2).into()),
        ];
        put(store, &without, order("a", sort, &others)).unwrap();
    }
    // A value of another type is not in the new index.
    put(
        store,
        &without,
        order("a", "4", &[("status", 1.into()), ("amount", 1.into())]),
    )
    .unwrap();
    assert_eq!(by_status_of(store, &orders()), ["1"]);
    assert_eq!(texts(&scan(store, scan_of(&orders())), "sk"), ["1", "4"]);
}

fn writers_follow_the_catalog_when_another_store_adds_an_index<F: Reopen>() {
    let fixture = F::new();
    let (old, new) = (fixture.store(), &*fixture.reopen());
    let before = changed(|table| table.indexes.clear());
    let fresh = |sort: &str| order("a", sort, &[("status", "new".into()), ("amount", 1.into())]);
    put(old, &before, fresh("1")).unwrap();
    assert_eq!(by_status_of(new, &orders()), ["1"]);
    // The older class knows no index, but what it writes is in it.
    put(old, &before, fresh("2")).unwrap();
    assert_eq!(by_status_of(new, &orders()), ["1", "2"]);
    assert_eq!(by_status_of(&*fixture.reopen(), &orders()), ["1", "2"]);
}

fn readers_follow_the_catalog_when_another_store_adds_expiry<F: Reopen>() {
    let fixture = F::new();
    let (old, new) = (fixture.store(), &*fixture.reopen());
    let before = changed(|table| table.ttl = None);
    put(old, &before, order("a", "1", &[("expires", NOW.into())])).unwrap();
    assert!(get(old, &before, key("a", "1")).is_some());
    assert_eq!(scan(old, scan_of(&before)).len(), 1);
    run(new, Operation::CreateTable(orders())).unwrap();
    assert_eq!(scan(old, scan_of(&before)), []);
    assert_eq!(get(old, &before, key("a", "1")), None);
}

fn what_differs_is_refused<F: Reopen>() {
    let fixture = F::new();
    put(fixture.store(), &orders(), order("a", "1", &[])).unwrap();
    let differing = [
        changed(|table| table.partition.kind = KeyKind::Number),
        changed(|table| table.partition.name = "id".into()),
        changed(|table| table.sort = None),
        changed(|table| table.sort = Some(attribute("sk", KeyKind::Binary))),
        changed(|table| table.ttl = Some("until".into())),
        changed(|table| table.indexes[0].sort = None),
        changed(|table| table.indexes[0].partition = vec![attribute("state", KeyKind::String)]),
    ];
    for table in differing {
        for store in [fixture.store(), &*fixture.reopen()] {
            let error = run(store, Operation::Scan(scan_of(&table))).unwrap_err();
            assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
            assert!(
                message(&error).contains("Order does not fit its stored table"),
                "{error}"
            );
            assert_eq!(
                kind(run(store, Operation::CreateTable(table.clone()))),
                ErrorKind::Configuration
            );
        }
    }
    // Nothing of it has touched the table.
    assert!(get(fixture.store(), &orders(), key("a", "1")).is_some());
}

fn several_classes_may_share_a_table<F: Reopen>() {
    let fixture = F::new();
    let store = fixture.store();
    let other = changed(|table| {
        table.model = "Invoice".into();
        table.indexes = vec![Index {
            name: "by_state".into(),
            ..by_status()
        }];
    });
    for (table, sort) in [(&orders(), "1"), (&other, "2"), (&orders(), "3")] {
        put(
            store,
            table,
            order("a", sort, &[("status", "new".into()), ("amount", 1.into())]),
        )
        .unwrap();
    }
    assert_eq!(by_status_of(store, &orders()), ["1", "2", "3"]);
    let by_state = Query {
        index: Some("by_state".into()),
        ..query_of(&other, &[string("new")])
    };
    assert_eq!(texts(&query(store, by_state), "sk"), ["1", "2", "3"]);
}

/// The tests of this file.
pub fn all<F: Reopen + 'static>() -> Vec<Trial> {
    tests!(F: tables_are_made_and_dropped, two_stores_on_one_address_see_each_others_tables, what_the_class_adds_is_built_from_the_rows, writers_follow_the_catalog_when_another_store_adds_an_index, readers_follow_the_catalog_when_another_store_adds_expiry, what_differs_is_refused, several_classes_may_share_a_table)
}
