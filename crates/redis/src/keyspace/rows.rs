//! Turns items into fields, replies into items, and refusals into errors.

use mintkey_store::{Error, ErrorKind, Item, Name, Number, Outcome, Result, Table, Value, json};

use crate::protocol::resp;

/// The hidden field that lists a row's index entries. An attribute cannot have this name.
pub const ENTRIES: &[u8] = b"";

/// The fields of a row as they are stored.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

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

/// Refuses what the server refused.
pub fn accepted(value: resp::Value, table: &Table) -> Result<resp::Value> {
    match value {
        resp::Value::Error(text) => Err(refusal(&text).of(table)),
        other => Ok(other),
    }
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

/// A reply of another shape than the command gives.
pub fn unexpected(table: &Table) -> Error {
    Error::new(
        ErrorKind::Unavailable(Outcome::Unknown),
        "the server answers as no Redis does: is something else listening there?",
    )
    .of(table)
}

/// The names and values of a reply with all fields.
pub fn pairs(value: resp::Value) -> Option<Fields> {
    let resp::Value::Array(members) = value else {
        return None;
    };
    let mut pairs = Vec::with_capacity(members.len() / 2);
    let mut members = members.into_iter();
    while let (Some(name), Some(value)) = (members.next(), members.next()) {
        let (resp::Value::Bulk(name), resp::Value::Bulk(value)) = (name, value) else {
            return None;
        };
        pairs.push((name, value));
    }
    Some(pairs)
}

/// The byte strings of a reply.
pub fn bulks(value: resp::Value, table: &Table) -> Result<Vec<Vec<u8>>> {
    let resp::Value::Array(members) = accepted(value, table)? else {
        return Err(unexpected(table));
    };
    members
        .into_iter()
        .map(|member| match member {
            resp::Value::Bulk(bytes) => Ok(bytes),
            _ => Err(unexpected(table)),
        })
        .collect()
}

/// The error that a server's refusal means.
pub fn refusal(text: &str) -> Error {
    let not_done =
        |message: String| Error::new(ErrorKind::Unavailable(Outcome::NotApplied), message);
    // Inside a script old servers put their own words before the code.
    let says = |code: &str| {
        let within = [format!(" {code} "), format!(" -{code} ")];
        text.starts_with(code) || within.iter().any(|code| text.contains(code))
    };
    if says("WRONGTYPE") {
        Error::configuration(
            "Redis holds a value of another type under a name that mintkey uses: something else writes to \
             this database; choose a ?prefix= or another database",
        )
    } else if says("OOM") {
        not_done("Redis has reached its maxmemory and takes no more: nothing was written; delete something, or raise maxmemory".to_owned())
    } else if says("READONLY") {
        not_done("this Redis is a replica and takes no writes: nothing was written; connect to its primary".to_owned())
    } else if says("MISCONF") {
        not_done("Redis cannot save to its disk and takes no writes: nothing was written; look into its log".to_owned())
    } else if says("NOREPLICAS") {
        not_done("Redis has too few replicas (min-replicas-to-write) and takes no writes: nothing was written".to_owned())
    } else if says("NOAUTH") || says("WRONGPASS") || text.contains("AUTH") {
        Error::configuration(
            "Redis asks for another user or password: write redis://user:password@host, or redis://:password@host for the default user",
        )
    } else if text.contains("DB index is out of range") {
        Error::configuration(
            "this Redis has no database of that number: name a lower one, as in redis://localhost:6379/0, or raise \
             `databases` in its configuration",
        )
    } else if says("NOPERM") {
        Error::configuration(format!(
            "this Redis user may not do that: {text}. The guide to Redis lists the commands that a user needs"
        ))
    } else if is_passing(text) {
        not_done(format!(
            "Redis cannot answer at the moment ({text}): nothing was written"
        ))
    } else if says("MOVED") || says("ASK") {
        Error::configuration(
            "this is a server of a Redis Cluster: write redis-cluster://host:6379 instead of redis://host:6379",
        )
    } else if text.contains("max number of clients") {
        not_done(
            "Redis has as many clients as it takes (maxclients): nothing was written".to_owned(),
        )
    } else {
        Error::new(
            ErrorKind::Unavailable(Outcome::Unknown),
            format!("Redis refused: {text}"),
        )
    }
}

/// Whether a refusal passes by itself, and nothing was carried out.
pub fn is_passing(text: &str) -> bool {
    [
        "LOADING ",
        "BUSY ",
        "MASTERDOWN ",
        "CLUSTERDOWN ",
        "TRYAGAIN ",
    ]
    .iter()
    .any(|code| text.starts_with(code))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What servers say of a script that may not write: 6.2 wraps the reason up, later ones do not.
    #[test]
    fn a_refused_write_is_known_not_to_have_happened() {
        for text in [
            "ERR Error running script (call to f_acb2): @user_script:2: @user_script: 2: -OOM command not allowed when used memory > 'maxmemory'.",
            "OOM command not allowed when used memory > 'maxmemory'. script: acb2, on @user_script:2.",
            "ERR Error running script (call to f_0a9f): @user_script:1: @user_script: 1: -READONLY You can't write against a read only replica.",
            "READONLY You can't write against a read only replica.",
        ] {
            let error = refusal(text);
            assert_eq!(
                error.kind,
                ErrorKind::Unavailable(Outcome::NotApplied),
                "{text}"
            );
            assert!(error.message.contains("nothing was written"), "{text}");
        }
        let other = refusal("ERR Error running script (call to f_acb2): a BOOM in READONLYNESS");
        assert_eq!(other.kind, ErrorKind::Unavailable(Outcome::Unknown));
    }
}
