//! Keys and their order.

use std::fmt;

use crate::number::Number;
use crate::value::{Value, ValueType};

/// The bytes a partition key may have.
pub const MAX_PARTITION: usize = 2048;
/// The bytes a sort key may have.
pub const MAX_SORT: usize = 1024;

/// What a key attribute holds.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum KeyKind {
    /// Text.
    String,
    /// A number.
    Number,
    /// Bytes.
    Binary,
}

impl KeyKind {
    /// The same as a value's type.
    #[must_use]
    pub const fn value_type(self) -> ValueType {
        match self {
            Self::String => ValueType::String,
            Self::Number => ValueType::Number,
            Self::Binary => ValueType::Binary,
        }
    }

    /// The kind with this [code](ValueType::code), if there is one.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        let mut all = [Self::String, Self::Number, Self::Binary].into_iter();
        all.find(|kind| kind.value_type().code() == code)
    }
}

/// One part of a key. Strings and bytes are in the order of their bytes, numbers in their own.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum KeyValue {
    /// Text.
    String(String),
    /// A number.
    Number(Number),
    /// Bytes.
    Binary(Vec<u8>),
}

/// What identifies an item in its table.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Key {
    /// The partition key.
    pub partition: KeyValue,
    /// The sort key, if the table has one.
    pub sort: Option<KeyValue>,
}

impl KeyValue {
    /// The kind it is of.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        match self {
            Self::String(_) => KeyKind::String,
            Self::Number(_) => KeyKind::Number,
            Self::Binary(_) => KeyKind::Binary,
        }
    }

    /// A value as a part of a key, if it is of this kind.
    #[must_use]
    pub fn from_value(value: &Value, kind: KeyKind) -> Option<Self> {
        match (value, kind) {
            (Value::String(text), KeyKind::String) => Some(Self::String(text.clone())),
            (Value::Number(number), KeyKind::Number) => Some(Self::Number(*number)),
            (Value::Binary(bytes), KeyKind::Binary) => Some(Self::Binary(bytes.clone())),
            _ => None,
        }
    }

    /// The same as a value.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Self::String(text) => Value::String(text.clone()),
            Self::Number(number) => Value::Number(*number),
            Self::Binary(bytes) => Value::Binary(bytes.clone()),
        }
    }
}

/// How much of a key a message shows.
const SHOWN: usize = 60;

impl fmt::Display for KeyValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) => {
                // Escapes make the text longer.
                let mut length = 0;
                let cut = text
                    .char_indices()
                    .enumerate()
                    .find(|(position, (_, own))| {
                        length += own.escape_debug().count();
                        *position == SHOWN || length > 2 * SHOWN
                    });
                match cut {
                    None => write!(f, "{text:?}"),
                    Some((_, (end, _))) => write!(f, "{:?}…", &text[..end]),
                }
            }
            Self::Number(number) => write!(f, "{number}"),
            Self::Binary(bytes) => {
                f.write_str("b\"")?;
                write!(f, "{}", bytes[..bytes.len().min(SHOWN)].escape_ascii())?;
                f.write_str(if bytes.len() > SHOWN { "\"…" } else { "\"" })
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.sort {
            None => write!(f, "{}", self.partition),
            Some(sort) => write!(f, "({}, {sort})", self.partition),
        }
    }
}
