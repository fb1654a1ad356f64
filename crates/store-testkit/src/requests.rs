//! Tables, items and requests in few words.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use mintkey_store::store::Never;
use mintkey_store::{
    Condition, Delete, Error, ErrorKind, Get, Guard, Index, Item, Key, KeyAttribute, KeyKind,
    KeyValue, Labels, Number, Operation, Page, Projection, Put, Query, Reply, Request, Result,
    Returning, Row, Scan, Store, Table, Ticket, Update, Value, Write,
};

/// The time at which the tests happen. It is in the future, so that no server deletes a row that has expired by its own clock.
pub const NOW: i64 = 4_102_444_800;

pub fn attribute(name: &str, kind: KeyKind) -> KeyAttribute {
    KeyAttribute {
        name: name.into(),
        kind,
    }
}

/// A table with string keys, a time of expiry and an index by status and amount.
pub fn orders() -> Arc<Table> {
    Arc::new(Table {
        name: "orders".into(),
        model: "Order".into(),
        labels: Labels::default(),
        partition: attribute("pk", KeyKind::String),
        sort: Some(attribute("sk", KeyKind::String)),
        ttl: Some("expires".into()),
        indexes: vec![by_status()],
        unique: Vec::new(),
        colocate: None,
    })
}

pub fn by_status() -> Index {
    Index {
        name: "by_status".into(),
        partition: vec![attribute("status", KeyKind::String)],
        sort: Some(attribute("amount", KeyKind::Number)),
        projection: Projection::All,
        local: false,
    }
}

/// A table whose only key is of this kind.
pub fn plain(name: &str, kind: KeyKind) -> Arc<Table> {
    Arc::new(Table {
        name: name.into(),
        model: "Plain".into(),
        labels: Labels::default(),
        partition: attribute("id", kind),
        sort: None,
        ttl: None,
        indexes: Vec::new(),
        unique: Vec::new(),
        colocate: None,
    })
}

pub fn number(text: &str) -> Number {
    text.parse().unwrap()
}

pub fn string(text: &str) -> KeyValue {
    KeyValue::String(text.into())
}

pub fn key(partition: &str, sort: &str) -> Key {
    Key {
        partition: string(partition),
        sort: Some(string(sort)),
    }
}

pub fn item(pairs: &[(&str, Value)]) -> Item {
    pairs
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect()
}

pub fn order(partition: &str, sort: &str, others: &[(&str, Value)]) -> Item {
    let mut order = item(&[("pk", partition.into()), ("sk", sort.into())]);
    for (name, value) in others {
        order.insert((*name).into(), value.clone());
    }
    order
}

pub fn request(operation: Operation) -> Request {
    Request::new(NOW, operation)
}

pub fn run(store: &dyn Store, operation: Operation) -> Result<Reply> {
    store.execute(&request(operation), &Never)
}

pub fn put_of(table: &Arc<Table>, item: Item, guard: Guard) -> Operation {
    Operation::Put(Put::new(table.clone(), Arc::new(item), guard).unwrap())
}

/// A put as a part of a batch.
pub fn batch_put(table: &Arc<Table>, item: Item, guard: Guard) -> Write {
    Write::Put(Put::new(table.clone(), Arc::new(item), guard).unwrap())
}

pub fn put(store: &dyn Store, table: &Arc<Table>, item: Item) -> Result<Reply> {
    let put = Put::new(table.clone(), Arc::new(item), Guard::default())?;
    run(store, Operation::Put(put))
}

pub fn insert(store: &dyn Store, table: &Arc<Table>, item: Item) -> Result<Reply> {
    let guard = Guard {
        row: Row::Absent,
        ..Guard::default()
    };
    run(store, put_of(table, item, guard))
}

pub fn get_of(table: &Arc<Table>, key: Key) -> Operation {
    Operation::Get(Get {
        table: table.clone(),
        key,
        consistent: false,
        attributes: None,
    })
}

pub fn get(store: &dyn Store, table: &Arc<Table>, key: Key) -> Option<Item> {
    match run(store, get_of(table, key)).unwrap() {
        Reply::Item(item) => item,
        other => panic!("{other:?}"),
    }
}

pub fn delete_of(table: &Arc<Table>, key: Key, guard: Guard) -> Operation {
    Operation::Delete(Delete {
        table: table.clone(),
        key,
        guard,
        returns_old: false,
    })
}

/// The guard of a write that needs a row.
pub fn present() -> Guard {
    Guard {
        row: Row::Present,
        ..Guard::default()
    }
}

pub fn update_of(table: &Arc<Table>, key: Key) -> Update {
    Update {
        table: table.clone(),
        key,
        actions: Vec::new(),
        guard: present(),
        returning: Returning::New,
    }
}

pub fn query_of(table: &Arc<Table>, partition: &[KeyValue]) -> Query {
    Query {
        table: table.clone(),
        index: None,
        partition: partition.to_vec(),
        sort: None,
        filter: None,
        descending: false,
        limit: None,
        after: None,
        attributes: None,
        count: false,
        consistent: false,
    }
}

pub fn scan_of(table: &Arc<Table>) -> Scan {
    Scan {
        table: table.clone(),
        filter: None,
        limit: None,
        after: None,
        attributes: None,
        count: false,
        segment: None,
        descending: false,
        consistent: false,
    }
}

pub fn page(reply: Result<Reply>) -> Page {
    match reply.unwrap() {
        Reply::Page(page) => page,
        other => panic!("{other:?}"),
    }
}

/// All items of a query, page by page.
pub fn query(store: &dyn Store, mut query: Query) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        let page = page(run(store, Operation::Query(query.clone())));
        items.extend(page.items);
        match page.next {
            None => return items,
            next => query.after = next,
        }
    }
}

/// All items of a scan, page by page.
pub fn scan(store: &dyn Store, mut scan: Scan) -> Vec<Item> {
    let mut items = Vec::new();
    loop {
        let page = page(run(store, Operation::Scan(scan.clone())));
        items.extend(page.items);
        match page.next {
            None => return items,
            next => scan.after = next,
        }
    }
}

pub fn kind(result: Result<Reply>) -> ErrorKind {
    result.unwrap_err().kind
}

pub fn texts(items: &[Item], name: &str) -> Vec<String> {
    items
        .iter()
        .map(|item| match item.get(name) {
            Some(Value::String(text)) => text.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

/// Submits a request; its answer can be waited for.
pub fn submit(
    store: &dyn Store,
    operation: Operation,
) -> (Box<dyn Ticket>, Receiver<Result<Reply>>) {
    let (sender, receiver) = channel();
    let done = Box::new(move |answer| {
        // A test that no longer listens has failed already.
        let _ = sender.send(answer);
    });
    (store.submit(Arc::new(request(operation)), done), receiver)
}

pub fn condition(guard: Condition) -> Guard {
    Guard {
        condition: Some(guard),
        ..Guard::default()
    }
}

pub fn message(error: &Error) -> &str {
    &error.message
}
