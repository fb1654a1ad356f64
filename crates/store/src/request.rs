//! Requests.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::condition::{Condition, Path};
use crate::error::{Error, Result};
use crate::key::{Key, KeyValue};
use crate::number::Number;
use crate::query::{Query, Scan};
use crate::size::check_item;
use crate::table::Table;
use crate::unique::Unique;
use crate::update::{self, Action};
use crate::value::{Item, Name, Value};
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

/// What a store reports about a request besides the reply: retries, throttling, capacity units and its duration.
#[derive(Debug, Default)]
pub struct RequestMetrics {
    metered: AtomicBool,
    throttled: AtomicBool,
    retries: AtomicU32,
    /// Halves of a unit.
    consumed: AtomicU64,
    time: Mutex<Option<Time>>,
}

/// Since when a request is metered, and how long it took.
#[derive(Debug)]
struct Time {
    started: Instant,
    duration: Option<Duration>,
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

impl RequestMetrics {
    /// Asks the store to report the capacity units that the request takes, if it counts them. Resets the metrics.
    pub fn meter(&self) {
        self.metered.store(true, Ordering::Relaxed);
        self.throttled.store(false, Ordering::Relaxed);
        self.retries.store(0, Ordering::Relaxed);
        self.consumed.store(0, Ordering::Relaxed);
        *self.time() = Some(Time {
            started: Instant::now(),
            duration: None,
        });
    }

    /// Records that the reply is there, of a request that is executed together with others.
    pub fn finish(&self) {
        if let Some(time) = self.time().as_mut() {
            time.duration = Some(time.started.elapsed());
        }
    }

    /// The time from `meter` to `finish`; `None` if one of them was not called.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        self.time().as_ref()?.duration
    }

    fn time(&self) -> MutexGuard<'_, Option<Time>> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the units are to be reported.
    #[must_use]
    pub fn is_metered(&self) -> bool {
        self.metered.load(Ordering::Relaxed)
    }

    /// Records that the store throttled a part of the request, even if a retry succeeded.
    pub fn throttle(&self) {
        self.throttled.store(true, Ordering::Relaxed);
    }

    /// Whether that has happened.
    #[must_use]
    pub fn was_throttled(&self) -> bool {
        self.throttled.load(Ordering::Relaxed)
    }

    /// Records that the request, or a part of it, was sent this many times again.
    pub fn add_retries(&self, retries: u32) {
        self.retries.fetch_add(retries, Ordering::Relaxed);
    }

    /// How often the request, or a part of it, was sent again.
    #[must_use]
    pub fn retries(&self) -> u32 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Adds capacity units that the store has counted.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a store counts small positive numbers of halves"
    )]
    pub fn consume(&self, units: f64) {
        let halves = (units.max(0.0) * 2.0).round() as u64;
        self.consumed.fetch_add(halves, Ordering::Relaxed);
    }

    /// The capacity units that the store has counted; `None` if it counts none.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        reason = "a store counts small numbers of halves"
    )]
    pub fn consumed(&self) -> Option<f64> {
        match self.consumed.load(Ordering::Relaxed) {
            0 => None,
            halves => Some(halves as f64 / 2.0),
        }
    }
}

impl Clone for RequestMetrics {
    /// The metrics of a copy of a request are empty.
    fn clone(&self) -> Self {
        Self::default()
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

/// What must be true of the stored row for a write to happen. An expired row counts as absent.
#[derive(Clone, Debug, Default)]
pub struct Guard {
    /// Whether the row must exist.
    pub row: Row,
    /// The attribute that holds the version, and the version the stored row must have; `None`: the
    /// row must be absent, or have none.
    pub version: Option<(Name, Option<Number>)>,
    /// A condition on the stored row; an absent row is evaluated as an item without attributes.
    pub condition: Option<Condition>,
    /// Whether the key was generated with 64 random bits or more, so that no row can be expected to have it. An engine
    /// whose batches support no conditions may then put the item in a batch without a check.
    pub collision_free: bool,
}

/// Whether a row must exist.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Row {
    /// It does not matter.
    #[default]
    Any,
    /// It must not exist (else `KeyCollision`).
    Absent,
    /// It must exist (else `ItemGone`).
    Present,
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

/// Changes an item in the store.
#[derive(Clone, Debug)]
pub struct Update {
    /// The table.
    pub table: Arc<Table>,
    /// The item's key.
    pub key: Key,
    /// What to change.
    pub actions: Vec<Action>,
    /// What must be true before.
    pub guard: Guard,
    /// Whether to start from the key alone when the row is absent; else that is `ItemGone`.
    pub upsert: bool,
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

impl Guard {
    fn check_condition(&self) -> Result<()> {
        self.condition.as_ref().map_or(Ok(()), Condition::check)
    }

    /// Checks the stored row; `None` if there is none or it has expired.
    ///
    /// # Errors
    ///
    /// `KeyCollision`, `ItemGone`, `VersionConflict`, `ConditionFailed`, in this order; each carries the
    /// stored item. The error that ends the work.
    pub fn check<E: From<Error>>(
        &self,
        table: &Table,
        key: &Key,
        stored: Option<&Item>,
        work: &mut Work<'_, E>,
    ) -> std::result::Result<(), E> {
        match (self.row, stored) {
            (Row::Absent, Some(_)) => {
                let error = Error::collision(table, key).with_item(stored.cloned());
                return Err(error.into());
            }
            (Row::Present, None) => {
                return Err(Error::gone(table, key, self.version.is_some()).into());
            }
            _ => {}
        }
        if let Some((name, expected)) = &self.version {
            // A null is no version: another program may have written it.
            let found = stored
                .and_then(|item| item.get(name))
                .filter(|value| !matches!(value, Value::Null));
            let agrees = match (found, expected) {
                (Some(Value::Number(found)), Some(expected)) => found == expected,
                (None, None) => true,
                _ => false,
            };
            if !agrees {
                let error =
                    Error::version_conflict(table, key, name, *expected, stored.map(|_| found));
                return Err(error.with_item(stored.cloned()).into());
            }
        }
        if let Some(condition) = &self.condition
            && !condition.evaluate(stored.unwrap_or(&Item::new()), work)?
        {
            let error = Error::condition_failed(table, key, stored.is_some());
            return Err(error.with_item(stored.cloned()).into());
        }
        Ok(())
    }

    /// Whether every row passes.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.row, Row::Any) && self.version.is_none() && self.condition.is_none()
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
