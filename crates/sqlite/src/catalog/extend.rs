//! Adds what a class declares and its stored table lacks, without reading the rows: columns without values, and indexes
//! without rows.

use std::sync::Arc;

use mintkey_store::Table;
use rusqlite::OptionalExtension as _;

use crate::entry::Entry;
use crate::layout::{
    Layout, column_type, expiry_index_name, index_name, unique_index_name, unquoted,
};
use crate::storage::connection::{Attempt, Connection};

/// A table that exists only inside a transaction. An escaped name contains no colon.
const EMPTY: &str = "\"mintkey:empty\"";

/// An index that no row belongs to: its quoted name, and how it is created on the table of a quoted name.
type EmptyIndex<'a> = (String, Box<dyn Fn(&str) -> String + 'a>);

/// Adds the columns and indexes that a stored table lacks. They are not built yet.
pub fn extend(connection: &Connection, stored: &Entry, merged: Table) -> Attempt<Entry> {
    let (mut entry, before) = (declare(stored, merged), Layout::new(stored));
    let select = format!("SELECT coalesce(max(rowid), 0) FROM {}", before.name);
    entry.unbuilt.filled = 0;
    entry.unbuilt.last = connection.raw.query_row(&select, [], |row| row.get(0))?;
    entry.unbuilt.forget_rows_if_built();
    let layout = Layout::new(&entry);
    add_columns(connection, &layout, &before)?;
    let mut empty: Vec<EmptyIndex<'_>> = Vec::new();
    for index in &layout.table.indexes {
        if stored.table.index(&index.name).is_none() {
            let name = index_name(&layout.table.name, &index.name);
            empty.push((name, Box::new(|table| layout.create_index(index, table))));
        }
    }
    for (unique, column) in layout.unique() {
        if stored.table.unique(&unique.name).is_none() {
            let name = unique_index_name(&layout.table.name, &unique.name);
            let create = |table: &str| layout.create_unique_index(unique, column, table);
            empty.push((name, Box::new(create)));
        }
    }
    if let (None, Some(ttl)) = (&stored.table.ttl, &layout.table.ttl) {
        if before.column(ttl).is_none() {
            let create = |table: &str| layout.create_expiry_index(table).unwrap_or_default();
            empty.push((expiry_index_name(&layout.table.name), Box::new(create)));
        } else if let Some(sql) = layout.create_expiry_index(&layout.name) {
            // The column has values already, because an index has it. So this reads the rows, and writers wait.
            connection.raw.execute_batch(&sql)?;
        }
    }
    add_empty_indexes(connection, &layout, &empty)?;
    Ok(entry)
}

/// The entry of a table with what a class adds.
fn declare(stored: &Entry, merged: Table) -> Entry {
    let mut entry = stored.clone();
    let before = Layout::new(stored);
    let unbuilt = &mut entry.unbuilt;
    for index in &merged.indexes {
        if stored.table.index(&index.name).is_none() {
            unbuilt.indexes.push(index.name.clone());
            // A row without a value in a new column is not in the index. Otherwise the rows must be marked.
            let mut attributes = index.attributes();
            if attributes.all(|part| before.column(&part.name).is_some()) {
                entry.marked.push(index.name.clone());
            }
        }
    }
    unbuilt.expiry |= stored.table.ttl.is_none() && merged.ttl.is_some();
    for unique in &merged.unique {
        let known = stored.table.unique(&unique.name);
        if known != Some(unique) && !unbuilt.unique.contains(&unique.name) {
            unbuilt.unique.push(unique.name.clone());
            unbuilt.before.extend(known.cloned());
        }
    }
    entry.withdrawn.retain(|name| merged.unique(name).is_none());
    entry.table = Arc::new(merged);
    entry
}

fn add_columns(connection: &Connection, layout: &Layout, before: &Layout) -> Attempt<()> {
    let add = |column: &str, kind: &str| {
        let sql = format!("ALTER TABLE {} ADD COLUMN {column} {kind}", layout.name);
        connection.raw.execute_batch(&sql)
    };
    for column in &layout.columns {
        if before.column(&column.attribute).is_none() {
            add(&column.sql, column_type(column.kind))?;
        }
    }
    for mark in &layout.marks {
        if !before.marks.contains(mark) {
            add(&mark.1, "BLOB")?;
        }
    }
    for (unique, column) in layout.unique() {
        // The column of a unique value that was withdrawn is left, without values.
        if before.table.unique(&unique.name).is_none()
            && !has_column(connection, layout, &column.sql)?
        {
            add(&column.sql, "BLOB")?;
        }
    }
    Ok(())
}

fn has_column(connection: &Connection, layout: &Layout, column: &str) -> Attempt<bool> {
    let select = "SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2 COLLATE NOCASE";
    let names = [unquoted(&layout.name), unquoted(column)];
    let found: Option<i64> = connection
        .raw
        .query_row(select, names, |row| row.get(0))
        .optional()?;
    Ok(found.is_some())
}

/// Adds indexes that no row belongs to. `CREATE INDEX` would read all rows to find that out, and writers would wait. So
/// the indexes are created on a table without rows, and then become those of this table.
///
/// Source: `PRAGMA writable_schema` in the documentation of `SQLite`.
fn add_empty_indexes(
    connection: &Connection,
    layout: &Layout,
    indexes: &[EmptyIndex<'_>],
) -> Attempt<()> {
    if indexes.is_empty() {
        return Ok(());
    }
    let raw = &connection.raw;
    raw.execute_batch(&layout.create_table(EMPTY))?;
    for (_, create) in indexes {
        raw.execute_batch(&create(EMPTY))?;
    }
    raw.execute_batch("PRAGMA writable_schema = ON")?;
    let moved = move_indexes(connection, layout, indexes);
    // It also reads the schema again, which is what the next statement needs.
    raw.execute_batch("PRAGMA writable_schema = RESET")?;
    moved?;
    raw.execute_batch(&format!("DROP TABLE {EMPTY}"))?;
    Ok(())
}

fn move_indexes(
    connection: &Connection,
    layout: &Layout,
    indexes: &[EmptyIndex<'_>],
) -> rusqlite::Result<()> {
    let mut update = connection.raw.prepare(
        "UPDATE sqlite_schema SET tbl_name = ?1, sql = ?2 WHERE type = 'index' AND name = ?3",
    )?;
    for (name, create) in indexes {
        let moved =
            update.execute([unquoted(&layout.name), create(&layout.name), unquoted(name)])?;
        if moved != 1 {
            return Err(rusqlite::Error::StatementChangedRows(moved));
        }
    }
    Ok(())
}
