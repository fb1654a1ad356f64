//! The calls that read and change rows, and what their scripts return.

use std::mem::discriminant;

use mintkey_store::{Index, Item, Key, Put, Result, Row, Table, Value as Attribute, json};

use crate::keyspace::layout::{Layout, MarkerLocation, pack, push_packed};
use crate::keyspace::layout_cache::LayoutCache;
use crate::keyspace::rows::{
    Fields, INDEX_ENTRIES, StoredRow, UNIQUE_ENTRIES, encode_fields, time_to_live,
};
use crate::keyspace::unique::{
    TakenValue, UniqueValue, hidden_field, taken_values, unique_values, value_parts,
};
use crate::protocol::replies::{checked, unexpected_reply};
use crate::protocol::resp::{Call, Value};
use crate::protocol::scripts::{CLEAN, PUT, PUT_NEW, REMOVE, Script, WRITE};
use crate::protocol::unique_scripts::{CLEAN_UNIQUE, PUT_UNIQUE, REMOVE_UNIQUE, WRITE_UNIQUE};

/// The rows that one call puts. The server serves no other client meanwhile.
pub const MAX_PUTS_PER_CALL: usize = 128;

/// The fields that a script can pass to one command.
pub const MAX_FIELDS: usize = 500;

/// The condition on the stored row under which a row is written.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// None: the write is unconditional.
    Any,
    Absent,
    /// There is no row, which is certain enough to skip the check.
    New,
    /// It is the row that was read before, or there was none.
    Same(Option<&'a StoredRow>),
}

impl Mode<'_> {
    /// Its name in scripts.
    const fn name(&self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Absent => "absent",
            Self::New => "new",
            Self::Same(_) => "same",
        }
    }
}

pub enum ScriptResult {
    /// The row was written or deleted.
    Done,
    /// The row or the catalog entry has changed.
    Changed,
    /// There is a row already: this one.
    RowPresent(Value),
    /// Another row has the marker of a unique value.
    ValueTaken(TakenValue),
    /// The call was sent, and no reply came. The row must be read.
    Unknown,
}

/// The result of a script, from its reply. If the catalog entry has changed, the layouts are forgotten.
pub fn script_result(value: Value, table: &Table, layouts: &LayoutCache) -> Result<ScriptResult> {
    let value = checked(value, table)?;
    if let Some((_, taken)) = taken_values(&value).and_then(|mut taken| taken.pop()) {
        return Ok(ScriptResult::ValueTaken(taken));
    }
    Ok(match value {
        Value::Status(word) if word == "OK" => ScriptResult::Done,
        Value::Status(word) if word == "STALE" => {
            layouts.clear();
            ScriptResult::Changed
        }
        Value::Status(word) if word == "CHANGED" => ScriptResult::Changed,
        row @ Value::Array(_) => ScriptResult::RowPresent(row),
        _ => return Err(unexpected_reply(table).uncertain()),
    })
}

/// A put of a row of a table without indexes.
pub type RowPut<'a> = (&'a Put, Mode<'a>);

/// The mode of a put that need not read the row before; `None` if it must.
pub const fn single_step_mode(put: &Put) -> Option<Mode<'static>> {
    match (&put.guard.row, &put.guard.version, &put.guard.condition) {
        (Row::Any, None, None) => Some(Mode::Any),
        (Row::Absent, None, None) => Some(Mode::Absent),
        _ => None,
    }
}

/// Adds the number of fields that the stored row must have, and these.
fn push_expected(call: &mut Call, expected: Option<&StoredRow>) {
    let fields = expected.map_or(&[][..], |stored| &stored.fields);
    call.push(fields.len().to_string().as_bytes());
    for (name, value) in fields {
        call.push(name);
        call.push(value);
    }
}

/// Removes the fields that the stored row has already. Returns the names of the fields to remove from the row.
pub fn keep_changed<'a>(new: &mut Fields, old: &'a StoredRow) -> Vec<&'a [u8]> {
    let mut removed: Vec<&[u8]> = Vec::new();
    for (name, value) in &old.fields {
        match new.iter().position(|(own, _)| own == name) {
            Some(index) if new[index].1 == *value => drop(new.swap_remove(index)),
            Some(_) => {}
            None if name == INDEX_ENTRIES => {}
            None => removed.push(name),
        }
    }
    removed
}

/// The call that writes an item.
///
/// # Errors
///
/// `InvalidValue` if a value cannot be unique.
pub fn write_call(
    layout: &Layout,
    key: &Key,
    item: &Item,
    mode: Mode<'_>,
    now: i64,
) -> Result<Call> {
    let mut new = encode_fields(item);
    let sets_markers = layout.markers == MarkerLocation::WithRows;
    let claims = if sets_markers {
        unique_values(&layout.table, item)?
    } else {
        Vec::new()
    };
    if !claims.is_empty() {
        new.push((UNIQUE_ENTRIES.to_vec(), hidden_field(&claims)));
    }
    let index_entries = if layout.table.indexes.is_empty() {
        Vec::new()
    } else {
        layout.index_entries(item, key)
    };
    let time_to_live = time_to_live(&layout.table, item, now);
    let room = 256
        + new
            .iter()
            .map(|(n, v)| n.len() + v.len() + 24)
            .sum::<usize>();
    let row_key = layout.row_key(key);
    let keys: [&[u8]; 3] = [&row_key, &layout.row_set, &layout.catalog_key];
    let script = if sets_markers { &WRITE_UNIQUE } else { &WRITE };
    let mut call = layout.script(script, &keys, room).arg(&layout.epoch);
    call.push(match mode {
        Mode::New => b"absent",
        other => other.name().as_bytes(),
    });
    call.push(&Layout::member(key));
    call.push(time_to_live.as_bytes());
    call.push(&layout.index_prefix);
    call.push(&index_entries);
    let removed = if let Mode::Same(Some(old)) = mode {
        push_expected(&mut call, Some(old));
        keep_changed(&mut new, old)
    } else {
        push_expected(&mut call, None);
        Vec::new()
    };
    call.push(removed.len().to_string().as_bytes());
    for name in removed {
        call.push(name);
    }
    for (name, value) in &new {
        call.push(name);
        call.push(value);
    }
    if sets_markers {
        push_claims(&mut call, layout, &claims);
    }
    call.repeatable = matches!(mode, Mode::Any);
    Ok(call)
}

/// Adds the claims of a row to a call of a script that changes markers.
fn push_claims(call: &mut Call, layout: &Layout, claims: &[UniqueValue]) {
    let prefix = std::iter::once(&layout.unique_prefix[..]);
    call.push(&pack(prefix.chain(value_parts(claims))));
}

/// The call that deletes a row: unconditionally, or if it is still the expected one.
pub fn remove_call(layout: &Layout, key: &Key, expected: Option<&StoredRow>) -> Call {
    let row_key = layout.row_key(key);
    let keys: [&[u8]; 3] = [&row_key, &layout.row_set, &layout.catalog_key];
    let with_markers = layout.markers == MarkerLocation::WithRows;
    let script = if with_markers {
        &REMOVE_UNIQUE
    } else {
        &REMOVE
    };
    let mut call = layout
        .script(script, &keys, 256)
        .arg(&layout.epoch)
        .arg(if expected.is_some() { "same" } else { "any" })
        .arg(Layout::member(key))
        .arg(&layout.index_prefix);
    push_expected(&mut call, expected);
    if with_markers {
        push_claims(&mut call, layout, &[]);
    }
    call.repeatable = expected.is_none();
    call
}

/// A call of a script that puts rows, with the epoch as its first argument.
fn put_script(layout: &Layout, script: &'static Script, puts: &[RowPut<'_>], room: usize) -> Call {
    let rows = puts.iter().map(|(put, _)| layout.row_key(&put.key));
    let rows: Vec<Vec<u8>> = rows.collect();
    let mut keys: Vec<&[u8]> = vec![&layout.row_set, &layout.catalog_key];
    keys.extend(rows.iter().map(Vec::as_slice));
    let call = layout.script(script, &keys, room * puts.len());
    call.arg(&layout.epoch)
}

/// The members of the row set of these rows, each after its score, packed.
fn packed_members(puts: &[RowPut<'_>]) -> Vec<u8> {
    let mut packed = Vec::with_capacity(64 * puts.len());
    for (put, _) in puts {
        push_packed(&mut packed, b"0");
        push_packed(&mut packed, &Layout::member(&put.key));
    }
    packed
}

/// The call that puts rows, each in its own mode.
fn put_call(layout: &Layout, puts: &[RowPut<'_>], now: i64) -> Call {
    let mut call = put_script(layout, &PUT, puts, 512);
    call.repeatable = puts.iter().all(|(_, mode)| matches!(mode, Mode::Any));
    let mut text = String::new();
    for (put, mode) in puts {
        call.push(mode.name().as_bytes());
        call.push(&Layout::member(&put.key));
        call.push(time_to_live(&layout.table, &put.item, now).as_bytes());
        call.push((2 * put.item.len()).to_string().as_bytes());
        for (name, value) in &*put.item {
            text.clear();
            json::encode_value(value, &mut text);
            call.push(name.as_bytes());
            call.push(text.as_bytes());
        }
    }
    call
}

/// The call that puts rows of a table without indexes and unique values.
pub fn puts_call(layout: &Layout, puts: &[RowPut<'_>], now: i64) -> Call {
    match puts {
        [(_, mode @ (Mode::New | Mode::Absent)), _, ..] if are_plain(layout, puts, now) => {
            put_new_call(layout, puts, *mode)
        }
        _ => put_call(layout, puts, now),
    }
}

/// Whether `PUT_NEW` can put these rows: they do not expire, have few enough fields and the same mode.
fn are_plain(layout: &Layout, puts: &[RowPut<'_>], now: i64) -> bool {
    let first = &puts[0].1;
    puts.iter().all(|(put, mode)| {
        discriminant(mode) == discriminant(first)
            && put.item.len() <= MAX_FIELDS
            && time_to_live(&layout.table, &put.item, now).is_empty()
    })
}

/// The call that puts such rows, if they are new.
fn put_new_call(layout: &Layout, puts: &[RowPut<'_>], mode: Mode<'_>) -> Call {
    let mut packed = packed_members(puts);
    let mut call = put_script(layout, &PUT_NEW, puts, 256)
        .arg(mode.name())
        .arg(&packed);
    for (put, _) in puts {
        packed.clear();
        push_fields(&mut packed, &put.item);
        call.push(&packed);
    }
    call
}

/// The call that puts new rows of a table with unique values, with the claims of each. They have the same mode, and no row
/// has more than `MAX_FIELDS` fields.
pub fn puts_unique_call(
    layout: &Layout,
    puts: &[RowPut<'_>],
    claims: &[Vec<UniqueValue>],
    now: i64,
) -> Call {
    let mode = puts.first().map_or(Mode::Absent, |(_, mode)| *mode);
    let mut packed = packed_members(puts);
    let mut call = put_script(layout, &PUT_UNIQUE, puts, 384)
        .arg(&layout.unique_prefix)
        .arg(mode.name())
        .arg(&packed);
    for ((put, _), claims) in puts.iter().zip(claims) {
        packed.clear();
        push_fields(&mut packed, &put.item);
        if !claims.is_empty() {
            push_packed(&mut packed, UNIQUE_ENTRIES);
            push_packed(&mut packed, &hidden_field(claims));
        }
        call.push(&packed);
        let life = time_to_live(&layout.table, &put.item, now);
        let parts = std::iter::once(life.as_bytes()).chain(value_parts(claims));
        call.push(&pack(parts));
    }
    call
}

/// Adds the fields of a row, and their values.
fn push_fields(packed: &mut Vec<u8>, item: &Item) {
    let mut text = String::new();
    for (name, value) in item {
        text.clear();
        json::encode_value(value, &mut text);
        push_packed(packed, name.as_bytes());
        push_packed(packed, text.as_bytes());
    }
}

/// The call that removes what a row has left behind: a row that is deleted or expired, or that no longer has this member
/// of an index.
pub fn clean_call(
    layout: &Layout,
    key: &Key,
    member: &[u8],
    index: Option<&Index>,
    expired: Option<&Item>,
) -> Call {
    let row_key = layout.row_key(key);
    let own = Layout::member(key);
    let keys: [&[u8]; 2] = [&row_key, &layout.row_set];
    let with_markers = layout.markers == MarkerLocation::WithRows;
    let script = if with_markers { &CLEAN_UNIQUE } else { &CLEAN };
    let mut call = layout
        .script(script, &keys, 256)
        .arg(own)
        .arg(&layout.index_prefix)
        .arg(index.map_or("", |index| &index.name))
        .arg(member)
        .repeatable()
        .fail_when_busy();
    let expiry = layout.table.ttl.as_ref().zip(expired);
    if let Some((ttl, item)) = expiry
        && let Some(value @ Attribute::Number(_)) = item.get(ttl)
    {
        let mut text = String::new();
        json::encode_value(value, &mut text);
        call.push(ttl.as_bytes());
        call.push(text.as_bytes());
    } else {
        call.push(b"");
        call.push(b"");
    }
    if with_markers {
        push_claims(&mut call, layout, &[]);
    }
    call
}
