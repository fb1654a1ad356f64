//! Reads items and pages. No statement stays open after its request.

use mintkey_store::{
    BatchGet, Claim, Condition, Error, Get, GetUnique, Item, Key, Name, Operation, Page, Path,
    Query, Reply, Result, Scan, Work, json,
};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, StatementStatus};

use crate::layout::{Cell, Layout};
use crate::reading::select::{self, Select};
use crate::storage::connection::{Attempt, Connection, Fault};

/// The most bytes of rows that a page reads, as on `DynamoDB`.
const PAGE_BYTES: usize = 1024 * 1024;
/// The most rows that a page reads, if it only counts them.
const PAGE_ROWS: u64 = 100_000;
/// The work of reading a row, apart from its bytes, in the units of [`Work`].
const ROW: usize = 2048;

/// The stored item of a key, unless it has expired.
pub fn live(
    connection: &Connection,
    layout: &Layout,
    key: &Key,
    now: i64,
) -> Attempt<Option<Item>> {
    let stored = stored(connection, layout, key)?;
    Ok(layout.table.live(stored, now))
}

/// Gives a statement its first parameters: a key.
pub fn bind_key(statement: &mut CachedStatement<'_>, key: &Key) -> rusqlite::Result<()> {
    statement.raw_bind_parameter(1, Cell::key(&key.partition))?;
    match &key.sort {
        Some(sort) => statement.raw_bind_parameter(2, Cell::key(sort)),
        None => Ok(()),
    }
}

/// The stored row of a key, expired or not.
fn stored(connection: &Connection, layout: &Layout, key: &Key) -> Attempt<Option<Item>> {
    let mut statement = connection.raw.prepare_cached(&layout.get)?;
    bind_key(&mut statement, key)?;
    let item = first_item(&mut statement, layout, Some(key))?;
    check_fresh(connection, &statement)?;
    if item
        .as_ref()
        .is_some_and(|item| !layout.table.has_key(item, key))
    {
        return Err(Error::other_row(&layout.table).at(key).into());
    }
    Ok(item)
}

/// The item that a statement finds.
fn first_item(
    statement: &mut CachedStatement<'_>,
    layout: &Layout,
    key: Option<&Key>,
) -> Attempt<Option<Item>> {
    let mut rows = statement.raw_query();
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    let item = text(row.get_ref(0)?).and_then(json::decode);
    Ok(Some(item.map_err(|error| {
        Error::damaged(&layout.table, key, error)
    })?))
}

/// The row that claims unique values, expired or not.
pub fn holder(
    connection: &Connection,
    layout: &Layout,
    claim: &Claim<'_>,
) -> Attempt<Option<Item>> {
    let Some((_, column)) = layout
        .unique()
        .find(|(unique, _)| unique.name == claim.unique.name)
    else {
        return Ok(None);
    };
    let mut statement = connection.raw.prepare_cached(&column.find)?;
    statement.raw_bind_parameter(1, claim.encode())?;
    let item = first_item(&mut statement, layout, None)?;
    check_fresh(connection, &statement)?;
    if let Some(item) = &item
        && claim.unique.claim(item).ok().flatten().as_ref() != Some(claim)
    {
        let why = "its unique values are not those next to it: it was not written by mintkey, or is damaged";
        return Err(Error::damaged(&layout.table, None, Error::invalid(why)).into());
    }
    Ok(item)
}

/// Carries out a read of rows of the table with this layout.
pub fn read(
    connection: &Connection,
    layout: &Layout,
    operation: &Operation,
    now: i64,
) -> Attempt<Reply> {
    match operation {
        Operation::Get(get) => self::get(connection, layout, get, now),
        Operation::GetUnique(get) => get_unique(connection, layout, get, now),
        Operation::Query(query) => self::query(connection, layout, query, now),
        Operation::Scan(scan) => self::scan(connection, layout, scan, now),
        Operation::BatchGet(batch) => batch_get(connection, layout, batch, now),
        _ => Ok(Reply::Done),
    }
}

/// Carries out a read by a unique value.
fn get_unique(
    connection: &Connection,
    layout: &Layout,
    get: &GetUnique,
    now: i64,
) -> Attempt<Reply> {
    let table = &layout.table;
    let claim = Claim {
        unique: get.declaration(table)?,
        values: get.values.clone(),
    };
    let item = table.live(holder(connection, layout, &claim)?, now);
    let item = table.projected(item, get.attributes.as_deref());
    Ok(Reply::Item(item))
}

/// Carries out a get.
fn get(connection: &Connection, layout: &Layout, get: &Get, now: i64) -> Attempt<Reply> {
    layout.table.check_key(&get.key)?;
    let item = live(connection, layout, &get.key, now)?;
    let item = layout.table.projected(item, get.attributes.as_deref());
    Ok(Reply::Item(item))
}

/// Carries out several gets.
fn batch_get(
    connection: &Connection,
    layout: &Layout,
    batch: &BatchGet,
    now: i64,
) -> Attempt<Reply> {
    let mut items = Vec::with_capacity(batch.keys.len());
    for key in &batch.keys {
        layout.table.check_key(key)?;
        let item = live(connection, layout, key, now)?;
        items.push(layout.table.projected(item, batch.attributes.as_deref()));
    }
    Ok(Reply::Items(items))
}

/// Carries out a query.
fn query(connection: &Connection, layout: &Layout, query: &Query, now: i64) -> Attempt<Reply> {
    let key = query.check()?;
    let select = select::query(layout, &key, query, now);
    PageRead {
        connection,
        layout,
        select: &select,
        projected: key
            .index
            .and_then(|index| layout.table.index_projection(index)),
        filter: query.filter.as_ref(),
        attributes: query.attributes.as_deref(),
        limit: query.limit,
        count: query.count,
        segment: None,
        whole: query.after.is_none(),
    }
    .page()
}

/// Carries out a scan.
fn scan(connection: &Connection, layout: &Layout, scan: &Scan, now: i64) -> Attempt<Reply> {
    scan.check()?;
    let select = select::scan(layout, scan, now);
    PageRead {
        connection,
        layout,
        select: &select,
        projected: None,
        filter: scan.filter.as_ref(),
        attributes: scan.attributes.as_deref(),
        limit: scan.limit,
        count: scan.count,
        segment: scan.segment.filter(|(_, segments)| *segments > 1),
        whole: scan.after.is_none(),
    }
    .page()
}

/// A page that is being read.
struct PageRead<'a> {
    connection: &'a Connection,
    layout: &'a Layout,
    select: &'a Select,
    projected: Option<Vec<&'a Name>>,
    filter: Option<&'a Condition>,
    attributes: Option<&'a [Path]>,
    limit: Option<usize>,
    count: bool,
    segment: Option<(u32, u32)>,
    whole: bool,
}

impl PageRead<'_> {
    fn page(&self) -> Attempt<Reply> {
        if self.count
            && self.whole
            && self.filter.is_none()
            && self.limit.is_none()
            && self.segment.is_none()
        {
            return self.count_all();
        }
        let mut statement = self.statement(&self.select.rows())?;
        let mut page = Page::default();
        let mut decoder = json::Decoder::default();
        let (mut bytes, mut rows_read) = (0, 0);
        let mut rows = statement.raw_query();
        let mut ask = || self.connection.may_continue();
        let mut work = Work::new(&mut ask);
        while let Some(row) = rows.next()? {
            rows_read += 1;
            work.count(ROW)?;
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
                    let item = item.map_err(|error| {
                        let position = select::position(self.layout, self.select, row).ok();
                        let key = position.as_ref().map(|position| &position.key);
                        Error::damaged(&self.layout.table, key, error)
                    })?;
                    self.add(item, &mut page, &mut work)?;
                }
            }
            let full = self.limit.is_some_and(|limit| page.count >= limit as u64);
            if full || bytes >= PAGE_BYTES || rows_read >= PAGE_ROWS {
                let position = select::position(self.layout, self.select, row)?;
                // Only a page that is followed by more rows has a position to continue from.
                page.next = rows.next()?.is_some().then_some(position);
                break;
            }
        }
        drop(rows);
        check_fresh(self.connection, &statement)?;
        Ok(Reply::Page(page))
    }

    fn count_all(&self) -> Attempt<Reply> {
        let mut statement = self.statement(&self.select.count())?;
        let mut rows = statement.raw_query();
        let count: i64 = match rows.next()? {
            Some(row) => row.get(0)?,
            None => 0,
        };
        drop(rows);
        check_fresh(self.connection, &statement)?;
        Ok(Reply::Page(Page {
            count: count.unsigned_abs(),
            ..Page::default()
        }))
    }

    fn statement(&self, sql: &str) -> Attempt<CachedStatement<'_>> {
        let mut statement = self.connection.raw.prepare_cached(sql)?;
        for (index, cell) in self.select.cells.iter().enumerate() {
            statement.raw_bind_parameter(index + 1, cell)?;
        }
        Ok(statement)
    }

    fn add(&self, mut item: Item, page: &mut Page, work: &mut Work<'_, Fault>) -> Attempt<()> {
        if let Some(projected) = &self.projected {
            item.retain(|name, _| projected.contains(&name));
        }
        if let Some(filter) = self.filter
            && !filter.evaluate(&item, work)?
        {
            return Ok(());
        }
        page.count += 1;
        if !self.count {
            self.layout.table.project(&mut item, self.attributes);
            page.items.push(item);
        }
        Ok(())
    }
}

fn text(cell: ValueRef<'_>) -> Result<&str> {
    cell.as_str().map_err(|error| {
        Error::invalid("a stored item is not text: it was not written by mintkey, or is damaged")
            .caused_by(error)
    })
}

/// Refuses the result of a statement that `SQLite` had to prepare again: the tables have changed since its text was
/// generated.
fn check_fresh(connection: &Connection, statement: &CachedStatement<'_>) -> Attempt<()> {
    if statement.reset_status(StatementStatus::RePrepare) > 0 && !connection.checks_schema_first {
        Err(Fault::Stale)
    } else {
        Ok(())
    }
}
