//! The catalog: the stored description of each table, which may differ from the class that uses the table now.

mod extend;
pub mod layout_cache;

use std::sync::Arc;

use mintkey_store::description::{self, StoredTable};
use mintkey_store::{Error, Reply, Table, json};
use rusqlite::OptionalExtension as _;

use crate::entry::Entry;
use crate::layout::{CATALOG, Layout, table_name, unique_column, unique_index_name};
use crate::storage::connection::{Attempt, Connection};

/// The newest version of the layout that this code writes: that of tables with more than a description
/// ([`Entry::is_plain`]). A table with a higher one was written by newer code.
const LAYOUT_VERSION: i64 = 3;
/// The version of tables with unique values. Code that knows no higher one would write rows without their marks, and read
/// from indexes that are not built.
const WITH_UNIQUE: i64 = 2;
/// The version of tables without unique values. Code that knows no higher one would write rows without their claims, so
/// that it must not write tables that have unique values.
const WITHOUT_UNIQUE: i64 = 1;
/// The most rows whose unique values are removed at a time.
const CLEARED_AT_ONCE: usize = 1_000;
/// The most rows that a description of a table counts. Of more rows the number is estimated.
const MOST_COUNTED: i64 = 1_000_000;

/// Whether the catalog of the database contains a table.
pub fn exists(connection: &Connection, table: &Table) -> Attempt<bool> {
    Ok(read(connection, table)?.is_some())
}

/// The names of all tables of the catalog, in order.
pub fn list(connection: &Connection) -> Attempt<Reply> {
    if !has_catalog(connection)? {
        return Ok(Reply::Tables(Vec::new()));
    }
    let select = format!("SELECT name FROM {CATALOG} ORDER BY name");
    let mut statement = connection.raw.prepare(&select)?;
    let names = statement.query_map([], |row| row.get(0))?;
    Ok(Reply::Tables(names.collect::<rusqlite::Result<_>>()?))
}

/// The stored description of a table.
pub fn describe(connection: &Connection, name: &str) -> Attempt<Reply> {
    let Some(entry) = read(connection, &Table::unknown(name))? else {
        return Ok(Reply::Described(None));
    };
    let table = Arc::unwrap_or_clone(entry.table);
    let quoted = table_name(name);
    let count = format!("SELECT COUNT(*) FROM (SELECT 1 FROM {quoted} LIMIT {MOST_COUNTED} + 1)");
    let mut rows: i64 = connection.raw.query_row(&count, [], |row| row.get(0))?;
    let is_counted = rows <= MOST_COUNTED;
    if !is_counted {
        let last = format!("SELECT MAX(rowid) FROM {quoted}");
        rows = connection.raw.query_row(&last, [], |row| row.get(0))?;
    }
    Ok(Reply::Described(Some(Box::new(StoredTable {
        is_exact: is_counted && table.ttl.is_none(),
        rows: u64::try_from(rows).ok(),
        bytes: None,
        id: None,
        table,
    }))))
}

/// The layout of a table, if the table exists and lacks nothing that the class declares. Parts may not be built yet.
pub fn load(connection: &Connection, table: &Arc<Table>) -> Attempt<Option<Arc<Layout>>> {
    let Some(stored) = read(connection, table)? else {
        return Ok(None);
    };
    let merged = description::merge(&stored.table, table)?;
    Ok((merged == *stored.table).then(|| Arc::new(Layout::new(&stored))))
}

/// The layout of a table, after adding all that is missing. What is added to a table with rows is not built yet. If this
/// fails, the transaction must be rolled back.
pub fn create_or_extend(connection: &Connection, table: &Arc<Table>) -> Attempt<Arc<Layout>> {
    connection.raw.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {CATALOG} (name TEXT PRIMARY KEY NOT NULL, layout INTEGER NOT NULL, \
         description TEXT NOT NULL) WITHOUT ROWID"
    ))?;
    let entry = match read(connection, table)? {
        None => create(connection, table)?,
        Some(mut stored) => {
            let merged = description::merge(&stored.table, table)?;
            if merged == *stored.table {
                return Ok(Arc::new(Layout::new(&stored)));
            }
            // An index that still has values cannot be one that has no rows yet.
            let comes_back = |name: &String| merged.unique(name).is_some();
            while stored.withdrawn.iter().any(comes_back) {
                stored = clear_some(connection, stored)?;
            }
            extend::extend(connection, &stored, merged)?
        }
    };
    write(connection, &entry)?;
    Ok(Arc::new(Layout::new(&entry)))
}

/// Creates a table with its indexes.
fn create(connection: &Connection, table: &Arc<Table>) -> Attempt<Entry> {
    let raw = &connection.raw;
    let entry = Entry::new(Arc::clone(table));
    let layout = Layout::new(&entry);
    let name = &layout.name;
    let existing: Option<i64> = raw
        .query_row(
            "SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE",
            [name.trim_matches('"')],
            |row| row.get(0),
        )
        .optional()?;
    if existing.is_some() {
        return Err(Error::configuration(format!(
            "the database has a table {name} that mintkey did not make: use another file, or give {} another table \
             name",
            table.model
        ))
        .of(table)
        .into());
    }
    raw.execute_batch(&layout.create_table(name))?;
    for index in &table.indexes {
        raw.execute_batch(&layout.create_index(index, name))?;
    }
    if let Some(sql) = layout.create_expiry_index(name) {
        raw.execute_batch(&sql)?;
    }
    for (unique, column) in layout.unique() {
        raw.execute_batch(&layout.create_unique_index(unique, column, name))?;
    }
    Ok(entry)
}

/// Stops keeping values unique. Returns whether anything has changed.
pub fn drop_unique(connection: &Connection, table: &Table, names: &[String]) -> Attempt<bool> {
    let Some(mut entry) = read(connection, table)? else {
        return Ok(false);
    };
    let removed = names.iter().filter(|name| entry.remove_unique(name));
    if removed.count() == 0 {
        return Ok(false);
    }
    write(connection, &entry)?;
    change_version(connection)?;
    Ok(true)
}

/// Removes some values of unique values that the table had before, and returns the new entry.
pub fn clear_some(connection: &Connection, mut entry: Entry) -> Attempt<Entry> {
    let Some(name) = entry.withdrawn.first() else {
        return Ok(entry);
    };
    let (table, column) = (table_name(&entry.table.name), unique_column(name));
    let index = unique_index_name(&entry.table.name, name);
    let cleared = connection.raw.execute(
        &format!(
            "UPDATE {table} SET {column} = NULL WHERE rowid IN (SELECT rowid FROM {table} INDEXED BY {index} \
             WHERE {column} IS NOT NULL LIMIT {CLEARED_AT_ONCE})"
        ),
        [],
    )?;
    if cleared == 0 {
        // The column stays: to drop it would write all rows.
        let drop = format!("DROP INDEX {index}");
        connection.raw.execute_batch(&drop)?;
        entry.withdrawn.remove(0);
        write(connection, &entry)?;
    }
    Ok(entry)
}

/// Tells all connections that what they know of the tables is out of date, after a change to the catalog alone.
pub fn change_version(connection: &Connection) -> rusqlite::Result<()> {
    let version = connection.schema_version()?.wrapping_add(1);
    let pragma = format!("PRAGMA schema_version = {version}");
    connection.raw.execute_batch(&pragma)
}

/// Writes the entry of a table.
pub fn write(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let layout = if !entry.is_plain() {
        LAYOUT_VERSION
    } else if entry.table.unique.is_empty() {
        WITHOUT_UNIQUE
    } else {
        WITH_UNIQUE
    };
    connection.raw.execute(
        &format!(
            "INSERT OR REPLACE INTO {CATALOG} (name, layout, description) VALUES (?1, ?2, ?3)"
        ),
        rusqlite::params![entry.table.name, layout, json::encode(&entry.describe())],
    )?;
    Ok(())
}

/// Drops a table and removes it from the catalog.
pub fn drop_table(connection: &Connection, table: &Table) -> Attempt<()> {
    if read(connection, table)?.is_some() {
        let name = table_name(&table.name);
        connection
            .raw
            .execute_batch(&format!("DROP TABLE {name}"))?;
        connection.raw.execute(
            &format!("DELETE FROM {CATALOG} WHERE name = ?1"),
            [&table.name],
        )?;
    }
    Ok(())
}

fn has_catalog(connection: &Connection) -> Attempt<bool> {
    let select = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'mintkey:catalog'";
    let found: Option<i64> = connection
        .raw
        .query_row(select, [], |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// The entry of a table in the catalog.
pub fn read(connection: &Connection, table: &Table) -> Attempt<Option<Entry>> {
    let raw = &connection.raw;
    if !has_catalog(connection)? {
        return Ok(None);
    }
    let select = format!("SELECT layout, description FROM {CATALOG} WHERE name = ?1");
    let entry: Option<(i64, String)> = raw
        .query_row(&select, [&table.name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((layout, text)) = entry else {
        return Ok(None);
    };
    if layout > LAYOUT_VERSION {
        return Err(Error::configuration(format!(
            "table {:?} was written by a newer mintkey (layout {layout}, this one knows up to {LAYOUT_VERSION}): \
             upgrade mintkey",
            table.name
        ))
        .of(table)
        .into());
    }
    let described = json::decode(&text)
        .ok()
        .and_then(|entry| Entry::parse(table, &entry));
    let described = described.ok_or_else(|| {
        Error::configuration(format!(
            "the catalog's entry of table {:?} cannot be read: the database is damaged",
            table.name
        ))
        .of(table)
    })?;
    Ok(Some(described))
}
