//! Adds what a class declares and its stored table lacks, and fills it from the existing rows.

use std::sync::Arc;

use mintkey_store::{Error, Table, Unique, Violation, json};

use crate::layout::{Cell, Column, Layout, UniqueColumn, column_type, unique_index_name};
use crate::storage::connection::{self, Attempt, Connection};

/// The most rows that are read before they are written.
const ROWS: usize = 1_000;
/// About the most bytes of these rows.
const BYTES: usize = 1024 * 1024;

/// What is filled from the existing rows.
struct Added<'a> {
    /// The columns that are new, or that hold longer values than before.
    columns: Vec<&'a Column>,
    /// The unique values, by their position among those of the table.
    unique: Vec<usize>,
}

/// Adds the columns and indexes that a stored table lacks. Expired rows have no unique values: they are deleted when
/// unique values are added.
pub fn extend(connection: &Connection, layout: &Layout, stored: &Table, now: i64) -> Attempt<()> {
    let raw = &connection.raw;
    let added = add_columns(connection, layout, stored)?;
    if !added.columns.is_empty() || !added.unique.is_empty() {
        fill(connection, layout, &added, now)?;
    }
    for index in &layout.table.indexes {
        if stored.index(&index.name).is_none() {
            raw.execute_batch(&layout.create_index(index))?;
        }
    }
    if stored.ttl.is_none()
        && let Some(sql) = layout.create_expiry_index()
    {
        raw.execute_batch(&sql)?;
    }
    create_unique_indexes(connection, layout, &added)
}

fn add_columns<'a>(
    connection: &Connection,
    layout: &'a Layout,
    stored: &Table,
) -> Attempt<Added<'a>> {
    let add = |column: &str, kind: &str| {
        let sql = format!("ALTER TABLE {} ADD COLUMN {column} {kind}", layout.name);
        connection.raw.execute_batch(&sql)
    };
    let before = Layout::new(Arc::new(stored.clone()));
    // A column that is also a partition key of a new index holds longer values than before.
    let grows = |column: &&Column| before.longest(&column.attribute) < column.longest;
    let columns: Vec<&Column> = layout.columns.iter().filter(grows).collect();
    for column in &columns {
        if before.column(&column.attribute).is_none() {
            add(&column.sql, column_type(column.kind))?;
        }
    }
    let mut unique = Vec::new();
    for (position, (declared, column)) in layout.unique().enumerate() {
        match stored.unique(&declared.name) {
            Some(known) if known == declared => continue,
            // The scope grows. Without the index, all rows can be filled before the first duplicate is found.
            Some(_) => {
                let index = unique_index_name(&layout.table.name, &declared.name);
                connection
                    .raw
                    .execute_batch(&format!("DROP INDEX {index}"))?;
            }
            None => add(&column.sql, "BLOB")?,
        }
        unique.push(position);
    }
    Ok(Added { columns, unique })
}

/// Fills what was added, some rows at a time.
fn fill(connection: &Connection, layout: &Layout, added: &Added<'_>, now: i64) -> Attempt<()> {
    let raw = &connection.raw;
    let table = &layout.name;
    let claims = added.unique.iter().map(|own| &layout.claims[*own].sql);
    let columns = added.columns.iter().map(|column| &column.sql).chain(claims);
    let assignments: Vec<String> = columns
        .zip(2..)
        .map(|(column, index)| format!("{column} = ?{index}"))
        .collect();
    let mut select = raw.prepare(&format!(
        "SELECT rowid, item FROM {table} WHERE rowid > ?1 ORDER BY rowid LIMIT {ROWS}"
    ))?;
    let mut update = raw.prepare(&format!(
        "UPDATE {table} SET {} WHERE rowid = ?1",
        assignments.join(", ")
    ))?;
    let mut delete = raw.prepare(&format!("DELETE FROM {table} WHERE rowid = ?1"))?;
    let mut decoder = json::Decoder::default();
    let mut last = i64::MIN;
    loop {
        let mut rows: Vec<(i64, String)> = Vec::new();
        let mut bytes = 0;
        let mut found = select.query([last])?;
        while bytes < BYTES
            && let Some(row) = found.next()?
        {
            let text: String = row.get(1)?;
            bytes += text.len();
            rows.push((row.get(0)?, text));
        }
        drop(found);
        let Some((end, _)) = rows.last() else { break };
        last = *end;
        for (rowid, text) in &rows {
            let item = decoder
                .decode(text)
                .map_err(|why| Error::damaged(&layout.table, None, why))?;
            if !added.unique.is_empty() && layout.table.is_expired(&item, now) {
                delete.execute([rowid])?;
                continue;
            }
            update.raw_bind_parameter(1, rowid)?;
            for (column, index) in added.columns.iter().zip(2..) {
                update.raw_bind_parameter(index, Cell::indexed(&item, column))?;
            }
            for (own, index) in added.unique.iter().zip(2 + added.columns.len()..) {
                let claim = layout.table.unique[*own].claim(&item).map_err(|error| {
                    let error = error.of(&layout.table);
                    match layout.table.key_of(&item) {
                        Ok(key) => error.at(&key),
                        Err(_) => error,
                    }
                })?;
                update.raw_bind_parameter(index, Cell::claim(claim.as_ref()))?;
            }
            update.raw_execute()?;
        }
    }
    Ok(())
}

/// Creates the indexes on the unique values that were added, or refuses with all duplicates of all of them.
fn create_unique_indexes(
    connection: &Connection,
    layout: &Layout,
    added: &Added<'_>,
) -> Attempt<()> {
    let mut violations = Vec::new();
    for (position, (unique, column)) in layout.unique().enumerate() {
        if !added.unique.contains(&position) {
            continue;
        }
        let created = connection
            .raw
            .execute_batch(&layout.create_unique_index(unique, column));
        match created {
            Err(error) if connection::is_duplicate(&error) => {
                violations.extend(duplicates(connection, layout, unique, column)?);
            }
            created => created?,
        }
    }
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Error::duplicates(&layout.table, violations).into())
    }
}

/// The values that several rows have, and the keys of these rows.
fn duplicates(
    connection: &Connection,
    layout: &Layout,
    unique: &Unique,
    column: &UniqueColumn,
) -> Attempt<Vec<Violation>> {
    let (table, column) = (&layout.name, &column.sql);
    let mut select = connection.raw.prepare(&format!(
        "SELECT item FROM {table} WHERE {column} IN (SELECT {column} FROM {table} WHERE {column} IS NOT NULL \
         GROUP BY {column} HAVING count(*) > 1) ORDER BY {column}, rowid"
    ))?;
    let mut found: Vec<Violation> = Vec::new();
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let text: String = row.get(0)?;
        let item = json::decode(&text).map_err(|why| Error::damaged(&layout.table, None, why))?;
        let Some(claim) = unique.claim(&item)? else {
            continue;
        };
        let key = layout.table.key_of(&item)?;
        match found.last_mut() {
            Some(last) if last.values == claim.values => last.holders.push(key),
            _ => found.push(Violation {
                attributes: unique.attributes.clone(),
                values: claim.values,
                holders: vec![key],
            }),
        }
    }
    Ok(found)
}
