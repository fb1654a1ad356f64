//! The size of an item by `DynamoDB`'s count, and the limits on it.

use crate::error::{Error, ErrorKind, Result};
use crate::number::Number;
use crate::table::Table;
use crate::value::{Item, Map, Name, Value};

/// The bytes an item may have.
pub const MAX_ITEM: usize = 400 * 1024;
/// How deep lists and maps may nest. `DynamoDB` has 32 levels, of which what is inside the innermost one is the last.
pub const MAX_DEPTH: usize = 31;

/// The bytes an item counts: the names and the values of its attributes.
#[must_use]
pub fn item_size(item: &Item) -> usize {
    item.iter()
        .map(|(name, value)| name.len() + value_size(value))
        .sum()
}

/// The bytes a value counts.
#[must_use]
pub fn value_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Number(number) => number_size(number),
        Value::Bool(_) | Value::Null => 1,
        Value::Binary(bytes) => bytes.len(),
        // Three bytes for the container, one for each entry.
        Value::List(list) => {
            3 + list
                .iter()
                .map(|value| 1 + value_size(value))
                .sum::<usize>()
        }
        Value::Map(map) => 3 + map_size(map),
        Value::StringSet(set) => set.iter().map(String::len).sum(),
        Value::NumberSet(set) => set.iter().map(number_size).sum(),
        Value::BinarySet(set) => set.iter().map(Vec::len).sum(),
    }
}

fn map_size(map: &Map) -> usize {
    map.iter()
        .map(|(name, value)| 1 + name.len() + value_size(value))
        .sum()
}

/// One byte for each two digits and one more; another for the sign.
fn number_size(number: &Number) -> usize {
    let digits = usize::try_from(number.digits()).unwrap_or(0);
    digits.div_ceil(2) + 1 + usize::from(number.is_negative())
}

/// Checks that an item can be stored in a table: it has at most `limit` bytes, its attributes have names, its sets are
/// not empty, and it is not nested too deeply.
///
/// # Errors
///
/// `ItemTooLarge` that names the largest attributes; `InvalidValue` that names the attribute.
pub fn check_item(item: &Item, table: &Table, limit: usize) -> Result<()> {
    for (name, value) in item {
        if name.is_empty() {
            return Err(Error::invalid("an attribute's name must not be empty").of(table));
        }
        check_value(value).map_err(|error| error.on(name).of(table))?;
    }
    let size = item_size(item);
    if size <= limit {
        return Ok(());
    }
    let mut sizes: Vec<(usize, &Name)> = item
        .iter()
        .map(|(name, value)| (name.len() + value_size(value), name))
        .collect();
    sizes.sort_by(|left, right| right.cmp(left));
    let largest: Vec<String> = sizes
        .iter()
        .take(3)
        .map(|(size, name)| format!("{} ({size} bytes)", table.label(name)))
        .collect();
    let message = format!(
        "the item has {size} bytes, and may have {limit}; the largest attributes are {}: \
         compress or split them, or keep them elsewhere",
        largest.join(", ")
    );
    let error = Error::new(ErrorKind::ItemTooLarge, message).of(table);
    Err(match sizes.first() {
        Some((_, name)) => error.on(name),
        None => error,
    })
}

/// Checks that a value can be stored as an attribute: the entries of its maps have names, its sets are not empty, and it
/// is not nested too deeply.
///
/// # Errors
///
/// `InvalidValue` without an attribute.
pub fn check_value(value: &Value) -> Result<()> {
    check_level(value, 0)
}

fn check_level(value: &Value, depth: usize) -> Result<()> {
    if depth >= MAX_DEPTH && matches!(value, Value::List(_) | Value::Map(_)) {
        return Err(Error::invalid(format!(
            "the value is nested deeper than {MAX_DEPTH} levels: flatten it, or store it as JSON text"
        )));
    }
    let inner = |inner: &Value| check_level(inner, depth + 1);
    let empty = match value {
        Value::List(list) => return list.iter().try_for_each(inner),
        Value::Map(map) => {
            return map.iter().try_for_each(|(name, value)| {
                if name.is_empty() {
                    return Err(Error::invalid(
                        "the value contains a map with an empty name: give every entry one, or store it as JSON text",
                    ));
                }
                inner(value)
            });
        }
        Value::StringSet(set) => set.is_empty(),
        Value::NumberSet(set) => set.is_empty(),
        Value::BinarySet(set) => set.is_empty(),
        _ => false,
    };
    if empty {
        return Err(Error::invalid(
            "an empty set cannot be stored: leave it out",
        ));
    }
    Ok(())
}
