//! Tables and their indexes, as a model declares them.

use crate::error::{Error, Result, Violation};
use crate::key::{Key, KeyKind, KeyValue};
use crate::number::Number;
use crate::path::{Path, Step};
use crate::unique::{Claim, Unique};
use crate::value::{Item, Name, Value};

/// An attribute that takes part in a key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyAttribute {
    /// Its name in the store.
    pub name: Name,
    /// What it holds.
    pub kind: KeyKind,
}

/// The attributes of an item that an index has, in addition to the keys.
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

/// The names that a class gives to attributes with other names in the store: pairs of the stored name and that of the
/// class. They are for messages, so tables do not differ by them.
#[derive(Clone, Debug, Default)]
pub struct Labels(pub Vec<(Name, Name)>);

impl Eq for Labels {}

impl PartialEq for Labels {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// A table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    /// Its name in the store.
    pub name: String,
    /// The class it belongs to, for messages.
    pub model: String,
    /// The names of its attributes in the class.
    pub labels: Labels,
    /// The partition key.
    pub partition: KeyAttribute,
    /// The sort key.
    pub sort: Option<KeyAttribute>,
    /// The attribute that holds the time of expiry, in seconds since 1970.
    pub ttl: Option<Name>,
    /// The indexes.
    pub indexes: Vec<Index>,
    /// The values that must be unique.
    pub unique: Vec<Unique>,
    /// On a Redis Cluster, the text whose slot group has all rows; `None`: the partition key of each row decides.
    pub colocate: Option<String>,
}

impl Index {
    /// The attributes of the index in order: partition, then sort.
    pub fn attributes(&self) -> impl Iterator<Item = &KeyAttribute> {
        self.partition.iter().chain(&self.sort)
    }

    /// The values that an item has for these attributes; `None` if the item is not in the index, because a value is
    /// absent, or of a type or a size that a key cannot have.
    #[must_use]
    pub fn values_of(&self, item: &Item) -> Option<Vec<KeyValue>> {
        let value = |part: &KeyAttribute| KeyValue::from_value(item.get(&part.name)?, part.kind);
        let mut values = Vec::with_capacity(self.partition.len() + 1);
        for part in &self.partition {
            values.push(value(part).filter(|value| value.check_partition().is_ok())?);
        }
        if let Some(part) = &self.sort {
            values.push(value(part).filter(|value| value.check_sort().is_ok())?);
        }
        Some(values)
    }
}

/// Whether one of these paths leads to an entry of a map, or into it. Only what they lead to is left of the value.
fn keep(name: &Name, value: &mut Value, paths: &[&[Step]]) -> bool {
    let rest = paths.iter().filter_map(|path| match path.split_first()? {
        (Step::Name(first), rest) if first == name => Some(rest),
        _ => None,
    });
    let rest: Vec<&[Step]> = rest.collect();
    if rest.is_empty() {
        return false;
    }
    if rest.iter().any(|path| path.is_empty()) {
        return true;
    }
    match value {
        Value::Map(map) => {
            map.retain(|name, value| keep(name, value, &rest));
            !map.is_empty()
        }
        _ => false,
    }
}

impl Table {
    /// A table of which only the name is known. It stands for the table in errors and while its description is read.
    #[must_use]
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            model: name.to_owned(),
            labels: Labels::default(),
            partition: KeyAttribute {
                name: Name::from(""),
                kind: KeyKind::String,
            },
            sort: None,
            ttl: None,
            indexes: Vec::new(),
            unique: Vec::new(),
            colocate: None,
        }
    }

    /// The table without its unique values.
    #[must_use]
    pub fn without_unique(&self) -> Self {
        Self {
            unique: Vec::new(),
            ..self.clone()
        }
    }

    /// The name of an attribute in the class.
    #[must_use]
    pub fn label<'a>(&'a self, stored: &'a str) -> &'a str {
        let mut pairs = self.labels.0.iter();
        pairs
            .find(|(name, _)| &**name == stored)
            .map_or(stored, |(_, label)| label)
    }

    /// A path as messages show it, with the name of its attribute in the class.
    #[must_use]
    pub fn label_path(&self, path: &Path) -> String {
        let mut steps = path.0.clone();
        if let Some(Step::Name(name)) = steps.first_mut() {
            *name = self.label(name).into();
        }
        Path(steps).to_string()
    }

    /// The attributes and values of a conflict, for a message.
    #[must_use]
    pub fn describe(&self, violation: &Violation) -> String {
        let pairs = violation.attributes.iter().zip(&violation.values);
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{} = {value}", self.label(name)))
            .collect();
        pairs.join(", ")
    }

    /// The index of this name.
    #[must_use]
    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == name)
    }

    /// The unique values of this name.
    #[must_use]
    pub fn unique(&self, name: &str) -> Option<&Unique> {
        self.unique.iter().find(|unique| unique.name == name)
    }

    /// What an item of this table claims.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if a value cannot be unique.
    pub fn claims(&self, item: &Item) -> Result<Vec<Claim<'_>>> {
        let claims = self.unique.iter().map(|unique| unique.claim(item));
        claims.filter_map(Result::transpose).collect()
    }

    /// Whether an attribute is part of the table's key.
    #[must_use]
    pub fn is_key(&self, name: &str) -> bool {
        self.key_attributes().any(|part| *part.name == *name)
    }

    /// The attributes of the table's key: partition, then sort.
    pub fn key_attributes(&self) -> impl Iterator<Item = &KeyAttribute> {
        std::iter::once(&self.partition).chain(&self.sort)
    }

    /// The names of the attributes that one of the table's indexes projects; `None`: all.
    #[must_use]
    pub fn index_projection<'a>(&'a self, index: &'a Index) -> Option<Vec<&'a Name>> {
        let others: &[Name] = match &index.projection {
            Projection::All => return None,
            Projection::Keys => &[],
            Projection::Attributes(names) => names,
        };
        let keys = self.key_attributes().chain(index.attributes());
        Some(keys.map(|part| &part.name).chain(others).collect())
    }

    /// Removes everything from an item except the keys and what these paths lead to; `None`: all is kept.
    pub fn project(&self, item: &mut Item, paths: Option<&[Path]>) {
        if let Some(paths) = paths {
            let paths: Vec<&[Step]> = paths.iter().map(|path| &path.0[..]).collect();
            item.retain(|name, value| self.is_key(name) || keep(name, value, &paths));
        }
    }

    /// The key of an item of this table, checked.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if a key attribute is absent, empty, too long or of another type.
    pub fn key_of(&self, item: &Item) -> Result<Key> {
        let part = |attribute: &KeyAttribute| {
            let value = item.get(&attribute.name);
            let found = value.and_then(|value| KeyValue::from_value(value, attribute.kind));
            found.ok_or_else(|| Error::key_type(self, attribute, value.map(Value::value_type)))
        };
        let key = Key {
            partition: part(&self.partition)?,
            sort: self.sort.as_ref().map(part).transpose()?,
        };
        self.check_key(&key)?;
        Ok(key)
    }

    /// Whether an item is the row of this key.
    #[must_use]
    pub fn has_key(&self, item: &Item, key: &Key) -> bool {
        let parts = std::iter::once(&key.partition).chain(&key.sort);
        self.key_attributes().zip(parts).all(|(attribute, part)| {
            match (item.get(&attribute.name), part) {
                (Some(Value::String(text)), KeyValue::String(own)) => text == own,
                (Some(Value::Number(number)), KeyValue::Number(own)) => number == own,
                (Some(Value::Binary(bytes)), KeyValue::Binary(own)) => bytes == own,
                _ => false,
            }
        })
    }

    /// An item that only contains this key.
    #[must_use]
    pub fn item_of(&self, key: &Key) -> Item {
        let mut item = Item::with_capacity(8);
        item.insert(self.partition.name.clone(), key.partition.to_value());
        if let (Some(attribute), Some(value)) = (&self.sort, &key.sort) {
            item.insert(attribute.name.clone(), value.to_value());
        }
        item
    }

    /// Checks that a key fits this table: its kinds, and the limits on its length.
    ///
    /// # Errors
    ///
    /// `InvalidValue` that names the attribute.
    pub fn check_key(&self, key: &Key) -> Result<()> {
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
            (Some(attribute), None) => Err(Error::key_type(self, attribute, None)),
            (None, Some(_)) => Err(Error::invalid(
                "there is no sort key, but one was given: leave it out",
            )
            .of(self)),
        }
    }

    /// Checks that a value is of the kind its key attribute holds.
    ///
    /// # Errors
    ///
    /// `InvalidValue` that names the attribute.
    pub fn check_kind(&self, attribute: &KeyAttribute, value: &KeyValue) -> Result<()> {
        if value.kind() == attribute.kind {
            Ok(())
        } else {
            Err(Error::key_type(
                self,
                attribute,
                Some(value.kind().value_type()),
            ))
        }
    }

    /// The item, unless it has expired at this time.
    #[must_use]
    pub fn live(&self, item: Option<Item>, now: i64) -> Option<Item> {
        item.filter(|item| !self.is_expired(item, now))
    }

    /// What these paths lead to in an item, if there is one.
    #[must_use]
    pub fn projected(&self, item: Option<Item>, paths: Option<&[Path]>) -> Option<Item> {
        let mut item = item?;
        self.project(&mut item, paths);
        Some(item)
    }

    /// True if the item has expired at this time and so counts as absent.
    #[must_use]
    pub fn is_expired(&self, item: &Item, now: i64) -> bool {
        match self.ttl.as_ref().and_then(|ttl| item.get(ttl)) {
            Some(Value::Number(expiry)) => *expiry <= Number::from(now),
            _ => false,
        }
    }

    /// Checks that the attributes of an item that are keys of indexes have a type and a size that a key can have. Only
    /// `DynamoDB` refuses such items: elsewhere the item is not in the index.
    ///
    /// # Errors
    ///
    /// `InvalidValue` that names the index and the attribute.
    pub fn check_indexed(&self, item: &Item) -> Result<()> {
        for index in &self.indexes {
            let parts = index.partition.iter().map(|part| (part, false));
            for (attribute, sorts) in parts.chain(index.sort.iter().map(|sort| (sort, true))) {
                let Some(value) = item.get(&attribute.name) else {
                    continue;
                };
                let fits = match KeyValue::from_value(value, attribute.kind) {
                    Some(key) if sorts => key.check_sort(),
                    Some(key) => key.check_partition(),
                    None => Err(Error::invalid(format!(
                        "it is a {}, not a {}",
                        value.value_type(),
                        attribute.kind.value_type()
                    ))),
                };
                fits.map_err(|mut error| {
                    error.message =
                        format!("index {:?} cannot hold it: {}", index.name, error.message);
                    error.of(self).on(&attribute.name)
                })?;
            }
        }
        Ok(())
    }
}
