//! What all stores refuse of a transaction before they begin it, and the error of a cancelled one.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::request::{Transaction, TransactionGet, TransactionWrite};
use crate::table::Table;

/// The most items of a transaction.
pub const MAX_ITEMS: usize = 100;
/// The most bytes of all items of a transaction, as far as they are known before it begins.
pub const MAX_SIZE: usize = 4 * 1024 * 1024;

impl Transaction {
    /// Checks the number of items, that each occurs once, their sizes, and each write and check by itself.
    ///
    /// # Errors
    ///
    /// `ItemTooLarge` if an item has more than `max_item` bytes; `InvalidValue`.
    pub fn check(&self, max_item: usize) -> Result<()> {
        check_items(self.writes.iter().map(|write| (write.table(), write.key())))?;
        for write in &self.writes {
            match write {
                TransactionWrite::Put(put) => put.check(&put.table, max_item),
                TransactionWrite::Update(update) => update.check(),
                TransactionWrite::Delete(delete) => delete.check(),
                TransactionWrite::Check(check) => check.check(),
            }
            .map_err(|error| error.of(write.table()).at(write.key()))?;
        }
        let size: usize = self.writes.iter().map(TransactionWrite::least_size).sum();
        if size > MAX_SIZE {
            return Err(Error::invalid(format!(
                "the items of the transaction have {size} bytes, and may have {MAX_SIZE}: use several transactions"
            )));
        }
        Ok(())
    }
}

/// Checks the number of items of a transaction together with the unique values that it claims and releases.
///
/// # Errors
///
/// `InvalidValue` if there are more than 100.
pub fn check_total(items: usize, claimed_and_released: usize) -> Result<()> {
    if items + claimed_and_released <= MAX_ITEMS {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "a transaction has at most {MAX_ITEMS} items and changes of unique values, and this one has {items} items and \
         {claimed_and_released} changes of unique values: use several transactions"
    )))
}

impl TransactionGet {
    /// Checks the number of items, that each occurs once, and the keys.
    ///
    /// # Errors
    ///
    /// `InvalidValue`.
    pub fn check(&self) -> Result<()> {
        check_items(self.keys.iter().map(|(table, key)| (table, key)))?;
        self.keys.iter().try_for_each(|(table, key)| {
            let checked = table.check_key(key);
            checked.map_err(|error| error.of(table).at(key))
        })
    }
}

fn check_items<'a>(items: impl ExactSizeIterator<Item = (&'a Arc<Table>, &'a Key)>) -> Result<()> {
    let count = items.len();
    if count > MAX_ITEMS {
        return Err(Error::invalid(format!(
            "a transaction has at most {MAX_ITEMS} items, and this one has {count}: use several transactions"
        )));
    }
    let mut first = HashMap::with_capacity(count);
    for (index, (table, key)) in items.enumerate() {
        if let Some(before) = first.insert((table.name.as_str(), key), index) {
            return Err(Error::invalid(format!(
                "items {} and {} of the transaction are the same item of table {:?}: use each item once",
                before + 1,
                index + 1,
                table.name
            ))
            .of(table)
            .at(key));
        }
    }
    Ok(())
}

impl Error {
    /// Other writers were changing the item until there was no more time.
    #[must_use]
    pub fn conflict(table: &Table, key: &Key) -> Self {
        let kind = ErrorKind::Unavailable(Outcome::NotApplied);
        Self::new(kind, "other writers keep changing the item")
            .advice("try again")
            .of(table)
            .at(key)
    }

    /// A transaction wrote nothing, for these reasons of its items, in order; `None` for an item that was not refused.
    #[must_use]
    pub fn cancelled(reasons: Vec<Option<Self>>) -> Self {
        let first = reasons
            .iter()
            .enumerate()
            .find_map(|(index, reason)| Some((index, reason.as_ref()?)));
        let reason = first.map_or_else(String::new, |(index, reason)| {
            format!(
                ", because of item {} of {}: {reason}",
                index + 1,
                reasons.len()
            )
        });
        let mut error = Self::new(
            ErrorKind::TransactionCancelled,
            format!("the transaction was cancelled, and nothing was written{reason}"),
        );
        error.reasons = reasons;
        error
    }
}
