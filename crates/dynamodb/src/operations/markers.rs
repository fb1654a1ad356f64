//! Markers: items in a table of their own that say which row holds a unique value.
//!
//! A row that has a unique value has its marker. The reverse need not hold: a marker whose row is missing, has expired or
//! has another value counts as absent, and the next row with the value takes it over.

use mintkey_store::{
    Action, Claim, Condition, Error, Item, Key, KeyAttribute, KeyKind, KeyValue, Name, Path,
    Result, Table, Value, unique,
};

/// What the name of the table of markers has after that of the rows.
pub const SUFFIX: &str = ".unique";

/// The key of a marker: the name of the declaration, a zero byte, and the values.
const KEY: &str = "key";
/// The key of the row that holds the values.
const PARTITION: &str = "partition";
const SORT: &str = "sort";

/// A unique value of a row.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UniqueValue {
    /// The name of the declaration.
    pub unique: String,
    pub values: Vec<KeyValue>,
    /// The key of its marker.
    pub marker: Vec<u8>,
}

impl UniqueValue {
    fn new(claim: Claim<'_>) -> Self {
        Self {
            unique: claim.unique.name.clone(),
            marker: key(&claim.unique.name, &claim.values),
            values: claim.values,
        }
    }

    /// Whether a row has it, too.
    pub fn is_of(&self, table: &Table, row: &Item) -> bool {
        let unique = table.unique(&self.unique);
        let claim = unique.and_then(|unique| unique.claim(row).ok().flatten());
        claim.is_some_and(|claim| claim.values == self.values)
    }

    /// The error for a row of this key, because another one has the value.
    pub fn violation(&self, table: &Table, key: &Key, holder: Key) -> Error {
        match table.unique(&self.unique) {
            Some(unique) => {
                let values = self.values.clone();
                Error::unique_violation(table, key, &Claim { unique, values }, holder)
            }
            None => Error::configuration(format!(
                "table {:?} has no unique values {:?}",
                table.name, self.unique
            ))
            .of(table),
        }
    }
}

/// The unique values that a row gets. What it has already is not refused.
///
/// # Errors
///
/// `InvalidValue` if a value cannot be unique, and `before` does not have it.
pub fn unique_values(table: &Table, row: &Item, before: Option<&Item>) -> Result<Vec<UniqueValue>> {
    let mut values = Vec::with_capacity(table.unique.len());
    for unique in &table.unique {
        match unique.claim(row) {
            Ok(claim) => values.extend(claim.map(UniqueValue::new)),
            Err(error) => {
                let same = |name: &Name| before.is_some_and(|own| own.get(name) == row.get(name));
                if !unique.attributes.iter().all(same) {
                    return Err(error.of(table));
                }
            }
        }
    }
    Ok(values)
}

pub fn stored_unique_values(table: &Table, row: &Item) -> Vec<UniqueValue> {
    let claims = table.unique.iter().map(|unique| unique.claim(row));
    claims
        .filter_map(|claim| claim.ok().flatten().map(UniqueValue::new))
        .collect()
}

/// The attributes that decide which unique values a row has, without those of its key, which do not change.
pub fn unique_attributes(table: &Table) -> impl Iterator<Item = &Name> {
    let names = table.unique.iter().flat_map(|unique| {
        let discriminator = unique.scope.discriminator.iter();
        unique
            .attributes
            .iter()
            .chain(discriminator.map(|own| &own.attribute))
    });
    names.filter(|name| !table.is_key(name))
}

/// The condition that a row has, as far as this decides its unique values, what this one has. An update also depends on the
/// attributes that it copies, and a write that returns the row depends on all its attributes (`is_whole`).
pub fn unchanged(
    table: &Table,
    row: Option<&Item>,
    actions: &[Action],
    is_whole: bool,
) -> Vec<Condition> {
    let mut names: Vec<&Name> = unique_attributes(table).collect();
    if let Some(row) = row.filter(|_| is_whole) {
        let others = row.iter().map(|(name, _)| name);
        names.extend(others.filter(|name| !table.is_key(name)));
    }
    names.extend(actions.iter().filter_map(|action| match action {
        Action::SetFrom(_, from) => from.root(),
        _ => None,
    }));
    names.sort();
    names.dedup();
    let condition = |name: &Name| match row.and_then(|row| row.get(name)) {
        Some(value) => Condition::equals(name.clone(), value.clone()),
        None => Condition::Missing(Path::attribute(name.clone())),
    };
    names.into_iter().map(condition).collect()
}

/// The table of the markers of a table.
pub fn table(of: &Table) -> Table {
    Table {
        name: format!("{}{SUFFIX}", of.name),
        model: of.model.clone(),
        partition: KeyAttribute {
            name: KEY.into(),
            kind: KeyKind::Binary,
        },
        ..Table::unknown("")
    }
}

/// The key of the marker of these values.
pub fn key(unique: &str, values: &[KeyValue]) -> Vec<u8> {
    let mut key = unique.as_bytes().to_vec();
    key.push(0);
    key.extend(unique::encode(values));
    key
}

/// A key of the table of markers.
pub fn key_of(marker: &[u8]) -> Key {
    Key {
        partition: KeyValue::Binary(marker.to_vec()),
        sort: None,
    }
}

/// A marker that says that the row of this key holds the value.
pub fn item(marker: &[u8], holder: &Key) -> Item {
    let mut item = Item::with_capacity(4);
    item.insert(KEY.into(), Value::Binary(marker.to_vec()));
    item.insert(PARTITION.into(), holder.partition.to_value());
    if let Some(sort) = &holder.sort {
        item.insert(SORT.into(), sort.to_value());
    }
    item
}

/// The key of the row that a marker names.
///
/// # Errors
///
/// `InvalidValue` if it names none.
pub fn holder(table: &Table, marker: &Item) -> Result<Key> {
    let part = |name: &str, kind: KeyKind| {
        let value = marker.get(name);
        value.and_then(|value| KeyValue::from_value(value, kind))
    };
    let sort = table.sort.as_ref().map(|sort| part(SORT, sort.kind));
    match (part(PARTITION, table.partition.kind), sort) {
        (Some(partition), None) => Ok(Key {
            partition,
            sort: None,
        }),
        (Some(partition), Some(Some(sort))) => Ok(Key {
            partition,
            sort: Some(sort),
        }),
        _ => Err(Error::invalid(format!(
            "an item of table \"{}{SUFFIX}\" does not name a row: delete it",
            table.name
        ))
        .of(table)),
    }
}

/// The condition that there is no marker, or one that names one of these rows.
pub fn free_for<'a>(holders: impl IntoIterator<Item = &'a Key>) -> Condition {
    let equal = |name: &str, value: &KeyValue| Condition::equals(name, value.to_value());
    let mut any = vec![Condition::Missing(Path::attribute(KEY))];
    for holder in holders {
        let mut parts = vec![equal(PARTITION, &holder.partition)];
        parts.extend(holder.sort.iter().map(|sort| equal(SORT, sort)));
        any.extend(Condition::all(parts));
    }
    Condition::Or(any)
}
