//! The JSON form in which items are stored where an engine has no types of its own.
//!
//! Strings, numbers (canonical decimal), booleans, null, lists and maps are plain JSON. What JSON
//! lacks is an object with one tagged entry: `{"$B": base64}`, `{"$SS": […]}`, `{"$NS": […]}`,
//! `{"$BS": […]}`. A leading `$` in a map's own key is doubled, so that nothing can be mistaken.
//! The attributes of an item are never tagged: only values are.

use std::fmt;
use std::result;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess,
    Visitor,
};

use crate::error::{Error, Result};
use crate::names::Names;
use crate::number::Number;
use crate::size::MAX_DEPTH;
use crate::value::{Item, Map, Name, Value};

/// The depth to which values are read. It is one more than what is written, for rows of other programs.
const DEEPEST: usize = MAX_DEPTH + 1;
const BINARY: &str = "$B";
const STRING_SET: &str = "$SS";
const NUMBER_SET: &str = "$NS";
const BINARY_SET: &str = "$BS";

/// Writes an item.
#[must_use]
pub fn encode(item: &Item) -> String {
    let mut text = String::with_capacity(32 * item.len() + 2);
    encode_into(item, &mut text);
    text
}

/// Appends an item's text to a buffer.
pub fn encode_into(item: &Item, text: &mut String) {
    push_map(item, text);
}

/// Appends one value's text to a buffer.
pub fn encode_value(value: &Value, text: &mut String) {
    match value {
        Value::String(string) => push_string(string, text),
        Value::Number(number) => number.push(text),
        Value::Bool(true) => text.push_str("true"),
        Value::Bool(false) => text.push_str("false"),
        Value::Null => text.push_str("null"),
        Value::Binary(bytes) => tagged(BINARY, text, |text| push_base64(bytes, text)),
        Value::List(list) => push_list(list, text, encode_value),
        Value::Map(map) => push_map(map, text),
        Value::StringSet(set) => {
            tagged(STRING_SET, text, |text| {
                push_list(set, text, |member, text| push_string(member, text));
            });
        }
        Value::NumberSet(set) => {
            tagged(NUMBER_SET, text, |text| push_list(set, text, Number::push));
        }
        Value::BinarySet(set) => {
            tagged(BINARY_SET, text, |text| {
                push_list(set, text, |member, text| push_base64(member, text));
            });
        }
    }
}

fn push_map(map: &Map, text: &mut String) {
    text.push('{');
    for (position, (name, value)) in map.iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        push_name(name, text);
        text.push(':');
        encode_value(value, text);
    }
    text.push('}');
}

fn push_name(name: &str, text: &mut String) {
    text.push('"');
    if name.starts_with('$') {
        text.push('$');
    }
    push_escaped(name, text);
    text.push('"');
}

/// Appends a list, each member like this.
pub fn push_list<T>(
    members: impl IntoIterator<Item = T>,
    text: &mut String,
    push: impl Fn(T, &mut String),
) {
    text.push('[');
    for (position, member) in members.into_iter().enumerate() {
        if position > 0 {
            text.push(',');
        }
        push(member, text);
    }
    text.push(']');
}

fn tagged(tag: &str, text: &mut String, push: impl Fn(&mut String)) {
    text.push_str("{\"");
    text.push_str(tag);
    text.push_str("\":");
    push(text);
    text.push('}');
}

/// Appends bytes as a string of base64.
pub fn push_base64(bytes: &[u8], text: &mut String) {
    text.push('"');
    BASE64.encode_string(bytes, text);
    text.push('"');
}

/// Appends a string with its quotes.
pub fn push_string(string: &str, text: &mut String) {
    text.push('"');
    push_escaped(string, text);
    text.push('"');
}

/// Whether a byte stands for itself inside a JSON string.
const PLAIN: [bool; 256] = {
    let mut plain = [true; 256];
    let mut control = 0;
    while control < 0x20 {
        plain[control] = false;
        control += 1;
    }
    plain[b'"' as usize] = false;
    plain[b'\\' as usize] = false;
    plain
};

fn push_escaped(string: &str, text: &mut String) {
    let mut rest = string;
    // The bytes to escape are all ASCII, so that every cut is at a character's edge.
    while let Some(position) = rest.bytes().position(|byte| !PLAIN[usize::from(byte)]) {
        text.push_str(&rest[..position]);
        match rest.as_bytes()[position] {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\t' => text.push_str("\\t"),
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                text.push_str("\\u00");
                text.push(char::from(HEX[usize::from(control >> 4)]));
                text.push(char::from(HEX[usize::from(control & 15)]));
            }
        }
        rest = &rest[position + 1..];
    }
    text.push_str(rest);
}

/// Reads an item.
///
/// # Errors
///
/// `InvalidValue` if the text is no stored item.
pub fn decode(text: &str) -> Result<Item> {
    Decoder::default().decode(text)
}

/// Reads an item from one line of text that the caller gave, and not the store: an error says what is wrong, and may repeat
/// a part of the text.
///
/// # Errors
///
/// `InvalidValue` if the text is no stored item.
pub fn decode_line(text: &str) -> Result<Item> {
    read(text, ItemSeed(&mut Names::default())).map_err(|error| {
        let (words, column) = (error.to_string(), error.column());
        let position = format!(" at line {} column {column}", error.line());
        let reason = words.strip_suffix(&position).unwrap_or(&words);
        Error::invalid(format!("{reason}, at column {column}"))
    })
}

/// Reads items one after another, and shares the attributes' names between them.
#[derive(Debug, Default)]
pub struct Decoder {
    names: Names,
}

impl Decoder {
    /// Reads an item.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if the text is no stored item.
    pub fn decode(&mut self, text: &str) -> Result<Item> {
        self.names.restart();
        let seed = ItemSeed(&mut self.names);
        read(text, seed).map_err(|error| unreadable("item", &error))
    }

    /// Reads one value, as [`encode_value`] wrote it.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if the text is no stored value.
    pub fn decode_value(&mut self, text: &str) -> Result<Value> {
        self.names.restart();
        let names = &mut self.names;
        read(text, ValueSeed { names, depth: 1 }).map_err(|error| unreadable("value", &error))
    }

    /// An attribute's name, shared with the items before if they had it. `position` is where it stood
    /// in this item.
    pub fn name(&mut self, name: &str, position: usize) -> Name {
        self.names.shared_at(name, position)
    }
}

fn read<'de, S: DeserializeSeed<'de>>(text: &'de str, seed: S) -> serde_json::Result<S::Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Only the position of the error is reported: its text may repeat stored values.
fn unreadable(what: &str, error: &serde_json::Error) -> Error {
    Error::invalid(format!(
        "a stored {what} cannot be read (at line {}, column {} of its text): it was not written by mintkey, or is damaged",
        error.line(),
        error.column()
    ))
}

/// By this key `serde_json`, with the feature `arbitrary_precision`, hands over a number that is no `u64` or `i64`: as a map
/// from it to the number's text. No key of a stored map looks like it, since a `$` at its start is doubled.
const NUMBER: &str = "$serde_json::private::Number";

/// What is wrong with an unknown tag, and with a tag next to other names.
const UNDOUBLED: &str = "a $ at the start of a name is doubled; only $B, $SS, $NS and $BS, alone in an object, have one";

/// The key of an entry of an object.
enum Key {
    Name(Name),
    /// The tag of a value that JSON has not.
    Tag(String),
    Number,
}

/// Reads a text, without a copy of it.
pub struct TextSeed<F> {
    /// What it expects, for messages.
    pub expected: &'static str,
    /// What it makes of the text, or what is wrong with it.
    pub read: F,
}

impl<'de, T, F: FnOnce(&str) -> result::Result<T, &'static str>> DeserializeSeed<'de>
    for TextSeed<F>
{
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> result::Result<T, D::Error> {
        from.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> result::Result<T, &'static str>> Visitor<'_> for TextSeed<F> {
    type Value = T;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(self.expected)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> result::Result<T, E> {
        (self.read)(text).map_err(E::custom)
    }
}

/// Reads the key of an entry.
fn key<'de, A: MapAccess<'de>>(
    names: &mut Names,
    entries: &mut A,
) -> result::Result<Option<Key>, A::Error> {
    entries.next_key_seed(TextSeed {
        expected: "a name",
        read: |key: &str| {
            Ok(match key.strip_prefix('$') {
                None => Key::Name(names.shared(key)),
                Some(own) if own.starts_with('$') => Key::Name(Name::from(own)),
                Some(_) if key == NUMBER => Key::Number,
                Some(_) => Key::Tag(key.to_owned()),
            })
        },
    })
}

struct ItemSeed<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for ItemSeed<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> result::Result<Item, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed<'_> {
    type Value = Item;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> result::Result<Item, A::Error> {
        let first = key(self.0, &mut entries)?;
        read_map(self.0, 1, first, entries)
    }
}

/// Reads the entries of a map whose first key was read; their values have this depth.
fn read_map<'de, A: MapAccess<'de>>(
    names: &mut Names,
    depth: usize,
    first: Option<Key>,
    mut entries: A,
) -> result::Result<Map, A::Error> {
    let mut map = Map::with_capacity(8);
    // Shared names whose places rise all differ, and they rise as a rule.
    let (mut rising, mut last) = (true, 0);
    let mut next = first;
    while let Some(own) = next {
        let Key::Name(name) = own else {
            return Err(A::Error::custom(UNDOUBLED));
        };
        rising &= names.position() > last;
        last = names.position();
        map.push(name, entries.next_value_seed(ValueSeed { names, depth })?);
        next = key(names, &mut entries)?;
    }
    // Which of two values is meant would be a guess.
    if rising || all_differ(&map) {
        Ok(map)
    } else {
        Err(A::Error::custom("a name comes twice"))
    }
}

/// Whether no name comes twice.
fn all_differ(map: &Map) -> bool {
    let mut names: Vec<&str> = map.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// Reads a value. The values of an item's attributes have the depth 1.
struct ValueSeed<'a> {
    names: &'a mut Names,
    depth: usize,
}

impl ValueSeed<'_> {
    fn check_depth<E: serde::de::Error>(&self) -> result::Result<(), E> {
        if self.depth > DEEPEST {
            return Err(E::custom("nested too deeply"));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> result::Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value")
    }

    fn visit_unit<E>(self) -> result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> result::Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E>(self, number: u64) -> result::Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> result::Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_str<E>(self, text: &str) -> result::Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> result::Result<Value, A::Error> {
        self.check_depth()?;
        let (names, depth) = (self.names, self.depth + 1);
        let mut list = Vec::new();
        while let Some(value) = members.next_element_seed(ValueSeed { names, depth })? {
            list.push(value);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> result::Result<Value, A::Error> {
        match key(self.names, &mut entries)? {
            Some(Key::Number) => entries.next_value().map(|Decimal(own)| Value::Number(own)),
            Some(Key::Tag(tag)) => {
                let value = read_tagged(&tag, &mut entries)?;
                if entries.next_key::<IgnoredAny>()?.is_some() {
                    return Err(A::Error::custom(UNDOUBLED));
                }
                Ok(value)
            }
            first => {
                self.check_depth()?;
                read_map(self.names, self.depth + 1, first, entries).map(Value::Map)
            }
        }
    }
}

fn read_tagged<'de, A: MapAccess<'de>>(
    tag: &str,
    entries: &mut A,
) -> result::Result<Value, A::Error> {
    Ok(match tag {
        BINARY => Value::Binary(entries.next_value::<Base64>()?.0),
        STRING_SET => Value::StringSet(entries.next_value()?),
        NUMBER_SET => {
            let numbers: Vec<serde_json::Number> = entries.next_value()?;
            let numbers = numbers.iter().map(|own| own.as_str().parse());
            let numbers: result::Result<_, _> = numbers.collect();
            Value::NumberSet(numbers.map_err(|_| A::Error::custom("a number out of range"))?)
        }
        BINARY_SET => {
            let members: Vec<Base64> = entries.next_value()?;
            Value::BinarySet(members.into_iter().map(|Base64(own)| own).collect())
        }
        _ => return Err(A::Error::custom(UNDOUBLED)),
    })
}

/// A number, from a string with its digits.
#[derive(Debug)]
pub struct Decimal(pub Number);

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(from: D) -> result::Result<Self, D::Error> {
        let seed = TextSeed {
            expected: "a decimal number",
            read: |text: &str| text.parse().map_err(|_| "a number out of range"),
        };
        seed.deserialize(from).map(Self)
    }
}

/// Bytes, from a string of base64.
#[derive(Debug)]
pub struct Base64(pub Vec<u8>);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(from: D) -> result::Result<Self, D::Error> {
        let seed = TextSeed {
            expected: "base64",
            read: |text: &str| BASE64.decode(text).map_err(|_| "not valid base64"),
        };
        seed.deserialize(from).map(Self)
    }
}
