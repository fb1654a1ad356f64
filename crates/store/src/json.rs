//! The JSON form in which items are stored where an engine has no types of its own.
//!
//! Strings, numbers (canonical decimal), booleans, null, lists and maps are plain JSON. What JSON
//! lacks is an object with one tagged entry: `{"$B": base64}`, `{"$SS": […]}`, `{"$NS": […]}`,
//! `{"$BS": […]}`. A leading `$` in a map's own key is doubled, so that nothing can be mistaken.
//! The attributes of an item are never tagged: only values are.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::error::{Error, Result};
use crate::number::Number;
use crate::size::MAX_DEPTH;
use crate::value::{Item, Map, Name, Value};

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
    for (place, (name, value)) in map.iter().enumerate() {
        if place > 0 {
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

fn push_list<T>(
    members: impl IntoIterator<Item = T>,
    text: &mut String,
    push: impl Fn(T, &mut String),
) {
    text.push('[');
    for (place, member) in members.into_iter().enumerate() {
        if place > 0 {
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

fn push_base64(bytes: &[u8], text: &mut String) {
    text.push('"');
    BASE64.encode_string(bytes, text);
    text.push('"');
}

fn push_string(string: &str, text: &mut String) {
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
    while let Some(place) = rest.bytes().position(|byte| !PLAIN[usize::from(byte)]) {
        text.push_str(&rest[..place]);
        match rest.as_bytes()[place] {
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
        rest = &rest[place + 1..];
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

/// Reads items one after another, and shares the attributes' names between them.
#[derive(Debug, Default)]
pub struct Decoder {
    names: Vec<Name>,
}

/// Names beyond this many are not shared: maps with keys of their own must not fill the memory.
const SHARED_NAMES: usize = 64;

impl Decoder {
    /// Reads an item.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if the text is no stored item.
    pub fn decode(&mut self, text: &str) -> Result<Item> {
        let mut parser = Parser {
            text,
            at: 0,
            names: &mut self.names,
            expected: 0,
        };
        parser.item().ok_or_else(|| {
            Error::invalid(format!(
                "a stored item cannot be read (at byte {} of its text): it was not written by mintkey, or is damaged",
                parser.at
            ))
        })
    }

    /// Reads one value, as [`encode_value`] wrote it.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if the text is no stored value.
    pub fn decode_value(&mut self, text: &str) -> Result<Value> {
        let mut parser = Parser {
            text,
            at: 0,
            names: &mut self.names,
            expected: 0,
        };
        let value = parser.value(1).filter(|_| parser.at == text.len());
        value.ok_or_else(|| {
            Error::invalid(format!(
                "a stored value cannot be read (at byte {} of its text): it was not written by mintkey, or is damaged",
                parser.at
            ))
        })
    }

    /// An attribute's name, shared with the items before if they had it. `place` is where it stood
    /// in this item.
    pub fn name(&mut self, name: &str, place: usize) -> Name {
        let mut parser = Parser {
            text: name,
            at: 0,
            names: &mut self.names,
            expected: place,
        };
        parser.name(name)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    names: &'a mut Vec<Name>,
    /// Where in `names` the next name will be, if this item is like the one before.
    expected: usize,
}

/// Whether no name comes twice.
fn all_differ(map: &Map) -> bool {
    let mut names: Vec<&str> = map.iter().map(|(name, _)| &**name).collect();
    names.sort_unstable();
    names.windows(2).all(|pair| pair[0] != pair[1])
}

/// What an object may turn out to be.
enum Object {
    Map(Map),
    Tagged(Value),
}

impl<'a> Parser<'a> {
    fn item(&mut self) -> Option<Item> {
        self.space();
        self.expect(b'{')?;
        let Object::Map(item) = self.object(0)? else {
            return None;
        };
        self.space();
        (self.at == self.text.len()).then_some(item)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    /// Whether a list or object goes on: reads the comma or the closing byte.
    fn more(&mut self, close: u8) -> Option<bool> {
        self.space();
        let byte = self.peek()?;
        self.at += 1;
        match byte {
            b',' => {
                self.space();
                Some(true)
            }
            byte if byte == close => Some(false),
            _ => None,
        }
    }

    fn word(&mut self, word: &str, value: Value) -> Option<Value> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            value
        })
    }

    fn value(&mut self, depth: usize) -> Option<Value> {
        match self.peek()? {
            b'"' => self.string().map(Value::String),
            b'{' if depth <= MAX_DEPTH => {
                self.at += 1;
                Some(match self.object(depth)? {
                    Object::Map(map) => Value::Map(map),
                    Object::Tagged(value) => value,
                })
            }
            b'[' if depth <= MAX_DEPTH => {
                let mut list = Vec::new();
                self.members(|parser| {
                    list.push(parser.value(depth + 1)?);
                    Some(())
                })?;
                Some(Value::List(list))
            }
            b't' => self.word("true", Value::Bool(true)),
            b'f' => self.word("false", Value::Bool(false)),
            b'n' => self.word("null", Value::Null),
            _ => self.number().map(Value::Number),
        }
    }

    /// Reads a list and calls `each` at the start of every member.
    fn members(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            each(self)?;
            if !self.more(b']')? {
                return Some(());
            }
        }
    }

    fn number(&mut self) -> Option<Number> {
        let bytes = &self.text.as_bytes()[self.at..];
        let length = bytes
            .iter()
            .take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'))
            .count();
        let text = &self.text[self.at..self.at + length];
        self.at += length;
        text.parse().ok()
    }

    /// Reads an object behind its brace.
    fn object(&mut self, depth: usize) -> Option<Object> {
        let mut map = Map::with_capacity(8);
        // Shared names that come in their order all differ, and so they come as a rule.
        let mut in_order = true;
        let mut next = 0;
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(Object::Map(map));
        }
        loop {
            let start = self.at;
            let (raw, plain) = self.raw_string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            let name = if !plain {
                in_order = false;
                Name::from(unescape(raw)?.as_str())
            } else if raw.starts_with('$') && !raw.starts_with("$$") {
                // A tag: the only entry of its object, and never an attribute of an item.
                if depth == 0 || !map.is_empty() {
                    self.at = start;
                    return None;
                }
                let value = self.tagged(raw)?;
                self.space();
                self.expect(b'}')?;
                return Some(Object::Tagged(value));
            } else {
                let name = self.name(raw);
                in_order &= self.expected > next;
                next = self.expected;
                name
            };
            let name = match name.strip_prefix("$$") {
                Some(rest) => Name::from(format!("${rest}").as_str()),
                None => name,
            };
            let value = self.value(depth + 1)?;
            map.push(name, value);
            if !self.more(b'}')? {
                // Which of two values is meant would be a guess.
                return (in_order || all_differ(&map)).then_some(Object::Map(map));
            }
        }
    }

    fn tagged(&mut self, tag: &str) -> Option<Value> {
        Some(match tag {
            BINARY => Value::Binary(self.base64()?),
            STRING_SET => {
                let mut set = std::collections::BTreeSet::new();
                self.members(|parser| {
                    set.insert(parser.string()?);
                    Some(())
                })?;
                Value::StringSet(set)
            }
            NUMBER_SET => {
                let mut set = std::collections::BTreeSet::new();
                self.members(|parser| {
                    set.insert(parser.number()?);
                    Some(())
                })?;
                Value::NumberSet(set)
            }
            BINARY_SET => {
                let mut set = std::collections::BTreeSet::new();
                self.members(|parser| {
                    set.insert(parser.base64()?);
                    Some(())
                })?;
                Value::BinarySet(set)
            }
            _ => return None,
        })
    }

    /// An attribute's name, shared with the items before if they had it.
    fn name(&mut self, raw: &str) -> Name {
        let places = self.names.len();
        for offset in 0..places {
            let place = (self.expected + offset) % places;
            if &*self.names[place] == raw {
                self.expected = place + 1;
                return self.names[place].clone();
            }
        }
        let name = Name::from(raw);
        if places < SHARED_NAMES {
            self.names.push(name.clone());
        }
        self.expected = self.names.len();
        name
    }

    fn base64(&mut self) -> Option<Vec<u8>> {
        let (raw, _) = self.raw_string()?;
        BASE64.decode(raw).ok()
    }

    fn string(&mut self) -> Option<String> {
        let (raw, plain) = self.raw_string()?;
        if plain {
            Some(raw.to_owned())
        } else {
            unescape(raw)
        }
    }

    /// The text between two quotes as it stands, and whether it is without escapes.
    fn raw_string(&mut self) -> Option<(&'a str, bool)> {
        self.expect(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut plain = true;
        loop {
            let length = bytes
                .get(self.at..)?
                .iter()
                .position(|byte| !PLAIN[usize::from(*byte)])?;
            self.at += length;
            match bytes[self.at] {
                b'"' => {
                    let raw = &self.text[start..self.at];
                    self.at += 1;
                    return Some((raw, plain));
                }
                b'\\' => {
                    plain = false;
                    self.at += 2;
                }
                _ => return None,
            }
        }
    }
}

fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(place) = rest.find('\\') {
        text.push_str(&rest[..place]);
        let escape = *rest.as_bytes().get(place + 1)?;
        rest = rest.get(place + 2..)?;
        text.push(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = unit(&mut rest)?;
                let code = if (0xD800..0xDC00).contains(&first) {
                    rest = rest.strip_prefix("\\u")?;
                    let second = unit(&mut rest)?;
                    let low = second.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
                    0x1_0000 + ((first - 0xD800) << 10) + low
                } else {
                    first
                };
                char::from_u32(code)?
            }
            _ => return None,
        });
    }
    text.push_str(rest);
    Some(text)
}

/// Reads the four hex digits of an escape.
fn unit(rest: &mut &str) -> Option<u32> {
    let digits = rest.get(..4)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    *rest = &rest[4..];
    u32::from_str_radix(digits, 16).ok()
}
