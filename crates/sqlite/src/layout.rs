//! The table of a model in `SQLite`: its names, columns and statements.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use mintkey_store::key::{MAX_PARTITION, MAX_SORT};
use mintkey_store::{
    Claim, Index, Item, Key, KeyKind, KeyValue, Name, Number, Result, Table, Unique, Value,
};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};

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
        let column = quote(&format!("={}", escape(unique)));
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

    /// The cell of what a row claims; null if it claims nothing.
    pub fn claim(claim: Option<&Claim<'_>>) -> Self {
        claim.map_or(Self::Null, |claim| Self::Blob(Cow::Owned(claim.encode())))
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
    /// The columns of the unique values, in the order of the declarations.
    pub claims: Vec<UniqueColumn>,
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
    pub fn new(table: Arc<Table>) -> Self {
        let columns = columns_of(&table);
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
            columns,
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

    /// The statement that creates the table, without its indexes.
    pub fn create_table(&self) -> String {
        let table = &self.table;
        let mut sql = format!(
            "CREATE TABLE {} (pk {} NOT NULL",
            self.name,
            column_type(table.partition.kind)
        );
        if let Some(sort) = &table.sort {
            let _ = write!(sql, ", sk {} NOT NULL", column_type(sort.kind));
        }
        sql.push_str(", item TEXT NOT NULL");
        for column in &self.columns {
            let _ = write!(sql, ", {} {}", column.sql, column_type(column.kind));
        }
        for column in &self.claims {
            let _ = write!(sql, ", {} BLOB", column.sql);
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

    /// The statement that creates an index.
    pub fn create_index(&self, index: &Index) -> String {
        // A key is never null. SQLite would not use an index with this condition on a column that cannot be null.
        let present: Vec<String> = index
            .attributes()
            .filter(|attribute| !self.table.is_key(&attribute.name))
            .filter_map(|attribute| self.column(&attribute.name))
            .map(|column| format!("{column} IS NOT NULL"))
            .collect();
        let mut sql = format!(
            "CREATE INDEX {} ON {} ({})",
            index_name(&self.table.name, &index.name),
            self.name,
            self.index_columns(index).join(", "),
        );
        if !present.is_empty() {
            sql.push_str(" WHERE ");
            sql.push_str(&present.join(" AND "));
        }
        sql
    }

    /// The statement that creates the index on the expiry time.
    pub fn create_expiry_index(&self) -> Option<String> {
        let column = self.expiry()?;
        let index = expiry_index_name(&self.table.name);
        Some(format!(
            "CREATE INDEX {index} ON {} ({column}) WHERE {column} IS NOT NULL",
            self.name
        ))
    }

    /// The declarations of unique values, each with its column.
    pub fn unique(&self) -> impl Iterator<Item = (&Unique, &UniqueColumn)> {
        self.table.unique.iter().zip(&self.claims)
    }

    /// The statement that creates the index on a column of unique values.
    pub fn create_unique_index(&self, unique: &Unique, column: &UniqueColumn) -> String {
        let column = &column.sql;
        format!(
            "CREATE UNIQUE INDEX {} ON {} ({column}) WHERE {column} IS NOT NULL",
            unique_index_name(&self.table.name, &unique.name),
            self.name
        )
    }

    /// What an item claims, for each column of unique values.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if a value cannot be unique.
    pub fn claims_of(&self, item: &Item, key: &Key) -> Result<Vec<Option<Claim<'_>>>> {
        let claims = self.table.unique.iter().map(|unique| unique.claim(item));
        let claims: Result<Vec<_>> = claims.collect();
        claims.map_err(|error| error.of(&self.table).at(key))
    }
}
