//! The marker of a row that was written without one: by a program that does not know the unique value, or before there was
//! a table of markers.

use std::sync::Arc;

use mintkey_store::{Check, ErrorKind, Guard, Item, Key, Result, Table, TransactionWrite};

use crate::client::Client;
use crate::operations::markers::{self, UniqueValue};
use crate::operations::participant::{Participant, Stored};
use crate::operations::read::stored;
use crate::operations::{catalog, transaction};
use crate::transport::Transport;

/// Puts the marker of a unique value of a stored row, if the row still has the value. Returns the key of another row that
/// has it already.
///
/// The row and the marker are in one transaction, so that no writer in between is missed.
pub async fn put<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
    key: &Key,
    value: &UniqueValue,
    now: i64,
) -> Result<Option<Key>> {
    let check = TransactionWrite::Check(Check {
        table: Arc::clone(table),
        key: key.clone(),
        guard: Guard::default(),
    });
    let read = stored(client, table, key).await?;
    let has_it = |row: &Item| !table.is_expired(row, now) && value.is_of(table, row);
    if !read.as_ref().is_some_and(has_it) {
        return Ok(None);
    }
    let mut participant = Participant::putting_marker(&check, Arc::clone(table), value.clone());
    participant.set_read(Stored(read));
    let done = transaction::commit(client, &mut [participant], now).await;
    let Err(error) = done.map_err(transaction::single_reason) else {
        return Ok(None);
    };
    match (error.kind, error.violations.as_deref()) {
        (ErrorKind::UniqueViolation, Some([violation, ..])) => {
            // The row may have lost the value since.
            let row = stored(client, table, key).await?;
            let holder = violation.holders.first().cloned();
            Ok(holder.filter(|_| row.as_ref().is_some_and(has_it)))
        }
        _ => Err(error),
    }
}

/// Puts the markers of rows that were just written without, if there is a table of markers since.
///
/// A build that started after the write sees the row. One that started before may not, so the writer does its part here. If
/// another row has got the value in the meantime, the unique value is not built: the next `create_table()` reports both
/// rows.
pub async fn put_all<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
    keys: &[&Key],
    now: i64,
) -> Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let Some(complete) = catalog::for_writes(client, table).await? else {
        return Ok(());
    };
    for key in keys {
        let Some(row) = stored(client, &complete, key).await? else {
            continue;
        };
        for value in markers::stored_unique_values(&complete, &row) {
            if put(client, &complete, key, &value, now).await?.is_some() {
                // Two rows have the value.
                catalog::withdraw(client, table, &[value.unique]).await?;
            }
        }
    }
    Ok(())
}
