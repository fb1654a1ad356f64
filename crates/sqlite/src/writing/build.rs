//! Adds the existing rows to what was added to a table, some rows at a time, each time in a transaction of its own. So
//! writers wait for a step at most.
//!
//! Writers follow the catalog: they keep new indexes up to date from the moment that the catalog has them, and leave the
//! check of new unique values to the build. The catalog also says which row was filled last, so that any process can
//! continue a build at any time, also several at once, and which row is the last that must be filled.

use std::collections::BTreeMap;

use mintkey_store::{Error, Item, Key, Result, Table, Violation, json};

use crate::catalog;
use crate::entry::Entry;
use crate::layout::{Cell, Column, DUPLICATE, Held, Layout, UNCHECKED, unique_index_name};
use crate::storage::connection::{self, Attempt, Connection, Fault};
use crate::writing::stored_rows;

/// The most rows of a step. Tests have small tables.
const ROWS: usize = if cfg!(test) { 4 } else { 1_000 };
/// About the most bytes of these rows.
const BYTES: usize = 1024 * 1024;

/// What is left to do after a step.
pub enum Step {
    More,
    Done,
    /// Rows have the same values, or values that cannot be unique. The class's new unique values were withdrawn.
    Refused(Error),
}

/// Does a part of what is not built and what a class declares.
pub fn step(connection: &Connection, class: &Table, now: i64) -> Attempt<Step> {
    let Some(mut entry) = catalog::read(connection, class)? else {
        return Ok(Step::Done);
    };
    if !entry.withdrawn.is_empty() {
        catalog::clear_some(connection, entry)?;
        return Ok(Step::More);
    }
    let unbuilt = &mut entry.unbuilt;
    let declares = |name: &String| class.unique(name).is_some();
    if unbuilt.indexes.is_empty() && !unbuilt.expiry && !unbuilt.unique.iter().any(declares) {
        return Ok(Step::Done);
    }
    let builder = Builder::new(connection, Layout::new(&entry), now);
    if let Some(row) = builder.fill_some()? {
        entry.unbuilt.filled = row;
        catalog::write(connection, &entry)?;
        return Ok(Step::More);
    }
    if builder.check_some()? {
        return Ok(Step::More);
    }
    finish(connection, entry, class, &builder)
}

/// Ends a build whose rows are all filled.
fn finish(
    connection: &Connection,
    mut entry: Entry,
    class: &Table,
    builder: &Builder<'_>,
) -> Attempt<Step> {
    let declares = |name: &String| class.unique(name).is_some();
    let mut conflicts = Conflicts::default();
    let mut left: Vec<String> = Vec::new();
    for position in &builder.unique {
        let name = &builder.layout.table.unique[*position].name;
        let found = builder.conflicts(*position)?;
        if !found.is_none() {
            left.push(name.clone());
        }
        // A class that does not declare the values leaves the decision to others.
        if declares(name) {
            conflicts.add(found);
        }
    }
    let refused = conflicts.error(&builder.layout.table);
    let unbuilt = &mut entry.unbuilt;
    unbuilt.indexes.clear();
    unbuilt.expiry = false;
    unbuilt
        .unique
        .retain(|name| left.contains(name) || (refused.is_some() && declares(name)));
    let unique = &unbuilt.unique;
    unbuilt.before.retain(|own| unique.contains(&own.name));
    if refused.is_some() {
        let mut names = entry.unbuilt.unique.clone();
        names.retain(declares);
        entry.refuse(&names);
    }
    entry.unbuilt.forget_rows_if_built();
    catalog::write(connection, &entry)?;
    catalog::change_version(connection)?;
    Ok(refused.map_or(Step::Done, Step::Refused))
}

/// Why unique values cannot be built.
#[derive(Default)]
struct Conflicts {
    /// The values that several rows have, and the keys of these rows.
    violations: Vec<Violation>,
    /// The first value that cannot be unique.
    invalid: Option<Error>,
}

impl Conflicts {
    const fn is_none(&self) -> bool {
        self.violations.is_empty() && self.invalid.is_none()
    }

    fn add(&mut self, other: Self) {
        self.violations.extend(other.violations);
        self.invalid = self.invalid.take().or(other.invalid);
    }

    fn error(self, table: &Table) -> Option<Error> {
        if self.is_none() {
            return None;
        }
        let duplicates = || Error::duplicates(table, self.violations);
        Some(self.invalid.unwrap_or_else(duplicates))
    }
}

/// Fills the columns of what is not built.
struct Builder<'a> {
    connection: &'a Connection,
    layout: Layout,
    now: i64,
    /// The positions of the unique values that are not built.
    unique: Vec<usize>,
}

/// A row as it is read to be filled.
type StoredRow = (i64, String);

impl<'a> Builder<'a> {
    fn new(connection: &'a Connection, layout: Layout, now: i64) -> Self {
        let unique = layout.table.unique.iter().enumerate();
        let unique = unique
            .filter(|(_, own)| layout.unbuilt.unique.contains(&own.name))
            .map(|(position, _)| position)
            .collect();
        Self {
            connection,
            layout,
            now,
            unique,
        }
    }

    /// Fills some rows, and returns the id of the last of them; `None`: there are no more.
    fn fill_some(&self) -> Attempt<Option<i64>> {
        let unbuilt = &self.layout.unbuilt;
        let select = format!(
            "SELECT rowid, item FROM {} WHERE rowid > ?1 AND rowid <= ?2 ORDER BY rowid LIMIT {ROWS}",
            self.layout.name
        );
        let rows = self.rows(&select, [unbuilt.filled, unbuilt.last], BYTES)?;
        let columns = self.columns();
        let marks = self.marks();
        let names = columns.iter().map(|column| &column.sql);
        let names = names.chain(marks.iter().map(|(_, column)| column));
        let assignments: Vec<String> = names
            .zip(2..)
            .map(|(column, parameter)| format!("{column} = ?{parameter}"))
            .collect();
        let mut update = if assignments.is_empty() {
            None
        } else {
            Some(self.connection.raw.prepare_cached(&format!(
                "UPDATE {} SET {} WHERE rowid = ?1",
                self.layout.name,
                assignments.join(", ")
            ))?)
        };
        let mut decoder = json::Decoder::default();
        for (rowid, text) in &rows {
            let item = self.decode(&mut decoder, text)?;
            if let Some(update) = &mut update {
                update.raw_bind_parameter(1, rowid)?;
                let cells = columns.iter().map(|column| Cell::indexed(&item, column));
                let is_member = |position: usize| {
                    self.layout.table.indexes[position]
                        .values_of(&item)
                        .is_some()
                };
                let cells = cells.chain(
                    marks
                        .iter()
                        .map(|(position, _)| Cell::mark(is_member(*position))),
                );
                for (cell, parameter) in cells.zip(2..) {
                    update.raw_bind_parameter(parameter, cell)?;
                }
                update.raw_execute()?;
            }
            for position in &self.unique {
                self.claim(*position, *rowid, &item)?;
            }
        }
        Ok(rows.last().map(|(rowid, _)| *rowid))
    }

    /// The columns that are not filled.
    fn columns(&self) -> Vec<&Column> {
        let table = &self.layout.table;
        let unbuilt = &self.layout.unbuilt;
        let is_unfilled = |column: &&Column| {
            let mut indexes = table.indexes.iter();
            let has = |part: &mintkey_store::KeyAttribute| part.name == column.attribute;
            (unbuilt.expiry && table.ttl.as_ref() == Some(&column.attribute))
                || indexes.any(|index| {
                    unbuilt.indexes.contains(&index.name) && index.attributes().any(has)
                })
        };
        self.layout.columns.iter().filter(is_unfilled).collect()
    }

    /// The columns of marks that are not filled.
    fn marks(&self) -> Vec<&(usize, String)> {
        let unbuilt = &self.layout.unbuilt.indexes;
        let indexes = &self.layout.table.indexes;
        let is_unfilled =
            |(position, _): &&(usize, String)| unbuilt.contains(&indexes[*position].name);
        self.layout.marks.iter().filter(is_unfilled).collect()
    }

    /// Compares some rows that writers have left unchecked. Returns whether there may be more.
    fn check_some(&self) -> Attempt<bool> {
        for position in &self.unique {
            let rows = self.flagged(*position, UNCHECKED, Some(ROWS))?;
            let mut decoder = json::Decoder::default();
            for (rowid, text) in &rows {
                self.claim(*position, *rowid, &self.decode(&mut decoder, text)?)?;
            }
            if rows.len() == ROWS {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Compares the rows again that are flagged as duplicates: those that they were duplicates of may be gone.
    fn conflicts(&self, position: usize) -> Attempt<Conflicts> {
        let table = &self.layout.table;
        let mut violations: BTreeMap<Vec<u8>, Violation> = BTreeMap::new();
        let mut invalid = None;
        let mut decoder = json::Decoder::default();
        for (rowid, text) in self.flagged(position, DUPLICATE, None)? {
            let item = self.decode(&mut decoder, &text)?;
            let Some(error) = self.claim(position, rowid, &item)? else {
                continue;
            };
            let claim = table.unique[position].claim(&item).ok().flatten();
            let found = error.violations.as_deref().and_then(<[_]>::first);
            if let (Some(claim), Some(found)) = (claim, found) {
                let known = violations.entry(claim.encode());
                let known = known.or_insert_with(|| found.clone());
                known.holders.push(table.key_of(&item)?);
            } else {
                invalid = invalid.or(Some(error));
            }
        }
        Ok(Conflicts {
            violations: violations.into_values().collect(),
            invalid,
        })
    }

    /// Lets a row claim a unique value. If it cannot, it is flagged, and that is the error that is returned. Expired rows
    /// have no unique values: they are deleted.
    fn claim(&self, position: usize, rowid: i64, item: &Item) -> Attempt<Option<Error>> {
        let table = &self.layout.table;
        if table.is_expired(item, self.now) {
            let sql = format!("DELETE FROM {} WHERE rowid = ?1", self.layout.name);
            self.change(&sql, rowid, None)?;
            return Ok(None);
        }
        let key = table.key_of(item)?;
        let held = match table.unique[position].claim(item) {
            Ok(claim) => claim.map_or(Held::Nothing, Held::Claim),
            Err(error) => {
                self.set(position, rowid, Cell::flag(DUPLICATE, &key))?;
                return Ok(Some(error.of(table).at(&key)));
            }
        };
        if self.set(position, rowid, Cell::held(&held, &key))? {
            return Ok(None);
        }
        match self.free(&key, held.clone()) {
            Ok(()) => {
                self.set(position, rowid, Cell::held(&held, &key))?;
                Ok(None)
            }
            Err(Fault::Refused(error)) => {
                self.set(position, rowid, Cell::flag(DUPLICATE, &key))?;
                Ok(Some(error))
            }
            Err(fault) => Err(fault),
        }
    }

    /// Deletes an expired row that holds a value, or says which row holds it.
    fn free(&self, key: &Key, held: Held<'_>) -> Attempt<()> {
        stored_rows::delete_expired_holders(self.connection, &self.layout, key, &[held], self.now)
    }

    /// Writes the cell of a unique value. Returns false if another row has it.
    fn set(&self, position: usize, rowid: i64, cell: Cell<'_>) -> Attempt<bool> {
        let sql = format!(
            "UPDATE {} SET {} = ?2 WHERE rowid = ?1",
            self.layout.name, self.layout.claims[position].sql
        );
        self.change(&sql, rowid, Some(cell))
    }

    fn change(&self, sql: &str, rowid: i64, cell: Option<Cell<'_>>) -> Attempt<bool> {
        let mut statement = self.connection.raw.prepare_cached(sql)?;
        statement.raw_bind_parameter(1, rowid)?;
        if let Some(cell) = cell {
            statement.raw_bind_parameter(2, cell)?;
        }
        match statement.raw_execute() {
            Err(error) if connection::is_duplicate(&error) => Ok(false),
            done => done.map(|_| true).map_err(Fault::from),
        }
    }

    /// The rows whose cell of a unique value begins with this byte, or with a greater one.
    fn flagged(&self, position: usize, first: u8, limit: Option<usize>) -> Attempt<Vec<StoredRow>> {
        let unique = &self.layout.table.unique[position];
        let column = &self.layout.claims[position].sql;
        let index = unique_index_name(&self.layout.table.name, &unique.name);
        let limit = limit.map_or_else(String::new, |rows| format!(" LIMIT {rows}"));
        let select = format!(
            "SELECT rowid, item FROM {} INDEXED BY {index} WHERE {column} >= ?1 ORDER BY {column}{limit}",
            self.layout.name
        );
        self.rows(&select, [[first]], usize::MAX)
    }

    /// The rows that a statement reads, until they have about this many bytes.
    fn rows(
        &self,
        select: &str,
        parameters: impl rusqlite::Params,
        bytes: usize,
    ) -> Attempt<Vec<StoredRow>> {
        let mut statement = self.connection.raw.prepare_cached(select)?;
        let mut found = statement.query(parameters)?;
        let mut rows: Vec<StoredRow> = Vec::new();
        let mut read = 0;
        while read < bytes
            && let Some(row) = found.next()?
        {
            let text: String = row.get(1)?;
            read += text.len();
            rows.push((row.get(0)?, text));
        }
        Ok(rows)
    }

    fn decode(&self, decoder: &mut json::Decoder, text: &str) -> Result<Item> {
        let damaged = |why| Error::damaged(&self.layout.table, None, why);
        decoder.decode(text).map_err(damaged)
    }
}
