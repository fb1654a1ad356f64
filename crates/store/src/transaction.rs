//! What all stores refuse of a transaction before they begin it, and the error of a cancelled one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Outcome, Result};
use crate::key::Key;
use crate::request::{Transaction, TransactionGet, TransactionWrite};
use crate::table::Table;
use crate::unique::Claim;
use crate::update;
use crate::value::Item;

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
                TransactionWrite::Put(put) => put
                    .check(&put.table, max_item)
                    .and_then(|()| put.table.claims(&put.item).map(drop)),
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

/// An item of a cancelled transaction.
pub struct CancelledItem<'a> {
    /// The write, or the check.
    pub write: &'a TransactionWrite,
    /// Its table, as the store knows it.
    pub table: &'a Table,
    /// Its row before the transaction, unless it has expired.
    pub row: Option<Item>,
}

impl CancelledItem<'_> {
    /// The unique values of the row.
    fn before(&self) -> Vec<Claim<'_>> {
        self.claims(self.row.as_ref())
    }

    /// The row as the write would leave it, whether or not its guard allows that.
    fn written(&self) -> Option<Item> {
        match self.write {
            TransactionWrite::Put(put) => Some((*put.item).clone()),
            TransactionWrite::Update(update) => {
                let mut item = self.row.clone()?;
                update::apply(&update.actions, &mut item).ok()?;
                Some(item)
            }
            TransactionWrite::Delete(_) => None,
            TransactionWrite::Check(_) => self.row.clone(),
        }
    }

    fn claims(&self, item: Option<&Item>) -> Vec<Claim<'_>> {
        item.and_then(|item| self.table.claims(item).ok())
            .unwrap_or_default()
    }

    /// Names a unique value in all tables.
    fn value(&self, claim: &Claim<'_>) -> (&str, String, Vec<u8>) {
        let name = claim.unique.name.clone();
        (&self.table.name, name, claim.encode())
    }
}

/// Replaces the violations between items of a cancelled transaction, of which some were refused because of their rows, by
/// those that exist whether or not the refused items are written.
pub fn name_violations(items: &[CancelledItem<'_>], reasons: &mut [Option<Error>]) {
    let keys: HashSet<(&str, &Key)> = items
        .iter()
        .map(|own| (&*own.table.name, own.write.key()))
        .collect();
    for (own, reason) in items.iter().zip(&mut *reasons) {
        let violations = reason
            .as_ref()
            .and_then(|error| error.violations.as_deref());
        let mut holders = violations
            .unwrap_or_default()
            .iter()
            .flat_map(|one| &one.holders);
        if holders.any(|holder| keys.contains(&(&*own.table.name, holder))) {
            *reason = None;
        }
    }
    let mut holders = HashMap::new();
    let written: Vec<Option<Item>> = items.iter().map(CancelledItem::written).collect();
    for (index, (own, written)) in items.iter().zip(&written).enumerate() {
        let before = own.before();
        let kept = own
            .claims(written.as_ref())
            .into_iter()
            .filter(|claim| before.contains(claim));
        holders.extend(kept.map(|claim| (own.value(&claim), index)));
    }
    for (index, (own, written)) in items.iter().zip(&written).enumerate() {
        if reasons[index].is_some() {
            continue;
        }
        let claims = own.claims(written.as_ref());
        let held_by_other = |claim: &&Claim<'_>| {
            holders
                .get(&own.value(claim))
                .is_some_and(|holder| *holder != index)
        };
        if let Some(claim) = claims.iter().find(held_by_other) {
            let holder = items[holders[&own.value(claim)]].write.key().clone();
            reasons[index] = Some(Error::unique_violation(
                own.table,
                own.write.key(),
                claim,
                holder,
            ));
        } else {
            holders.extend(claims.iter().map(|claim| (own.value(claim), index)));
        }
    }
}

impl Error {
    /// Whether a transaction was cancelled because a row refused an item, and not only because of unique values.
    #[must_use]
    pub fn is_cancelled_by_rows(&self) -> bool {
        let mut reasons = self.reasons.iter().flatten();
        self.kind == ErrorKind::TransactionCancelled
            && reasons.any(|reason| reason.kind != ErrorKind::UniqueViolation)
    }

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
