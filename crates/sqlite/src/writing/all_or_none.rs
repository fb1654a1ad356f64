//! Transactions of the contract: all writes or none.

use std::collections::BTreeSet;

use mintkey_store::transaction::{CancelledItem, MAX_ITEMS, check_total, name_violations};
use mintkey_store::{
    Claim, Error, ErrorKind, Reply, Transaction as Writes, TransactionWrite, unique,
};

use crate::reading::rows;
use crate::storage::connection::{Attempt, Fault};
use crate::writing::stored_rows;
use crate::writing::transaction::Transaction;

/// A value of a row: the table, the number of its column, the encoded values, and the number of the write.
type Claimed<'a> = (&'a str, usize, Vec<u8>, usize);

impl Transaction<'_> {
    /// Carries out all writes, or none.
    pub(super) fn all_or_none(&mut self, writes: &Writes, now: i64) -> Attempt<Reply> {
        writes.check(self.max_item)?;
        let mut most = writes.writes.len();
        for write in &writes.writes {
            // Outside of the savepoint, so that the tables stay when nothing is written. Each unique value of a row may
            // be one that it had, and one that it gets.
            most += 2 * self.layout(write.table())?.claims.len();
        }
        let counts = most > MAX_ITEMS;
        let mut outcome = self.in_savepoint(|own| own.write_all(writes, now, counts, false));
        // The rows may exchange their values: once all of them have none, the order does not matter.
        if matches!(&outcome, Err(Fault::Refused(error)) if conflicts_within(writes, error)) {
            outcome = self.in_savepoint(|own| own.write_all(writes, now, counts, true));
        }
        match outcome {
            Err(Fault::Refused(error))
                if most > writes.writes.len() && error.is_cancelled_by_rows() =>
            {
                Err(self.with_violations(writes, error, now)?.into())
            }
            outcome => outcome,
        }
    }

    /// Names the violations between the items of a transaction that rows have refused.
    fn with_violations(
        &mut self,
        writes: &Writes,
        mut cancelled: Error,
        now: i64,
    ) -> Attempt<Error> {
        let mut layouts = Vec::with_capacity(writes.writes.len());
        let mut stored = Vec::with_capacity(writes.writes.len());
        for write in &writes.writes {
            let layout = self.layout(write.table())?;
            stored.push(rows::live(self.connection, &layout, write.key(), now)?);
            layouts.push(layout);
        }
        let items = writes.writes.iter().zip(&layouts).zip(stored);
        let items = items.map(|((write, layout), row)| CancelledItem {
            write,
            table: &layout.table,
            row,
        });
        name_violations(&items.collect::<Vec<_>>(), &mut cancelled.reasons);
        Ok(Error::cancelled(cancelled.reasons))
    }

    /// Carries out all writes in order. `counts`: whether they and the values that they change may be too many.
    fn write_all(
        &mut self,
        writes: &Writes,
        now: i64,
        counts: bool,
        release_first: bool,
    ) -> Attempt<Reply> {
        let before = (counts || release_first)
            .then(|| self.claimed(writes))
            .transpose()?;
        if release_first {
            for write in row_writes(writes) {
                let layout = self.layout(write.table())?;
                if let Some(sql) = &layout.release {
                    stored_rows::change(self.connection, sql, write.key())?;
                }
            }
        }
        let mut items = Vec::with_capacity(writes.writes.len());
        let mut reasons = Vec::with_capacity(writes.writes.len());
        // No two are of the same item, so the writes before one do not matter to its guard.
        for write in &writes.writes {
            let outcome = match write {
                TransactionWrite::Put(put) => self.put(put, now),
                TransactionWrite::Update(update) => self.update(update, now),
                TransactionWrite::Delete(delete) => self.delete(delete, now),
                TransactionWrite::Check(check) => self.check(check, now),
            };
            let (item, reason) = match outcome {
                Ok(Reply::Item(item)) => (item, None),
                Ok(_) => (None, None),
                Err(Fault::Refused(error)) => (None, Some(error)),
                Err(fault) => return Err(fault),
            };
            items.push(item);
            reasons.push(reason);
        }
        if reasons.iter().any(Option::is_some) {
            if let Some(before) = &before {
                self.reassign_violations(writes, before, &mut reasons)?;
            }
            return Err(Error::cancelled(reasons).into());
        }
        if let Some(before) = before.filter(|_| counts) {
            let after = self.claimed(writes)?;
            let changed: BTreeSet<_> = before
                .symmetric_difference(&after)
                .map(|(table, column, value, _)| (table, column, value))
                .collect();
            check_total(writes.writes.len(), changed.len())?;
        }
        Ok(Reply::Items(items))
    }

    /// Moves the reason of a row that was refused a value which it had before to the row of the transaction that was
    /// written earlier and took the value.
    fn reassign_violations(
        &mut self,
        writes: &Writes,
        before: &BTreeSet<Claimed<'_>>,
        reasons: &mut [Option<Error>],
    ) -> Attempt<()> {
        for index in 0..reasons.len() {
            let Some([violation]) = reasons[index]
                .as_ref()
                .and_then(|reason| reason.violations.as_deref())
            else {
                continue;
            };
            let (table, key) = (writes.writes[index].table(), writes.writes[index].key());
            let layout = self.layout(table)?;
            let kept = layout
                .table
                .unique
                .iter()
                .enumerate()
                .find(|(column, own)| {
                    let claimed = (
                        &*table.name,
                        *column,
                        unique::encode(&violation.values),
                        index,
                    );
                    own.attributes == violation.attributes && before.contains(&claimed)
                });
            let taker = writes.writes.iter().position(|write| {
                write.table().name == table.name && violation.holders.contains(write.key())
            });
            if let (Some((_, unique)), Some(taker)) = (kept, taker) {
                let claim = Claim {
                    unique,
                    values: violation.values.clone(),
                };
                let own_key = writes.writes[taker].key();
                let error = Error::unique_violation(table, own_key, &claim, key.clone());
                reasons[index] = None;
                reasons[taker].get_or_insert(error);
            }
        }
        Ok(())
    }

    /// What the rows claim.
    fn claimed<'w>(&mut self, writes: &'w Writes) -> Attempt<BTreeSet<Claimed<'w>>> {
        let mut claimed = BTreeSet::new();
        for (number, write) in writes.writes.iter().enumerate() {
            if matches!(write, TransactionWrite::Check(_)) {
                continue;
            }
            let layout = self.layout(write.table())?;
            let claims = stored_rows::claims(self.connection, &layout, write.key())?;
            for (column, value) in claims.into_iter().enumerate() {
                claimed.extend(value.map(|value| (&*write.table().name, column, value, number)));
            }
        }
        Ok(claimed)
    }
}

fn row_writes(writes: &Writes) -> impl Iterator<Item = &TransactionWrite> {
    let changes = |write: &&TransactionWrite| !matches!(write, TransactionWrite::Check(_));
    writes.writes.iter().filter(changes)
}

/// Whether a write was refused because of a row that the transaction writes, too.
fn conflicts_within(writes: &Writes, error: &Error) -> bool {
    let mut refused = writes.writes.iter().zip(&error.reasons);
    refused.any(|(write, reason)| {
        let Some(reason) = reason
            .as_ref()
            .filter(|reason| reason.kind == ErrorKind::UniqueViolation)
        else {
            return false;
        };
        let violations = reason.violations.as_deref().unwrap_or_default();
        let mut holders = violations.iter().flat_map(|own| &own.holders);
        holders.any(|holder| {
            row_writes(writes)
                .any(|other| other.table().name == write.table().name && other.key() == holder)
        })
    })
}
