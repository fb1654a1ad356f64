//! Evaluates the items of a transaction on their stored rows: the guards, the changed items, and their unique values.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use mintkey_store::size::check_item;
use mintkey_store::transaction::{CancelledItem, check_total, name_violations};
use mintkey_store::{
    Error, ErrorKind, GetUnique, Item, Key, Reply, Result, Row, Table, TransactionWrite,
};

use crate::keyspace::layout::Layout;
use crate::keyspace::rows::StoredRow;
use crate::keyspace::transactions::Change;
use crate::keyspace::unique::{UniqueChanges, UniqueValue, stored_unique_values, unique_values};
use crate::operations::context::OperationContext;
use crate::operations::unique::{not_applied, violation};
use crate::operations::write;

/// The tables of a transaction, each once, and the position of each item's table.
pub struct Tables<'a> {
    /// The slot group of all rows.
    pub slot_group: u8,
    /// The tables, each with the key of an item.
    pub distinct: Vec<(&'a Arc<Table>, &'a Key)>,
    /// The position of each item's table.
    pub positions: Vec<usize>,
}

/// The row of an item before the transaction.
pub enum Before {
    /// It is not needed.
    Unread,
    /// This one, or none.
    Read(Option<StoredRow>),
}

/// An evaluated item: what to do with its row, and the item that it returns.
pub struct Evaluated {
    /// What to do with the row.
    pub change: Change,
    /// How that changes its unique values.
    pub claims: UniqueChanges,
    /// The item that an update or a deletion returns.
    pub returned: Option<Item>,
}

impl OperationContext<'_> {
    /// Evaluates all items. If any is refused, the transaction is cancelled, with a reason for each of them; `None` if rows
    /// that were not read may refuse others.
    pub async fn evaluate_writes(
        &self,
        layouts: &[Arc<Layout>],
        tables: &Tables<'_>,
        writes: &[TransactionWrite],
        rows: &[Before],
    ) -> Result<Option<Vec<Evaluated>>> {
        let evaluated = self.evaluate_each(layouts, tables, writes, rows);
        let evaluated = evaluated.and_then(|evaluated| {
            check_claims(layouts, tables, writes, &evaluated)?;
            Ok(evaluated)
        });
        let mut items = writes.iter().zip(rows);
        match evaluated {
            Err(error) if error.kind == ErrorKind::TransactionCancelled => {
                if items.any(|(write, before)| is_new(write) && matches!(before, Before::Unread)) {
                    return Ok(None);
                }
                let named = self.with_violations(layouts, tables, writes, rows, error);
                Err(named.await)
            }
            other => other.map(Some),
        }
    }

    /// Evaluates each item on its row.
    fn evaluate_each(
        &self,
        layouts: &[Arc<Layout>],
        tables: &Tables<'_>,
        writes: &[TransactionWrite],
        rows: &[Before],
    ) -> Result<Vec<Evaluated>> {
        let mut evaluated = Vec::with_capacity(writes.len());
        let mut reasons = Vec::with_capacity(writes.len());
        for ((write, before), position) in writes.iter().zip(rows).zip(&tables.positions) {
            match self.evaluate_write(&layouts[*position].table, write, before) {
                Ok(own) => {
                    evaluated.push(own);
                    reasons.push(None);
                }
                Err(error) if is_reason(&error) => {
                    reasons.push(Some(error.of(write.table()).at(write.key())));
                }
                Err(error) => return Err(error),
            }
        }
        cancelled_for(reasons)?;
        Ok(evaluated)
    }

    /// Adds the violations of items that rows did not refuse, when a transaction is cancelled before its values are claimed.
    async fn with_violations(
        &self,
        layouts: &[Arc<Layout>],
        tables: &Tables<'_>,
        writes: &[TransactionWrite],
        rows: &[Before],
        mut cancelled: Error,
    ) -> Error {
        let items = writes.iter().zip(rows).zip(&tables.positions);
        let is_by_rows = cancelled.is_cancelled_by_rows();
        let mut reasons = std::mem::take(&mut cancelled.reasons);
        for (((write, before), position), reason) in items.zip(&mut reasons) {
            let known = &layouts[*position].table;
            let is_refused = reason
                .as_ref()
                .is_some_and(|own| own.kind != ErrorKind::UniqueViolation);
            if is_refused || known.unique.is_empty() {
                continue;
            }
            match self.violation_of(known, writes, write, before).await {
                Ok(found) => *reason = found.or(reason.take()),
                Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)) => {
                    return not_applied(error);
                }
                // What is known is enough.
                Err(_) => break,
            }
        }
        if is_by_rows {
            let items = writes.iter().zip(rows).zip(&tables.positions);
            let items = items.map(|((write, before), position)| {
                let table = &*layouts[*position].table;
                let row = match before {
                    Before::Read(row) => self.live(table, row.as_ref()).cloned(),
                    Before::Unread => None,
                };
                CancelledItem { write, table, row }
            });
            name_violations(&items.collect::<Vec<_>>(), &mut reasons);
        }
        Error::cancelled(reasons)
    }

    /// The violation of an item, if a row outside of the transaction has one of its values.
    async fn violation_of(
        &self,
        known: &Table,
        writes: &[TransactionWrite],
        write: &TransactionWrite,
        before: &Before,
    ) -> Result<Option<Error>> {
        let item = match write {
            TransactionWrite::Put(put) => Arc::clone(&put.item),
            TransactionWrite::Update(update) => {
                let live = match before {
                    Before::Read(row) => self.live(known, row.as_ref()).cloned(),
                    Before::Unread => None,
                };
                Arc::new(self.evaluate(|work| update.evaluate(live, work))?)
            }
            TransactionWrite::Delete(_) | TransactionWrite::Check(_) => return Ok(None),
        };
        for claim in known.claims(&item)? {
            let get = GetUnique {
                table: Arc::clone(write.table()),
                unique: claim.unique.name.clone(),
                values: claim.values.clone(),
                attributes: Some(Vec::new()),
            };
            if let Reply::Item(Some(row)) = self.get_unique(&get).await? {
                let holder = known.key_of(&row)?;
                // What rows of the transaction have is known when all items are.
                let is_written = writes
                    .iter()
                    .any(|own| own.table().name == known.name && *own.key() == holder);
                if !is_written {
                    let violation = Error::unique_violation(known, write.key(), &claim, holder);
                    return Ok(Some(violation));
                }
            }
        }
        Ok(None)
    }

    /// Evaluates an item on its stored row, if that was read. `known` is the table as the store knows it.
    fn evaluate_write(
        &self,
        known: &Table,
        write: &TransactionWrite,
        before: &Before,
    ) -> Result<Evaluated> {
        let stored = match before {
            Before::Read(Some(row)) => Some(&row.item),
            Before::Read(None) | Before::Unread => None,
        };
        let live = stored.filter(|item| !known.is_expired(item, self.now));
        let max_item = self.store.config.max_item;
        let mut returned = None;
        let change = match write {
            TransactionWrite::Put(put) => {
                put.check(known, max_item)?;
                if matches!(before, Before::Read(_)) {
                    self.evaluate(|work| put.guard.check(&put.table, &put.key, live, work))?;
                }
                Change::Put(Arc::clone(&put.item))
            }
            TransactionWrite::Update(update) => {
                let item = self.evaluate(|work| update.evaluate(live.cloned(), work))?;
                check_item(&item, known, max_item)?;
                returned = write::returned(update, live, item.clone());
                Change::Put(Arc::new(item))
            }
            TransactionWrite::Delete(delete) => {
                self.evaluate(|work| delete.guard.check(&delete.table, &delete.key, live, work))?;
                returned = live.filter(|_| delete.returns_old).cloned();
                match before {
                    Before::Read(None) => Change::Nothing,
                    _ => Change::Delete,
                }
            }
            TransactionWrite::Check(check) => {
                self.evaluate(|work| check.guard.check(&check.table, &check.key, live, work))?;
                Change::Nothing
            }
        };
        let claims = claim_change(known, write, before, &change)?;
        Ok(Evaluated {
            change,
            claims,
            returned,
        })
    }
}

/// How a write changes the unique values of its row.
fn claim_change(
    known: &Table,
    write: &TransactionWrite,
    before: &Before,
    change: &Change,
) -> Result<UniqueChanges> {
    if known.unique.is_empty() || matches!(change, Change::Nothing) {
        return Ok(UniqueChanges::default());
    }
    let after = match change {
        Change::Put(item) => unique_values(known, item)?,
        Change::Nothing | Change::Delete => Vec::new(),
    };
    let stored = match before {
        Before::Read(row) => row.as_ref(),
        Before::Unread => None,
    };
    let mut claims = UniqueChanges::between(stored_unique_values(stored), &after);
    claims.again = matches!(write, TransactionWrite::Update(update) if update.actions.is_empty());
    Ok(claims)
}

/// The table, the unique set and the encoded value.
type MarkerId<'a> = (&'a str, &'a [u8], &'a [u8]);

fn id_of<'a>(write: &'a TransactionWrite, value: &'a UniqueValue) -> MarkerId<'a> {
    (&write.table().name, &value.name, &value.encoded)
}

/// Checks the number of changed values, and that no two items claim the same.
fn check_claims(
    layouts: &[Arc<Layout>],
    tables: &Tables<'_>,
    writes: &[TransactionWrite],
    evaluated: &[Evaluated],
) -> Result<()> {
    // A value that passes from one item to another changes once.
    let changes: HashSet<_> = writes
        .iter()
        .zip(evaluated)
        .flat_map(|(write, own)| own.claims.changed().map(move |value| id_of(write, value)))
        .collect();
    if changes.is_empty() {
        return Ok(());
    }
    check_total(writes.len(), changes.len())?;
    let mut first: HashMap<MarkerId<'_>, usize> = HashMap::new();
    let mut reasons = vec![None; writes.len()];
    let items = || writes.iter().zip(evaluated).enumerate();
    // A row that keeps its value has it, whatever the order of the items.
    let kept = items().map(|(index, (write, own))| (index, write, own, &own.claims.kept));
    let claimed = items().map(|(index, (write, own))| (index, write, own, &own.claims.claimed));
    for (index, write, own, values) in kept.chain(claimed) {
        let Change::Put(item) = &own.change else {
            continue;
        };
        for value in values {
            if let Some(other) = first.insert(id_of(write, value), index) {
                let holder = writes[other].key().clone();
                let known = &layouts[tables.positions[index]].table;
                let error = violation(known, write.key(), item, value, holder);
                reasons[index].get_or_insert(error);
            }
        }
    }
    cancelled_for(reasons)
}

/// Cancels a transaction if there is a reason.
pub fn cancelled_for(reasons: Vec<Option<Error>>) -> Result<()> {
    if reasons.iter().any(Option::is_some) {
        return Err(Error::cancelled(reasons));
    }
    Ok(())
}

/// Whether an item must be new.
pub fn is_new(write: &TransactionWrite) -> bool {
    matches!(write, TransactionWrite::Put(put) if put.guard.row == Row::Absent)
}

/// Whether an error of an item is a reason to cancel the transaction. Other errors are those of the request.
pub const fn is_reason(error: &Error) -> bool {
    error.kind.outcome().is_none() && !matches!(error.kind, ErrorKind::Configuration)
}
