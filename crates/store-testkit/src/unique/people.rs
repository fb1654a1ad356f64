//! Tables with unique values, and requests on them in few words.

use std::sync::Arc;

use crate::requests::{
    batch_put, delete_of, insert, key, order, orders, put_of, request, run, string, update_of,
};
use mintkey_store::store::Never;
use mintkey_store::unique::{Discriminator, Prefix, Scope};
use mintkey_store::{
    Action, BatchWrite, Delete, Error, ErrorKind, GetUnique, Guard, Item, Key, KeyValue, Operation,
    Path, Reply, Returning, Row, Store, Table, Unique, Update, Value, Write,
};

/// Values of these attributes, unique in the whole table. Their names are the name.
pub fn unique(attributes: &[&str]) -> Unique {
    Unique {
        name: attributes.join(","),
        attributes: attributes.iter().map(|name| (*name).into()).collect(),
        scope: Scope::default(),
    }
}

/// A table with string keys and a time of expiry.
pub fn table_with(unique: Vec<Unique>) -> Arc<Table> {
    Arc::new(Table {
        name: "people".into(),
        model: "Person".into(),
        indexes: Vec::new(),
        unique,
        ..(*orders()).clone()
    })
}

/// A table whose rows have a unique email.
pub fn people() -> Arc<Table> {
    table_with(vec![unique(&["email"])])
}

/// The same table for a class that does not declare its unique values.
pub fn without_unique(table: &Table) -> Arc<Table> {
    Arc::new(Table {
        unique: Vec::new(),
        ..table.clone()
    })
}

/// The text of a part of the key, or its start.
pub fn prefix(attribute: &str, text: &str, whole: bool) -> Prefix {
    Prefix {
        attribute: attribute.into(),
        text: text.to_owned(),
        whole,
    }
}

/// Rows whose `kind` is one of these.
pub fn kinds(values: &[&str], or_absent: bool) -> Scope {
    Scope {
        prefixes: Vec::new(),
        discriminator: Some(Discriminator {
            attribute: "kind".into(),
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            or_absent,
        }),
    }
}

/// The key of a person.
pub fn id(id: &str) -> Key {
    key(id, "0")
}

pub fn row(id: &str, others: &[(&str, Value)]) -> Item {
    order(id, "0", others)
}

pub fn person(id: &str, email: &str) -> Item {
    row(id, &[("email", email.into())])
}

pub fn absent() -> Guard {
    Guard {
        row: Row::Absent,
        ..Guard::default()
    }
}

/// Sets an attribute of a stored row.
pub fn change(table: &Arc<Table>, id: &str, name: &str, value: Value) -> Update {
    Update {
        actions: vec![Action::Set(Path::attribute(name), value)],
        returning: Returning::Nothing,
        ..update_of(table, self::id(id))
    }
}

pub fn delete(table: &Arc<Table>, id: &str) -> Operation {
    delete_of(table, self::id(id), Guard::default())
}

pub fn batch(table: &Arc<Table>, writes: Vec<Write>) -> Operation {
    Operation::BatchWrite(BatchWrite {
        table: Arc::clone(table),
        writes,
    })
}

pub fn deletion(table: &Arc<Table>, id: &str) -> Write {
    Write::Delete(Delete {
        table: Arc::clone(table),
        key: self::id(id),
        guard: Guard::default(),
        returns_old: false,
    })
}

/// The outcome of a write at some time, which may be a batch of one write.
pub fn write_at(store: &dyn Store, now: i64, operation: Operation) -> Result<(), Error> {
    let request = mintkey_store::Request {
        now,
        ..request(operation)
    };
    match store.execute(&request, &Never)? {
        Reply::Written(mut outcomes) => outcomes.swap_remove(0),
        _ => Ok(()),
    }
}

pub fn write(store: &dyn Store, operation: Operation) -> Result<(), Error> {
    write_at(store, crate::requests::NOW, operation)
}

/// Puts a row before the time of the tests, so that it can be one that has expired since. A write at that time may remove
/// expired rows.
pub fn put_before(store: &dyn Store, table: &Arc<Table>, item: Item) {
    let put = put_of(table, item, Guard::default());
    write_at(store, crate::requests::NOW - 100, put).unwrap();
}

/// Ways to write a new row with an email.
pub fn ways_to_write(table: &Arc<Table>, id: &str, email: &str) -> Vec<Operation> {
    vec![
        put_of(table, person(id, email), absent()),
        put_of(table, person(id, email), Guard::default()),
        batch(table, vec![batch_put(table, person(id, email), absent())]),
    ]
}

pub fn written(store: &dyn Store, operation: Operation) -> Vec<Result<(), Error>> {
    match run(store, operation).unwrap() {
        Reply::Written(outcomes) => outcomes,
        other => panic!("{other:?}"),
    }
}

pub fn find_of(table: &Arc<Table>, unique: &str, values: &[KeyValue]) -> Operation {
    Operation::GetUnique(GetUnique {
        table: Arc::clone(table),
        unique: unique.to_owned(),
        values: values.to_vec(),
        attributes: None,
    })
}

/// The row that holds unique values.
pub fn find(
    store: &dyn Store,
    table: &Arc<Table>,
    unique: &str,
    values: &[KeyValue],
) -> Option<Item> {
    match run(store, find_of(table, unique, values)).unwrap() {
        Reply::Item(item) => item,
        other => panic!("{other:?}"),
    }
}

/// The row that has an email.
pub fn by_email(store: &dyn Store, table: &Arc<Table>, email: &str) -> Option<Item> {
    find(store, table, "email", &[string(email)])
}

/// Requires that a write was refused because another row holds the values.
pub fn assert_held(
    outcome: Result<(), Error>,
    attributes: &[&str],
    values: &[KeyValue],
    holder: &Key,
) {
    let error = outcome.expect_err("another row holds the value");
    assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
    let violations = error.violations.as_deref().unwrap_or_default();
    let [violation] = violations else {
        panic!("a refused write has one violation: {violations:?}");
    };
    let names: Vec<&str> = violation.attributes.iter().map(|name| &**name).collect();
    assert_eq!(names, attributes);
    assert_eq!(violation.values, values);
    assert_eq!(violation.holders, std::slice::from_ref(holder));
    assert_eq!(error.item, None, "the item of an error is that of its key");
}

/// Requires that a write was refused because this person has the email.
pub fn assert_email_held(outcome: Result<(), Error>, email: &str, holder: &str) {
    assert_held(outcome, &["email"], &[string(email)], &id(holder));
}

/// Requires that an email is free: a new row can have it. Leaves it free.
pub fn assert_free(store: &dyn Store, table: &Arc<Table>, email: &str) {
    assert_eq!(by_email(store, table, email), None);
    insert(store, table, person("probe", email)).unwrap();
    assert_eq!(by_email(store, table, email), Some(person("probe", email)));
    write(store, delete(table, "probe")).unwrap();
    assert_eq!(by_email(store, table, email), None);
}
