//! Descriptions of tables: what a store's catalog keeps, and how it and a class go together.

use crate::error::{Error, Result};
use crate::key::KeyKind;
use crate::table::{Index, KeyAttribute, Projection, Table};
use crate::unique::{Discriminator, Prefix, Scope, Unique};
use crate::value::{Item, Map, Name, Value};

/// A table as its store describes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredTable {
    /// The table. Its class is not known: it is named like the table.
    pub table: Table,
    /// The number of stored rows; `None` if the store does not know it.
    pub rows: Option<u64>,
    /// Whether that is exact. It is an estimate if rows expire: expired rows that are not deleted yet may be included.
    pub is_exact: bool,
    /// The bytes of the rows, if the store knows them.
    pub bytes: Option<u64>,
    /// A text that no other table has, also under another address of the server; `None` if the store has none. On Redis it
    /// ends with a space and the id of the server's data; without that, a table that was restored elsewhere looks equal.
    pub id: Option<String>,
}

/// What a class and the catalog describe together: what the class has and the catalog lacks is added,
/// what the class lacks stays.
///
/// # Errors
///
/// `Configuration` if key types, the attribute of expiry, an index's keys or the texts of colocation differ.
pub fn merge(stored: &Table, class: &Table) -> Result<Table> {
    let refuse = |what: &str, there: String, here: String| differs(class, what, &there, &here);
    if stored.partition != class.partition {
        let (there, here) = (
            attribute_text(Some(&stored.partition)),
            attribute_text(Some(&class.partition)),
        );
        return Err(refuse("the partition key", there, here));
    }
    if stored.sort != class.sort {
        let (there, here) = (
            attribute_text(stored.sort.as_ref()),
            attribute_text(class.sort.as_ref()),
        );
        return Err(refuse("the sort key", there, here));
    }
    let mut merged = Table {
        model: class.model.clone(),
        labels: class.labels.clone(),
        ..stored.clone()
    };
    if stored.colocate.is_some() && class.colocate.is_some() {
        check_colocation(stored, class)?;
    }
    merged.colocate = merged.colocate.or_else(|| class.colocate.clone());
    match (&stored.ttl, &class.ttl) {
        (Some(there), Some(here)) if there != here => {
            return Err(refuse(
                "the attribute of expiry",
                format!("{there:?}"),
                format!("{here:?}"),
            ));
        }
        (None, Some(here)) => merged.ttl = Some(here.clone()),
        _ => {}
    }
    for index in &class.indexes {
        match stored.index(&index.name) {
            None => merged.indexes.push(index.clone()),
            Some(there) if there.partition != index.partition || there.sort != index.sort => {
                let what = format!("the key of index {:?}", index.name);
                return Err(refuse(&what, index_text(there), index_text(index)));
            }
            Some(_) => {}
        }
    }
    for unique in &class.unique {
        match merged
            .unique
            .iter_mut()
            .find(|there| there.name == unique.name)
        {
            None => merged.unique.push(unique.clone()),
            Some(there) => {
                merge_unique(there, unique).map_err(|(there, here)| {
                    refuse(&format!("the unique value {:?}", unique.name), there, here)
                })?;
            }
        }
    }
    Ok(merged)
}

/// Checks that the rows of a class belong where those of its table are. Only a Redis Cluster requires that both have the same
/// text, or none: [`merge`] refuses different texts, and adds one that is missing.
///
/// # Errors
///
/// `Configuration` if the texts differ, or only one has a text.
pub fn check_colocation(stored: &Table, class: &Table) -> Result<()> {
    if stored.colocate == class.colocate {
        return Ok(());
    }
    let words = |table: &Table| {
        let text = table.colocate.as_ref();
        text.map_or_else(|| "None".to_owned(), |text| format!("{text:?}"))
    };
    let (there, here) = (words(stored), words(class));
    Err(differs(class, "colocate", &there, &here))
}

/// The error for a class that does not fit its stored table.
fn differs(class: &Table, what: &str, there: &str, here: &str) -> Error {
    Error::configuration(format!(
        "{} does not fit its stored table {:?}: {what} is {there} there and {here} in the class; change \
         the class back, or use another table",
        class.model, class.name
    ))
    .of(class)
}

/// Adds to a stored declaration the subclasses that a class knows. Other differences are an error, in words.
fn merge_unique(stored: &mut Unique, class: &Unique) -> std::result::Result<(), (String, String)> {
    let words = |unique: &Unique| {
        format!(
            "of {} among {}",
            unique.attributes.join(", "),
            scope_text(&unique.scope)
        )
    };
    let differ = Err((words(stored), words(class)));
    if stored.attributes != class.attributes || stored.scope.prefixes != class.scope.prefixes {
        return differ;
    }
    match (&mut stored.scope.discriminator, &class.scope.discriminator) {
        (None, None) => Ok(()),
        (Some(there), Some(here))
            if there.attribute == here.attribute && there.or_absent == here.or_absent =>
        {
            for value in &here.values {
                if !there.values.contains(value) {
                    there.values.push(value.clone());
                }
            }
            Ok(())
        }
        _ => differ,
    }
}

fn scope_text(scope: &Scope) -> String {
    let keys = scope.prefixes.iter().map(|prefix| {
        let relation = if prefix.whole { "is" } else { "begins with" };
        format!("{} {relation} {:?}", prefix.attribute, prefix.text)
    });
    let classes = scope.discriminator.iter().map(|classes| {
        let absent = if classes.or_absent { ", or absent" } else { "" };
        format!("{} is in {:?}{absent}", classes.attribute, classes.values)
    });
    let parts: Vec<String> = keys.chain(classes).collect();
    if parts.is_empty() {
        "all rows".to_owned()
    } else {
        format!("the rows whose {}", parts.join(" and "))
    }
}

fn attribute_text(attribute: Option<&KeyAttribute>) -> String {
    attribute.map_or_else(
        || "none".to_owned(),
        |attribute| format!("{:?} ({})", attribute.name, attribute.kind.value_type()),
    )
}

fn index_text(index: &Index) -> String {
    let parts: Vec<String> = index
        .attributes()
        .map(|part| attribute_text(Some(part)))
        .collect();
    format!("[{}]", parts.join(", "))
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn entry(name: &str, value: Value) -> (Name, Value) {
    (name.into(), value)
}

fn describe_attribute(attribute: &KeyAttribute) -> Value {
    Value::Map(Map::from_pairs(vec![
        entry("name", text(&attribute.name)),
        entry("type", text(attribute.kind.value_type().code())),
    ]))
}

fn describe_index(index: &Index) -> Value {
    let mut pairs = vec![
        entry("name", text(&index.name)),
        entry(
            "partition",
            Value::List(index.partition.iter().map(describe_attribute).collect()),
        ),
    ];
    if let Some(sort) = &index.sort {
        pairs.push(entry("sort", describe_attribute(sort)));
    }
    pairs.push(entry(
        "projection",
        match &index.projection {
            Projection::All => text("all"),
            Projection::Keys => text("keys"),
            Projection::Attributes(names) => {
                Value::List(names.iter().map(|name| text(name)).collect())
            }
        },
    ));
    pairs.push(entry("local", Value::Bool(index.local)));
    Value::Map(Map::from_pairs(pairs))
}

fn describe_unique(unique: &Unique) -> Value {
    let mut pairs = vec![
        entry("name", text(&unique.name)),
        entry(
            "attributes",
            Value::List(unique.attributes.iter().map(|name| text(name)).collect()),
        ),
    ];
    if !unique.scope.prefixes.is_empty() {
        let prefixes = unique.scope.prefixes.iter();
        pairs.push(entry(
            "prefixes",
            Value::List(
                prefixes
                    .map(|prefix| {
                        Value::List(vec![
                            text(&prefix.attribute),
                            text(&prefix.text),
                            Value::Bool(prefix.whole),
                        ])
                    })
                    .collect(),
            ),
        ));
    }
    if let Some(discriminator) = &unique.scope.discriminator {
        let values = discriminator.values.iter().map(|value| text(value));
        pairs.push(entry(
            "discriminator",
            Value::Map(Map::from_pairs(vec![
                entry("attribute", text(&discriminator.attribute)),
                entry("values", Value::List(values.collect())),
                entry("or_absent", Value::Bool(discriminator.or_absent)),
            ])),
        ));
    }
    Value::Map(Map::from_pairs(pairs))
}

/// A table as an item, for a store's catalog: everything but the names of table and class.
#[must_use]
pub fn describe(table: &Table) -> Item {
    let mut pairs = vec![entry("partition", describe_attribute(&table.partition))];
    if let Some(sort) = &table.sort {
        pairs.push(entry("sort", describe_attribute(sort)));
    }
    if let Some(ttl) = &table.ttl {
        pairs.push(entry("ttl", text(ttl)));
    }
    pairs.push(entry(
        "indexes",
        Value::List(table.indexes.iter().map(describe_index).collect()),
    ));
    pairs.push(entry(
        "unique",
        Value::List(table.unique.iter().map(describe_unique).collect()),
    ));
    if let Some(colocate) = &table.colocate {
        pairs.push(entry("colocate", text(colocate)));
    }
    Map::from_pairs(pairs)
}

fn parse_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn parse_list<T>(value: &Value, each: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    match value {
        Value::List(list) => list.iter().map(each).collect(),
        _ => None,
    }
}

fn parse_attribute(value: &Value) -> Option<KeyAttribute> {
    let Value::Map(map) = value else { return None };
    Some(KeyAttribute {
        name: parse_text(map.get("name")?)?.into(),
        kind: KeyKind::from_code(parse_text(map.get("type")?)?)?,
    })
}

fn parse_index(value: &Value) -> Option<Index> {
    let Value::Map(map) = value else { return None };
    Some(Index {
        name: parse_text(map.get("name")?)?.to_owned(),
        partition: parse_list(map.get("partition")?, parse_attribute)?,
        sort: match map.get("sort") {
            None => None,
            Some(sort) => Some(parse_attribute(sort)?),
        },
        projection: match map.get("projection")? {
            Value::String(word) if word == "all" => Projection::All,
            Value::String(word) if word == "keys" => Projection::Keys,
            names => {
                Projection::Attributes(parse_list(names, |name| parse_text(name).map(Name::from))?)
            }
        },
        local: map.get("local")? == &Value::Bool(true),
    })
}

fn parse_name(value: &Value) -> Option<Name> {
    parse_text(value).map(Name::from)
}

fn parse_unique(value: &Value) -> Option<Unique> {
    let Value::Map(map) = value else { return None };
    let prefixes = match map.get("prefixes") {
        None => Vec::new(),
        Some(prefixes) => parse_list(prefixes, |prefix| match prefix {
            Value::List(parts) => match &**parts {
                [attribute, text, Value::Bool(whole)] => Some(Prefix {
                    attribute: parse_name(attribute)?,
                    text: parse_text(text)?.to_owned(),
                    whole: *whole,
                }),
                _ => None,
            },
            _ => None,
        })?,
    };
    let discriminator = match map.get("discriminator") {
        None => None,
        Some(Value::Map(own)) => Some(Discriminator {
            attribute: parse_name(own.get("attribute")?)?,
            values: parse_list(own.get("values")?, |value| {
                parse_text(value).map(str::to_owned)
            })?,
            or_absent: own.get("or_absent")? == &Value::Bool(true),
        }),
        Some(_) => return None,
    };
    Some(Unique {
        name: parse_text(map.get("name")?)?.to_owned(),
        attributes: parse_list(map.get("attributes")?, parse_name)?,
        scope: Scope {
            prefixes,
            discriminator,
        },
    })
}

/// Reads what [`describe`] gave, for a table of this name and class; `None` if it is damaged.
#[must_use]
pub fn parse(table: &Table, description: &Item) -> Option<Table> {
    Some(Table {
        name: table.name.clone(),
        model: table.model.clone(),
        labels: table.labels.clone(),
        partition: parse_attribute(description.get("partition")?)?,
        sort: match description.get("sort") {
            None => None,
            Some(sort) => Some(parse_attribute(sort)?),
        },
        ttl: match description.get("ttl") {
            None => None,
            Some(ttl) => Some(parse_text(ttl)?.into()),
        },
        indexes: parse_list(description.get("indexes")?, parse_index)?,
        unique: parse_list(description.get("unique")?, parse_unique)?,
        colocate: match description.get("colocate") {
            None => None,
            Some(colocate) => Some(parse_text(colocate)?.to_owned()),
        },
    })
}
