//! The catalog: the stored description of each table, which may differ from the class that uses the table now.

mod extend;
pub mod layout_cache;

use std::sync::Arc;

use mintkey_store::description::{self, StoredTable};
use mintkey_store::{Error, Reply, Table, json};
use rusqlite::OptionalExtension as _;

use crate::layout::{CATALOG, Layout, unique_index_name};
use crate::storage::connection::{Attempt, Connection};

/// The newest version of the layout that this code writes. A table with a higher one was written by newer code.
const LAYOUT_VERSION: i64 = 2;
/// The version of tables without unique values. Code that knows no higher one would write rows without their claims, so
/// that it must not write tables that have unique values.
const WITHOUT_UNIQUE: i64 = 1;
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
    let Some(table) = read(connection, &Table::unknown(name))? else {
        return Ok(Reply::Described(None));
    };
    let quoted = crate::layout::table_name(name);
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

/// The layout of a table, if the table exists and lacks nothing that the class declares.
pub fn load(connection: &Connection, table: &Arc<Table>) -> Attempt<Option<Arc<Layout>>> {
    let Some(stored) = read(connection, table)? else {
        return Ok(None);
    };
    let merged = description::merge(&stored, table)?;
    Ok((merged == stored).then(|| Arc::new(Layout::new(Arc::new(merged)))))
}

/// The layout of a table, after creating all that is missing. If this fails, the transaction must be rolled back.
pub fn create_or_extend(
    connection: &Connection,
    table: &Arc<Table>,
    now: i64,
) -> Attempt<Arc<Layout>> {
    let raw = &connection.raw;
    raw.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS {CATALOG} (name TEXT PRIMARY KEY NOT NULL, layout INTEGER NOT NULL, \
         description TEXT NOT NULL) WITHOUT ROWID"
    ))?;
    let stored = read(connection, table)?;
    let merged = match &stored {
        Some(stored) => description::merge(stored, table)?,
        None => (**table).clone(),
    };
    let layout = Arc::new(Layout::new(Arc::new(merged)));
    match &stored {
        Some(stored) if *stored == *layout.table => return Ok(layout),
        Some(stored) => extend::extend(connection, &layout, stored, now)?,
        None => {
            let existing: Option<i64> = raw
                .query_row(
                    "SELECT 1 FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE",
                    [layout.name.trim_matches('"')],
                    |row| row.get(0),
                )
                .optional()?;
            if existing.is_some() {
                return Err(Error::configuration(format!(
                    "the database has a table {} that mintkey did not make: use another file, or give {} \
                     another table name",
                    layout.name, table.model
                ))
                .of(table)
                .into());
            }
            raw.execute_batch(&layout.create_table())?;
            for index in &layout.table.indexes {
                raw.execute_batch(&layout.create_index(index))?;
            }
            if let Some(sql) = layout.create_expiry_index() {
                raw.execute_batch(&sql)?;
            }
            for (unique, column) in layout.unique() {
                raw.execute_batch(&layout.create_unique_index(unique, column))?;
            }
        }
    }
    write(connection, &layout.table)?;
    Ok(layout)
}

/// Stops keeping values unique: drops the columns with the claims, and their indexes.
pub fn drop_unique(connection: &Connection, table: &Table, names: &[String]) -> Attempt<()> {
    let Some(stored) = read(connection, table)? else {
        return Ok(());
    };
    let mut left = stored.clone();
    left.unique.retain(|unique| !names.contains(&unique.name));
    if left.unique.len() == stored.unique.len() {
        return Ok(());
    }
    let layout = Layout::new(Arc::new(stored));
    for (unique, column) in layout.unique() {
        if left.unique(&unique.name).is_none() {
            let index = unique_index_name(&layout.table.name, &unique.name);
            let column = &column.sql;
            connection.raw.execute_batch(&format!(
                "DROP INDEX {index}; ALTER TABLE {} DROP COLUMN {column}",
                layout.name
            ))?;
        }
    }
    Ok(write(connection, &left)?)
}

/// Writes the description of a table.
fn write(connection: &Connection, table: &Table) -> rusqlite::Result<()> {
    let layout = if table.unique.is_empty() {
        WITHOUT_UNIQUE
    } else {
        LAYOUT_VERSION
    };
    connection.raw.execute(
        &format!(
            "INSERT OR REPLACE INTO {CATALOG} (name, layout, description) VALUES (?1, ?2, ?3)"
        ),
        rusqlite::params![
            table.name,
            layout,
            json::encode(&description::describe(table))
        ],
    )?;
    Ok(())
}

/// Drops a table and removes it from the catalog.
pub fn drop_table(connection: &Connection, table: &Table) -> Attempt<()> {
    if read(connection, table)?.is_some() {
        let name = crate::layout::table_name(&table.name);
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
fn read(connection: &Connection, table: &Table) -> Attempt<Option<Table>> {
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
        .and_then(|entry| description::parse(table, &entry));
    let described = described.ok_or_else(|| {
        Error::configuration(format!(
            "the catalog's entry of table {:?} cannot be read: the database is damaged",
            table.name
        ))
        .of(table)
    })?;
    Ok(Some(described))
}
