//! The table of a model in `SQLite`: its names, columns and statements.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use mintkey_store::key::{MAX_PARTITION, MAX_SORT};
use mintkey_store::{
    Claim, Index, Item, Key, KeyKind, KeyValue, Name, Number, Operation, Result, Table, Unique,
    Value,
};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

use crate::entry::{Entry, Unbuilt};

/// The catalog's table. An escaped name contains no colon, so that no table of a model has this name.
pub const CATALOG: &str = "\"mintkey:catalog\"";

/// A column that copies an attribute for an index, in key encoding.
#[derive(Debug)]
pub struct Column {
    pub attribute: Name,
    /// The type of the attribute.
    pub kind: KeyKind,
    /// The bytes of the longest value that an index on the attribute can hold.
    pub longest: usize,
    /// The column's name, quoted.
    pub sql: String,
}

/// A column that holds what each row claims of a unique value.
#[derive(Debug)]
pub struct UniqueColumn {
    /// The column's name, quoted.
    pub sql: String,
    /// Reads the item of the row that has a claim.
    pub find: String,
}

impl UniqueColumn {
    fn new(table: &str, unique: &str) -> Self {
        let column = unique_column(unique);
        Self {
            find: format!(
                "SELECT item FROM {} INDEXED BY {} WHERE {column} = ?1",
                table_name(table),
                unique_index_name(table, unique)
            ),
            sql: column,
        }
    }
}

/// What a row has of a unique value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Held<'a> {
    Nothing,
    /// The values, which no other row may have.
    Claim(Claim<'a>),
    /// Values that are compared with those of other rows when the unique value is built.
    Unchecked,
}

impl<'a> Held<'a> {
    pub const fn claim(&self) -> Option<&Claim<'a>> {
        match self {
            Self::Claim(claim) => Some(claim),
            Self::Nothing | Self::Unchecked => None,
        }
    }
}

/// What begins the cell of a row that is not compared with others yet. No claim begins with it, or with [`DUPLICATE`].
pub const UNCHECKED: u8 = 0xff;
/// What begins the cell of a row that has the same values as another.
pub const DUPLICATE: u8 = 0xfe;

/// The value of a column.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cell<'a> {
    Text(Cow<'a, str>),
    /// Bytes.
    Blob(Cow<'a, [u8]>),
    /// No value.
    Null,
}

impl<'a> Cell<'a> {
    /// The cell of a key.
    pub fn key(value: &'a KeyValue) -> Self {
        match value {
            KeyValue::String(text) => Self::Text(Cow::Borrowed(text)),
            other => Self::Blob(other.encode()),
        }
    }

    /// The cell of an indexed attribute; null if it is absent, of another type, or no value that an index can hold.
    pub fn indexed(item: &'a Item, column: &Column) -> Self {
        let fits = |length: usize| (1..=column.longest).contains(&length);
        match (item.get(&column.attribute), column.kind) {
            (Some(Value::String(text)), KeyKind::String) if fits(text.len()) => {
                Self::Text(Cow::Borrowed(text))
            }
            (Some(Value::Binary(bytes)), KeyKind::Binary) if fits(bytes.len()) => {
                Self::Blob(Cow::Borrowed(bytes))
            }
            (Some(Value::Number(number)), KeyKind::Number) => Self::number(*number),
            _ => Self::Null,
        }
    }

    /// The cell of what the row of a key has of a unique value.
    pub fn held(held: &Held<'_>, key: &Key) -> Self {
        match held {
            Held::Nothing => Self::Null,
            Held::Claim(claim) => Self::Blob(Cow::Owned(claim.encode())),
            Held::Unchecked => Self::flag(UNCHECKED, key),
        }
    }

    /// The cell of a row without a claim. Rows of different keys have different ones.
    pub fn flag(first: u8, key: &Key) -> Self {
        let partition = key.partition.encode();
        let length = u32::try_from(partition.len()).unwrap_or(u32::MAX);
        let mut bytes = vec![first];
        bytes.extend(length.to_be_bytes());
        bytes.extend(&*partition);
        if let Some(sort) = &key.sort {
            bytes.extend(&*sort.encode());
        }
        Self::Blob(Cow::Owned(bytes))
    }

    /// The cell that says whether a row is in an index.
    pub fn mark(is_member: bool) -> Self {
        if is_member {
            Self::Blob(Cow::Borrowed(&[]))
        } else {
            Self::Null
        }
    }

    /// The cell of a number.
    pub fn number(number: Number) -> Self {
        Self::Blob(Cow::Owned(KeyValue::Number(number).encode().into_owned()))
    }

    /// The same cell with its own copy of the value.
    pub fn into_owned(self) -> Cell<'static> {
        match self {
            Self::Text(text) => Cell::Text(Cow::Owned(text.into_owned())),
            Self::Blob(bytes) => Cell::Blob(Cow::Owned(bytes.into_owned())),
            Self::Null => Cell::Null,
        }
    }
}

impl ToSql for Cell<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
            Self::Blob(bytes) => ValueRef::Blob(bytes),
            Self::Null => ValueRef::Null,
        }))
    }
}

/// The key in a column.
pub fn key_value(kind: KeyKind, cell: ValueRef<'_>) -> Result<KeyValue> {
    let bytes = match cell {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        _ => &[],
    };
    KeyValue::decode(kind, bytes)
}

/// A table and its statements, ready to be prepared.
#[derive(Debug)]
pub struct Layout {
    /// The table that the class and the catalog describe together.
    pub table: Arc<Table>,
    /// Its name, quoted.
    pub name: String,
    /// The columns other than the keys and the item.
    pub columns: Vec<Column>,
    /// The columns that mark the rows of indexes, and the positions of these indexes.
    pub marks: Vec<(usize, String)>,
    /// The columns of the unique values, in the order of the declarations.
    pub claims: Vec<UniqueColumn>,
    /// What does not have all rows yet.
    pub unbuilt: Unbuilt,
    /// Reads the item of a key.
    pub get: String,
    /// Inserts or replaces a row.
    pub upsert: String,
    /// Inserts a row, unless the key exists.
    pub insert: String,
    /// Deletes the row of a key.
    pub delete: String,
    /// Deletes some expired rows.
    pub delete_expired: Option<String>,
    /// Takes the unique values of a key's row away.
    pub release: Option<String>,
    /// Reads the unique values of a key's row.
    pub get_claims: Option<String>,
}

/// The most expired rows that a transaction deletes.
pub const DELETED_AT_ONCE: usize = 100;

/// Escapes a name, because `SQLite` ignores case in names, and reserves some of them.
fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len() + 2);
    // SQLite refuses tables whose names start with this, in any case.
    if name
        .get(..7)
        .is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"))
    {
        escaped.push_str("^-");
    }
    for character in name.chars() {
        match character {
            'A'..='Z' => {
                escaped.push('^');
                escaped.push(character.to_ascii_lowercase());
            }
            '^' => escaped.push_str("^^"),
            ':' => escaped.push_str("^."),
            '\0' => escaped.push_str("^0"),
            other => escaped.push(other),
        }
    }
    escaped
}

fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name without its quotes.
pub fn unquoted(name: &str) -> String {
    let inner = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'));
    inner.unwrap_or(name).replace("\"\"", "\"")
}

/// The quoted name of a table.
pub fn table_name(name: &str) -> String {
    quote(&escape(name))
}

/// The quoted name of an index.
pub fn index_name(table: &str, index: &str) -> String {
    quote(&format!("{}:{}", escape(table), escape(index)))
}

/// The quoted name of the index on the expiry time.
pub fn expiry_index_name(table: &str) -> String {
    quote(&format!("{}::expiry", escape(table)))
}

/// The quoted name of the column of an attribute. The prefix distinguishes it from `pk`, `sk`, `item` and `SQLite`'s
/// `rowid`.
fn attribute_column(name: &str) -> String {
    quote(&format!("@{}", escape(name)))
}

/// The quoted name of the column of unique values.
pub fn unique_column(unique: &str) -> String {
    quote(&format!("={}", escape(unique)))
}

/// The quoted name of the column that marks the rows of an index.
fn mark_column(index: &str) -> String {
    quote(&format!("+{}", escape(index)))
}

/// The quoted name of the index on unique values.
pub fn unique_index_name(table: &str, unique: &str) -> String {
    quote(&format!("{}::unique:{}", escape(table), escape(unique)))
}

/// The type of a column, which must not convert the values.
pub const fn column_type(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::String => "TEXT",
        KeyKind::Number | KeyKind::Binary => "BLOB",
    }
}

/// The columns of indexed attributes and of the time of expiry, next to those of the key.
fn columns_of(table: &Table) -> Vec<Column> {
    let mut columns: Vec<Column> = Vec::new();
    let indexed = table.indexes.iter().flat_map(Index::attributes);
    let indexed = indexed.map(|attribute| (&attribute.name, attribute.kind));
    for (name, kind) in indexed.chain(table.ttl.iter().map(|name| (name, KeyKind::Number))) {
        if !table.is_key(name) && !columns.iter().any(|column| column.attribute == *name) {
            let partition = |index: &Index| index.partition.iter().any(|part| part.name == *name);
            columns.push(Column {
                attribute: name.clone(),
                kind,
                longest: if table.indexes.iter().any(partition) {
                    MAX_PARTITION
                } else {
                    MAX_SORT
                },
                sql: attribute_column(name),
            });
        }
    }
    columns
}

/// The statements that put a row: one that leaves an existing row as it is, and one that replaces it.
fn puts(into: &str, keys: &str, parameters: &str, others: &[&String]) -> (String, String) {
    let mut insert = format!("{into}({keys}, item");
    for column in others {
        let _ = write!(insert, ", {column}");
    }
    let _ = write!(insert, ") VALUES ({parameters}");
    let first = parameters.split(',').count() + 1;
    for (index, _) in others.iter().enumerate() {
        let _ = write!(insert, ", ?{}", first + index);
    }
    let _ = write!(insert, ") ON CONFLICT ({keys}) DO ");
    let mut upsert = format!("{insert}UPDATE SET item = excluded.item");
    for column in others {
        let _ = write!(upsert, ", {column} = excluded.{column}");
    }
    insert.push_str("NOTHING");
    (insert, upsert)
}

impl Layout {
    /// The layout of a table.
    pub fn new(entry: &Entry) -> Self {
        let table = Arc::clone(&entry.table);
        let columns = columns_of(&table);
        let is_marked = |(_, index): &(usize, &Index)| entry.marked.contains(&index.name);
        let marked = table.indexes.iter().enumerate().filter(is_marked);
        let marks: Vec<(usize, String)> = marked
            .map(|(position, index)| (position, mark_column(&index.name)))
            .collect();
        let name = table_name(&table.name);
        let sorted = table.sort.is_some();
        let (keys, parameters, matched) = if sorted {
            ("pk, sk", "?1, ?2, ?3", "pk = ?1 AND sk = ?2")
        } else {
            ("pk", "?1, ?2", "pk = ?1")
        };
        let unique = table.unique.iter();
        let claims: Vec<UniqueColumn> = unique
            .map(|unique| UniqueColumn::new(&table.name, &unique.name))
            .collect();
        let claimed = || claims.iter().map(|column| &column.sql);
        let others: Vec<&String> = columns
            .iter()
            .map(|column| &column.sql)
            .chain(marks.iter().map(|(_, column)| column))
            .chain(claimed())
            .collect();
        let (insert, upsert) = puts(&format!("INSERT INTO {name} "), keys, parameters, &others);
        let of_claims = |text: String| (!claims.is_empty()).then_some(text);
        let freed: Vec<String> = claimed().map(|own| format!("{own} = NULL")).collect();
        let claimed: Vec<&str> = claimed().map(String::as_str).collect();
        let mut layout = Self {
            get: format!("SELECT item FROM {name} WHERE {matched}"),
            delete: format!("DELETE FROM {name} WHERE {matched}"),
            release: of_claims(format!(
                "UPDATE {name} SET {} WHERE {matched}",
                freed.join(", ")
            )),
            get_claims: of_claims(format!(
                "SELECT {} FROM {name} WHERE {matched}",
                claimed.join(", ")
            )),
            upsert,
            insert,
            delete_expired: None,
            unbuilt: entry.unbuilt.clone(),
            columns,
            marks,
            claims,
            name,
            table,
        };
        layout.delete_expired = layout.expiry().map(|expiry| {
            format!(
                "DELETE FROM {0} WHERE rowid IN (SELECT rowid FROM {0} WHERE {expiry} <= ?1 LIMIT {DELETED_AT_ONCE})",
                layout.name
            )
        });
        layout
    }

    pub fn column(&self, attribute: &str) -> Option<&str> {
        if *self.table.partition.name == *attribute {
            return Some("pk");
        }
        if self
            .table
            .sort
            .as_ref()
            .is_some_and(|sort| *sort.name == *attribute)
        {
            return Some("sk");
        }
        let column = self
            .columns
            .iter()
            .find(|column| *column.attribute == *attribute)?;
        Some(&column.sql)
    }

    /// The bytes of the longest value that the column of an attribute holds; 0 if it has no column.
    pub fn longest(&self, attribute: &str) -> usize {
        let is_named = |column: &&Column| *column.attribute == *attribute;
        match self.columns.iter().find(is_named) {
            Some(column) => column.longest,
            None if *self.table.partition.name == *attribute => MAX_PARTITION,
            None => self.column(attribute).map_or(0, |_| MAX_SORT),
        }
    }

    /// The column of the expiry time.
    pub fn expiry(&self) -> Option<&str> {
        self.column(self.table.ttl.as_ref()?)
    }

    /// The statement that creates the table, or one with the same columns and this quoted name, without its indexes.
    pub fn create_table(&self, name: &str) -> String {
        let table = &self.table;
        let mut sql = format!(
            "CREATE TABLE {name} (pk {} NOT NULL",
            column_type(table.partition.kind)
        );
        if let Some(sort) = &table.sort {
            let _ = write!(sql, ", sk {} NOT NULL", column_type(sort.kind));
        }
        sql.push_str(", item TEXT NOT NULL");
        for column in &self.columns {
            let _ = write!(sql, ", {} {}", column.sql, column_type(column.kind));
        }
        let marks = self.marks.iter().map(|(_, column)| column);
        for column in marks.chain(self.claims.iter().map(|column| &column.sql)) {
            let _ = write!(sql, ", {column} BLOB");
        }
        sql.push_str(if table.sort.is_some() {
            ", UNIQUE (pk, sk))"
        } else {
            ", UNIQUE (pk))"
        });
        sql
    }

    /// The columns of an index in order, then those of the table's key, each once.
    pub fn index_columns(&self, index: &Index) -> Vec<&str> {
        let own = index
            .attributes()
            .filter_map(|attribute| self.column(&attribute.name));
        let mut columns: Vec<&str> = Vec::new();
        for column in own.chain(self.key_columns()) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }

    /// The columns of the table's key.
    pub fn key_columns(&self) -> impl Iterator<Item = &str> {
        std::iter::once("pk").chain(self.table.sort.is_some().then_some("sk"))
    }

    /// The column that marks the rows of an index.
    pub fn mark(&self, index: &Index) -> Option<&str> {
        let is_own =
            |(position, _): &&(usize, String)| self.table.indexes[*position].name == index.name;
        self.marks.iter().find(is_own).map(|(_, column)| &**column)
    }

    /// The statement that creates an index on the table of this quoted name.
    pub fn create_index(&self, index: &Index, table: &str) -> String {
        // A key is never null. SQLite would not use an index with this condition on a column that cannot be null.
        let columns: Vec<&str> = match self.mark(index) {
            Some(mark) => vec![mark],
            None => index
                .attributes()
                .filter(|attribute| !self.table.is_key(&attribute.name))
                .filter_map(|attribute| self.column(&attribute.name))
                .collect(),
        };
        let present: Vec<String> = columns
            .iter()
            .map(|column| format!("{column} IS NOT NULL"))
            .collect();
        let mut sql = format!(
            "CREATE INDEX {} ON {table} ({})",
            index_name(&self.table.name, &index.name),
            self.index_columns(index).join(", "),
        );
        if !present.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&present.join(" AND "));
        }
        sql
    }

    /// The statement that creates the index on the expiry time, on the table of this quoted name.
    pub fn create_expiry_index(&self, table: &str) -> Option<String> {
        let column = self.expiry()?;
        let index = expiry_index_name(&self.table.name);
        Some(format!(
            "CREATE INDEX {index} ON {table} ({column}) WHERE {column} IS NOT NULL"
        ))
    }

    /// The declarations of unique values, each with its column.
    pub fn unique(&self) -> impl Iterator<Item = (&Unique, &UniqueColumn)> {
        self.table.unique.iter().zip(&self.claims)
    }

    /// The statement that creates the index on a column of unique values, on the table of this quoted name.
    pub fn create_unique_index(
        &self,
        unique: &Unique,
        column: &UniqueColumn,
        table: &str,
    ) -> String {
        let column = &column.sql;
        format!(
            "CREATE UNIQUE INDEX {} ON {table} ({column}) WHERE {column} IS NOT NULL",
            unique_index_name(&self.table.name, &unique.name),
        )
    }

    /// What an item has, for each column of unique values.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if a value cannot be unique.
    pub fn held_by(&self, item: &Item, key: &Key) -> Result<Vec<Held<'_>>> {
        let held = self.table.unique.iter().map(|unique| {
            if !self.unbuilt.unique.contains(&unique.name) {
                return Ok(unique.claim(item)?.map_or(Held::Nothing, Held::Claim));
            }
            let before = self.unbuilt.declared_before(&unique.name);
            if let Some(claim) = before
                .map(|before| before.claim(item))
                .transpose()?
                .flatten()
            {
                return Ok(Held::Claim(claim));
            }
            Ok(match unique.claim(item) {
                Ok(None) => Held::Nothing,
                // The build says which rows have values that cannot be unique.
                Ok(Some(_)) | Err(_) => Held::Unchecked,
            })
        });
        let held: Result<Vec<_>> = held.collect();
        held.map_err(|error| error.of(&self.table).at(key))
    }

    /// Whether a class declares unique values that are not built yet. Then it must not write before they are.
    pub fn awaits_unique(&self, class: &Table) -> bool {
        let mut unbuilt = self.unbuilt.unique.iter();
        unbuilt.any(|name| class.unique(name).is_some())
    }

    /// Whether a read needs something that is not built yet.
    pub fn lacks(&self, read: &Operation) -> bool {
        let unbuilt = &self.unbuilt;
        match read {
            Operation::Query(query) => {
                let index = query.index.as_ref();
                index.is_some_and(|index| unbuilt.indexes.contains(index))
                    || (unbuilt.expiry && query.table.ttl.is_some())
            }
            Operation::Scan(scan) => unbuilt.expiry && scan.table.ttl.is_some(),
            Operation::GetUnique(get) => unbuilt.unique.contains(&get.unique),
            _ => false,
        }
    }
}
