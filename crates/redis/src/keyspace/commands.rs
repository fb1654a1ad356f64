//! The calls that read and change rows, and what their scripts return.

use std::mem::discriminant;

use mintkey_store::{Index, Item, Key, Put, Result, Row, Table, Value as Attribute, json};

use crate::keyspace::layout::{Layout, push_packed};
use crate::keyspace::rows::{Stored, fields, lifetime};
use crate::protocol::replies::{accepted, unexpected};
use crate::protocol::resp::{Call, Value};
use crate::protocol::scripts::{CLEAN, PUT, PUT_NEW, REMOVE, WRITE};

/// Rows put in one step: the server answers nobody else meanwhile.
pub const GROUP: usize = 128;

/// So many fields a script can hand on at once.
const MOST_PACKED: usize = 500;

/// What must be there for a row to be written.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Anything.
    Any,
    /// Nothing.
    Absent,
    /// Nothing, which is as good as certain: nobody looks.
    New,
    /// What was read before, or nothing.
    Same(Option<&'a Stored>),
}

/// How a script ended.
pub enum Ended {
    /// It is done.
    Done,
    /// The catalog is another than the one known here.
    Stale,
    /// The row is not what it was.
    Moved,
    /// A row is in the way.
    Met(Value),
    /// It was sent, and no reply came. The row has to be read.
    Unknown,
}

/// Reads how a script ended.
pub fn ended(value: Value, table: &Table) -> Result<Ended> {
    Ok(match accepted(value, table)? {
        Value::Status(word) if word == "OK" => Ended::Done,
        Value::Status(word) if word == "STALE" => Ended::Stale,
        Value::Status(word) if word == "MOVED" => Ended::Moved,
        row @ Value::Array(_) => Ended::Met(row),
        _ => return Err(unexpected(table)),
    })
}

/// A put of a row of a table without indexes.
pub type RowPut<'a> = (&'a Key, &'a Put, Mode<'a>);

/// How a put goes that needs no look at the row before.
pub const fn one_step(put: &Put) -> Option<Mode<'static>> {
    match (&put.guard.row, &put.guard.version, &put.guard.condition) {
        (Row::Any, None, None) => Some(Mode::Any),
        (Row::Absent, None, None) => Some(Mode::Absent),
        _ => None,
    }
}

/// Adds the number of fields that must be there, and these.
fn push_expected(call: &mut Call, expected: Option<&Stored>) {
    let fields = expected.map_or(&[][..], |stored| &stored.fields);
    call.push(fields.len().to_string().as_bytes());
    for (name, value) in fields {
        call.push(name);
        call.push(value);
    }
}

/// The call that writes an item.
pub fn write_call(layout: &Layout, key: &Key, item: &Item, mode: Mode<'_>, now: i64) -> Call {
    let mut new = fields(item);
    let entries = if layout.table.indexes.is_empty() {
        Vec::new()
    } else {
        layout.entries(item, key)
    };
    let lifetime = lifetime(&layout.table, item, now);
    let room = 256
        + new
            .iter()
            .map(|(n, v)| n.len() + v.len() + 24)
            .sum::<usize>();
    let row = layout.row(key);
    let keys: [&[u8]; 3] = [&row, &layout.order, &layout.catalog];
    let mut call = layout.script(&WRITE, &keys, room).arg(&layout.epoch);
    call.push(match mode {
        Mode::Any => b"any",
        Mode::Absent | Mode::New => b"absent",
        Mode::Same(_) => b"same",
    });
    call.push(&Layout::member(key));
    match lifetime {
        Some(milliseconds) => call.push(milliseconds.to_string().as_bytes()),
        None => call.push(b""),
    }
    call.push(&layout.indexes);
    call.push(&entries);
    let mut gone: Vec<&[u8]> = Vec::new();
    if let Mode::Same(Some(old)) = mode {
        push_expected(&mut call, Some(old));
        for (name, value) in &old.fields {
            match new.iter().position(|(own, _)| own == name) {
                Some(place) if new[place].1 == *value => drop(new.swap_remove(place)),
                Some(_) => {}
                None if name.is_empty() => {}
                None => gone.push(name),
            }
        }
    } else {
        push_expected(&mut call, None);
    }
    call.push(gone.len().to_string().as_bytes());
    for name in gone {
        call.push(name);
    }
    for (name, value) in &new {
        call.push(name);
        call.push(value);
    }
    call.repeatable = matches!(mode, Mode::Any);
    call
}

pub fn remove_call(layout: &Layout, key: &Key, expected: Option<&Stored>) -> Call {
    let row = layout.row(key);
    let keys: [&[u8]; 3] = [&row, &layout.order, &layout.catalog];
    let mut call = layout
        .script(&REMOVE, &keys, 256)
        .arg(&layout.epoch)
        .arg(if expected.is_some() { "same" } else { "any" })
        .arg(Layout::member(key))
        .arg(&layout.indexes);
    push_expected(&mut call, expected);
    call.repeatable = expected.is_none();
    call
}

/// The call that puts items of a table without indexes, each in its own mode.
fn put_call(layout: &Layout, puts: &[RowPut<'_>], now: i64) -> Call {
    let rows: Vec<Vec<u8>> = puts.iter().map(|(key, _, _)| layout.row(key)).collect();
    let mut keys: Vec<&[u8]> = vec![&layout.order, &layout.catalog];
    keys.extend(rows.iter().map(Vec::as_slice));
    let mut call = layout
        .script(&PUT, &keys, 512 * puts.len())
        .arg(&layout.epoch);
    call.repeatable = puts.iter().all(|(_, _, mode)| matches!(mode, Mode::Any));
    let mut text = String::new();
    for (key, put, mode) in puts {
        call.push(match mode {
            Mode::Any => b"any",
            Mode::New => b"new",
            _ => b"absent",
        });
        call.push(&Layout::member(key));
        match lifetime(&layout.table, &put.item, now) {
            Some(milliseconds) => call.push(milliseconds.to_string().as_bytes()),
            None => call.push(b""),
        }
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

/// The call that puts items of a table without indexes.
pub fn puts_call(layout: &Layout, puts: &[RowPut<'_>], now: i64) -> Call {
    match puts {
        [(_, _, mode @ (Mode::New | Mode::Absent)), _, ..] if are_plain(layout, puts, now) => {
            let looks = matches!(mode, Mode::Absent);
            put_new_call(layout, puts, looks)
        }
        _ => put_call(layout, puts, now),
    }
}

/// Whether items have no end, not too many fields, and the same mode.
fn are_plain(layout: &Layout, puts: &[RowPut<'_>], now: i64) -> bool {
    let first = &puts[0].2;
    puts.iter().all(|(_, put, mode)| {
        discriminant(mode) == discriminant(first)
            && put.item.len() <= MOST_PACKED
            && lifetime(&layout.table, &put.item, now).is_none()
    })
}

/// The call that puts such items, if they are new.
fn put_new_call(layout: &Layout, puts: &[RowPut<'_>], looks: bool) -> Call {
    let rows: Vec<Vec<u8>> = puts.iter().map(|(key, _, _)| layout.row(key)).collect();
    let mut keys: Vec<&[u8]> = vec![&layout.order, &layout.catalog];
    keys.extend(rows.iter().map(Vec::as_slice));
    let mut call = layout
        .script(&PUT_NEW, &keys, 256 * puts.len())
        .arg(&layout.epoch)
        .arg(if looks { "absent" } else { "new" });
    let mut packed = Vec::with_capacity(64 * puts.len());
    for (key, _, _) in puts {
        push_packed(&mut packed, b"0");
        push_packed(&mut packed, &Layout::member(key));
    }
    call.push(&packed);
    let mut text = String::new();
    for (_, put, _) in puts {
        packed.clear();
        for (name, value) in &*put.item {
            text.clear();
            json::encode_value(value, &mut text);
            push_packed(&mut packed, name.as_bytes());
            push_packed(&mut packed, text.as_bytes());
        }
        call.push(&packed);
    }
    call
}

/// The call that clears away what a row left behind: one that is not there, that has expired, or that
/// the index's member does not fit.
pub fn clean_call(
    layout: &Layout,
    key: &Key,
    member: &[u8],
    index: Option<&Index>,
    expired: Option<&Item>,
) -> Call {
    let row = layout.row(key);
    let own = Layout::member(key);
    let keys: [&[u8]; 2] = [&row, &layout.order];
    let mut call = layout
        .script(&CLEAN, &keys, 256)
        .arg(own)
        .arg(&layout.indexes)
        .arg(index.map_or("", |index| &index.name))
        .arg(member)
        .repeatable()
        .impatient();
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
    call
}
