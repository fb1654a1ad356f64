//! The types of values of `DynamoDB`, and items.

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use crate::number::Number;
use crate::work::{STEP, Work};

/// Up to so many names are found faster by a walk for each than through an index.
const FEW: usize = 16;

/// The name of an attribute, shared between the items that carry it.
pub type Name = Arc<str>;

/// An item: the attributes of one row.
pub type Item = Map;

/// One value.
///
/// Two sets are equal when they hold the same members, two maps when they hold the same entries,
/// in whatever order.
#[derive(Clone, Debug)]
pub enum Value {
    /// Text.
    String(String),
    /// A decimal number of up to 38 digits.
    Number(Number),
    /// True or false.
    Bool(bool),
    /// The null that lists and maps may hold; an attribute is absent instead.
    Null,
    /// Bytes.
    Binary(Vec<u8>),
    /// Values in order.
    List(Vec<Value>),
    /// Named values.
    Map(Map),
    /// Different strings.
    StringSet(BTreeSet<String>),
    /// Different numbers.
    NumberSet(BTreeSet<Number>),
    /// Different byte strings.
    BinarySet(BTreeSet<Vec<u8>>),
}

/// The type of a [`Value`], as a condition may ask for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueType {
    /// Text.
    String,
    /// A number.
    Number,
    /// True or false.
    Bool,
    /// Null.
    Null,
    /// Bytes.
    Binary,
    /// A list.
    List,
    /// A map.
    Map,
    /// A set of strings.
    StringSet,
    /// A set of numbers.
    NumberSet,
    /// A set of byte strings.
    BinarySet,
}

impl ValueType {
    /// The type's word in `DynamoDB`'s notation, `"S"` or `"NS"` for example.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::String => "S",
            Self::Number => "N",
            Self::Bool => "BOOL",
            Self::Null => "NULL",
            Self::Binary => "B",
            Self::List => "L",
            Self::Map => "M",
            Self::StringSet => "SS",
            Self::NumberSet => "NS",
            Self::BinarySet => "BS",
        }
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "string",
            Self::Number => "number",
            Self::Bool => "boolean",
            Self::Null => "null",
            Self::Binary => "binary",
            Self::List => "list",
            Self::Map => "map",
            Self::StringSet => "string set",
            Self::NumberSet => "number set",
            Self::BinarySet => "binary set",
        })
    }
}

impl Value {
    /// The value's type.
    #[must_use]
    pub const fn value_type(&self) -> ValueType {
        match self {
            Self::String(_) => ValueType::String,
            Self::Number(_) => ValueType::Number,
            Self::Bool(_) => ValueType::Bool,
            Self::Null => ValueType::Null,
            Self::Binary(_) => ValueType::Binary,
            Self::List(_) => ValueType::List,
            Self::Map(_) => ValueType::Map,
            Self::StringSet(_) => ValueType::StringSet,
            Self::NumberSet(_) => ValueType::NumberSet,
            Self::BinarySet(_) => ValueType::BinarySet,
        }
    }

    /// Whether both are equal. The work can end early.
    pub(crate) fn equals<E>(&self, other: &Self, work: &mut Work<'_, E>) -> Result<bool, E> {
        work.count(STEP)?;
        match (self, other) {
            (Self::String(own), Self::String(other)) => {
                bytes_equal(own.as_bytes(), other.as_bytes(), work)
            }
            (Self::Number(own), Self::Number(other)) => Ok(own == other),
            (Self::Bool(own), Self::Bool(other)) => Ok(own == other),
            (Self::Null, Self::Null) => Ok(true),
            (Self::Binary(own), Self::Binary(other)) => bytes_equal(own, other, work),
            (Self::List(own), Self::List(other)) => all_equal(own, other, work, Self::equals),
            (Self::Map(own), Self::Map(other)) => own.equals(other, work),
            (Self::StringSet(own), Self::StringSet(other)) => {
                all_equal(own, other, work, |own, other, work| {
                    bytes_equal(own.as_bytes(), other.as_bytes(), work)
                })
            }
            (Self::NumberSet(own), Self::NumberSet(other)) => {
                all_equal(own, other, work, |own, other, _| Ok(own == other))
            }
            (Self::BinarySet(own), Self::BinarySet(other)) => {
                all_equal(own, other, work, |own, other, work| {
                    bytes_equal(own, other, work)
                })
            }
            _ => Ok(false),
        }
    }
}

fn bytes_equal<E>(own: &[u8], other: &[u8], work: &mut Work<'_, E>) -> Result<bool, E> {
    if own.len() != other.len() {
        return Ok(false);
    }
    work.count(own.len())?;
    Ok(own == other)
}

/// Whether the elements of two containers are equal, in their order.
fn all_equal<'a, T: 'a, C, E>(
    own: &'a C,
    other: &'a C,
    work: &mut Work<'_, E>,
    equal: impl Fn(&T, &T, &mut Work<'_, E>) -> Result<bool, E>,
) -> Result<bool, E>
where
    &'a C: IntoIterator<Item = &'a T, IntoIter: ExactSizeIterator>,
{
    let (own, other) = (own.into_iter(), other.into_iter());
    if own.len() != other.len() {
        return Ok(false);
    }
    for (own, other) in own.zip(other) {
        work.count(STEP)?;
        if !equal(own, other, work)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Compares without an early end.
fn finish(compare: impl FnOnce(&mut Work<'_, Infallible>) -> Result<bool, Infallible>) -> bool {
    let Ok(equal) = compare(&mut Work::new(&mut || Ok(())));
    equal
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        finish(|work| self.equals(other, work))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Number::from(number))
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// Removes what is at these positions, which ascend, in one pass.
pub(crate) fn remove_all<T>(from: &mut Vec<T>, positions: &[usize]) {
    if positions.is_empty() {
        return;
    }
    let mut positions = positions.iter().peekable();
    let mut position = 0;
    from.retain(|_| {
        let gone = positions.next_if_eq(&&position).is_some();
        position += 1;
        !gone
    });
}

/// Names to values, in the order written.
///
/// A vector inside: items are small, and a walk over a few names beats hashing them. Equality
/// ignores the order.
#[derive(Clone, Debug, Default)]
pub struct Map(Vec<(Name, Value)>);

impl Map {
    /// A map without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A map without entries and with room for some.
    #[must_use]
    pub fn with_capacity(entries: usize) -> Self {
        Self(Vec::with_capacity(entries))
    }

    /// A map of these entries, whose names must all differ.
    #[must_use]
    pub fn from_pairs(pairs: Vec<(Name, Value)>) -> Self {
        Self(pairs)
    }

    /// The value under a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(own, _)| &**own == name)
            .map(|(_, value)| value)
    }

    /// The value under a name, to change it.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.0
            .iter_mut()
            .find(|(own, _)| &**own == name)
            .map(|(_, value)| value)
    }

    /// Sets the value of a name, at the end if the name is new, and returns the replaced value.
    pub fn insert(&mut self, name: Name, value: Value) -> Option<Value> {
        if let Some(old) = self.get_mut(&name) {
            return Some(std::mem::replace(old, value));
        }
        self.0.push((name, value));
        None
    }

    /// Takes a value out; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        let index = self.0.iter().position(|(own, _)| &**own == name)?;
        Some(self.0.remove(index).1)
    }

    /// Keeps the entries of which the question is true.
    pub fn retain(&mut self, mut keep: impl FnMut(&Name, &mut Value) -> bool) {
        self.0.retain_mut(|(name, value)| keep(name, value));
    }

    /// The entries in order.
    pub fn iter(&self) -> std::slice::Iter<'_, (Name, Value)> {
        self.0.iter()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True without entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The positions of the entries with these names, which must differ.
    pub(crate) fn positions(&self, names: &[&Name]) -> Vec<Option<usize>> {
        if names.len() <= FEW {
            let position = |name: &&Name| self.0.iter().position(|(own, _)| own == *name);
            return names.iter().map(position).collect();
        }
        let wanted: HashMap<&Name, usize> = names.iter().copied().zip(0..).collect();
        let mut positions = vec![None; names.len()];
        for (position, (name, _)) in self.0.iter().enumerate() {
            if let Some(index) = wanted.get(name) {
                positions[*index] = Some(position);
            }
        }
        positions
    }

    /// The value at a position, to change it.
    pub(crate) fn value_at(&mut self, position: usize) -> &mut Value {
        &mut self.0[position].1
    }

    /// Removes the entries at these positions, which ascend; the others keep their order.
    pub(crate) fn remove_all(&mut self, positions: &[usize]) {
        remove_all(&mut self.0, positions);
    }

    /// Whether both are equal. The work can end early.
    fn equals<E>(&self, other: &Self, work: &mut Work<'_, E>) -> Result<bool, E> {
        if self.len() != other.len() {
            return Ok(false);
        }
        // Mostly the entries have the same order. From the first that differs on, names are looked up.
        for (index, ((name, value), (other_name, other_value))) in
            self.0.iter().zip(&other.0).enumerate()
        {
            work.count(STEP + name.len())?;
            if name != other_name {
                return Self::entries_equal(&self.0[index..], &other.0[index..], work);
            }
            if !value.equals(other_value, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether these entries are equal, in any order.
    fn entries_equal<E>(
        own: &[(Name, Value)],
        other: &[(Name, Value)],
        work: &mut Work<'_, E>,
    ) -> Result<bool, E> {
        let mut index: HashMap<&str, &Value> = HashMap::new();
        if other.len() > FEW {
            for (name, value) in other {
                work.count(STEP + name.len())?;
                index.insert(name, value);
            }
        }
        for (name, value) in own {
            work.count(STEP + name.len())?;
            let found = if index.is_empty() {
                other
                    .iter()
                    .find(|(other, _)| other == name)
                    .map(|(_, value)| value)
            } else {
                index.get(&**name).copied()
            };
            let Some(found) = found else { return Ok(false) };
            if !value.equals(found, work)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends an entry whose name is known to be new, without looking for it.
    pub(crate) fn push(&mut self, name: Name, value: Value) {
        self.0.push((name, value));
    }
}

impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        finish(|work| self.equals(other, work))
    }
}

impl IntoIterator for Map {
    type Item = (Name, Value);
    type IntoIter = std::vec::IntoIter<(Name, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Map {
    type Item = &'a (Name, Value);
    type IntoIter = std::slice::Iter<'a, (Name, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl FromIterator<(Name, Value)> for Map {
    fn from_iter<I: IntoIterator<Item = (Name, Value)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}
