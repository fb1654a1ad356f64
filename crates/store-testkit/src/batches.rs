//! Batches: each write for itself, each read in its place.

use std::sync::Arc;

use crate::fixture::{Fixture, tests};
use crate::requests::{NOW, batch_put, get, item, key, kind, order, orders, put, run};
use libtest_mimic::Trial;
use mintkey_store::{BatchGet, BatchWrite, Delete, ErrorKind, Guard, Operation, Reply, Row, Write};

fn insert(table: &Arc<mintkey_store::Table>, sort: &str) -> Write {
    batch_put(
        table,
        order("p", sort, &[]),
        Guard {
            row: Row::Absent,
            ..Guard::default()
        },
    )
}

fn one_refused_write_does_not_stop_the_others<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    put(store, &table, order("p", "2", &[("mine", "kept".into())])).unwrap();
    let writes = vec![
        insert(&table, "1"),
        insert(&table, "2"),
        insert(&table, "3"),
        Write::Delete(Delete {
            table: Arc::clone(&table),
            key: key("p", "1"),
            guard: Guard::default(),
            returns_old: false,
        }),
    ];
    let batch = BatchWrite {
        table: Arc::clone(&table),
        writes,
    };
    let Reply::Written(written) = run(store, Operation::BatchWrite(batch)).unwrap() else {
        panic!("a batch of writes answers with their outcomes");
    };
    let kinds: Vec<_> = written
        .iter()
        .map(|outcome| outcome.as_ref().err().map(|error| error.kind))
        .collect();
    assert_eq!(kinds, [None, Some(ErrorKind::KeyCollision), None, None]);
    assert_eq!(get(store, &table, key("p", "1")), None);
    assert_eq!(
        get(store, &table, key("p", "2")),
        Some(order("p", "2", &[("mine", "kept".into())]))
    );
    assert!(get(store, &table, key("p", "3")).is_some());
}

fn reads_answer_in_the_order_of_the_keys<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    put(store, &table, order("p", "1", &[("note", "one".into())])).unwrap();
    let expired = order("p", "2", &[("expires", (NOW - 1).into())]);
    put(store, &table, expired).unwrap();
    let keys = vec![key("p", "9"), key("p", "1"), key("p", "2"), key("p", "1")];
    let batch = |keys, attributes| {
        Operation::BatchGet(BatchGet {
            table: Arc::clone(&table),
            keys,
            consistent: false,
            attributes,
        })
    };
    let one = order("p", "1", &[("note", "one".into())]);
    assert_eq!(
        run(store, batch(keys.clone(), None)).unwrap(),
        Reply::Items(vec![None, Some(one.clone()), None, Some(one)])
    );
    assert_eq!(
        run(
            store,
            batch(vec![key("p", "1")], Some(vec!["other".into()]))
        )
        .unwrap(),
        Reply::Items(vec![Some(item(&[("pk", "p".into()), ("sk", "1".into())]))])
    );
    assert_eq!(
        kind(run(store, batch(vec![key("", "1")], None))),
        ErrorKind::InvalidValue
    );
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F: one_refused_write_does_not_stop_the_others, reads_answer_in_the_order_of_the_keys)
}
