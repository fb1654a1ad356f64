//! What stores refuse of a transaction before they begin it, and the error of a cancelled one.

mod common;

use std::sync::Arc;

use common::{item, number, table};
use mintkey_store::size::MAX_ITEM;
use mintkey_store::transaction::{MAX_ITEMS, MAX_SIZE};
use mintkey_store::{
    Delete, Error, ErrorKind, Guard, Key, KeyValue, Put, Table, Transaction, TransactionGet,
    TransactionWrite,
};

fn key(partition: &str) -> Key {
    Key {
        partition: KeyValue::String(partition.into()),
        sort: Some(KeyValue::Number(number("1"))),
    }
}

fn put(partition: &str, bytes: usize) -> TransactionWrite {
    let item = item(&[
        ("pk", partition.into()),
        ("sk", 1.into()),
        ("text", "x".repeat(bytes).into()),
    ]);
    TransactionWrite::Put(Put::new(Arc::new(table()), Arc::new(item), Guard::default()).unwrap())
}

fn refusal(writes: Vec<TransactionWrite>) -> Error {
    Transaction { writes }.check(MAX_ITEM).unwrap_err()
}

#[test]
fn a_hundred_items_are_allowed() {
    let puts = |count: usize| (0..count).map(|n| put(&n.to_string(), 1)).collect();
    let all = Transaction {
        writes: puts(MAX_ITEMS),
    };
    all.check(MAX_ITEM).unwrap();
    let error = refusal(puts(MAX_ITEMS + 1));
    assert_eq!(error.kind, ErrorKind::InvalidValue);
    assert!(
        error
            .message
            .contains("at most 100 items, and this one has 101"),
        "{error}"
    );
}

#[test]
fn the_items_have_four_megabytes_at_most() {
    let half = MAX_ITEM / 2;
    let puts = |count: usize| (0..count).map(|n| put(&n.to_string(), half)).collect();
    let all = Transaction {
        writes: puts(MAX_SIZE / (half + 100)),
    };
    all.check(MAX_ITEM).unwrap();
    let error = refusal(puts(MAX_SIZE / half + 1));
    assert_eq!(error.kind, ErrorKind::InvalidValue);
    assert!(error.message.contains("4194304"), "{error}");
    assert_eq!(
        refusal(vec![put("a", MAX_ITEM)]).kind,
        ErrorKind::ItemTooLarge
    );
}

#[test]
fn an_item_occurs_once() {
    let delete = |table: Table| {
        TransactionWrite::Delete(Delete {
            table: Arc::new(table),
            key: key("b"),
            guard: Guard::default(),
            returns_old: false,
        })
    };
    let error = refusal(vec![put("a", 1), put("b", 1), delete(table())]);
    assert_eq!(error.kind, ErrorKind::InvalidValue);
    assert!(error.message.contains("items 2 and 3"), "{error}");
    assert_eq!(error.key.as_deref(), Some(&key("b")));
    let other = Table {
        name: "others".into(),
        ..table()
    };
    let writes = vec![put("b", 1), delete(other)];
    Transaction { writes }.check(MAX_ITEM).unwrap();
    let keys = [key("a"), key("b"), key("a")].map(|key| (Arc::new(table()), key));
    let get = TransactionGet { keys: keys.into() };
    assert_eq!(get.check().unwrap_err().key.as_deref(), Some(&key("a")));
}

#[test]
fn each_write_is_checked() {
    let bad = TransactionWrite::Delete(Delete {
        table: Arc::new(table()),
        key: key(""),
        guard: Guard::default(),
        returns_old: false,
    });
    let error = refusal(vec![put("a", 1), bad]);
    assert_eq!(error.kind, ErrorKind::InvalidValue);
    assert_eq!(error.key.as_deref(), Some(&key("")));
}

#[test]
fn a_cancelled_transaction_names_its_first_reason() {
    let reasons = vec![
        None,
        Some(Error::collision(&table(), &key("a"))),
        Some(Error::gone(&table(), &key("b"), false)),
    ];
    let error = Error::cancelled(reasons.clone());
    assert_eq!(error.kind, ErrorKind::TransactionCancelled);
    assert_eq!(error.reasons, reasons);
    assert!(
        error
            .message
            .contains("because of item 2 of 3: an item with this key exists already"),
        "{error}"
    );
}
