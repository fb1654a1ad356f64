//! Unique values: which attributes must be unique among which rows, and what a row claims.

use crate::error::{Error, Result};
use crate::key::{KeyKind, KeyValue};
use crate::value::{Item, Name, Value};

/// The most bytes that the values of a row may have together, encoded.
pub const MAX_VALUES: usize = 1024;

/// The bytes before each value: its type and its length.
const HEAD: usize = 3;

/// Attributes of which no two rows of a scope have the same values. A row that lacks one of them is never in conflict.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unique {
    /// Its name, unique in the table; at most 255 bytes.
    pub name: String,
    /// The attributes.
    pub attributes: Vec<Name>,
    /// The rows that must differ.
    pub scope: Scope,
}

/// The rows of a table that belong to the class that declares a unique value, or to a subclass.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Scope {
    /// How the key of a row of the class starts. A row whose discriminator names its class may have any key, because
    /// subclasses may have other keys.
    pub prefixes: Vec<Prefix>,
    /// The attribute with the class of a row, if the rows of several classes are in the table.
    pub discriminator: Option<Discriminator>,
}

/// The text with which a text attribute of the key starts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prefix {
    /// The name of the attribute.
    pub attribute: Name,
    /// The text.
    pub text: String,
    /// Whether this is the whole text.
    pub whole: bool,
}

/// The attribute with the class of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Discriminator {
    /// Its name.
    pub attribute: Name,
    /// Its values for the class and the subclasses known so far.
    pub values: Vec<String>,
    /// Whether rows without a value belong to the class.
    pub or_absent: bool,
}

/// The unique values of one row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claim<'a> {
    /// The declaration.
    pub unique: &'a Unique,
    /// The values of its attributes, in order.
    pub values: Vec<KeyValue>,
}

impl Scope {
    /// Whether a row is in the scope.
    #[must_use]
    pub fn contains(&self, item: &Item) -> bool {
        if let Some(own) = &self.discriminator {
            match item.get(&own.attribute) {
                None | Some(Value::Null) if own.or_absent => {}
                Some(Value::String(text)) => return own.values.contains(text),
                _ => return false,
            }
        }
        self.prefixes
            .iter()
            .all(|prefix| match item.get(&prefix.attribute) {
                Some(Value::String(text)) if prefix.whole => *text == prefix.text,
                Some(Value::String(text)) => text.starts_with(&prefix.text),
                _ => false,
            })
    }
}

impl Unique {
    /// What a row claims; `None` if it is not in the scope, or if one of the values is absent or null.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if a value is neither text, a number nor bytes, or if the values are too long.
    pub fn claim(&self, item: &Item) -> Result<Option<Claim<'_>>> {
        if !self.scope.contains(item) {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(self.attributes.len());
        for name in &self.attributes {
            values.push(match item.get(name) {
                None | Some(Value::Null) => return Ok(None),
                Some(Value::String(text)) => KeyValue::String(text.clone()),
                Some(Value::Number(number)) => KeyValue::Number(*number),
                Some(Value::Binary(bytes)) => KeyValue::Binary(bytes.clone()),
                Some(other) => {
                    return Err(Error::invalid(format!(
                        "a unique value is text, a number or bytes, not a {}",
                        other.value_type()
                    ))
                    .on(name));
                }
            });
        }
        let claim = Claim {
            unique: self,
            values,
        };
        claim.check()?;
        Ok(Some(claim))
    }
}

impl Claim<'_> {
    /// The values as bytes, which differ if the values do.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.values)
    }

    fn check(&self) -> Result<()> {
        let encoded = |value: &KeyValue| HEAD + value.encode().len();
        let length: usize = self.values.iter().map(encoded).sum();
        if length <= MAX_VALUES {
            return Ok(());
        }
        let error = Error::invalid(format!(
            "unique values of {length} bytes are too long: at most {MAX_VALUES} are allowed"
        ));
        Err(match self.unique.attributes.first() {
            Some(attribute) => error.on(attribute),
            None => error,
        })
    }
}

/// Values as bytes, which differ if the values do: for each its type, its length in two bytes, and its key encoding.
#[must_use]
pub fn encode(values: &[KeyValue]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for value in values {
        let encoded = value.encode();
        bytes.push(match value.kind() {
            KeyKind::String => b'S',
            KeyKind::Number => b'N',
            KeyKind::Binary => b'B',
        });
        // No two values that pass the check are cut here: they are shorter.
        let length = u16::try_from(encoded.len()).unwrap_or(u16::MAX);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&encoded);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::number::Number;

    fn unique() -> Unique {
        Unique {
            name: "tenant,email".to_owned(),
            attributes: vec!["tenant".into(), "email".into()],
            scope: Scope {
                prefixes: vec![
                    Prefix {
                        attribute: "pk".into(),
                        text: "USER#".to_owned(),
                        whole: false,
                    },
                    Prefix {
                        attribute: "sk".into(),
                        text: "PROFILE".to_owned(),
                        whole: true,
                    },
                ],
                discriminator: Some(Discriminator {
                    attribute: "kind".into(),
                    values: vec!["user".to_owned()],
                    or_absent: true,
                }),
            },
        }
    }

    fn row(pairs: &[(&str, Value)]) -> Item {
        let mut item = Item::with_capacity(pairs.len());
        for (name, value) in pairs {
            item.insert((*name).into(), value.clone());
        }
        item
    }

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn a_row_claims_its_values_if_it_is_in_the_scope_and_has_all_of_them() {
        let unique = unique();
        let own = [
            ("pk", text("USER#1")),
            ("sk", text("PROFILE")),
            ("kind", text("user")),
            ("tenant", Value::Number(Number::from(7_i64))),
            ("email", text("")),
        ];
        let values = |item: &Item| unique.claim(item).unwrap().map(|claim| claim.values);
        let expected = vec![
            KeyValue::Number(Number::from(7_i64)),
            KeyValue::String(String::new()),
        ];
        assert_eq!(values(&row(&own)), Some(expected));
        let with = |changes: &[(usize, Value)]| {
            let mut changed = own.clone();
            for (position, other) in changes {
                changed[*position].1 = other.clone();
            }
            values(&row(&changed))
        };
        for (position, other) in [
            (2, text("admin")),
            (2, Value::Bool(true)),
            (3, Value::Null),
            (4, Value::Null),
        ] {
            assert_eq!(with(&[(position, other)]), None);
        }
        assert_eq!(values(&row(&own[..4])), None);
        // A row that names its class may have any key. For the others, the key shows the class.
        assert!(with(&[(0, text("ORDER#1"))]).is_some());
        assert!(with(&[(2, Value::Null)]).is_some());
        assert_eq!(with(&[(2, Value::Null), (0, text("ORDER#1"))]), None);
        assert_eq!(with(&[(2, Value::Null), (1, text("PROFILE#1"))]), None);
    }

    #[test]
    fn a_value_that_cannot_be_unique_is_refused() {
        let mut unique = unique();
        unique.scope = Scope::default();
        for email in [Value::Bool(true), text(&"x".repeat(MAX_VALUES))] {
            let item = row(&[("tenant", text("t")), ("email", email)]);
            assert_eq!(
                unique.claim(&item).unwrap_err().kind,
                ErrorKind::InvalidValue
            );
        }
    }

    #[test]
    fn different_values_have_different_bytes() {
        let of = |values: &[&str]| {
            let values: Vec<KeyValue> = values
                .iter()
                .map(|text| KeyValue::String((*text).to_owned()))
                .collect();
            encode(&values)
        };
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
        assert_ne!(of(&["7"]), encode(&[KeyValue::Binary(b"7".to_vec())]));
    }
}
