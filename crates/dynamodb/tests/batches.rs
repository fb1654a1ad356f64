//! Batches where `DynamoDB`'s own call has no checks: what goes together, and in which order.

mod common;
use mintkey_store_testkit::requests;

use std::sync::Arc;

use common::Fixture;
use mintkey_store::{BatchGet, BatchWrite, Delete, Guard, Operation, Reply, Row, Write};
use requests::*;

/// A put that needs no look at what is stored.
fn collision_free(table: &Arc<mintkey_store::Table>, sort: &str, note: &str) -> Write {
    batch_put(
        table,
        order("p", sort, &[("note", note.into())]),
        Guard {
            row: Row::Absent,
            collision_free: true,
            ..Guard::default()
        },
    )
}

#[test]
fn many_writes_go_together_and_those_of_one_key_in_their_order() {
    let fixture = Fixture::new();
    let (store, table) = (&*fixture.store, orders());
    run(store, Operation::CreateTable(table.clone())).unwrap();
    let mut writes: Vec<Write> = (0..130)
        .map(|number| collision_free(&table, &format!("{number:03}"), "first"))
        .collect();
    writes.push(collision_free(&table, "000", "second"));
    let invalid = order("p", "never", &[("status", "".into())]);
    writes.push(batch_put(&table, invalid, Guard::default()));
    writes.push(Write::Delete(Delete {
        table: Arc::clone(&table),
        key: key("p", "001"),
        guard: Guard::default(),
        returns_old: false,
    }));
    let batch = BatchWrite {
        table: Arc::clone(&table),
        writes,
    };
    let Reply::Written(written) = run(store, Operation::BatchWrite(batch)).unwrap() else {
        panic!("a batch of writes answers with their outcomes");
    };
    let failed: Vec<usize> = (0..written.len())
        .filter(|at| written[*at].is_err())
        .collect();
    assert_eq!(failed, [131]);
    let read = BatchGet {
        table: Arc::clone(&table),
        keys: (0..140)
            .map(|number| key("p", &format!("{number:03}")))
            .collect(),
        consistent: true,
        attributes: Some(vec!["note".into()]),
    };
    let Reply::Items(items) = run(store, Operation::BatchGet(read)).unwrap() else {
        panic!("a batch of reads answers with items");
    };
    let notes: Vec<_> = items
        .iter()
        .map(|item| item.as_ref().and_then(|item| item.get("note").cloned()))
        .collect();
    assert_eq!(notes[0], Some("second".into()));
    assert_eq!(notes[1], None);
    assert!(
        notes[2..130]
            .iter()
            .all(|note| *note == Some("first".into()))
    );
    assert!(notes[130..].iter().all(Option::is_none));
}
