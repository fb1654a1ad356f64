//! The writes and checks of a transaction, each with what is known of its row.

use std::sync::Arc;

use mintkey_store::{
    Condition, Error, Item, Key, Name, Result, Returning, Row, Table, TransactionWrite, Update,
    update,
};

use crate::config::Config;
use crate::operations::markers::{self, UniqueValue};
use crate::operations::write::{GuardedWrite, check_values, update_guard, without_nulls};
use crate::wire::body;
use crate::wire::transaction::Part;

/// What was read of a row, which may have expired: the row, or that there is none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stored(pub Option<Item>);

/// A write or check of a transaction.
pub struct Participant<'a> {
    pub write: &'a TransactionWrite,
    /// The table, with all unique values that the catalog has.
    pub table: Arc<Table>,
    /// The update that takes the place of one that counts nulls of its row as absent.
    pub filled: Option<Update>,
    /// The stored row, expired or not, if it was read. Then the write is carried out only if the row still has the same
    /// unique values.
    read: Option<Stored>,
    /// Whether the write needs to know the row, because it may free or move one of its unique values.
    needs_read: bool,
    /// Whether a check deletes its row, which has expired and is in the way of a unique value.
    deletes: bool,
    /// The unique value of its row whose marker a check puts.
    puts_marker: Option<UniqueValue>,
}

/// What a write does to the unique values of its row.
#[derive(Debug, Default)]
pub struct UniqueChanges {
    pub claimed: Vec<UniqueValue>,
    pub kept: Vec<UniqueValue>,
    pub released: Vec<UniqueValue>,
}

impl<'a> Participant<'a> {
    /// A participant. `table` is that of the write, with all unique values that the catalog has.
    pub fn new(write: &'a TransactionWrite, table: Arc<Table>) -> Self {
        let needs_read = !table.unique.is_empty()
            && match write {
                TransactionWrite::Put(put) => {
                    put.guard.row != Row::Absent && !put.guard.collision_free
                }
                TransactionWrite::Update(update) => changes_unique(&table, update),
                TransactionWrite::Delete(_) => true,
                TransactionWrite::Check(_) => false,
            };
        Self {
            write,
            table,
            filled: None,
            read: None,
            needs_read,
            deletes: false,
            puts_marker: None,
        }
    }

    /// A check that puts the marker of a unique value of its row, as long as the row has that.
    pub fn putting_marker(
        check: &'a TransactionWrite,
        table: Arc<Table>,
        value: UniqueValue,
    ) -> Self {
        Self {
            needs_read: true,
            puts_marker: Some(value),
            ..Self::new(check, table)
        }
    }

    /// The key of its row.
    pub const fn key(&self) -> &'a Key {
        self.write.key()
    }

    /// Whether the row is to be read before the write is sent.
    pub const fn awaits_row(&self) -> bool {
        self.needs_read && self.read.is_none()
    }

    /// Whether the row was read.
    pub const fn has_read(&self) -> bool {
        self.read.is_some()
    }

    /// Whether the row that was read was like this.
    pub fn was_read_as(&self, row: &Stored) -> bool {
        self.read.as_ref() == Some(row)
    }

    /// Whether the unique values of the row after the write depend on those before.
    pub const fn depends_on_row(&self) -> bool {
        matches!(
            self.write,
            TransactionWrite::Update(_) | TransactionWrite::Check(_)
        )
    }

    /// The row that was read, if it has not expired.
    pub fn live(&self, now: i64) -> Option<&Item> {
        let row = self.read.as_ref()?.0.as_ref();
        row.filter(|row| !self.table.is_expired(row, now))
    }

    /// Takes over the row.
    pub fn set_read(&mut self, row: Stored) {
        self.read = Some(row);
        self.filled = None;
        self.deletes = false;
    }

    /// Prepares the write for the row that was read.
    ///
    /// # Errors
    ///
    /// Why the guard refuses the row.
    pub fn prepare(&mut self, now: i64) -> Result<()> {
        let Some(Stored(row)) = &self.read else {
            return Ok(());
        };
        let is_expired = row.is_some() && self.live(now).is_none();
        self.guarded().check(self.live(now))?;
        match self.write {
            TransactionWrite::Update(update) => {
                self.filled = self.live(now).and_then(|row| without_nulls(update, row));
            }
            TransactionWrite::Check(_) => self.deletes = is_expired && self.puts_marker.is_none(),
            _ => {}
        }
        Ok(())
    }

    /// Takes the nulls of a live row that was not read before into account. Returns whether the update is another one now.
    pub fn fill_nulls(&mut self, row: Option<&Item>) -> bool {
        let TransactionWrite::Update(update) = self.write else {
            return false;
        };
        let before = self.filled.take();
        self.filled = row.and_then(|row| without_nulls(update, row));
        before.map(|own| own.actions) != self.filled.as_ref().map(|own| own.actions.clone())
    }

    /// Whether the write returns the row as it was before: then the row must be the one that was read.
    pub const fn returns_old(&self) -> bool {
        match self.write {
            TransactionWrite::Update(update) => matches!(update.returning, Returning::Old),
            TransactionWrite::Delete(delete) => delete.returns_old,
            TransactionWrite::Put(_) | TransactionWrite::Check(_) => false,
        }
    }

    pub const fn guarded(&self) -> GuardedWrite<'a> {
        GuardedWrite {
            table: self.write.table(),
            key: self.write.key(),
            guard: match self.write {
                TransactionWrite::Put(put) => &put.guard,
                TransactionWrite::Update(update) => &update.guard,
                TransactionWrite::Delete(delete) => &delete.guard,
                TransactionWrite::Check(check) => &check.guard,
            },
        }
    }

    /// Checks what is stored, as for single writes.
    pub fn check(&self) -> Result<()> {
        let checked = match self.write {
            TransactionWrite::Put(put) => put.table.check_indexed(&put.item),
            TransactionWrite::Update(update) => check_values(&update.table, update).map(drop),
            TransactionWrite::Delete(_) | TransactionWrite::Check(_) => Ok(()),
        };
        checked.map_err(|error| self.named(error))
    }

    /// The row after an update of the row that was read.
    pub fn updated(&self, now: i64) -> Result<Option<Item>> {
        let (TransactionWrite::Update(update), Some(live)) = (self.write, self.live(now)) else {
            return Ok(None);
        };
        let mut item = live.clone();
        update::apply(&update.actions, &mut item).map_err(|error| self.named(error))?;
        Ok(Some(item))
    }

    /// What the write does to the unique values of its row, as far as the row is known.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if the update cannot be applied, or a new value cannot be unique.
    pub fn changes(&self, now: i64) -> Result<UniqueChanges> {
        if self.table.unique.is_empty() {
            return Ok(UniqueChanges::default());
        }
        let live = self.live(now);
        if let Some(value) = &self.puts_marker {
            let has_it = live.is_some_and(|row| value.is_of(&self.table, row));
            return Ok(UniqueChanges {
                claimed: has_it.then(|| value.clone()).into_iter().collect(),
                ..UniqueChanges::default()
            });
        }
        let values_of = |item: &Item| {
            markers::unique_values(&self.table, item, live).map_err(|error| self.named(error))
        };
        let after = match self.write {
            TransactionWrite::Put(put) => values_of(&put.item)?,
            TransactionWrite::Update(_) => match self.updated(now)? {
                Some(item) => values_of(&item)?,
                None => Vec::new(),
            },
            TransactionWrite::Delete(_) => Vec::new(),
            TransactionWrite::Check(_) => match live {
                Some(row) => markers::stored_unique_values(&self.table, row),
                None => Vec::new(),
            },
        };
        let before = match &self.read {
            Some(Stored(Some(row))) => markers::stored_unique_values(&self.table, row),
            _ => Vec::new(),
        };
        // The marker of an expired row may have been taken over.
        let (kept, claimed) = after
            .into_iter()
            .partition(|own| live.is_some() && before.contains(own));
        let mut changes = UniqueChanges {
            claimed,
            kept,
            released: before,
        };
        let UniqueChanges { claimed, kept, .. } = &changes;
        let is_free = |own: &UniqueValue| !claimed.contains(own) && !kept.contains(own);
        let released = changes.released.iter().filter(|own| is_free(own)).cloned();
        changes.released = released.collect();
        Ok(changes)
    }

    /// The part of the call that carries it out.
    ///
    /// # Errors
    ///
    /// `Unsupported` if an expression cannot say the condition.
    pub fn part(&self, config: &Config, now: i64) -> Result<Part> {
        let actions = match self.write {
            TransactionWrite::Update(update) => &update.actions[..],
            _ => &[],
        };
        let unchanged = match &self.read {
            Some(Stored(row)) => {
                markers::unchanged(&self.table, row.as_ref(), actions, self.returns_old())
            }
            None => Vec::new(),
        };
        let with = |condition: Option<Condition>| {
            Condition::all(condition.into_iter().chain(unchanged).collect())
        };
        Ok(match self.write {
            TransactionWrite::Update(update) => {
                let update = self.filled.as_ref().unwrap_or(update);
                let condition = with(body::guard(&update.table, &update_guard(update), now)?);
                let body = body::transaction_update(config, update, condition.as_ref());
                ("Update", body)
            }
            TransactionWrite::Put(put) => {
                let condition = with(body::guard(&put.table, &put.guard, now)?);
                let body = body::put(config, &put.table, &put.item, condition.as_ref());
                ("Put", body)
            }
            TransactionWrite::Delete(delete) => {
                let condition = with(body::guard(&delete.table, &delete.guard, now)?);
                let body = body::delete(config, &delete.table, &delete.key, condition.as_ref());
                ("Delete", body)
            }
            TransactionWrite::Check(check) => {
                let (table, key) = (&check.table, &check.key);
                let condition = with(body::guard(table, &check.guard, now)?);
                if self.deletes {
                    let absent = [body::absent(table, now)];
                    let condition = Condition::all(condition.into_iter().chain(absent).collect());
                    (
                        "Delete",
                        body::delete(config, table, key, condition.as_ref()),
                    )
                } else {
                    ("ConditionCheck", body::check(config, table, key, condition))
                }
            }
        })
    }

    /// Adds table and key to an error.
    fn named(&self, error: Error) -> Error {
        error.of(self.write.table()).at(self.write.key())
    }
}

/// Whether an update may change the unique values of its row.
pub fn changes_unique(table: &Table, update: &Update) -> bool {
    let decides = |name: &Name| markers::unique_attributes(table).any(|own| own == name);
    let mut roots = update.actions.iter().map(|action| action.path().root());
    roots.any(|root| root.is_some_and(decides))
}
