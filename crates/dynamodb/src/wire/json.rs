//! `DynamoDB`'s JSON: values with their types, written and parsed without an intermediate tree.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mintkey_store::{Item, Map, Name, Number, Value};

/// The deepest nesting of a response: an item is nested less.
const MAX_DEPTH: usize = 128;
/// The number of names that are shared between items: maps whose keys all differ must not fill the memory.
const SHARED_NAMES: usize = 64;

/// Whether a byte needs no escape in a JSON string.
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

/// Appends a string with its quotes.
pub fn push_text(string: &str, to: &mut String) {
    to.push('"');
    let mut rest = string;
    // All bytes that need an escape are ASCII, so each split is between two characters.
    while let Some(end) = rest.bytes().position(|byte| !PLAIN[usize::from(byte)]) {
        to.push_str(&rest[..end]);
        match rest.as_bytes()[end] {
            b'"' => to.push_str("\\\""),
            b'\\' => to.push_str("\\\\"),
            control => {
                let _ = write!(to, "\\u{control:04x}");
            }
        }
        rest = &rest[end + 1..];
    }
    to.push_str(rest);
    to.push('"');
}

/// Appends a value with its type, `{"S":"text"}`.
pub fn push_value(value: &Value, to: &mut String) {
    to.push_str("{\"");
    to.push_str(value.value_type().code());
    to.push_str("\":");
    match value {
        Value::String(text) => push_text(text, to),
        Value::Number(number) => push_number(number, to),
        Value::Bool(truth) => to.push_str(if *truth { "true" } else { "false" }),
        Value::Null => to.push_str("true"),
        Value::Binary(bytes) => push_bytes(bytes, to),
        Value::List(list) => push_list(list, to, push_value),
        Value::Map(map) => push_item(map, to),
        Value::StringSet(set) => push_list(set, to, |text, to| push_text(text, to)),
        Value::NumberSet(set) => push_list(set, to, push_number),
        Value::BinarySet(set) => push_list(set, to, |bytes, to| push_bytes(bytes, to)),
    }
    to.push('}');
}

/// Appends an item or a map.
pub fn push_item(item: &Item, to: &mut String) {
    to.push('{');
    for (index, (name, value)) in item.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        push_text(name, to);
        to.push(':');
        push_value(value, to);
    }
    to.push('}');
}

fn push_number(number: &Number, to: &mut String) {
    let _ = write!(to, "\"{number}\"");
}

fn push_bytes(bytes: &[u8], to: &mut String) {
    to.push('"');
    BASE64.encode_string(bytes, to);
    to.push('"');
}

fn push_list<T>(
    members: impl IntoIterator<Item = T>,
    to: &mut String,
    push: impl Fn(T, &mut String),
) {
    to.push('[');
    for (index, member) in members.into_iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        push(member, to);
    }
    to.push(']');
}

/// Parses a response. Each method returns `None` if the text does not match.
pub struct Parser<'a> {
    text: &'a str,
    at: usize,
    names: Vec<Name>,
    /// The index in `names` of the next name, if this item has the same names as the one before.
    expected: usize,
}

impl<'a> Parser<'a> {
    /// A parser at the start of a text.
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            names: Vec::new(),
            expected: 0,
        }
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
        self.space();
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn next_is(&mut self, byte: u8) -> Option<bool> {
        self.space();
        let found = self.peek()? == byte;
        self.at += usize::from(found);
        Some(found)
    }

    /// Parses an object; `each` gets the name of an entry and parses its value.
    pub fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, Cow<'a, str>) -> Option<()>,
    ) -> Option<()> {
        self.expect(b'{')?;
        if self.next_is(b'}')? {
            return Some(());
        }
        loop {
            let name = self.string()?;
            self.expect(b':')?;
            each(self, name)?;
            if self.next_is(b'}')? {
                return Some(());
            }
            self.expect(b',')?;
        }
    }

    /// Parses a list; `each` parses a member.
    pub fn list(&mut self, mut each: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.expect(b'[')?;
        if self.next_is(b']')? {
            return Some(());
        }
        loop {
            each(self)?;
            if self.next_is(b']')? {
                return Some(());
            }
            self.expect(b',')?;
        }
    }

    /// Parses a string.
    pub fn string(&mut self) -> Option<Cow<'a, str>> {
        self.expect(b'"')?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut plain = true;
        loop {
            let ahead = bytes.get(self.at..)?;
            self.at += ahead.iter().position(|byte| !PLAIN[usize::from(*byte)])?;
            match bytes[self.at] {
                b'"' => {
                    let raw = &self.text[start..self.at];
                    self.at += 1;
                    return if plain {
                        Some(Cow::Borrowed(raw))
                    } else {
                        unescape(raw).map(Cow::Owned)
                    };
                }
                b'\\' => {
                    plain = false;
                    self.at += 2;
                }
                _ => return None,
            }
        }
    }

    /// Parses a count.
    pub fn count(&mut self) -> Option<u64> {
        self.word()?.parse().ok()
    }

    /// Parses a number of capacity units.
    pub fn units(&mut self) -> Option<f64> {
        self.word()?.parse().ok()
    }

    /// Whether a list comes next.
    pub fn is_list(&mut self) -> bool {
        self.space();
        self.text.as_bytes().get(self.at) == Some(&b'[')
    }

    /// Parses true or false.
    pub fn boolean(&mut self) -> Option<bool> {
        match self.word()? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    fn word(&mut self) -> Option<&'a str> {
        self.space();
        let start = self.at;
        let ahead = &self.text.as_bytes()[start..];
        self.at += ahead
            .iter()
            .take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte))
            .count();
        (self.at > start).then(|| &self.text[start..self.at])
    }

    /// Skips any value.
    pub fn skip(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            self.space();
            match self.peek()? {
                b'"' => drop(self.string()?),
                b'{' | b'[' => {
                    self.at += 1;
                    depth += 1;
                    continue;
                }
                b'}' | b']' => {
                    self.at += 1;
                    depth = depth.checked_sub(1)?;
                }
                b',' | b':' if depth > 0 => {
                    self.at += 1;
                    continue;
                }
                _ => drop(self.word()?),
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// Parses an item.
    pub fn item(&mut self) -> Option<Item> {
        self.map(0)
    }

    fn map(&mut self, depth: usize) -> Option<Map> {
        let mut pairs = Vec::with_capacity(8);
        self.object(|parser, name| {
            let name = parser.name(&name);
            pairs.push((name, parser.value(depth)?));
            Some(())
        })?;
        Some(Map::from_pairs(pairs))
    }

    /// Parses a value with its type.
    fn value(&mut self, depth: usize) -> Option<Value> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.expect(b'{')?;
        let kind = self.string()?;
        self.expect(b':')?;
        let value = match &*kind {
            "S" => Value::String(self.string()?.into_owned()),
            "N" => Value::Number(self.number()?),
            "BOOL" => Value::Bool(self.boolean()?),
            "NULL" => {
                self.boolean()?;
                Value::Null
            }
            "B" => Value::Binary(self.bytes()?),
            "L" => {
                let mut list = Vec::new();
                self.list(|parser| {
                    list.push(parser.value(depth + 1)?);
                    Some(())
                })?;
                Value::List(list)
            }
            "M" => Value::Map(self.map(depth + 1)?),
            "SS" => Value::StringSet(self.set(|parser| Some(parser.string()?.into_owned()))?),
            "NS" => Value::NumberSet(self.set(Self::number)?),
            "BS" => Value::BinarySet(self.set(Self::bytes)?),
            _ => return None,
        };
        self.expect(b'}')?;
        Some(value)
    }

    fn set<T: Ord>(
        &mut self,
        mut member: impl FnMut(&mut Self) -> Option<T>,
    ) -> Option<BTreeSet<T>> {
        let mut set = BTreeSet::new();
        self.list(|parser| {
            set.insert(member(parser)?);
            Some(())
        })?;
        Some(set)
    }

    fn number(&mut self) -> Option<Number> {
        self.string()?.parse().ok()
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        BASE64.decode(self.string()?.as_bytes()).ok()
    }

    /// An attribute's name, shared with the earlier items that have it.
    fn name(&mut self, name: &str) -> Name {
        let count = self.names.len();
        for offset in 0..count {
            let index = (self.expected + offset) % count;
            if &*self.names[index] == name {
                self.expected = index + 1;
                return self.names[index].clone();
            }
        }
        let name = Name::from(name);
        if count < SHARED_NAMES {
            self.names.push(name.clone());
        }
        self.expected = self.names.len();
        name
    }
}

fn unescape(raw: &str) -> Option<String> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(end) = rest.find('\\') {
        text.push_str(&rest[..end]);
        let escape = *rest.as_bytes().get(end + 1)?;
        rest = rest.get(end + 2..)?;
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
                    let low = unit(&mut rest)?
                        .checked_sub(0xDC00)
                        .filter(|low| *low < 0x400)?;
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

/// Parses the four hex digits of an escape.
fn unit(rest: &mut &str) -> Option<u32> {
    let digits = rest.get(..4)?;
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    *rest = &rest[4..];
    u32::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Item> {
        Parser::new(text).item()
    }

    #[test]
    fn written_items_are_parsed() {
        let item: Item = [
            ("s", Value::from("q\"\\\u{0}\u{1F}\n\u{10FFFF}ä")),
            (
                "n",
                Value::Number("-1.5E+100".parse().unwrap_or(Number::ZERO)),
            ),
            ("b", Value::Binary(vec![0, 255, 7])),
            ("t", Value::Bool(true)),
            ("l", Value::List(vec![Value::Null, Value::from(1_i64)])),
            (
                "m",
                Value::Map(Map::from_pairs(vec![("x".into(), "y".into())])),
            ),
            ("ss", Value::StringSet(["a".to_owned()].into())),
            (
                "ns",
                Value::NumberSet([Number::from(1_i64), Number::from(2_i64)].into()),
            ),
            ("bs", Value::BinarySet([vec![1], vec![]].into())),
        ]
        .map(|(name, value)| (Name::from(name), value))
        .into_iter()
        .collect();
        let mut text = String::new();
        push_item(&item, &mut text);
        assert_eq!(parse(&text), Some(item));
    }

    #[test]
    fn escapes_and_spaces_are_parsed() {
        assert_eq!(
            parse(r#" { "a" : { "S" : "\ud83d\ude00\/\b\f\t\u00e4" } } "#),
            Some(Map::from_pairs(vec![(
                "a".into(),
                "😀/\u{8}\u{c}\tä".into()
            )]))
        );
    }

    #[test]
    fn text_that_is_not_an_item_is_refused() {
        for text in [
            "",
            "{",
            "[]",
            "{\"a\"}",
            r#"{"a":1}"#,
            r#"{"a":{"S":1}}"#,
            r#"{"a":{"N":"x"}}"#,
            r#"{"a":{"N":"1E+126"}}"#,
            r#"{"a":{"B":"*"}}"#,
            r#"{"a":{"Q":"1"}}"#,
            r#"{"a":{"S":"1","N":"1"}}"#,
            r#"{"a":{"S":"\ud83d"}}"#,
            r#"{"a":{"S":"\ude00"}}"#,
            r#"{"a":{"S":"\u+123"}}"#,
            r#"{"a":{"S":"ä\"#,
            r#"{"a":{"BOOL":yes}}"#,
            "{\"a\":{\"S\":\"\n\"}}",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let deep = "{\"a\":{\"L\":[".repeat(MAX_DEPTH * 2);
        assert_eq!(parse(&deep), None);
        let deep = format!("{{\"a\":{}", "{\"L\":[".repeat(MAX_DEPTH * 2));
        assert_eq!(parse(&deep), None);
    }

    #[test]
    fn any_value_is_skipped() {
        let mut found = None;
        Parser::new(r#"{"x":[1,{"y":"]}"},[]],"z":-1.5e3,"w":null,"n":7}"#)
            .object(|parser, name| {
                if name == "n" {
                    found = parser.count();
                    Some(())
                } else {
                    parser.skip()
                }
            })
            .unwrap();
        assert_eq!(found, Some(7));
        assert_eq!(Parser::new("[[[").skip(), None);
        assert_eq!(Parser::new("]").skip(), None);
    }
}
