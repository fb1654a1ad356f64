//! Tables and their indexes, as a model declares them.

use crate::key::{Key, KeyKind, KeyValue};
use crate::value::{Item, Name, Value};

/// An attribute that takes part in a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyAttribute {
    /// Its name in the store.
    pub name: Name,
    /// What it holds.
    pub kind: KeyKind,
}

/// What an index shows of an item beside the keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Projection {
    /// Everything.
    All,
    /// Nothing.
    Keys,
    /// These attributes.
    Attributes(Vec<Name>),
}

/// Another order in which the items of a table can be read. Items without one of its attributes
/// are not in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Index {
    /// Its name, unique in the table.
    pub name: String,
    /// The attributes that are looked up for equality; none at all: the index orders the whole table.
    pub partition: Vec<KeyAttribute>,
    /// The attribute that orders the items.
    pub sort: Option<KeyAttribute>,
    /// What it shows.
    pub projection: Projection,
    /// True if it shares the table's partition key (`DynamoDB`: a local secondary index).
    pub local: bool,
}

/// A table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// Its name in the store.
    pub name: String,
    /// The class it belongs to, for messages.
    pub model: String,
    /// The partition key.
    pub partition: KeyAttribute,
    /// The sort key.
    pub sort: Option<KeyAttribute>,
    /// The attribute that holds the time of expiry, in seconds since 1970.
    pub ttl: Option<Name>,
    /// The indexes.
    pub indexes: Vec<Index>,
    /// The attributes of which no two items may have the same value.
    pub unique: Vec<Name>,
}

impl Index {
    /// The attributes of the index in order: partition, then sort.
    pub fn attributes(&self) -> impl Iterator<Item = &KeyAttribute> {
        self.partition.iter().chain(&self.sort)
    }
}

impl Table {
    /// The index of this name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// The key of an item of this table, checked.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if a key attribute is absent, empty, too long or of another type.
    pub fn key_of(&self, item: &Item) -> crate::Result<Key> {
        let part = |attribute: &KeyAttribute| {
            let value = item.get(&attribute.name);
            let found = value.and_then(|value| KeyValue::from_value(value, attribute.kind));
            found.ok_or_else(|| {
                crate::Error::key_type(self, attribute, value.map(Value::value_type))
            })
        };
        let key = Key {
            partition: part(&self.partition)?,
            sort: self.sort.as_ref().map(part).transpose()?,
        };
        self.check_key(&key)?;
        Ok(key)
    }

    /// Checks that a key fits this table: its kinds, and the limits on its length.
    ///
    /// # Errors
    ///
    /// `InvalidValue` that names the attribute.
    pub fn check_key(&self, key: &Key) -> crate::Result<()> {
        self.check_kind(&self.partition, &key.partition)?;
        key.partition
            .check_partition()
            .map_err(|e| e.of(self).on(&self.partition.name))?;
        match (&self.sort, &key.sort) {
            (Some(attribute), Some(value)) => {
                self.check_kind(attribute, value)?;
                value
                    .check_sort()
                    .map_err(|e| e.of(self).on(&attribute.name))
            }
            (None, None) => Ok(()),
            (Some(attribute), None) => Err(crate::Error::key_type(self, attribute, None)),
            (None, Some(_)) => Err(crate::Error::invalid(format!(
                "{} has no sort key, but one was given: leave it out",
                self.model
            ))
            .of(self)),
        }
    }

    /// Checks that a value is of the kind its key attribute holds.
    ///
    /// # Errors
    ///
    /// `InvalidValue` that names the attribute.
    pub fn check_kind(&self, attribute: &KeyAttribute, value: &KeyValue) -> crate::Result<()> {
        if value.kind() == attribute.kind {
            Ok(())
        } else {
            Err(crate::Error::key_type(
                self,
                attribute,
                Some(value.kind().value_type()),
            ))
        }
    }

    /// The time of expiry of an item, in seconds since 1970, rounded down, if it has one.
    #[must_use]
    pub fn expiry(&self, item: &Item) -> Option<i64> {
        match item.get(self.ttl.as_ref()?) {
            Some(Value::Number(seconds)) => Some(seconds.floor()),
            _ => None,
        }
    }

    /// True if the item has expired at this time and so counts as absent.
    #[must_use]
    pub fn is_expired(&self, item: &Item, now: i64) -> bool {
        self.expiry(item).is_some_and(|expiry| expiry <= now)
    }
}
