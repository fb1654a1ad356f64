//! `DynamoDB`'s JSON: values with their types, written and parsed without an intermediate tree.

use std::fmt;
use std::result;

use mintkey_store::json::{Base64, Decimal, TextSeed, push_base64, push_list, push_string};
use mintkey_store::names::Names;
use mintkey_store::{Item, Map, Number, Value};
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

/// Appends a value with its type, `{"S":"text"}`.
pub fn push_value(value: &Value, to: &mut String) {
    to.push_str("{\"");
    to.push_str(value.value_type().code());
    to.push_str("\":");
    match value {
        Value::String(text) => push_string(text, to),
        Value::Number(number) => push_number(number, to),
        Value::Bool(truth) => to.push_str(if *truth { "true" } else { "false" }),
        Value::Null => to.push_str("true"),
        Value::Binary(bytes) => push_base64(bytes, to),
        Value::List(list) => push_list(list, to, push_value),
        Value::Map(map) => push_item(map, to),
        Value::StringSet(set) => push_list(set, to, |text, to| push_string(text, to)),
        Value::NumberSet(set) => push_list(set, to, push_number),
        Value::BinarySet(set) => push_list(set, to, |bytes, to| push_base64(bytes, to)),
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
        push_string(name, to);
        to.push(':');
        push_value(value, to);
    }
    to.push('}');
}

fn push_number(number: &Number, to: &mut String) {
    to.push('"');
    number.push(to);
    to.push('"');
}

/// An item in a response.
#[derive(Debug, PartialEq)]
pub struct StoredItem(pub Item);

impl<'de> Deserialize<'de> for StoredItem {
    fn deserialize<D: Deserializer<'de>>(from: D) -> result::Result<Self, D::Error> {
        MapSeed(&mut Names::default()).deserialize(from).map(Self)
    }
}

/// Items in a response. They share the names of their attributes.
#[derive(Debug, Default)]
pub struct StoredItems(pub Vec<Item>);

impl<'de> Deserialize<'de> for StoredItems {
    fn deserialize<D: Deserializer<'de>>(from: D) -> result::Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Vec<Item>;

            fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
                to.write_str("a list of items")
            }

            fn visit_seq<A: SeqAccess<'de>>(
                self,
                mut members: A,
            ) -> result::Result<Vec<Item>, A::Error> {
                let (mut names, mut items) = (Names::default(), Vec::new());
                while let Some(item) = members.next_element_seed(MapSeed(&mut names))? {
                    names.restart();
                    items.push(item);
                }
                Ok(items)
            }
        }
        from.deserialize_seq(Members).map(Self)
    }
}

/// Reads an item or a map.
struct MapSeed<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for MapSeed<'_> {
    type Value = Map;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> result::Result<Map, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MapSeed<'_> {
    type Value = Map;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("attributes")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> result::Result<Map, A::Error> {
        let mut pairs = Vec::with_capacity(8);
        while let Some(name) = entries.next_key_seed(TextSeed {
            expected: "a name",
            read: |name: &str| Ok(self.0.shared(name)),
        })? {
            pairs.push((name, entries.next_value_seed(ValueSeed(self.0))?));
        }
        Ok(Map::from_pairs(pairs))
    }
}

/// The type of a value, as its key in `{"S":"text"}`.
#[derive(Deserialize)]
#[serde(variant_identifier)]
enum Kind {
    S,
    N,
    #[serde(rename = "BOOL")]
    Bool,
    #[serde(rename = "NULL")]
    Null,
    B,
    L,
    M,
    #[serde(rename = "SS")]
    StringSet,
    #[serde(rename = "NS")]
    NumberSet,
    #[serde(rename = "BS")]
    BinarySet,
}

/// Reads a value with its type. How deep it may be nested is limited by `serde_json`, to 128 lists and objects.
struct ValueSeed<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for ValueSeed<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> result::Result<Value, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed<'_> {
    type Value = Value;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a value with its type")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entry: A) -> result::Result<Value, A::Error> {
        let Some(kind) = entry.next_key()? else {
            return Err(A::Error::custom("a value without a type"));
        };
        let value = match kind {
            Kind::S => Value::String(entry.next_value()?),
            Kind::N => Value::Number(entry.next_value::<Decimal>()?.0),
            Kind::Bool => Value::Bool(entry.next_value()?),
            Kind::Null => entry.next_value::<bool>().map(|_| Value::Null)?,
            Kind::B => Value::Binary(entry.next_value::<Base64>()?.0),
            Kind::L => Value::List(entry.next_value_seed(ListSeed(self.0))?),
            Kind::M => Value::Map(entry.next_value_seed(MapSeed(self.0))?),
            Kind::StringSet => Value::StringSet(entry.next_value()?),
            Kind::NumberSet => {
                let members: Vec<Decimal> = entry.next_value()?;
                Value::NumberSet(members.into_iter().map(|Decimal(own)| own).collect())
            }
            Kind::BinarySet => {
                let members: Vec<Base64> = entry.next_value()?;
                Value::BinarySet(members.into_iter().map(|Base64(own)| own).collect())
            }
        };
        if entry.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("a value of two types"));
        }
        Ok(value)
    }
}

struct ListSeed<'a>(&'a mut Names);

impl<'de> DeserializeSeed<'de> for ListSeed<'_> {
    type Value = Vec<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> result::Result<Vec<Value>, D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for ListSeed<'_> {
    type Value = Vec<Value>;

    fn expecting(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a list of values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut members: A) -> result::Result<Vec<Value>, A::Error> {
        let mut list = Vec::new();
        while let Some(value) = members.next_element_seed(ValueSeed(self.0))? {
            list.push(value);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use mintkey_store::Name;

    use super::*;

    fn parse(text: &str) -> Option<Item> {
        let StoredItem(item) = serde_json::from_str(text).ok()?;
        Some(item)
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
        let deep = "{\"a\":{\"L\":[".repeat(256);
        assert_eq!(parse(&deep), None);
        let deep = format!("{{\"a\":{}", "{\"L\":[".repeat(256));
        assert_eq!(parse(&deep), None);
    }
}
