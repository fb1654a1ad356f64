//! The calls of transactions, and what their scripts return.

use std::sync::Arc;

use mintkey_store::{Item, Key, Result, Table};

use crate::keyspace::commands::keep_changed;
use crate::keyspace::layout::{Layout, MarkerLocation, pack};
use crate::keyspace::layout_cache::LayoutCache;
use crate::keyspace::rows::{StoredRow, UNIQUE_ENTRIES, encode_fields, time_to_live};
use crate::keyspace::unique::{TakenValue, UniqueValue, hidden_field, taken_values};
use crate::protocol::replies::{checked, unexpected_reply};
use crate::protocol::resp::{Call, Value};
use crate::protocol::scripts::{SETTLE, SNAPSHOT, TRANSACT};
use crate::protocol::unique_scripts::{TRANSACT_INTENT, TRANSACT_UNIQUE};

/// A row of a transaction.
pub struct RowChange<'a> {
    /// The position of its table in the list of layouts.
    pub table: usize,
    pub key: &'a Key,
    /// The stored row that the transaction needs.
    pub expected: Expected<'a>,
    /// What to do with it.
    pub change: &'a Change,
    /// The unique values that it claims then.
    pub claims: Vec<UniqueValue>,
}

/// The stored row that a transaction needs.
pub enum Expected<'a> {
    Any,
    /// The row that was read before, or none.
    Same(Option<&'a StoredRow>),
}

/// What a transaction does with a row.
pub enum Change {
    Nothing,
    /// Write this item.
    Put(Arc<Item>),
    Delete,
}

/// The marker of a transaction, by which the server recognises a call that is sent again.
pub struct TransactionMarker {
    /// The slot group of the rows.
    pub slot_group: u8,
    pub token: String,
    pub key: Vec<u8>,
    /// The milliseconds that it lives.
    pub lifetime: String,
}

/// What became of a call of a transaction.
#[derive(Debug)]
pub enum TransactionResult {
    /// All rows were written.
    Done,
    /// Nothing was written: the row at this position has changed.
    RowChanged(usize),
    /// Nothing was written: a catalog entry has changed, or the call was cancelled before.
    Cancelled,
    /// Nothing was written: rows at these positions claim values that have the markers of other rows.
    ValuesTaken(Vec<(usize, TakenValue)>),
}

/// What became of a call of a transaction, from its reply. If a catalog entry has changed, the layouts are forgotten.
pub fn transaction_result(
    value: Value,
    table: &Table,
    layouts: &LayoutCache,
) -> Result<TransactionResult> {
    let value = checked(value, table)?;
    if let Some(taken) = taken_values(&value) {
        return Ok(TransactionResult::ValuesTaken(taken));
    }
    Ok(match value {
        Value::Status(word) if word == "OK" => TransactionResult::Done,
        Value::Status(word) if word == "STALE" => {
            layouts.clear();
            TransactionResult::Cancelled
        }
        Value::Bulk(word) if word == b"done" => TransactionResult::Done,
        Value::Bulk(word) if word == b"void" => TransactionResult::Cancelled,
        Value::Int(number @ 1..) => {
            TransactionResult::RowChanged(usize::try_from(number - 1).unwrap_or(0))
        }
        _ => return Err(unexpected_reply(table).uncertain()),
    })
}

/// Whether a call of a transaction was carried out, from the reply that settles it. If not, it never will be.
pub fn settled(value: Value, table: &Table) -> Result<bool> {
    match checked(value, table)? {
        Value::Bulk(word) if word == b"done" => Ok(true),
        Value::Bulk(word) if word == b"void" => Ok(false),
        _ => Err(unexpected_reply(table)),
    }
}

/// The call that writes the rows of a transaction, if the intent is there that it may have. It may be sent again.
pub fn transact_call(
    marker: &TransactionMarker,
    layouts: &[Arc<Layout>],
    changes: &[RowChange<'_>],
    intent: Option<Vec<u8>>,
    now: i64,
) -> Call {
    let rows = changes
        .iter()
        .map(|change| layouts[change.table].row_key(change.key));
    let rows: Vec<Vec<u8>> = rows.collect();
    let mut keys: Vec<&[u8]> = vec![&marker.key];
    for layout in layouts {
        keys.extend([&layout.catalog_key[..], &layout.row_set]);
    }
    keys.extend(rows.iter().map(Vec::as_slice));
    let with_rows = |layout: &Arc<Layout>| layout.markers == MarkerLocation::WithRows;
    let sets_markers = layouts.iter().any(with_rows);
    let script = match &intent {
        Some(_) => &TRANSACT_INTENT,
        None if sets_markers => &TRANSACT_UNIQUE,
        None => &TRANSACT,
    };
    let mut others = index_sets(layouts);
    others.extend(intent);
    let room = 512 * changes.len();
    let mut call = Call::script(marker.slot_group, script, &keys, &others, room)
        .arg(&marker.lifetime)
        .arg(layouts.len().to_string())
        .repeatable();
    for layout in layouts {
        call.push(layout.epoch.as_bytes());
        call.push(&layout.index_prefix);
    }
    for change in changes {
        push_change(&mut call, &layouts[change.table], change, now);
    }
    if sets_markers {
        let prefixes = layouts.iter().map(|layout| &layout.unique_prefix[..]);
        let claims: Vec<Vec<u8>> = changes
            .iter()
            .map(|change| hidden_field(&change.claims))
            .collect();
        call.push(&pack(prefixes.chain(claims.iter().map(Vec::as_slice))));
    }
    call
}

/// Adds the arguments of a row.
fn push_change(call: &mut Call, layout: &Layout, change: &RowChange<'_>, now: i64) {
    call.push((change.table + 1).to_string().as_bytes());
    call.push(match change.change {
        Change::Nothing => b"",
        Change::Put(_) => b"put",
        Change::Delete => b"delete",
    });
    call.push(&Layout::member(change.key));
    let (mut time, mut entries, mut fields) = (String::new(), Vec::new(), Vec::new());
    if let Change::Put(item) = change.change {
        time = time_to_live(&layout.table, item, now);
        entries = layout.index_entries(item, change.key);
        fields = encode_fields(item);
        if !change.claims.is_empty() {
            fields.push((UNIQUE_ENTRIES.to_vec(), hidden_field(&change.claims)));
        }
    }
    call.push(time.as_bytes());
    call.push(&entries);
    let mut removed = Vec::new();
    match change.expected {
        Expected::Any => call.push(b""),
        Expected::Same(None) => call.push(b"none"),
        Expected::Same(Some(stored)) => {
            call.push(&pack(pairs(&stored.fields)));
            if let Change::Put(_) = change.change {
                removed = keep_changed(&mut fields, stored);
            }
        }
    }
    if removed.is_empty() {
        call.push(b"");
    } else {
        call.push(&pack(removed));
    }
    call.push(&pack(pairs(&fields)));
}

/// Names and values, one after the other.
fn pairs(fields: &[(Vec<u8>, Vec<u8>)]) -> impl Iterator<Item = &[u8]> {
    fields
        .iter()
        .flat_map(|(name, value)| [&name[..], &value[..]])
}

/// In a Cluster, the keys of all index sets.
fn index_sets(layouts: &[Arc<Layout>]) -> Vec<Vec<u8>> {
    let sets = layouts.iter().flat_map(|layout| &layout.index_sets);
    sets.cloned().collect()
}

/// The call that finds out what became of a transaction, and cancels it unless it was carried out.
pub fn settle_call(marker: &TransactionMarker) -> Call {
    Call::script(marker.slot_group, &SETTLE, &[&marker.key], &[], 256)
        .arg(&marker.lifetime)
        .repeatable()
}

/// The call that reads rows at one moment. Each row is the position of its table, and its key.
pub fn snapshot_call(slot_group: u8, layouts: &[Arc<Layout>], rows: &[(usize, &Key)]) -> Call {
    let rows = rows.iter().map(|(table, key)| layouts[*table].row_key(key));
    let rows: Vec<Vec<u8>> = rows.collect();
    let catalog_keys = layouts.iter().map(|layout| &layout.catalog_key[..]);
    let keys: Vec<&[u8]> = catalog_keys.chain(rows.iter().map(Vec::as_slice)).collect();
    let mut call = Call::script(slot_group, &SNAPSHOT, &keys, &[], 64 * keys.len()).repeatable();
    for layout in layouts {
        call.push(layout.epoch.as_bytes());
    }
    call.writes = false;
    call
}
