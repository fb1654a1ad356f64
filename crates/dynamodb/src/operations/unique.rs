//! Single writes of tables with unique values, and reads by a unique value.
//!
//! Such a write is a transaction of the row and its markers. Updates that cannot change unique values are single calls, as
//! in other tables.

use std::sync::Arc;

use mintkey_store::size::MAX_ITEM;
use mintkey_store::unique::{MAX_VALUES, encode};
use mintkey_store::{
    Delete, Error, ErrorKind, GetUnique, Item, Key, Path, Put, Reply, Result, Returning, Table,
    Transaction, TransactionGet, TransactionWrite, Update,
};

use crate::client::Client;
use crate::operations::participant::{Participant, Stored, changes_unique};
use crate::operations::read::{stored, stored_attributes};
use crate::operations::{catalog, markers, missing_markers, transaction, write};
use crate::transport::Transport;

/// Writes a whole item. `row` is the stored row, if it is known.
pub async fn put<T: Transport>(
    client: &Client<'_, T>,
    put: &Put,
    row: Option<Stored>,
    now: i64,
) -> Result<Reply> {
    if put.table.unique.is_empty() {
        return write::put(client, put, now).await;
    }
    put.check(&put.table, MAX_ITEM)?;
    if let Some(table) = catalog::for_writes(client, &put.table).await? {
        // Most puts insert: without a guard it is sent as if there were no row. If there is one, the refusal returns it.
        let row = row.or_else(|| put.guard.is_open().then(Stored::default));
        return commit(client, &TransactionWrite::Put(put.clone()), table, row, now).await;
    }
    let reply = write::put(client, put, now).await?;
    let key = put.table.key_of(&put.item)?;
    put_missing_markers(client, &put.table, &[&key], now).await?;
    Ok(reply)
}

/// Changes an item.
pub async fn update<T: Transport>(
    client: &Client<'_, T>,
    update: &Update,
    row: Option<Stored>,
    now: i64,
) -> Result<Reply> {
    if update.table.unique.is_empty() {
        return write::update(client, update, now).await;
    }
    update.check()?;
    let marked = catalog::for_writes(client, &update.table).await?;
    if !changes_unique(marked.as_ref().unwrap_or(&update.table), update) {
        return write::update(client, update, now).await;
    }
    if let Some(table) = marked {
        let write = TransactionWrite::Update(update.clone());
        return commit(client, &write, table, row, now).await;
    }
    let reply = write::update(client, update, now).await?;
    put_missing_markers(client, &update.table, &[&update.key], now).await?;
    Ok(reply)
}

/// Deletes an item.
pub async fn delete<T: Transport>(
    client: &Client<'_, T>,
    delete: &Delete,
    row: Option<Stored>,
    now: i64,
) -> Result<Reply> {
    if !delete.table.unique.is_empty() {
        delete.check()?;
        if let Some(table) = catalog::for_writes(client, &delete.table).await? {
            let write = TransactionWrite::Delete(delete.clone());
            return commit(client, &write, table, row, now).await;
        }
    }
    write::delete(client, delete, now).await
}

/// Writes several items: all or none.
pub async fn transact<T: Transport>(
    client: &Client<'_, T>,
    transaction: &Transaction,
    now: i64,
) -> Result<Reply> {
    transaction.check(MAX_ITEM)?;
    let mut participants = Vec::with_capacity(transaction.writes.len());
    let mut unmarked = Vec::new();
    for write in &transaction.writes {
        let marked = catalog::for_writes(client, write.table()).await?;
        let writes_row = matches!(
            write,
            TransactionWrite::Put(_) | TransactionWrite::Update(_)
        );
        if marked.is_none() && writes_row {
            unmarked.push((write.table(), write.key()));
        }
        let table = marked.unwrap_or_else(|| Arc::new(write.table().without_unique()));
        participants.push(Participant::new(write, table));
    }
    transaction::commit(client, &mut participants, now).await?;
    for (table, key) in unmarked {
        put_missing_markers(client, table, &[key], now).await?;
    }
    Ok(Reply::Items(vec![None; participants.len()]))
}

/// Puts the markers of rows that were written without, if there is a table of markers since.
async fn put_missing_markers<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
    keys: &[&Key],
    now: i64,
) -> Result<()> {
    // The rows are written, so no failure means that they are not.
    let marked = missing_markers::put_all(client, table, keys, now).await;
    marked.map_err(Error::uncertain)
}

/// Carries out a write as a transaction.
async fn commit<T: Transport>(
    client: &Client<'_, T>,
    write: &TransactionWrite,
    table: Arc<Table>,
    row: Option<Stored>,
    now: i64,
) -> Result<Reply> {
    let mut participants = [Participant::new(write, table)];
    if let Some(row) = row {
        participants[0].set_read(row);
    }
    let committed = transaction::commit(client, &mut participants, now).await;
    committed.map_err(transaction::single_reason)?;
    let [participant] = participants;
    match write {
        _ if participant.returns_old() => Ok(Reply::Item(participant.live(now).cloned())),
        TransactionWrite::Update(update) if update.returning == Returning::New => {
            // A transaction returns no rows. This row may have been changed again by another writer.
            let changed = match stored(client, &participant.table, participant.key()).await {
                Ok(row) => participant.table.live(row, now),
                Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)) => {
                    return Err(error.uncertain());
                }
                Err(_) => None,
            };
            match changed {
                Some(row) => Ok(Reply::Item(Some(row))),
                None => participant.updated(now).map(Reply::Item),
            }
        }
        _ => Ok(Reply::Done),
    }
}

/// Reads the row that has these unique values.
pub async fn get<T: Transport>(client: &Client<'_, T>, get: &GetUnique, now: i64) -> Result<Reply> {
    let table = catalog::for_reads(client, &get.table).await?;
    get.declaration(&table)?;
    if encode(&get.values).len() > MAX_VALUES {
        // No row can have them.
        return Ok(Reply::Item(None));
    }
    let marker = markers::key(&get.unique, &get.values);
    let value = markers::UniqueValue {
        unique: get.unique.clone(),
        values: get.values.clone(),
        marker: marker.clone(),
    };
    let has_values = |row: &Item| !table.is_expired(row, now) && value.is_of(&table, row);
    let returned = |mut row: Item| {
        table.project(&mut row, get.attributes.as_deref());
        Ok(Reply::Item(Some(row)))
    };
    let marker_table = Arc::new(markers::table(&table));
    let marker_key = markers::key_of(&marker);
    let mut found = stored(client, &marker_table, &marker_key).await?;
    loop {
        let Some(marker) = &found else {
            return Ok(Reply::Item(None));
        };
        let holder = markers::holder(&table, marker)?;
        let row = read_holder(client, &table, &holder, get.attributes.as_deref()).await?;
        if let Some(row) = row.filter(has_values) {
            return returned(row);
        }
        // The row has lost the values since, or before. Only both items at one moment show whether another row has them.
        let keys = vec![
            (Arc::clone(&marker_table), marker_key.clone()),
            (Arc::clone(&table), holder.clone()),
        ];
        let snapshot = TransactionGet { keys };
        let Reply::Items(mut items) = transaction::get(client, &snapshot, now).await? else {
            return Ok(Reply::Item(None));
        };
        let row = items.pop().flatten();
        found = items.pop().flatten();
        let same = match &found {
            Some(marker) => markers::holder(&table, marker)? == holder,
            None => false,
        };
        if same {
            return match row.filter(has_values) {
                Some(row) => returned(row),
                None => Ok(Reply::Item(None)),
            };
        }
    }
}

/// Reads the row that a marker names, with the wanted attributes and those that decide its unique values.
async fn read_holder<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
    key: &Key,
    wanted: Option<&[Path]>,
) -> Result<Option<Item>> {
    let attributes = wanted.map(|wanted| {
        let unique_attributes = markers::unique_attributes(table)
            .cloned()
            .map(Path::attribute);
        wanted.iter().cloned().chain(unique_attributes).collect()
    });
    stored_attributes(client, table, key, attributes).await
}
