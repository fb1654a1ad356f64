//! Transactions: all or nothing, with the reasons of each item.

use std::sync::Arc;

use crate::fixture::{Fixture, tests};
use crate::requests::{NOW, get, key, number, order, orders, put, run, update_of};
use libtest_mimic::Trial;
use mintkey_store::{
    Action, Check, Comparison, Condition, Delete, Error, ErrorKind, Guard, Item, Key, Operation,
    Path, Put, Reply, Row, Store, Table, Transaction, TransactionGet, TransactionWrite, Update,
};

/// Items of one partition, so that a Cluster allows their transactions.
fn item_of(sort: &str, count: i64) -> Item {
    order("p", sort, &[("count", count.into())])
}

fn row(row: Row) -> Guard {
    Guard {
        row,
        ..Guard::default()
    }
}

fn at_least(count: i64) -> Guard {
    Guard {
        condition: Some(Condition::Compare {
            path: Path::attribute("count"),
            op: Comparison::Ge,
            value: count.into(),
        }),
        ..Guard::default()
    }
}

fn put_item(table: &Arc<Table>, item: Item, guard: Guard) -> TransactionWrite {
    TransactionWrite::Put(Put::new(Arc::clone(table), Arc::new(item), guard).unwrap())
}

fn add(table: &Arc<Table>, sort: &str, count: i64, guard: Guard) -> TransactionWrite {
    TransactionWrite::Update(Update {
        actions: vec![Action::Add(
            Path::attribute("count"),
            number(&count.to_string()),
        )],
        guard,
        ..update_of(table, key("p", sort))
    })
}

fn check(table: &Arc<Table>, key: Key, guard: Guard) -> TransactionWrite {
    TransactionWrite::Check(Check {
        table: Arc::clone(table),
        key,
        guard,
    })
}

fn write(store: &dyn Store, writes: Vec<TransactionWrite>) -> Result<Vec<Option<Item>>, Error> {
    match run(store, Operation::Transaction(Transaction { writes }))? {
        Reply::Items(items) => Ok(items),
        other => panic!("{other:?}"),
    }
}

fn read(store: &dyn Store, keys: &[(&Arc<Table>, Key)]) -> Vec<Option<Item>> {
    let keys = keys
        .iter()
        .map(|(table, key)| (Arc::clone(table), key.clone()))
        .collect();
    match run(store, Operation::TransactionGet(TransactionGet { keys })).unwrap() {
        Reply::Items(items) => items,
        other => panic!("{other:?}"),
    }
}

fn kinds(error: &Error) -> Vec<Option<ErrorKind>> {
    assert_eq!(error.kind, ErrorKind::TransactionCancelled, "{error}");
    let kind = |reason: &Option<Error>| reason.as_ref().map(|reason| reason.kind);
    error.reasons.iter().map(kind).collect()
}

fn other_table() -> Arc<Table> {
    Arc::new(Table {
        name: "lines".into(),
        ..(*orders()).clone()
    })
}

fn writes_of_several_tables_are_done_together<F: Fixture>() {
    let fixture = F::new();
    let (store, table, other) = (fixture.store(), orders(), other_table());
    put(store, &table, item_of("1", 1)).unwrap();
    put(store, &table, item_of("2", 2)).unwrap();
    put(store, &other, item_of("3", 3)).unwrap();
    let changed = write(
        store,
        vec![
            put_item(&table, item_of("9", 9), row(Row::Absent)),
            add(&table, "1", 5, row(Row::Present)),
            TransactionWrite::Delete(Delete {
                table: Arc::clone(&table),
                key: key("p", "2"),
                guard: Guard::default(),
                returns_old: false,
            }),
            check(&other, key("p", "3"), at_least(3)),
        ],
    )
    .unwrap();
    assert_eq!(changed.len(), 4);
    for (index, item) in changed.iter().enumerate() {
        assert!(item.is_none() || index == 1);
        assert!(item.as_ref().is_none_or(|item| *item == item_of("1", 6)));
    }
    let found = read(
        store,
        &[
            (&table, key("p", "2")),
            (&other, key("p", "3")),
            (&table, key("p", "9")),
            (&table, key("p", "1")),
        ],
    );
    let expected = [None, Some(3), Some(9), Some(6)];
    let sorts = ["2", "3", "9", "1"];
    for ((found, sort), count) in found.iter().zip(sorts).zip(expected) {
        assert_eq!(*found, count.map(|count| item_of(sort, count)));
    }
}

fn one_refused_item_cancels_all_and_each_has_its_reason<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    put(store, &table, item_of("1", 1)).unwrap();
    put(store, &table, item_of("2", 2)).unwrap();
    let version = Guard {
        row: Row::Present,
        version: Some(("count".into(), Some(number("7")))),
        ..Guard::default()
    };
    let error = write(
        store,
        vec![
            put_item(&table, item_of("8", 8), row(Row::Absent)),
            put_item(&table, item_of("1", 9), row(Row::Absent)),
            add(&table, "2", 1, version),
            add(&table, "3", 1, row(Row::Present)),
            check(&table, key("p", "4"), at_least(1)),
            TransactionWrite::Delete(Delete {
                table: Arc::clone(&table),
                key: key("p", "5"),
                guard: Guard::default(),
                returns_old: false,
            }),
        ],
    )
    .unwrap_err();
    assert_eq!(
        kinds(&error),
        [
            None,
            Some(ErrorKind::KeyCollision),
            Some(ErrorKind::VersionConflict),
            Some(ErrorKind::ItemGone),
            Some(ErrorKind::ConditionFailed),
            None,
        ]
    );
    let collision = error.reasons[1].as_ref().unwrap();
    assert_eq!(collision.key.as_deref(), Some(&key("p", "1")));
    assert_eq!(collision.item.as_deref(), Some(&item_of("1", 1)));
    let conflict = error.reasons[2].as_ref().unwrap();
    assert_eq!(conflict.item.as_deref(), Some(&item_of("2", 2)));
    assert_eq!(get(store, &table, key("p", "8")), None);
    assert_eq!(get(store, &table, key("p", "1")), Some(item_of("1", 1)));
    assert_eq!(get(store, &table, key("p", "2")), Some(item_of("2", 2)));
}

fn a_change_that_cannot_be_made_cancels<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    put(store, &table, order("p", "1", &[("count", "text".into())])).unwrap();
    let error = write(
        store,
        vec![
            put_item(&table, item_of("2", 2), row(Row::Absent)),
            add(&table, "1", 1, row(Row::Present)),
        ],
    )
    .unwrap_err();
    assert_eq!(kinds(&error), [None, Some(ErrorKind::InvalidValue)]);
    assert_eq!(get(store, &table, key("p", "2")), None);
}

fn expired_rows_count_as_absent<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    for sort in ["1", "2", "3"] {
        let expired = order("p", sort, &[("expires", (NOW - 1).into())]);
        put(store, &table, expired).unwrap();
    }
    assert_eq!(read(store, &[(&table, key("p", "1"))]), [None]);
    let absent = Guard {
        condition: Some(Condition::Missing(Path::attribute("expires"))),
        ..Guard::default()
    };
    write(
        store,
        vec![
            put_item(&table, item_of("1", 1), row(Row::Absent)),
            check(&table, key("p", "2"), absent),
        ],
    )
    .unwrap();
    assert_eq!(get(store, &table, key("p", "1")), Some(item_of("1", 1)));
    let error = write(store, vec![add(&table, "3", 1, row(Row::Present))]).unwrap_err();
    assert_eq!(kinds(&error), [Some(ErrorKind::ItemGone)]);
}

fn what_is_refused_before_it_begins<F: Fixture>() {
    let fixture = F::new();
    let (store, table) = (fixture.store(), orders());
    let puts = |count: i64| -> Vec<TransactionWrite> {
        (0..count)
            .map(|sort| put_item(&table, item_of(&sort.to_string(), sort), row(Row::Absent)))
            .collect()
    };
    let error = write(store, puts(101)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue);
    assert_eq!(get(store, &table, key("p", "0")), None);
    let mut twice = puts(2);
    twice.push(check(&table, key("p", "1"), Guard::default()));
    let error = write(store, twice).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue);
    assert_eq!(error.key.as_deref(), Some(&key("p", "1")));
    assert_eq!(get(store, &table, key("p", "1")), None);
    let keys: Vec<_> = (0..101)
        .map(|sort| (Arc::clone(&table), key("p", &sort.to_string())))
        .collect();
    let get_all = Operation::TransactionGet(TransactionGet { keys });
    assert_eq!(
        run(store, get_all).unwrap_err().kind,
        ErrorKind::InvalidValue
    );
    assert_eq!(write(store, puts(100)).unwrap().len(), 100);
    assert_eq!(get(store, &table, key("p", "99")), Some(item_of("99", 99)));
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F:
        writes_of_several_tables_are_done_together,
        one_refused_item_cancels_all_and_each_has_its_reason,
        a_change_that_cannot_be_made_cancels,
        expired_rows_count_as_absent,
        what_is_refused_before_it_begins)
}
