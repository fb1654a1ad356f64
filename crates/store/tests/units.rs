//! What requests cost.

use std::sync::Arc;

use mintkey_store::unique::Scope;
use mintkey_store::units::{read_units, write_units};
use mintkey_store::{
    Action, BatchGet, BatchWrite, Check, Delete, Get, GetUnique, Guard, Item, Key, KeyAttribute,
    KeyKind, KeyValue, Labels, Operation, Path, Put, Returning, Row, Scan, Step, Table,
    Transaction, TransactionGet, TransactionWrite, Unique, Update, Value, Write,
};

fn table() -> Arc<Table> {
    let attribute = |name: &str| KeyAttribute {
        name: name.into(),
        kind: KeyKind::String,
    };
    Arc::new(Table {
        name: "orders".into(),
        model: "Order".into(),
        labels: Labels::default(),
        partition: attribute("pk"),
        sort: Some(attribute("sk")),
        ttl: None,
        indexes: Vec::new(),
        unique: Vec::new(),
        colocate: None,
    })
}

fn key() -> Key {
    Key {
        partition: KeyValue::String("a".into()),
        sort: Some(KeyValue::String("b".into())),
    }
}

/// An item of so many bytes, names included.
fn item(bytes: usize) -> Arc<Item> {
    let mut item = Item::new();
    item.insert("pk".into(), Value::String("a".into()));
    item.insert("sk".into(), Value::String("b".into()));
    item.insert("text".into(), Value::String("x".repeat(bytes - 10)));
    Arc::new(item)
}

fn put(bytes: usize) -> Put {
    Put::new(table(), item(bytes), Guard::default()).unwrap()
}

fn update(actions: Vec<Action>) -> Update {
    Update {
        table: table(),
        key: key(),
        actions,
        guard: Guard::default(),
        returning: Returning::New,
    }
}

fn delete() -> Delete {
    Delete {
        table: table(),
        key: key(),
        guard: Guard::default(),
        returns_old: false,
    }
}

fn text() -> Path {
    Path(vec![Step::Name("text".into())])
}

#[track_caller]
fn costs(operation: &Operation, units: f64) {
    let told = operation.least_units();
    assert!((told - units).abs() < f64::EPSILON, "{told}, not {units}");
}

#[test]
fn a_write_costs_a_unit_for_each_started_kilobyte() {
    for (bytes, units) in [
        (0, 1.0),
        (1, 1.0),
        (1024, 1.0),
        (1025, 2.0),
        (409_600, 400.0),
    ] {
        assert!((write_units(bytes) - units).abs() < f64::EPSILON, "{bytes}");
    }
}

#[test]
fn a_read_costs_a_unit_for_each_started_four_kilobytes_and_half_when_not_consistent() {
    for (bytes, units) in [(0, 1.0), (4096, 1.0), (4097, 2.0), (409_600, 100.0)] {
        assert!(
            (read_units(bytes, true) - units).abs() < f64::EPSILON,
            "{bytes}"
        );
        assert!(
            (read_units(bytes, false) - units / 2.0).abs() < f64::EPSILON,
            "{bytes}"
        );
    }
}

#[test]
fn a_put_costs_by_its_item_names_included() {
    costs(&Operation::Put(put(1024)), 1.0);
    costs(&Operation::Put(put(1025)), 2.0);
}

#[test]
fn an_update_costs_by_its_key_and_the_values_it_gives() {
    let long = Value::String("x".repeat(1014));
    costs(&Operation::Update(update(Vec::new())), 1.0);
    // Names and values: 6 bytes of the key, 4 and 1014 of the attribute.
    costs(
        &Operation::Update(update(vec![Action::Set(text(), long)])),
        1.0,
    );
    let longer = Value::String("x".repeat(1015));
    costs(
        &Operation::Update(update(vec![Action::Set(text(), longer.clone())])),
        2.0,
    );
    costs(
        &Operation::Update(update(vec![Action::SetIfAbsent(text(), longer.clone())])),
        2.0,
    );
    costs(
        &Operation::Update(update(vec![Action::Append(text(), vec![longer; 3])])),
        3.0,
    );
    costs(
        &Operation::Update(update(vec![Action::Remove(text())])),
        1.0,
    );
}

#[test]
fn what_a_delete_and_a_read_find_is_not_known_yet() {
    costs(&Operation::Delete(delete()), 1.0);
    for (consistent, units) in [(true, 1.0), (false, 0.5)] {
        let get = Get {
            table: table(),
            key: key(),
            consistent,
            attributes: None,
        };
        costs(&Operation::Get(get), units);
        let scan = Scan {
            table: table(),
            filter: None,
            descending: false,
            limit: None,
            after: None,
            attributes: None,
            count: false,
            segment: None,
            consistent,
        };
        costs(&Operation::Scan(scan), units);
    }
}

#[test]
fn a_batch_costs_what_its_parts_cost() {
    let batch = BatchGet {
        table: table(),
        keys: vec![key(); 3],
        consistent: false,
        attributes: None,
    };
    costs(&Operation::BatchGet(batch), 1.5);
    let batch = BatchWrite {
        table: table(),
        writes: vec![
            Write::Put(put(3000)),
            Write::Update(update(Vec::new())),
            Write::Delete(delete()),
        ],
    };
    costs(&Operation::BatchWrite(batch), 5.0);
}

#[test]
fn an_item_of_a_transaction_costs_twice_as_much() {
    let transaction = Transaction {
        writes: vec![
            TransactionWrite::Put(put(3000)),
            TransactionWrite::Update(update(Vec::new())),
            TransactionWrite::Delete(delete()),
            TransactionWrite::Check(Check {
                table: table(),
                key: key(),
                guard: Guard::default(),
            }),
        ],
    };
    costs(&Operation::Transaction(transaction), 12.0);
    let get = TransactionGet {
        keys: vec![(table(), key()); 3],
    };
    costs(&Operation::TransactionGet(get), 6.0);
}

#[test]
fn rows_with_unique_values_are_written_with_their_markers() {
    let unique = Unique {
        name: "text".into(),
        attributes: vec!["text".into()],
        scope: Scope::default(),
    };
    let table = Arc::new(Table {
        unique: vec![unique],
        ..(*table()).clone()
    });
    let put = |row: Row| {
        let guard = Guard {
            row,
            ..Guard::default()
        };
        Put::new(Arc::clone(&table), item(1000), guard).unwrap()
    };
    costs(&Operation::Put(put(Row::Absent)), 4.0);
    // Whether the row has its value already is not known.
    costs(&Operation::Put(put(Row::Any)), 2.0);
    let writes = vec![TransactionWrite::Put(put(Row::Absent))];
    costs(&Operation::Transaction(Transaction { writes }), 4.0);
    let update = |actions: Vec<Action>| {
        Operation::Update(Update {
            table: Arc::clone(&table),
            ..update(actions)
        })
    };
    costs(&update(vec![Action::Remove(text())]), 2.0);
    costs(&update(vec![Action::Remove(Path::attribute("n"))]), 1.0);
    let delete = Delete {
        table: Arc::clone(&table),
        ..delete()
    };
    costs(&Operation::Delete(delete), 2.0);
    let get = GetUnique {
        table,
        unique: "text".into(),
        values: vec![KeyValue::String("x".into())],
        attributes: None,
    };
    costs(&Operation::GetUnique(get), 2.0);
}

#[test]
fn tables_cost_nothing() {
    costs(&Operation::CreateTable(table()), 0.0);
    costs(&Operation::TableExists(table()), 0.0);
    costs(&Operation::DeleteTable(table()), 0.0);
}
