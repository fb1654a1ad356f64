//! The statements of queries and scans.

use std::fmt::Write as _;
use std::ops::Bound;

use mintkey_store::key::MAX_SORT;
use mintkey_store::query::segment_of;
use mintkey_store::{
    Error, Index, Key, KeyKind, KeyValue, Number, Position, Query, QueryKey, Scan,
};
use rusqlite::types::ValueRef;

use crate::layout::{Cell, Layout, index_name, key_value};
use crate::storage::connection::Attempt;

/// A statement that reads rows in order. Its columns are the item and those of a position.
#[derive(Debug)]
pub struct Select {
    /// The text after the columns, without the order.
    body: String,
    order: String,
    columns: String,
    /// The values of its parameters.
    pub cells: Vec<Cell<'static>>,
    /// The kinds of the position's columns: the table's key, then the index's attributes.
    pub kinds: Vec<KeyKind>,
}

impl Select {
    /// The statement that reads the rows.
    pub fn rows(&self) -> String {
        format!(
            "SELECT item, {}{} ORDER BY {}",
            self.columns, self.body, self.order
        )
    }

    /// The statement that counts them.
    pub fn count(&self) -> String {
        format!("SELECT count(*){}", self.body)
    }

    fn new(layout: &Layout, index: Option<&Index>) -> Self {
        let mut columns: Vec<&str> = layout.key_columns().collect();
        let mut kinds = vec![layout.table.partition.kind];
        kinds.extend(layout.table.sort.as_ref().map(|sort| sort.kind));
        let mut body = format!(" FROM {}", layout.name);
        if let Some(index) = index {
            columns.extend(
                index
                    .attributes()
                    .filter_map(|part| layout.column(&part.name)),
            );
            kinds.extend(index.attributes().map(|part| part.kind));
            let _ = write!(
                body,
                " INDEXED BY {}",
                index_name(&layout.table.name, &index.name)
            );
        }
        body.push_str(" WHERE 1");
        Self {
            body,
            order: String::new(),
            columns: columns.join(", "),
            cells: Vec::new(),
            kinds,
        }
    }

    fn bind(&mut self, cell: Cell<'_>) -> usize {
        self.cells.push(cell.into_owned());
        self.cells.len()
    }

    fn compare(&mut self, column: &str, operator: &str, value: &KeyValue) {
        let index = self.bind(Cell::key(value));
        let _ = write!(self.body, " AND {column} {operator} ?{index}");
    }

    /// Excludes expired rows.
    fn exclude_expired(&mut self, layout: &Layout, now: i64) {
        if let Some(column) = layout.expiry() {
            let index = self.bind(Cell::number(Number::from(now)));
            let _ = write!(self.body, " AND ({column} IS NULL OR {column} > ?{index})");
        }
    }

    /// Starts after a position, and sets the order.
    fn order_after(&mut self, columns: &[&str], after: Option<&[&KeyValue]>, descending: bool) {
        if let Some(values) = after {
            let parameters: Vec<String> = values
                .iter()
                .map(|value| format!("?{}", self.bind(Cell::key(value))))
                .collect();
            let operator = if descending { "<" } else { ">" };
            let (columns, parameters) = (columns.join(", "), parameters.join(", "));
            let _ = write!(self.body, " AND ({columns}) {operator} ({parameters})");
        }
        let direction = if descending { " DESC" } else { "" };
        let ordered: Vec<String> = columns
            .iter()
            .map(|column| format!("{column}{direction}"))
            .collect();
        self.order = ordered.join(", ");
    }
}

/// The statement of a query.
pub fn query(layout: &Layout, key: &QueryKey<'_>, query: &Query, now: i64) -> Select {
    let index = key.index;
    let mut select = Select::new(layout, index);
    for (attribute, value) in key.partition.iter().zip(&query.partition) {
        select.compare(layout.column(&attribute.name).unwrap_or("pk"), "=", value);
    }
    let sort_column = key.sort.and_then(|sort| layout.column(&sort.name));
    if let Some(column) = sort_column {
        for (bound, included, excluded) in [(&key.range.0, ">=", ">"), (&key.range.1, "<=", "<")] {
            match bound {
                Bound::Included(value) => select.compare(column, included, value),
                Bound::Excluded(value) => select.compare(column, excluded, value),
                Bound::Unbounded => {}
            }
        }
    }
    if let (Some(_), Some(column)) = (index, sort_column) {
        // A row without the attribute is not in the index. SQLite only uses the index if the statement excludes such
        // rows.
        let _ = write!(select.body, " AND {column} IS NOT NULL");
        if key
            .sort
            .is_some_and(|sort| layout.longest(&sort.name) > MAX_SORT)
        {
            // Another index holds longer values of the attribute.
            let _ = write!(select.body, " AND octet_length({column}) <= {MAX_SORT}");
        }
    }
    select.exclude_expired(layout, now);
    if let Some(mark) = index.and_then(|index| layout.mark(index)) {
        let _ = write!(select.body, " AND {mark} IS NOT NULL");
    }
    let after = query.after.as_ref();
    let (columns, after) = match index {
        None => (layout.key_columns().collect(), after.map(key_parts)),
        Some(index) => (
            layout.index_columns(index),
            after.map(|after| index_parts(layout, index, after)),
        ),
    };
    select.order_after(&columns, after.as_deref(), query.descending);
    select
}

/// The statement of a scan.
pub fn scan(layout: &Layout, scan: &Scan, now: i64) -> Select {
    let mut select = Select::new(layout, None);
    select.exclude_expired(layout, now);
    let after = scan.after.as_ref().map(key_parts);
    let columns: Vec<&str> = layout.key_columns().collect();
    select.order_after(&columns, after.as_deref(), scan.descending);
    select
}

/// The values of a position in the order of the table's key.
fn key_parts(after: &Position) -> Vec<&KeyValue> {
    std::iter::once(&after.key.partition)
        .chain(&after.key.sort)
        .collect()
}

/// The values of a position in the order of an index's columns.
fn index_parts<'a>(layout: &Layout, index: &Index, after: &'a Position) -> Vec<&'a KeyValue> {
    let own = index
        .attributes()
        .filter_map(|part| layout.column(&part.name))
        .zip(&after.index);
    let keys = layout.key_columns().zip(key_parts(after));
    let mut seen: Vec<&str> = Vec::new();
    let mut parts = Vec::new();
    for (column, value) in own.chain(keys) {
        if !seen.contains(&column) {
            seen.push(column);
            parts.push(value);
        }
    }
    parts
}

/// The position of a row, from its second column on.
pub fn position(layout: &Layout, select: &Select, row: &rusqlite::Row<'_>) -> Attempt<Position> {
    let mut values = Vec::with_capacity(select.kinds.len());
    for (index, kind) in select.kinds.iter().enumerate() {
        values.push(key_value(*kind, row.get_ref(index + 1)?)?);
    }
    let index = values.split_off(if layout.table.sort.is_some() { 2 } else { 1 });
    let mut own = values.into_iter();
    let partition = own
        .next()
        .ok_or_else(|| Error::invalid("a stored row has no key"))?;
    Ok(Position {
        key: Key {
            partition,
            sort: own.next(),
        },
        index,
    })
}

/// The segment of the row with this partition key.
pub fn segment(cell: ValueRef<'_>, segments: u32) -> u32 {
    match cell {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => segment_of(bytes, segments),
        _ => segment_of(&[], segments),
    }
}
