//! Requests.

use std::result;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::guard::Guard;
use crate::key::{Key, KeyValue};
use crate::metrics::RequestMetrics;
use crate::path::Path;
use crate::query::{Query, Scan};
use crate::size::check_item;
use crate::table::Table;
use crate::unique::Unique;
use crate::update::{self, Action};
use crate::value::Item;
use crate::work::Work;

/// One request.
#[derive(Clone, Debug)]
pub struct Request {
    /// The time for which expiry is evaluated, in seconds since 1970.
    pub now: i64,
    /// What to do.
    pub operation: Operation,
    /// What the store reports besides the reply.
    pub metrics: RequestMetrics,
}

impl Request {
    /// A request with empty metrics.
    #[must_use]
    pub fn new(now: i64, operation: Operation) -> Self {
        Self {
            now,
            operation,
            metrics: RequestMetrics::default(),
        }
    }
}

/// The kinds of request.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Create the table, or add the indexes that it lacks.
    CreateTable(Arc<Table>),
    /// Stop keeping values unique: those of the declarations with these names, as far as the table has them.
    DropUnique(Arc<Table>, Vec<String>),
    /// Return whether the table exists.
    TableExists(Arc<Table>),
    /// Which indexes does a table lack that would refuse rows whose values they cannot hold? None of a store that leaves
    /// such rows out of the index.
    RefusingIndexes(Arc<Table>),
    /// Delete the table with all items. A missing table counts as deleted.
    DeleteTable(Arc<Table>),
    /// Return the names of all tables, in order.
    ListTables,
    /// Return the stored description of the table with this name.
    DescribeTable(String),
    /// Read one item by key.
    Get(Get),
    /// Read one item by a unique value.
    GetUnique(GetUnique),
    /// Write a whole item.
    Put(Put),
    /// Change an item in the store.
    Update(Update),
    /// Delete an item.
    Delete(Delete),
    /// Read the items of a partition in order.
    Query(Query),
    /// Read the items of a table.
    Scan(Scan),
    /// Read several items by key.
    BatchGet(BatchGet),
    /// Write several items, each with its own outcome.
    BatchWrite(BatchWrite),
    /// Write several items: all or none.
    Transaction(Transaction),
    /// Read several items by key, as they were at one moment.
    TransactionGet(TransactionGet),
    /// Return the servers that answer. Reads nothing of a table.
    Ping,
}

/// Writes several items, of one table or of several: all or none. No two writes or checks are of the same item.
#[derive(Clone, Debug)]
pub struct Transaction {
    /// The writes and checks, in the order of the reply.
    pub writes: Vec<TransactionWrite>,
}

/// A write or a check of a transaction.
#[derive(Clone, Debug)]
pub enum TransactionWrite {
    /// Write a whole item.
    Put(Put),
    /// Change an item.
    Update(Update),
    /// Delete an item.
    Delete(Delete),
    /// Write nothing, but fail if the guard does.
    Check(Check),
}

/// Requires something of an item.
#[derive(Clone, Debug)]
pub struct Check {
    /// The table.
    pub table: Arc<Table>,
    /// The item's key.
    pub key: Key,
    /// What must be true.
    pub guard: Guard,
}

/// Reads several items by key, of one table or of several, as they were at one moment.
#[derive(Clone, Debug)]
pub struct TransactionGet {
    /// The table and key of each item, in the order of the reply.
    pub keys: Vec<(Arc<Table>, Key)>,
}

/// Reads several items by key.
#[derive(Clone, Debug)]
pub struct BatchGet {
    /// The table.
    pub table: Arc<Table>,
    /// The keys, in the order of the reply; a key may occur twice.
    pub keys: Vec<Key>,
    /// Whether the read is strongly consistent.
    pub consistent: bool,
    /// Only what these paths lead to, and the key.
    pub attributes: Option<Vec<Path>>,
}

/// Writes several items of one table. Each write has its own outcome; a failure does not roll back the others.
#[derive(Clone, Debug)]
pub struct BatchWrite {
    /// The table.
    pub table: Arc<Table>,
    /// The writes, in order: two of the same key happen in this order.
    pub writes: Vec<Write>,
}

/// One write of a batch.
#[derive(Clone, Debug)]
pub enum Write {
    /// Write a whole item.
    Put(Put),
    /// Change an item.
    Update(Update),
    /// Delete an item.
    Delete(Delete),
}

/// Reads one item by key.
#[derive(Clone, Debug)]
pub struct Get {
    /// The table.
    pub table: Arc<Table>,
    /// The item's key.
    pub key: Key,
    /// Whether the read is strongly consistent.
    pub consistent: bool,
    /// Only what these paths lead to, and the key.
    pub attributes: Option<Vec<Path>>,
}

/// Reads one item by its unique values. The read is always strongly consistent.
#[derive(Clone, Debug)]
pub struct GetUnique {
    /// The table.
    pub table: Arc<Table>,
    /// The name of the unique values in the table.
    pub unique: String,
    /// The values of its attributes, in order.
    pub values: Vec<KeyValue>,
    /// Only what these paths lead to, and the key.
    pub attributes: Option<Vec<Path>>,
}

/// Writes a whole item, over a stored one if the guard allows it. `Put::new` is the only way to create one, so that the key
/// is checked and is that of the item.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Put {
    /// The table.
    pub table: Arc<Table>,
    /// The item's key.
    pub key: Key,
    /// The item, with its key.
    pub item: Arc<Item>,
    /// What must be true before.
    pub guard: Guard,
}

/// Changes an item in the store. Without a row that is `ItemGone`.
#[derive(Clone, Debug)]
pub struct Update {
    /// The table.
    pub table: Arc<Table>,
    /// The item's key.
    pub key: Key,
    /// What to change.
    pub actions: Vec<Action>,
    /// What must be true before. `guard.row` is `Row::Present`.
    pub guard: Guard,
    /// The item of the reply.
    pub returning: Returning,
}

/// The item that the reply to an update contains.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Returning {
    /// None.
    #[default]
    Nothing,
    /// The item before the update; none if there was no row, or an expired one.
    Old,
    /// The changed item.
    New,
}

/// Deletes an item. A missing item counts as deleted, unless the guard requires the row.
#[derive(Clone, Debug)]
pub struct Delete {
    /// The table.
    pub table: Arc<Table>,
    /// The item's key.
    pub key: Key,
    /// What must be true before.
    pub guard: Guard,
    /// Whether the reply is the deleted item; none if there was no row, or an expired one.
    pub returns_old: bool,
}

impl GetUnique {
    /// The declaration of the values in this table, which is the request's own or the stored one.
    ///
    /// # Errors
    ///
    /// `Configuration` if the table has no such unique values; `InvalidValue` if the number of values is another.
    pub fn declaration<'a>(&self, table: &'a Table) -> Result<&'a Unique> {
        let unique = table.unique(&self.unique).ok_or_else(|| {
            Error::configuration(format!(
                "table {:?} has no unique values {:?}",
                table.name, self.unique
            ))
            .of(table)
        })?;
        if unique.attributes.len() == self.values.len() {
            Ok(unique)
        } else {
            Err(Error::invalid(format!(
                "{:?} has {} values, and {} were given",
                self.unique,
                unique.attributes.len(),
                self.values.len()
            ))
            .of(table))
        }
    }
}

impl Put {
    /// A put of this item.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if a key attribute of the item is absent, empty, too long or of another type.
    pub fn new(table: Arc<Table>, item: Arc<Item>, guard: Guard) -> Result<Self> {
        Ok(Self {
            key: table.key_of(&item)?,
            table,
            item,
            guard,
        })
    }

    /// Checks the item and the condition. `stored` is the table as the store knows it: other models may have added indexes.
    ///
    /// # Errors
    ///
    /// `ItemTooLarge` if the item has more than `max_item` bytes; `InvalidValue`.
    pub fn check(&self, stored: &Table, max_item: usize) -> Result<()> {
        check_item(&self.item, stored, max_item)?;
        self.guard.check_condition()
    }
}

impl Update {
    /// Checks the key, the actions and the condition. The changed item is checked when the actions are applied.
    ///
    /// # Errors
    ///
    /// `InvalidValue`.
    pub fn check(&self) -> Result<()> {
        self.table.check_key(&self.key)?;
        update::check(&self.actions, &self.table)?;
        self.guard.check_condition()
    }

    /// The item that the update makes of a stored one, which has not expired.
    ///
    /// # Errors
    ///
    /// `ItemGone` without a row; the errors of [`Guard::check`] and [`update::apply`]; the error that ends the work.
    pub fn evaluate<E: From<Error>>(
        &self,
        stored: Option<Item>,
        work: &mut Work<'_, E>,
    ) -> result::Result<Item, E> {
        let (table, key) = (&*self.table, &self.key);
        let Some(mut item) = stored else {
            return Err(Error::gone(table, key, self.guard.version.is_some()).into());
        };
        self.guard.check(table, key, Some(&item), work)?;
        update::apply(&self.actions, &mut item).map_err(|error| error.of(table).at(key))?;
        Ok(item)
    }
}

impl Delete {
    /// Checks the key and the condition.
    ///
    /// # Errors
    ///
    /// `InvalidValue`.
    pub fn check(&self) -> Result<()> {
        self.table.check_key(&self.key)?;
        self.guard.check_condition()
    }
}

impl Check {
    /// Checks the key and the condition.
    ///
    /// # Errors
    ///
    /// `InvalidValue`.
    pub fn check(&self) -> Result<()> {
        self.table.check_key(&self.key)?;
        self.guard.check_condition()
    }
}

impl Operation {
    /// The name of the operation in reports.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateTable(_) | Self::RefusingIndexes(_) => "create_table",
            Self::TableExists(_) => "table_exists",
            Self::DropUnique(..) => "drop_unique",
            Self::DeleteTable(_) => "delete_table",
            Self::Get(_) => "get",
            Self::GetUnique(_) => "get_by",
            Self::Put(_) => "put",
            Self::Update(_) => "update",
            Self::Delete(_) => "delete",
            Self::Query(_) => "query",
            Self::Scan(_) => "scan",
            Self::BatchGet(_) => "batch_get",
            Self::BatchWrite(_) => "batch_write",
            Self::Transaction(_) => "transaction",
            Self::TransactionGet(_) => "transact_get",
            Self::ListTables => "list_tables",
            Self::DescribeTable(_) => "describe_table",
            Self::Ping => "ping",
        }
    }

    /// The table of the request; `None` for a transaction, which may have several, and for requests about the catalog.
    #[must_use]
    pub const fn table(&self) -> Option<&Arc<Table>> {
        Some(match self {
            Self::CreateTable(table)
            | Self::DropUnique(table, _)
            | Self::RefusingIndexes(table)
            | Self::TableExists(table)
            | Self::DeleteTable(table) => table,
            Self::Get(get) => &get.table,
            Self::GetUnique(get) => &get.table,
            Self::Put(put) => &put.table,
            Self::Update(update) => &update.table,
            Self::Delete(delete) => &delete.table,
            Self::Query(query) => &query.table,
            Self::Scan(scan) => &scan.table,
            Self::BatchGet(get) => &get.table,
            Self::BatchWrite(write) => &write.table,
            Self::ListTables
            | Self::DescribeTable(_)
            | Self::Transaction(_)
            | Self::TransactionGet(_)
            | Self::Ping => return None,
        })
    }

    /// The tables of the request, each once for each item of a transaction.
    #[must_use]
    pub fn tables(&self) -> Vec<&Arc<Table>> {
        match self {
            Self::Transaction(transaction) => {
                let writes = transaction.writes.iter();
                writes.map(TransactionWrite::table).collect()
            }
            Self::TransactionGet(get) => get.keys.iter().map(|(table, _)| table).collect(),
            other => other.table().into_iter().collect(),
        }
    }

    /// The key of the item, if the request is about one item.
    #[must_use]
    pub const fn key(&self) -> Option<&Key> {
        match self {
            Self::Get(get) => Some(&get.key),
            Self::Put(put) => Some(&put.key),
            Self::Update(update) => Some(&update.key),
            Self::Delete(delete) => Some(&delete.key),
            _ => None,
        }
    }

    /// Whether it changes the store.
    #[must_use]
    pub const fn is_write(&self) -> bool {
        matches!(
            self,
            Self::CreateTable(_)
                | Self::DropUnique(..)
                | Self::DeleteTable(_)
                | Self::Put(_)
                | Self::Update(_)
                | Self::Delete(_)
                | Self::BatchWrite(_)
                | Self::Transaction(_)
        )
    }
}

impl TransactionWrite {
    /// The table of its item.
    #[must_use]
    pub const fn table(&self) -> &Arc<Table> {
        match self {
            Self::Put(put) => &put.table,
            Self::Update(update) => &update.table,
            Self::Delete(delete) => &delete.table,
            Self::Check(check) => &check.table,
        }
    }

    /// The key of its item.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(put) => &put.key,
            Self::Update(update) => &update.key,
            Self::Delete(delete) => &delete.key,
            Self::Check(check) => &check.key,
        }
    }
}

impl Write {
    /// The key of its item.
    #[must_use]
    pub const fn key(&self) -> &Key {
        match self {
            Self::Put(put) => &put.key,
            Self::Update(update) => &update.key,
            Self::Delete(delete) => &delete.key,
        }
    }
}
