//! The bodies of calls.

use std::fmt::Write as _;

use mintkey_store::condition::MAX_IS_IN;
use mintkey_store::json::push_string;
use mintkey_store::{
    Action, BatchGet, Comparison, Condition, Error, ErrorKind, Get, Guard, Index, Item, Key,
    KeyAttribute, KeyValue, Name, Path, Result, Returning, Row, Step, Table, Update, Value,
    ValueType, Write,
};

use crate::config::Config;
use crate::wire::expression::Placeholders;
use crate::wire::json;

/// The partition key of indexes over a whole table, which is the same in all items: DynamoDB's indexes need one.
const WHOLE_TABLE: &str = "mintkey.all";
/// An attribute that no item has.
const NO_ATTRIBUTE: &str = "mintkey.none";
const WHOLE_TABLE_VALUE: &str = "1";

/// Builds the body of a call.
pub struct Body {
    text: String,
    placeholders: Placeholders,
}

impl Body {
    /// The body of a call about a table.
    pub fn new(config: &Config, table: &Table) -> Self {
        let mut text = String::with_capacity(512);
        text.push_str("{\"TableName\":\"");
        // Table names need no escapes: they are checked where the model and the prefix are declared.
        text.push_str(&config.prefix);
        text.push_str(&table.name);
        text.push('"');
        Self {
            text,
            placeholders: Placeholders::default(),
        }
    }

    /// Appends the name of an entry.
    fn name(&mut self, name: &str) {
        for part in [",\"", name, "\":"] {
            self.text.push_str(part);
        }
    }

    /// Appends an entry whose value `write` writes.
    pub fn entry(&mut self, name: &str, write: impl FnOnce(&mut String)) {
        self.name(name);
        write(&mut self.text);
    }

    /// Appends an entry that is a string.
    pub fn text(&mut self, name: &str, value: &str) {
        self.entry(name, |to| push_string(value, to));
    }

    /// Appends an entry that is an expression. Expressions need no escapes.
    pub fn expression(&mut self, name: &str, write: impl FnOnce(&mut Placeholders, &mut String)) {
        self.name(name);
        self.text.push('"');
        write(&mut self.placeholders, &mut self.text);
        self.text.push('"');
    }

    /// The whole body.
    pub fn finish(mut self) -> String {
        self.placeholders.push(&mut self.text);
        self.text.push('}');
        self.text
    }

    /// Appends the condition of a write, and requests the item if it does not meet the condition.
    fn condition(&mut self, condition: Option<&Condition>) {
        let never;
        let condition = match condition {
            None => return,
            Some(condition) => match condition.constant() {
                Some(true) => return,
                None => condition,
                Some(false) => {
                    // An expression that is never true is a contradiction.
                    let path = Path::attribute(WHOLE_TABLE);
                    never = Condition::And(vec![
                        Condition::Exists(path.clone()),
                        Condition::Missing(path),
                    ]);
                    &never
                }
            },
        };
        self.expression("ConditionExpression", |placeholders, to| {
            placeholders.condition(condition, to);
        });
        self.text("ReturnValuesOnConditionCheckFailure", "ALL_OLD");
    }
}

/// Whether the table has an index over the whole table, so that its items need that index's partition key.
fn has_whole_table_index(table: &Table) -> bool {
    table.indexes.iter().any(|index| index.partition.is_empty())
}

/// Removes the partition key of indexes over the whole table from a stored item.
pub fn strip_whole_table_key(table: &Table, mut item: Item) -> Item {
    if has_whole_table_index(table) {
        item.remove(WHOLE_TABLE);
    }
    item
}

/// The partition key of an index in `DynamoDB`: the first partition attribute of the model's index.
pub fn index_partition(index: &Index) -> Name {
    let first = index.partition.first();
    first.map_or_else(|| WHOLE_TABLE.into(), |part| part.name.clone())
}

/// The value of an index's partition key.
pub fn index_partition_value(given: &[KeyValue]) -> Value {
    given
        .first()
        .map_or_else(|| WHOLE_TABLE_VALUE.into(), KeyValue::to_value)
}

/// The name of an index in `DynamoDB`, where names have 3 to 255 characters of `[a-zA-Z0-9_.-]`.
pub fn index_name(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_-".contains(&byte) {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, ".{byte:02x}");
        }
    }
    if text.len() < 3 {
        text.push_str(".index");
    }
    text
}

/// The name of the index that has this name in `DynamoDB`: the reverse of [`index_name`] for the indexes of models.
pub fn index_name_of(stored: &str) -> String {
    let decoded = |text: &str| {
        let mut bytes = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some((plain, escaped)) = rest.split_once('.') {
            bytes.extend_from_slice(plain.as_bytes());
            bytes.push(u8::from_str_radix(escaped.get(..2)?, 16).ok()?);
            rest = escaped.get(2..)?;
        }
        bytes.extend_from_slice(rest.as_bytes());
        String::from_utf8(bytes).ok()
    };
    let short = stored.strip_suffix(".index");
    let names = short.into_iter().chain([stored]).filter_map(decoded);
    // Other programs may have given an index any name.
    let mut names = names.filter(|name| !name.is_empty() && index_name(name) == stored);
    names.next().unwrap_or_else(|| stored.to_owned())
}

/// Whether the partition key of an index is the one of indexes over a whole table.
pub fn is_whole_table(attribute: &str) -> bool {
    attribute == WHOLE_TABLE
}

/// The body of the call that lists tables, from a table on.
pub fn list_tables(after: Option<&str>) -> String {
    let mut text = String::from("{");
    if let Some(after) = after {
        text.push_str("\"ExclusiveStartTableName\":");
        push_string(after, &mut text);
    }
    text.push('}');
    text
}

/// Appends a key.
fn push_key(table: &Table, key: &Key, to: &mut String) {
    to.push('{');
    push_part(&table.partition, &key.partition, to);
    if let (Some(attribute), Some(value)) = (&table.sort, &key.sort) {
        to.push(',');
        push_part(attribute, value, to);
    }
    to.push('}');
}

/// Appends one attribute of a key.
fn push_part(attribute: &KeyAttribute, value: &KeyValue, to: &mut String) {
    push_string(&attribute.name, to);
    to.push(':');
    json::push_value(&value.to_value(), to);
}

/// Appends an item to store.
fn push_stored(table: &Table, item: &Item, to: &mut String) {
    json::push_item(item, to);
    if has_whole_table_index(table) && item.get(WHOLE_TABLE).is_none() {
        // Opens the map again; it is not empty, because an item has a key.
        to.pop();
        let _ = write!(to, ",\"{WHOLE_TABLE}\":{{\"S\":\"{WHOLE_TABLE_VALUE}\"}}}}");
    }
}

/// The paths to read: key, time of expiry, the wanted ones, and these attributes. None of them leads into another one, which
/// `DynamoDB` refuses.
pub fn fetched(
    table: &Table,
    wanted: &[Path],
    others: impl IntoIterator<Item = Name>,
) -> Vec<Path> {
    let mut paths: Vec<Path> = Vec::with_capacity(wanted.len() + 3);
    let keys = table.key_attributes().map(|key| &key.name);
    let names = keys.chain(&table.ttl).cloned().map(Path::attribute);
    let others = others.into_iter().map(Path::attribute);
    for path in names.chain(wanted.iter().cloned()).chain(others) {
        if !paths.iter().any(|known| path.is_within(known)) {
            paths.retain(|known| !known.is_within(&path));
            paths.push(path);
        }
    }
    paths
}

/// Appends the paths to read.
pub fn project(body: &mut Body, paths: &[Path]) {
    body.expression("ProjectionExpression", |placeholders, to| {
        push_paths(paths, placeholders, to);
    });
}

fn push_paths(paths: &[Path], placeholders: &mut Placeholders, to: &mut String) {
    for (index, path) in paths.iter().enumerate() {
        if index > 0 {
            to.push(',');
        }
        placeholders.path(path, to);
    }
}

pub fn get(config: &Config, get: &Get) -> String {
    let mut body = Body::new(config, &get.table);
    body.entry("Key", |to| push_key(&get.table, &get.key, to));
    if get.consistent {
        body.entry("ConsistentRead", |to| to.push_str("true"));
    }
    if let Some(attributes) = &get.attributes {
        project(&mut body, &fetched(&get.table, attributes, []));
    }
    body.finish()
}

pub fn put(config: &Config, table: &Table, item: &Item, condition: Option<&Condition>) -> String {
    let mut body = Body::new(config, table);
    body.entry("Item", |to| push_stored(table, item, to));
    body.condition(condition);
    body.finish()
}

/// The body of a delete.
pub fn delete(config: &Config, table: &Table, key: &Key, condition: Option<&Condition>) -> String {
    delete_of(config, table, key, condition).finish()
}

/// The body of a delete whose response is the deleted row.
pub fn delete_returning(
    config: &Config,
    table: &Table,
    key: &Key,
    condition: Option<&Condition>,
) -> String {
    let mut body = delete_of(config, table, key, condition);
    body.text("ReturnValues", "ALL_OLD");
    body.finish()
}

fn delete_of(config: &Config, table: &Table, key: &Key, condition: Option<&Condition>) -> Body {
    let mut body = Body::new(config, table);
    body.entry("Key", |to| push_key(table, key, to));
    body.condition(condition);
    body
}

/// The part of a transaction that only checks an item. It must have a condition.
pub fn check(config: &Config, table: &Table, key: &Key, condition: Option<Condition>) -> String {
    let condition = match condition {
        Some(condition) if condition.constant() != Some(true) => condition,
        _ => {
            let key = Path::attribute(table.partition.name.clone());
            Condition::Or(vec![
                Condition::Exists(key.clone()),
                Condition::Missing(key),
            ])
        }
    };
    delete(config, table, key, Some(&condition))
}

/// The body of an update.
pub fn update(config: &Config, update: &Update, condition: Option<&Condition>) -> String {
    let table = &update.table;
    let mut body = Body::new(config, table);
    body.entry("Key", |to| push_key(table, &update.key, to));
    let marked;
    let actions = if has_whole_table_index(table) {
        let mark = Action::Set(Path::attribute(WHOLE_TABLE), WHOLE_TABLE_VALUE.into());
        marked = update
            .actions
            .iter()
            .cloned()
            .chain([mark])
            .collect::<Vec<_>>();
        &marked
    } else {
        &update.actions
    };
    if !actions.is_empty() {
        body.expression("UpdateExpression", |placeholders, to| {
            let mut text = String::new();
            placeholders.update(actions, &mut text);
            to.push_str(&text);
        });
    }
    body.condition(condition);
    match update.returning {
        Returning::Nothing => {}
        Returning::Old => body.text("ReturnValues", "ALL_OLD"),
        Returning::New => body.text("ReturnValues", "ALL_NEW"),
    }
    body.finish()
}

/// The part of a transaction that updates an item, which must change something and returns nothing.
pub fn transaction_update(
    config: &Config,
    update: &Update,
    condition: Option<&Condition>,
) -> String {
    let mut update = Update {
        returning: Returning::Nothing,
        ..update.clone()
    };
    if update.actions.is_empty() {
        // DynamoDB refuses an update without actions.
        let nothing = Action::Remove(Path::attribute(NO_ATTRIBUTE));
        update.actions.push(nothing);
    }
    self::update(config, &update, condition)
}

/// The body of a get of a whole item, and the part of a transaction that reads it.
pub fn key(config: &Config, table: &Table, key: &Key) -> String {
    let mut body = Body::new(config, table);
    body.entry("Key", |to| push_key(table, key, to));
    body.finish()
}

/// The body of a batch of reads.
pub fn batch_get(config: &Config, batch: &BatchGet, keys: &[&Key]) -> String {
    let table = &batch.table;
    let mut body = batch_start(config, table);
    body.push_str("{\"Keys\":[");
    for (index, key) in keys.iter().enumerate() {
        if index > 0 {
            body.push(',');
        }
        push_key(table, key, &mut body);
    }
    body.push(']');
    if batch.consistent {
        body.push_str(",\"ConsistentRead\":true");
    }
    if let Some(attributes) = &batch.attributes {
        let mut placeholders = Placeholders::default();
        body.push_str(",\"ProjectionExpression\":\"");
        push_paths(
            &fetched(table, attributes, []),
            &mut placeholders,
            &mut body,
        );
        body.push('"');
        placeholders.push(&mut body);
    }
    body.push_str("}}}");
    body
}

/// The body of a batch of puts and deletes.
pub fn batch_write<'a>(
    config: &Config,
    table: &Table,
    writes: impl Iterator<Item = &'a Write>,
) -> String {
    let mut body = batch_start(config, table);
    let mut open = '[';
    for write in writes {
        match write {
            Write::Put(put) => {
                body.push(open);
                body.push_str("{\"PutRequest\":{\"Item\":");
                push_stored(table, &put.item, &mut body);
            }
            Write::Delete(delete) => {
                body.push(open);
                body.push_str("{\"DeleteRequest\":{\"Key\":");
                push_key(table, &delete.key, &mut body);
            }
            // A batch of DynamoDB has no updates: they are sent one by one.
            Write::Update(_) => continue,
        }
        body.push_str("}}");
        open = ',';
    }
    body.push_str("]}}");
    body
}

fn batch_start(config: &Config, table: &Table) -> String {
    let mut body = String::with_capacity(4096);
    let _ = write!(
        body,
        "{{\"RequestItems\":{{\"{}{}\":",
        config.prefix, table.name
    );
    body
}

/// The condition that a row has expired.
pub fn expired(table: &Table, now: i64) -> Option<Condition> {
    table.ttl.as_ref().map(|ttl| Condition::Compare {
        path: Path::attribute(ttl.clone()),
        op: Comparison::Le,
        value: now.into(),
    })
}

fn or(condition: Condition, other: Option<Condition>) -> Condition {
    match other {
        None => condition,
        Some(other) => Condition::Or(vec![condition, other]),
    }
}

/// The condition that there is no row, or an expired one.
pub fn absent(table: &Table, now: i64) -> Condition {
    let missing = Condition::Missing(Path::attribute(table.partition.name.clone()));
    or(missing, expired(table, now))
}

/// A guard as a condition on the stored row, expired or not.
///
/// # Errors
///
/// `Unsupported` if an expression cannot say the condition.
pub fn guard(table: &Table, guard: &Guard, now: i64) -> Result<Option<Condition>> {
    if let Some(condition) = &guard.condition
        && condition.is_local()
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "DynamoDB cannot evaluate this condition of a write: is_in() takes at most {MAX_IS_IN} values there, and \
                 JSON values cannot be compared. Read the item, compare it, and write it with a version"
            ),
        )
        .of(table));
    }
    let expired = expired(table, now);
    let mut parts = Vec::new();
    // Whether an expired row must not meet it.
    let mut needs_live = false;
    match guard.row {
        Row::Any => {}
        Row::Absent => parts.push(absent(table, now)),
        Row::Present => {
            let key = Path::attribute(table.partition.name.clone());
            parts.push(Condition::Exists(key));
            needs_live = true;
        }
    }
    match &guard.version {
        None => {}
        Some((name, Some(version))) => {
            parts.push(Condition::equals(name.clone(), *version));
            needs_live = true;
        }
        Some((name, None)) => {
            let path = Path::attribute(name.clone());
            let mut none = vec![
                Condition::Missing(path.clone()),
                Condition::IsType(path, ValueType::Null),
            ];
            none.extend(expired.clone());
            parts.push(Condition::Or(none));
        }
    }
    if let Some(condition) = &guard.condition {
        if condition.accepts_no_row() {
            parts.push(or(condition.clone(), expired.clone()));
        } else {
            parts.push(condition.clone());
            needs_live = true;
        }
    }
    if needs_live {
        parts.extend(expired.map(Condition::negated));
    }
    Ok(Condition::all(parts))
}

/// Whether an update that is applied twice has the same effect as once. A value that is read may have changed meanwhile.
pub fn is_idempotent(actions: &[Action]) -> bool {
    actions.iter().all(|action| {
        let counts = matches!(
            action,
            Action::Add(..) | Action::Append(..) | Action::Prepend(..) | Action::SetFrom(..)
        );
        // A value set beyond the end of a list is appended, and a removed element shifts those after it.
        let listed = action
            .path()
            .0
            .iter()
            .any(|step| matches!(step, Step::Index(_)));
        !counts && !listed
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_names_of_other_programs_stay() {
        for stored in ["status-index", "a.b", "gsi.1", ".index", "a.zz", "a.é"] {
            assert_eq!(index_name_of(stored), stored);
        }
    }

    #[test]
    fn index_names_are_valid_and_distinct() {
        for (name, stored) in [
            ("by_status", "by_status"),
            ("id", "id.index"),
            ("a b", "a.20b"),
            ("a.b", "a.2eb"),
            ("ä", ".c3.a4"),
        ] {
            assert_eq!(index_name(name), stored);
            assert_eq!(index_name_of(stored), name);
        }
    }

    #[test]
    fn idempotent_updates_are_recognised() {
        let path = Path::attribute("a");
        assert!(is_idempotent(&[
            Action::Set(path.clone(), true.into()),
            Action::Remove(path.clone())
        ]));
        assert!(!is_idempotent(&[Action::Append(path.clone(), Vec::new())]));
        let listed = Path(vec![Step::Name("a".into()), Step::Index(0)]);
        assert!(!is_idempotent(&[Action::Remove(listed)]));
    }
}
