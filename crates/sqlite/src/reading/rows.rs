//! Reads: one item, or a page of them. Every statement ends with its request.

use mintkey_store::{
    BatchGet, Condition, Error, Get, Item, Key, Name, Page, Query, Reply, Result, Scan, json,
};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, StatementStatus};

use crate::layout::{Cell, Layout};
use crate::reading::select::{self, Select};
use crate::storage::connection::{Attempt, Connection, Fault};

/// The bytes of rows that a page looks at before it ends, as on `DynamoDB`.
const PAGE_BYTES: usize = 1024 * 1024;
/// The rows it looks at, when they are only counted.
const PAGE_ROWS: u64 = 100_000;
/// Rows judged here between two looks at the clock.
const ROWS_PER_LOOK: u64 = 512;

/// The stored row of a key, expired or not.
pub fn stored(connection: &Connection, layout: &Layout, key: &Key) -> Attempt<Option<Item>> {
    let mut statement = connection.raw.prepare_cached(&layout.get)?;
    statement.raw_bind_parameter(1, Cell::key(&key.partition))?;
    if let Some(sort) = &key.sort {
        statement.raw_bind_parameter(2, Cell::key(sort))?;
    }
    let mut rows = statement.raw_query();
    let item = match rows.next()? {
        Some(row) => {
            let item = text(row.get_ref(0)?).and_then(json::decode);
            Some(item.map_err(|why| Error::damaged(&layout.table, Some(key), why))?)
        }
        None => None,
    };
    drop(rows);
    fresh(connection, &statement)?;
    Ok(item)
}

/// Answers a get.
pub fn get(connection: &Connection, layout: &Layout, get: &Get, now: i64) -> Attempt<Reply> {
    layout.table.check_key(&get.key)?;
    let item = stored(connection, layout, &get.key)?;
    let mut item = item.filter(|item| !layout.table.is_expired(item, now));
    if let (Some(item), Some(attributes)) = (&mut item, &get.attributes) {
        keep(item, layout, attributes);
    }
    Ok(Reply::Item(item))
}

/// Answers several gets.
pub fn batch(
    connection: &Connection,
    layout: &Layout,
    batch: &BatchGet,
    now: i64,
) -> Attempt<Reply> {
    let mut items = Vec::with_capacity(batch.keys.len());
    for key in &batch.keys {
        layout.table.check_key(key)?;
        let item = stored(connection, layout, key)?;
        let mut item = item.filter(|item| !layout.table.is_expired(item, now));
        if let (Some(item), Some(attributes)) = (&mut item, &batch.attributes) {
            keep(item, layout, attributes);
        }
        items.push(item);
    }
    Ok(Reply::Items(items))
}

/// Answers a query.
pub fn query(connection: &Connection, layout: &Layout, query: &Query, now: i64) -> Attempt<Reply> {
    let index = select::query_index(layout, query)?;
    let select = select::query(layout, query, now)?;
    Reading {
        connection,
        layout,
        select: &select,
        shown: index.and_then(|index| select::shown(layout, index)),
        filter: query.filter.as_ref(),
        attributes: query.attributes.as_deref(),
        limit: query.limit,
        count: query.count,
        segment: None,
        whole: query.after.is_none(),
    }
    .page()
}

/// Answers a scan.
pub fn scan(connection: &Connection, layout: &Layout, scan: &Scan, now: i64) -> Attempt<Reply> {
    let select = select::scan(layout, scan, now)?;
    Reading {
        connection,
        layout,
        select: &select,
        shown: None,
        filter: scan.filter.as_ref(),
        attributes: scan.attributes.as_deref(),
        limit: scan.limit,
        count: scan.count,
        segment: scan.segment.filter(|(_, segments)| *segments > 1),
        whole: scan.after.is_none(),
    }
    .page()
}

/// One page being read.
struct Reading<'a> {
    connection: &'a Connection,
    layout: &'a Layout,
    select: &'a Select,
    shown: Option<Vec<&'a Name>>,
    filter: Option<&'a Condition>,
    attributes: Option<&'a [Name]>,
    limit: Option<usize>,
    count: bool,
    segment: Option<(u32, u32)>,
    whole: bool,
}

impl Reading<'_> {
    fn page(&self) -> Attempt<Reply> {
        if self.limit == Some(0) {
            return Err(
                Error::invalid("a page of 0 items leads nowhere: the limit is at least 1").into(),
            );
        }
        if let Some(filter) = self.filter {
            filter.check()?;
        }
        if self.count
            && self.whole
            && self.filter.is_none()
            && self.limit.is_none()
            && self.segment.is_none()
        {
            return self.counted();
        }
        let mut statement = self.statement(&self.select.rows())?;
        let mut page = Page::default();
        let mut decoder = json::Decoder::default();
        let (mut bytes, mut seen) = (0, 0);
        let mut rows = statement.raw_query();
        while let Some(row) = rows.next()? {
            seen += 1;
            if seen % ROWS_PER_LOOK == 0 && self.connection.post.look().is_some() {
                return Err(Fault::Sqlite(stopped()));
            }
            let mine = match self.segment {
                None => true,
                Some((segment, segments)) => select::segment(row.get_ref(1)?, segments) == segment,
            };
            if mine {
                if self.count && self.filter.is_none() {
                    page.count += 1;
                } else {
                    let item = text(row.get_ref(0)?).and_then(|text| {
                        bytes += text.len();
                        decoder.decode(text)
                    });
                    let item = item.map_err(|why| {
                        let place = select::position(self.layout, self.select, row).ok();
                        let key = place.as_ref().map(|place| &place.key);
                        Error::damaged(&self.layout.table, key, why)
                    })?;
                    self.judge(item, &mut page);
                }
            }
            let full = self.limit.is_some_and(|limit| page.count >= limit as u64);
            if full || bytes >= PAGE_BYTES || seen >= PAGE_ROWS {
                let position = select::position(self.layout, self.select, row)?;
                // Only a page with something behind it says where to go on.
                page.next = rows.next()?.is_some().then_some(position);
                break;
            }
        }
        drop(rows);
        fresh(self.connection, &statement)?;
        Ok(Reply::Page(page))
    }

    fn counted(&self) -> Attempt<Reply> {
        let mut statement = self.statement(&self.select.count())?;
        let mut rows = statement.raw_query();
        let count: i64 = match rows.next()? {
            Some(row) => row.get(0)?,
            None => 0,
        };
        drop(rows);
        fresh(self.connection, &statement)?;
        Ok(Reply::Page(Page {
            count: count.unsigned_abs(),
            ..Page::default()
        }))
    }

    fn statement(&self, sql: &str) -> Attempt<CachedStatement<'_>> {
        let mut statement = self.connection.raw.prepare_cached(sql)?;
        for (place, cell) in self.select.cells.iter().enumerate() {
            statement.raw_bind_parameter(place + 1, cell)?;
        }
        Ok(statement)
    }

    fn judge(&self, mut item: Item, page: &mut Page) {
        if let Some(shown) = &self.shown {
            item.retain(|name, _| shown.contains(&name));
        }
        if self.filter.is_some_and(|filter| !filter.evaluate(&item)) {
            return;
        }
        page.count += 1;
        if !self.count {
            if let Some(attributes) = self.attributes {
                keep(&mut item, self.layout, attributes);
            }
            page.items.push(item);
        }
    }
}

/// Leaves an item its keys and the named attributes.
fn keep(item: &mut Item, layout: &Layout, attributes: &[Name]) {
    let table = &layout.table;
    item.retain(|name, _| {
        *name == table.partition.name
            || table.sort.as_ref().is_some_and(|sort| sort.name == *name)
            || attributes.contains(name)
    });
}

fn text(cell: ValueRef<'_>) -> Result<&str> {
    cell.as_str().map_err(|error| {
        Error::invalid("a stored item is no text: it was not written by mintkey, or is damaged")
            .caused_by(error)
    })
}

/// Refuses the result of a statement that `SQLite` had to prepare again: the tables have changed since
/// its text was made.
fn fresh(connection: &Connection, statement: &CachedStatement<'_>) -> Attempt<()> {
    if statement.reset_status(StatementStatus::RePrepare) > 0 && !connection.looks_first {
        Err(Fault::Stale)
    } else {
        Ok(())
    }
}

/// What `SQLite` itself says when the watch stops it.
fn stopped() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_INTERRUPT),
        None,
    )
}
