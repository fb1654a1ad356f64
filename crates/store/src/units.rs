//! What requests cost, in `DynamoDB`'s capacity units.
//!
//! A write costs one unit for each started kilobyte of the item. A read costs one for each started four kilobytes, and
//! half of that when it need not be consistent. What is empty or absent costs the least there is.

use crate::guard::Row;
use crate::key::{Key, KeyValue};
use crate::request::{Delete, Operation, Put, TransactionWrite, Update, Write};
use crate::size::{item_size, value_size};
use crate::table::Table;
use crate::update::Action;
use crate::value::{Name, Value};

const WRITTEN_BY_ONE: usize = 1024;
const READ_BY_ONE: usize = 4096;
/// What an item of a transaction costs, compared with a single write or a consistent read.
const IN_TRANSACTION: f64 = 2.0;

/// What it costs to write an item of so many bytes.
#[must_use]
pub fn write_units(bytes: usize) -> f64 {
    started(bytes, WRITTEN_BY_ONE)
}

/// What it costs to read so many bytes.
#[must_use]
pub fn read_units(bytes: usize, consistent: bool) -> f64 {
    started(bytes, READ_BY_ONE) * if consistent { 1.0 } else { 0.5 }
}

fn started(bytes: usize, each: usize) -> f64 {
    f64::from(u32::try_from(bytes.div_ceil(each).max(1)).unwrap_or(u32::MAX))
}

impl Operation {
    /// The least cost that is known before it is executed: the sizes of the items that it holds, and
    /// of those it does not hold the least there is. Requests about tables cost nothing.
    #[must_use]
    pub fn least_units(&self) -> f64 {
        match self {
            Self::CreateTable(_)
            | Self::DropUnique(..)
            | Self::TableExists(_)
            | Self::DeleteTable(_)
            | Self::ListTables
            | Self::RefusingIndexes(_)
            | Self::DescribeTable(_)
            | Self::Ping => 0.0,
            Self::Get(get) => read_units(0, get.consistent),
            // A marker, then the row.
            Self::GetUnique(_) => 2.0 * read_units(0, true),
            Self::BatchGet(get) => get.keys.iter().map(|_| read_units(0, get.consistent)).sum(),
            Self::Query(query) => read_units(0, query.consistent),
            Self::Scan(scan) => read_units(0, scan.consistent),
            Self::Put(put) => put_units(put),
            Self::Update(update) => update_units(update),
            Self::Delete(delete) => delete_units(delete),
            Self::BatchWrite(batch) => batch.writes.iter().map(Write::least_units).sum(),
            Self::Transaction(transaction) => {
                let writes = transaction.writes.iter();
                writes
                    .map(|write| match write {
                        TransactionWrite::Put(put) => {
                            transaction_units(write.least_size()) + marker_units(put)
                        }
                        _ => transaction_units(write.least_size()),
                    })
                    .sum()
            }
            Self::TransactionGet(get) => get.keys.iter().map(|_| transaction_read_units(0)).sum(),
        }
    }
}

impl Write {
    /// What it costs at least; see [`Operation::least_units`].
    #[must_use]
    pub fn least_units(&self) -> f64 {
        match self {
            Self::Put(put) => put_units(put),
            Self::Update(update) => update_units(update),
            Self::Delete(delete) => delete_units(delete),
        }
    }
}

impl TransactionWrite {
    /// The bytes that are known of its item before it is executed.
    #[must_use]
    pub fn least_size(&self) -> usize {
        match self {
            Self::Put(put) => item_size(&put.item),
            Self::Update(update) => update_size(&update.table, &update.key, &update.actions),
            Self::Delete(delete) => key_size(&delete.table, &delete.key),
            Self::Check(check) => key_size(&check.table, &check.key),
        }
    }
}

/// What it costs to write or check an item of so many bytes in a transaction.
#[must_use]
pub fn transaction_units(bytes: usize) -> f64 {
    IN_TRANSACTION * write_units(bytes)
}

/// What it costs to read an item of so many bytes in a transaction.
#[must_use]
pub fn transaction_read_units(bytes: usize) -> f64 {
    IN_TRANSACTION * read_units(bytes, true)
}

/// A put of a row with unique values is a transaction of the row and a marker for each value.
fn put_units(put: &Put) -> f64 {
    let bytes = item_size(&put.item);
    if put.table.unique.is_empty() {
        write_units(bytes)
    } else {
        transaction_units(bytes) + marker_units(put)
    }
}

/// The markers of a row. If the item has them already, they are not written; that is not known yet.
fn marker_units(put: &Put) -> f64 {
    let is_new = put.guard.row == Row::Absent || put.guard.collision_free;
    let claims = put.table.claims(&put.item).map_or(0, |claims| claims.len());
    let markers = if is_new { claims } else { 0 };
    (0..markers).map(|_| transaction_units(0)).sum()
}

fn update_units(update: &Update) -> f64 {
    let bytes = update_size(&update.table, &update.key, &update.actions);
    let is_unique = |name: &Name| {
        let mut unique = update.table.unique.iter();
        unique.any(|unique| unique.attributes.contains(name))
    };
    let mut actions = update.actions.iter();
    if actions.any(|action| action.path().root().is_some_and(is_unique)) {
        transaction_units(bytes)
    } else {
        write_units(bytes)
    }
}

fn delete_units(delete: &Delete) -> f64 {
    let bytes = key_size(&delete.table, &delete.key);
    if delete.table.unique.is_empty() {
        write_units(bytes)
    } else {
        transaction_units(bytes)
    }
}

/// The stored item is not known, but its key and the values that it gets are.
fn update_size(table: &Table, key: &Key, actions: &[Action]) -> usize {
    key_size(table, key) + actions.iter().map(action_size).sum::<usize>()
}

fn action_size(action: &Action) -> usize {
    let value = match action {
        Action::Set(_, value) | Action::SetIfAbsent(_, value) | Action::AddToSet(_, value) => {
            value_size(value)
        }
        Action::Append(_, values) | Action::Prepend(_, values) => {
            values.iter().map(|value| 1 + value_size(value)).sum()
        }
        Action::Add(_, number) => value_size(&Value::Number(*number)),
        Action::SetFrom(..) => 0,
        Action::Remove(_) | Action::DeleteFromSet(_, _) => return 0,
    };
    action.path().root().map_or(0, |name| name.len()) + value
}

fn key_size(table: &Table, key: &Key) -> usize {
    let part = |name: &str, value: &KeyValue| name.len() + value_size(&value.to_value());
    let sort = table.sort.as_ref().zip(key.sort.as_ref());
    part(&table.partition.name, &key.partition)
        + sort.map_or(0, |(attribute, value)| part(&attribute.name, value))
}
