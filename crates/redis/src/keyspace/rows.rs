//! Encodes items as the fields of hashes, and decodes them from replies.

use mintkey_store::{Error, Item, Name, Number, Result, Table, Value, json};

use crate::protocol::replies::{Pairs, accepted, pairs, unexpected};
use crate::protocol::resp;

/// The hidden field that lists a row's index entries. An attribute cannot have this name.
pub const ENTRIES: &[u8] = b"";

/// The fields of a row as they are stored.
pub type Fields = Pairs;

/// A row as it is stored, and as an item.
#[derive(Debug)]
pub struct Stored {
    /// All fields, the hidden one too.
    pub fields: Fields,
    /// The attributes.
    pub item: Item,
}

/// The fields of an item.
pub fn fields(item: &Item) -> Fields {
    let field = |(name, value): &(Name, Value)| {
        let mut text = String::new();
        json::encode_value(value, &mut text);
        (name.as_bytes().to_vec(), text.into_bytes())
    };
    item.iter().map(field).collect()
}

/// The row that a reply with all its fields holds; nothing if there is none.
pub fn stored(value: resp::Value, table: &Table) -> Result<Option<Stored>> {
    let fields = pairs(accepted(value, table)?).ok_or_else(|| unexpected(table))?;
    if fields.is_empty() {
        return Ok(None);
    }
    let mut decoder = json::Decoder::default();
    let mut pairs = Vec::with_capacity(fields.len());
    for (name, value) in &fields {
        if name != ENTRIES {
            pairs.push(attribute(&mut decoder, pairs.len(), name, value, table)?);
        }
    }
    let item = Item::from_pairs(pairs);
    Ok(Some(Stored { fields, item }))
}

/// The item that a reply with all its fields holds; nothing if there is none.
pub fn item(
    value: resp::Value,
    table: &Table,
    decoder: &mut json::Decoder,
) -> Result<Option<Item>> {
    let resp::Value::Array(members) = accepted(value, table)? else {
        return Err(unexpected(table));
    };
    if members.is_empty() {
        return Ok(None);
    }
    let mut pairs = Vec::with_capacity(members.len() / 2);
    for pair in members.chunks_exact(2) {
        let [resp::Value::Bulk(name), resp::Value::Bulk(value)] = pair else {
            return Err(unexpected(table));
        };
        if name != ENTRIES {
            pairs.push(attribute(decoder, pairs.len(), name, value, table)?);
        }
    }
    Ok(Some(Item::from_pairs(pairs)))
}

/// The item that a reply with the values of these attributes holds; nothing without the first one,
/// which every row has.
pub fn part(
    value: resp::Value,
    names: &[Name],
    table: &Table,
    decoder: &mut json::Decoder,
) -> Result<Option<Item>> {
    let resp::Value::Array(members) = accepted(value, table)? else {
        return Err(unexpected(table));
    };
    if matches!(members.first(), None | Some(resp::Value::Nil)) {
        return Ok(None);
    }
    let mut pairs = Vec::with_capacity(names.len());
    for (name, value) in names.iter().zip(&members) {
        if let resp::Value::Bulk(bytes) = value {
            pairs.push((name.clone(), decode(decoder, name, bytes, table)?));
        }
    }
    Ok(Some(Item::from_pairs(pairs)))
}

fn attribute(
    decoder: &mut json::Decoder,
    place: usize,
    name: &[u8],
    value: &[u8],
    table: &Table,
) -> Result<(Name, Value)> {
    let name = std::str::from_utf8(name).map_err(|_| damaged(table))?;
    let name = decoder.name(name, place);
    let value = decode(decoder, &name, value, table)?;
    Ok((name, value))
}

fn decode(decoder: &mut json::Decoder, name: &Name, bytes: &[u8], table: &Table) -> Result<Value> {
    let value = match std::str::from_utf8(bytes) {
        Ok(text) => decoder.decode_value(text),
        Err(_) => Err(damaged(table)),
    };
    value.map_err(|error| {
        Error::invalid(format!("{name}: {error}"))
            .of(table)
            .on(name)
    })
}

fn damaged(table: &Table) -> Error {
    let message =
        "a stored row holds what is no text: it was not written by mintkey, or is damaged";
    Error::invalid(message).of(table)
}

/// The milliseconds that an item has to live; none without an end, or with one that is far away.
pub fn lifetime(table: &Table, item: &Item, now: i64) -> Option<i64> {
    /// Redis keeps the time of expiry in 64 bits; a longer life than 300 years is judged here alone.
    const LONGEST: i64 = 10_000_000_000;
    let Some(Value::Number(expiry)) = table.ttl.as_ref().and_then(|ttl| item.get(ttl)) else {
        return None;
    };
    let left = expiry.sub(&Number::from(now)).ok()?;
    if left > Number::from(LONGEST) {
        return None;
    }
    let seconds: f64 = left.to_string().parse().unwrap_or(0.0);
    // Never too early: a fraction counts as a whole second, and one that is over has one left, so that
    // its entries are found together with it.
    #[allow(clippy::cast_possible_truncation, reason = "at most 10^10")]
    let seconds = (seconds.ceil() as i64).max(1);
    Some(seconds * 1000)
}
