//! Encodes items as the fields of hashes, and decodes them from replies.

use mintkey_store::{Error, Item, Key, Name, Number, Result, Table, Value, json};

use crate::protocol::replies::{Cause, Pairs, checked, pairs, unexpected_reply};
use crate::protocol::resp;

/// The hidden field with a row's index entries. An attribute cannot have an empty name.
pub const INDEX_ENTRIES: &[u8] = b"";

/// The hidden field with the unique values that a row claims. An attribute has a name in UTF-8.
pub const UNIQUE_ENTRIES: &[u8] = b"\xff";

/// Whether a field is no attribute.
fn is_hidden(name: &[u8]) -> bool {
    name == INDEX_ENTRIES || name == UNIQUE_ENTRIES
}

/// The fields of a stored row.
pub type Fields = Pairs;

#[derive(Debug)]
pub struct StoredRow {
    /// All fields, including the hidden ones.
    pub fields: Fields,
    /// The attributes, decoded.
    pub item: Item,
}

/// Encodes an item.
pub fn encode_fields(item: &Item) -> Fields {
    let field = |(name, value): &(Name, Value)| {
        let mut text = String::new();
        json::encode_value(value, &mut text);
        (name.as_bytes().to_vec(), text.into_bytes())
    };
    item.iter().map(field).collect()
}

/// Decodes a reply with all fields of the row with this key; `None` if there is no row.
pub fn decode_row(value: resp::Value, table: &Table, key: &Key) -> Result<Option<StoredRow>> {
    let fields = pairs(checked(value, table)?).ok_or_else(|| unexpected_reply(table))?;
    if fields.is_empty() {
        return Ok(None);
    }
    let mut decoder = json::Decoder::default();
    let mut pairs = Vec::with_capacity(fields.len());
    for (name, value) in &fields {
        if !is_hidden(name) {
            pairs.push(decode_field(&mut decoder, pairs.len(), name, value, table)?);
        }
    }
    let item = checked_row(pairs, table, key)?;
    Ok(Some(StoredRow { fields, item }))
}

/// Decodes the attributes in a reply with all fields of the row with this key; `None` if there is no row.
pub fn decode_item(
    value: resp::Value,
    table: &Table,
    key: &Key,
    decoder: &mut json::Decoder,
) -> Result<Option<Item>> {
    let resp::Value::Array(members) = checked(value, table)? else {
        return Err(unexpected_reply(table));
    };
    if members.is_empty() {
        return Ok(None);
    }
    let mut pairs = Vec::with_capacity(members.len() / 2);
    for pair in members.chunks_exact(2) {
        let [resp::Value::Bulk(name), resp::Value::Bulk(value)] = pair else {
            return Err(unexpected_reply(table));
        };
        if !is_hidden(name) {
            pairs.push(decode_field(decoder, pairs.len(), name, value, table)?);
        }
    }
    checked_row(pairs, table, key).map(Some)
}

/// Decodes a reply with the values of these attributes of the row with this key. The first ones are the key attributes:
/// without them, there is no row.
pub fn decode_attributes(
    value: resp::Value,
    names: &[Name],
    table: &Table,
    key: &Key,
    decoder: &mut json::Decoder,
) -> Result<Option<Item>> {
    let resp::Value::Array(members) = checked(value, table)? else {
        return Err(unexpected_reply(table));
    };
    if matches!(members.first(), None | Some(resp::Value::Nil)) {
        return Ok(None);
    }
    let mut pairs = Vec::with_capacity(names.len());
    for (name, value) in names.iter().zip(&members) {
        if let resp::Value::Bulk(bytes) = value {
            pairs.push((name.clone(), decode_value(decoder, name, bytes, table)?));
        }
    }
    checked_row(pairs, table, key).map(Some)
}

fn checked_row(pairs: Vec<(Name, Value)>, table: &Table, key: &Key) -> Result<Item> {
    let item = Item::from_pairs(pairs);
    if table.has_key(&item, key) {
        Ok(item)
    } else {
        Err(Error::other_row(table).caused_by(Cause::OutOfSync))
    }
}

fn decode_field(
    decoder: &mut json::Decoder,
    index: usize,
    name: &[u8],
    value: &[u8],
    table: &Table,
) -> Result<(Name, Value)> {
    let name = std::str::from_utf8(name).map_err(|_| damaged(table))?;
    let name = decoder.name(name, index);
    let value = decode_value(decoder, &name, value, table)?;
    Ok((name, value))
}

fn decode_value(
    decoder: &mut json::Decoder,
    name: &Name,
    bytes: &[u8],
    table: &Table,
) -> Result<Value> {
    let value = match std::str::from_utf8(bytes) {
        Ok(text) => decoder.decode_value(text),
        Err(_) => Err(damaged(table)),
    };
    value.map_err(|error| Error::invalid(error.to_string()).of(table).on(name))
}

fn damaged(table: &Table) -> Error {
    let message =
        "a stored row holds bytes that are not UTF-8: it was not written by mintkey, or is damaged";
    Error::invalid(message).of(table)
}

/// The milliseconds until an item expires; empty if it does not expire, or only in the distant future.
pub fn time_to_live(table: &Table, item: &Item, now: i64) -> String {
    /// Redis keeps the time of expiry in 64 bits. Expiry in more than 300 years is checked by readers only.
    const MAX_SECONDS: i64 = 10_000_000_000;
    let Some(Value::Number(expiry)) = table.ttl.as_ref().and_then(|ttl| item.get(ttl)) else {
        return String::new();
    };
    let left = match expiry.sub(&Number::from(now)) {
        Ok(left) if left <= Number::from(MAX_SECONDS) => left,
        _ => return String::new(),
    };
    let seconds: f64 = left.to_string().parse().unwrap_or(0.0);
    // Never too early: a fraction counts as a whole second. An expired row lives for one more second, so that readers
    // find it together with its index entries, and remove both.
    #[allow(clippy::cast_possible_truncation, reason = "at most 10^10")]
    let seconds = (seconds.ceil() as i64).max(1);
    (seconds * 1000).to_string()
}
