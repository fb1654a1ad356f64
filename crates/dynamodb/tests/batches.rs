//! Batches: each write for itself, each read in its place.

mod common;

use std::sync::Arc;

use common::{Fixture, NOW, get, item, key, kind, order, orders, put, run, server};
use mintkey_store::{
    BatchGet, BatchWrite, Delete, ErrorKind, Guard, Operation, Put, Reply, Row, Write,
};

fn insert(table: &Arc<mintkey_store::Table>, sort: &str) -> Write {
    Write::Put(Put {
        table: Arc::clone(table),
        item: Arc::new(order("p", sort, &[])),
        guard: Guard {
            row: Row::Absent,
            ..Guard::default()
        },
    })
}

#[test]
fn one_refused_write_does_not_stop_the_others() {
    let Some(server) = server() else { return };
    let fixture = Fixture::new(&server);
    let (store, table) = (&fixture, orders());
    put(store, &table, order("p", "2", &[("mine", "kept".into())])).unwrap();
    let writes = vec![
        insert(&table, "1"),
        insert(&table, "2"),
        insert(&table, "3"),
        Write::Delete(Delete {
            table: Arc::clone(&table),
            key: key("p", "1"),
            guard: Guard::default(),
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

#[test]
fn reads_answer_in_the_order_of_the_keys() {
    let Some(server) = server() else { return };
    let fixture = Fixture::new(&server);
    let (store, table) = (&fixture, orders());
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

/// A put that needs no look at what is stored.
fn wide(table: &Arc<mintkey_store::Table>, sort: &str, note: &str) -> Write {
    Write::Put(Put {
        table: Arc::clone(table),
        item: Arc::new(order("p", sort, &[("note", note.into())])),
        guard: Guard {
            row: Row::Absent,
            wide: true,
            ..Guard::default()
        },
    })
}

#[test]
fn many_writes_go_together_and_those_of_one_key_in_their_order() {
    let Some(server) = server() else { return };
    let fixture = Fixture::new(&server);
    let (store, table) = (&fixture, orders());
    fixture.make(&table);
    let mut writes: Vec<Write> = (0..130)
        .map(|number| wide(&table, &format!("{number:03}"), "first"))
        .collect();
    writes.push(wide(&table, "000", "second"));
    writes.push(wide(&table, "", "never"));
    writes.push(Write::Delete(Delete {
        table: Arc::clone(&table),
        key: key("p", "001"),
        guard: Guard::default(),
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
