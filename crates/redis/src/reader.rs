//! Reads: one item, several, or a page of them.

use std::ops::Bound;

use mintkey_store::{
    BatchGet, Condition, Error, Get, Index, Item, Key, KeyAttribute, KeyValue, Name, Page,
    Position, Projection, Query, Reply, Result, Scan, Table, Value, json,
};

use crate::engine::Errand;
use crate::layout::{self, Layout, Range, key_attributes};
use crate::resp::{self, Call};
use crate::script::CLEAN;
use crate::translate::{accepted, bulks, item, part, unexpected};

/// The bytes of rows that a page looks at before it ends, as on `DynamoDB`.
const PAGE_BYTES: usize = 1024 * 1024;
/// The rows it looks at, when they are only counted.
const PAGE_ROWS: usize = 100_000;
/// Rows read at once: at first, and at most.
const FIRST_ROWS: usize = 64;
const MOST_ROWS: usize = 1_000;

/// What is read of rows.
enum Fields {
    /// Everything.
    All,
    /// These attributes; the first is one that every row has.
    Some(Vec<Name>),
}

impl Fields {
    fn call(&self, row: Vec<u8>) -> Call {
        match self {
            Self::All => Call::new("HGETALL").arg(row),
            Self::Some(names) => names
                .iter()
                .fold(Call::new("HMGET").arg(row), |call, name| {
                    call.arg(name.as_bytes())
                }),
        }
    }

    fn item(
        &self,
        value: resp::Value,
        table: &Table,
        decoder: &mut json::Decoder,
    ) -> Result<Option<Item>> {
        match self {
            Self::All => item(value, table, decoder),
            Self::Some(names) => part(value, names, table, decoder),
        }
    }
}

impl Errand<'_> {
    /// Answers a get.
    pub async fn get(&self, get: &Get) -> Result<Reply> {
        let (layout, mut replies) = loop {
            let layout = self.layout(&get.table).await?;
            get.table.check_key(&get.key)?;
            let call = Call::new("HGETALL").arg(layout.row(&get.key));
            if let Some(replies) = self.ask(&layout, vec![call]).await? {
                break (layout, replies);
            }
        };
        let reply = replies.pop().unwrap_or(resp::Value::Nil);
        let mut decoder = json::Decoder::default();
        let found = item(reply, &get.table, &mut decoder).map_err(|error| error.at(&get.key))?;
        let found = self.living(&layout, &get.key, found).await?;
        Ok(Reply::Item(found.map(|mut item| {
            keep(&mut item, &layout.table, get.attributes.as_deref());
            item
        })))
    }

    /// Answers several gets.
    pub async fn batch_get(&self, batch: &BatchGet) -> Result<Reply> {
        let (layout, replies) = loop {
            let layout = self.layout(&batch.table).await?;
            let mut calls = Vec::with_capacity(batch.keys.len() + 1);
            for key in &batch.keys {
                batch.table.check_key(key)?;
                calls.push(Call::new("HGETALL").arg(layout.row(key)));
            }
            if let Some(replies) = self.ask(&layout, calls).await? {
                break (layout, replies);
            }
        };
        let mut decoder = json::Decoder::default();
        let mut items = Vec::with_capacity(batch.keys.len());
        for (key, value) in batch.keys.iter().zip(replies) {
            let found = item(value, &batch.table, &mut decoder).map_err(|error| error.at(key))?;
            let found = self.living(&layout, key, found).await?;
            items.push(found.map(|mut item| {
                keep(&mut item, &layout.table, batch.attributes.as_deref());
                item
            }));
        }
        Ok(Reply::Items(items))
    }

    /// Asks something of a table; nothing if its catalog is not what is known here.
    async fn ask(&self, layout: &Layout, mut calls: Vec<Call>) -> Result<Option<Vec<resp::Value>>> {
        calls.push(Call::new("HGET").arg(&layout.catalog).arg("epoch"));
        let mut replies = self.talk.ask(calls).await?;
        let epoch = replies.pop().unwrap_or(resp::Value::Nil);
        match accepted(epoch, &layout.table)? {
            resp::Value::Bulk(epoch) if epoch == layout.epoch.as_bytes() => Ok(Some(replies)),
            _ => {
                self.engine.layouts.forget();
                Ok(None)
            }
        }
    }

    /// The item unless it has expired; then it is cleared away.
    async fn living(&self, layout: &Layout, key: &Key, item: Option<Item>) -> Result<Option<Item>> {
        match item {
            Some(item) if layout.table.is_expired(&item, self.now) => {
                let call = clean(layout, key, &Layout::member(key), None, Some(&item));
                self.talk.ask(vec![call]).await?;
                Ok(None)
            }
            other => Ok(other),
        }
    }

    /// Answers a query.
    pub async fn query(&self, query: &Query) -> Result<Reply> {
        loop {
            if let Some(page) = self.query_page(query).await? {
                return Ok(Reply::Page(page));
            }
        }
    }

    /// Answers a scan.
    pub async fn scan(&self, scan: &Scan) -> Result<Reply> {
        loop {
            if let Some(page) = self.scan_page(scan).await? {
                return Ok(Reply::Page(page));
            }
        }
    }

    async fn query_page(&self, query: &Query) -> Result<Option<Page>> {
        let layout = self.layout(&query.table).await?;
        let index = query_index(&layout, query)?;
        let range = query_range(&layout, index, query)?;
        Reading {
            errand: self,
            layout: &layout,
            set: index.map_or_else(|| layout.order.clone(), |index| layout.index(&index.name)),
            index,
            filter: query.filter.as_ref(),
            attributes: query.attributes.as_deref(),
            descending: query.descending,
            limit: query.limit,
            count: query.count,
            segment: None,
        }
        .page(range)
        .await
    }

    async fn scan_page(&self, scan: &Scan) -> Result<Option<Page>> {
        let layout = self.layout(&scan.table).await?;
        if let Some((segment, segments)) = scan.segment
            && segment >= segments
        {
            return Err(Error::invalid(format!(
                "segment {segment} of {segments}: segments count from 0"
            )));
        }
        let mut range = (Bound::Unbounded, Bound::Unbounded);
        if let Some(after) = &scan.after {
            if !after.index.is_empty() || layout.table.check_key(&after.key).is_err() {
                return Err(foreign_cursor(&layout.table));
            }
            range = layout::resume(range, Layout::member(&after.key), scan.descending);
        }
        Reading {
            errand: self,
            layout: &layout,
            set: layout.order.clone(),
            index: None,
            filter: scan.filter.as_ref(),
            attributes: scan.attributes.as_deref(),
            descending: scan.descending,
            limit: scan.limit,
            count: scan.count,
            segment: scan.segment.filter(|(_, segments)| *segments > 1),
        }
        .page(range)
        .await
    }
}

/// One page being read.
struct Reading<'a> {
    errand: &'a Errand<'a>,
    layout: &'a Layout,
    set: Vec<u8>,
    index: Option<&'a Index>,
    filter: Option<&'a Condition>,
    attributes: Option<&'a [Name]>,
    descending: bool,
    limit: Option<usize>,
    count: bool,
    segment: Option<(u32, u32)>,
}

impl Reading<'_> {
    /// The page; nothing if the table's catalog is not what is known here.
    async fn page(&self, mut range: Range) -> Result<Option<Page>> {
        if self.limit == Some(0) {
            return Err(Error::invalid(
                "a page of 0 items leads nowhere: the limit is at least 1",
            ));
        }
        if let Some(filter) = self.filter {
            filter.check()?;
        }
        let table = &self.layout.table;
        let plain = self.filter.is_none() && self.limit.is_none() && self.segment.is_none();
        if self.count && plain && table.ttl.is_none() {
            return self.counted(&range).await;
        }
        let fields = self.fields();
        let shown = self.index.and_then(|index| shown(table, index));
        let mut decoder = json::Decoder::default();
        let mut page = Page::default();
        let (mut bytes, mut seen) = (0, 0);
        let mut last: Option<Position> = None;
        let mut full = false;
        let mut rows = match self.limit {
            // One more, to know whether something is behind.
            Some(limit) if self.filter.is_none() => limit.saturating_add(1).min(MOST_ROWS),
            _ if matches!(fields, Fields::Some(_)) => MOST_ROWS,
            _ => FIRST_ROWS,
        };
        loop {
            let Some(members) = self.members(&range, rows).await? else {
                return Ok(None);
            };
            let more = members.len() == rows;
            let Some(end) = members.last().cloned() else {
                break;
            };
            seen += members.len();
            let found = self.rows(&members, &fields, &mut decoder).await?;
            let read: usize = found.iter().map(|(_, size, _)| size).sum();
            let (mut stale, mut next) = (Vec::new(), None);
            for (key, size, item) in found {
                let member = &members[key.0];
                let key = key.1;
                let Some(item) = item else {
                    stale.push(clean(self.layout, &key, member, self.index, None));
                    continue;
                };
                if table.is_expired(&item, self.errand.now) {
                    stale.push(clean(self.layout, &key, member, self.index, Some(&item)));
                    continue;
                }
                if let Some(index) = self.index
                    && Layout::index_member(index, &item, &key).as_deref() != Some(member)
                {
                    stale.push(clean(self.layout, &key, member, self.index, None));
                    continue;
                }
                if full {
                    next = last.take();
                    break;
                }
                bytes += size;
                last = Some(self.position(key, &item));
                self.judge(item, shown.as_deref(), &mut page);
                full = self.limit.is_some_and(|limit| page.count >= limit as u64)
                    || bytes >= PAGE_BYTES
                    || seen >= PAGE_ROWS;
            }
            if !stale.is_empty() {
                // What cannot be cleared here, on a replica for example, does no harm.
                self.errand.talk.ask(stale).await?;
            }
            if next.is_some() {
                page.next = next;
                break;
            }
            if !more {
                break;
            }
            range = layout::resume(range, end, self.descending);
            let size = (read / members.len()).max(1);
            rows = if full {
                2
            } else {
                (PAGE_BYTES / size).clamp(1, MOST_ROWS)
            };
        }
        Ok(Some(page))
    }

    async fn counted(&self, range: &Range) -> Result<Option<Page>> {
        let (low, high) = bounds(range);
        let call = Call::new("ZLEXCOUNT").arg(&self.set).arg(low).arg(high);
        let table = &self.layout.table;
        let Some(mut replies) = self.errand.ask(self.layout, vec![call]).await? else {
            return Ok(None);
        };
        match accepted(replies.pop().unwrap_or(resp::Value::Nil), table)? {
            resp::Value::Int(count) => Ok(Some(Page {
                count: count.unsigned_abs(),
                ..Page::default()
            })),
            _ => Err(unexpected(table)),
        }
    }

    async fn members(&self, range: &Range, rows: usize) -> Result<Option<Vec<Vec<u8>>>> {
        let (low, high) = bounds(range);
        let call = if self.descending {
            Call::new("ZREVRANGEBYLEX")
                .arg(&self.set)
                .arg(high)
                .arg(low)
        } else {
            Call::new("ZRANGEBYLEX").arg(&self.set).arg(low).arg(high)
        };
        let call = call.arg("LIMIT").arg("0").arg(rows.to_string());
        let Some(mut replies) = self.errand.ask(self.layout, vec![call]).await? else {
            return Ok(None);
        };
        let reply = replies.pop().unwrap_or(resp::Value::Nil);
        bulks(reply, &self.layout.table).map(Some)
    }

    /// The rows of members that belong here, with their members' places and their size.
    async fn rows(
        &self,
        members: &[Vec<u8>],
        fields: &Fields,
        decoder: &mut json::Decoder,
    ) -> Result<Vec<((usize, Key), usize, Option<Item>)>> {
        let table = &self.layout.table;
        let (mut keys, mut calls) = (Vec::new(), Vec::new());
        for (place, member) in members.iter().enumerate() {
            let key = match self.index {
                None => self.layout.key(member),
                Some(index) => self.layout.index_key(index, member),
            };
            let key = key.ok_or_else(|| {
                Error::configuration(format!(
                    "the order of table {:?} holds what is no key: something else wrote to it, or it is damaged",
                    table.name
                ))
                .of(table)
            })?;
            if let Some((segment, segments)) = self.segment
                && segment_of(&key.partition, segments) != segment
            {
                continue;
            }
            calls.push(fields.call(self.layout.row(&key)));
            keys.push((place, key));
        }
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.errand.talk.ask(calls).await?;
        let mut rows = Vec::with_capacity(keys.len());
        for (key, value) in keys.into_iter().zip(values) {
            let size = size(&value);
            let item = fields
                .item(value, table, decoder)
                .map_err(|error| error.at(&key.1))?;
            rows.push((key, size, item));
        }
        Ok(rows)
    }

    /// What must be read of rows to answer.
    fn fields(&self) -> Fields {
        let table = &self.layout.table;
        let wanted = match self.attributes {
            _ if self.filter.is_some() => return Fields::All,
            _ if self.count => &[],
            Some(attributes) => attributes,
            None => return Fields::All,
        };
        let mut names: Vec<Name> = Vec::new();
        let keys = key_attributes(table).map(|part| &part.name);
        let indexed = self.index.into_iter().flat_map(Index::attributes);
        let all = keys
            .chain(&table.ttl)
            .chain(indexed.map(|part| &part.name))
            .chain(wanted);
        for name in all {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Fields::Some(names)
    }

    fn position(&self, key: Key, item: &Item) -> Position {
        let attributes = self.index.into_iter().flat_map(Index::attributes);
        let index = attributes
            .filter_map(|part| KeyValue::from_value(item.get(&part.name)?, part.kind))
            .collect();
        Position { key, index }
    }

    fn judge(&self, mut item: Item, shown: Option<&[&Name]>, page: &mut Page) {
        if let Some(shown) = shown {
            item.retain(|name, _| shown.contains(&name));
        }
        if self.filter.is_some_and(|filter| !filter.evaluate(&item)) {
            return;
        }
        page.count += 1;
        if !self.count {
            keep(&mut item, &self.layout.table, self.attributes);
            page.items.push(item);
        }
    }
}

/// Leaves an item its keys and the named attributes.
fn keep(item: &mut Item, table: &Table, attributes: Option<&[Name]>) {
    if let Some(attributes) = attributes {
        item.retain(|name, _| {
            key_attributes(table).any(|part| part.name == *name) || attributes.contains(name)
        });
    }
}

/// The call that clears away what a row left behind: one that is not there, that has expired, or that
/// the index's member does not fit.
fn clean(
    layout: &Layout,
    key: &Key,
    member: &[u8],
    index: Option<&Index>,
    expired: Option<&Item>,
) -> Call {
    let row = layout.row(key);
    let own = Layout::member(key);
    let keys: [&[u8]; 2] = [&row, &layout.order];
    let mut call = Call::script(&CLEAN, &keys, 256)
        .arg(own)
        .arg(&layout.indexes)
        .arg(index.map_or("", |index| &index.name))
        .arg(member)
        .repeatable();
    let expiry = layout.table.ttl.as_ref().zip(expired);
    if let Some((ttl, item)) = expiry
        && let Some(value @ Value::Number(_)) = item.get(ttl)
    {
        let mut text = String::new();
        json::encode_value(value, &mut text);
        call.push(ttl.as_bytes());
        call.push(text.as_bytes());
    } else {
        call.push(b"");
        call.push(b"");
    }
    call
}

fn size(value: &resp::Value) -> usize {
    match value {
        resp::Value::Bulk(bytes) => bytes.len(),
        resp::Value::Array(members) => members.iter().map(size).sum(),
        _ => 0,
    }
}

/// A range as Redis reads it.
fn bounds((low, high): &Range) -> (Vec<u8>, Vec<u8>) {
    let written = |bound: &Bound<Vec<u8>>, open: &[u8]| match bound {
        Bound::Included(bytes) => [b"[", &bytes[..]].concat(),
        Bound::Excluded(bytes) => [b"(", &bytes[..]].concat(),
        Bound::Unbounded => open.to_vec(),
    };
    (written(low, b"-"), written(high, b"+"))
}

fn foreign_cursor(table: &Table) -> Error {
    Error::invalid(format!(
        "this cursor belongs to another query than the one on {}: start that query anew",
        table.model
    ))
    .of(table)
}

/// The index a query names.
fn query_index<'a>(layout: &'a Layout, query: &Query) -> Result<Option<&'a Index>> {
    let Some(name) = &query.index else {
        return Ok(None);
    };
    layout.table.index(name).map(Some).ok_or_else(|| {
        Error::configuration(format!("{} has no index {name:?}", layout.table.model))
            .of(&layout.table)
    })
}

/// The range of members that a query walks.
fn query_range(layout: &Layout, index: Option<&Index>, query: &Query) -> Result<Range> {
    let table = &layout.table;
    let own = [table.partition.clone()];
    let (partition, sort): (&[KeyAttribute], _) = match index {
        Some(index) => (&index.partition, index.sort.as_ref()),
        None => (&own, table.sort.as_ref()),
    };
    if partition.len() != query.partition.len() {
        return Err(Error::invalid(format!(
            "a query of {} by {} needs {} partition values, not {}",
            table.model,
            index.map_or("its key", |index| &index.name),
            partition.len(),
            query.partition.len()
        ))
        .of(table));
    }
    for (attribute, value) in partition.iter().zip(&query.partition) {
        table.check_kind(attribute, value)?;
    }
    let sorts = match &query.sort {
        None => (Bound::Unbounded, Bound::Unbounded),
        Some(condition) => {
            let Some(sort) = sort else {
                return Err(Error::invalid(format!(
                    "{} has no sort key to compare with: filter instead",
                    index.map_or(table.model.as_str(), |index| &index.name)
                ))
                .of(table));
            };
            for value in condition.values() {
                table.check_kind(sort, value)?;
            }
            condition.bounds()?
        }
    };
    let range = match (index, query.partition.first()) {
        (Some(_), _) => Layout::index_range(&query.partition, sorts),
        (None, Some(partition)) => layout.range(partition, sorts),
        (None, None) => (Bound::Unbounded, Bound::Unbounded),
    };
    let Some(after) = &query.after else {
        return Ok(range);
    };
    let fits = layout.table.check_key(&after.key).is_ok()
        && match index {
            None => after.index.is_empty() && query.partition.first() == Some(&after.key.partition),
            Some(index) => {
                let kinds = index.attributes().map(|part| part.kind);
                after.index.iter().map(KeyValue::kind).eq(kinds)
                    && after.index.starts_with(&query.partition)
            }
        };
    if !fits {
        return Err(foreign_cursor(table));
    }
    let member = match index {
        None => Layout::member(&after.key),
        Some(_) => Layout::position_member(&after.index, &after.key),
    };
    Ok(layout::resume(range, member, query.descending))
}

/// Which of so many segments a row belongs to, by the bytes of its partition key.
fn segment_of(partition: &KeyValue, segments: u32) -> u32 {
    // FNV-1a: the same in every process and version, so that a cursor stays good.
    let hash = partition
        .encode()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    u32::try_from(hash % u64::from(segments)).unwrap_or(0)
}

/// The names of the attributes that a query by index shows; `None`: all.
fn shown<'a>(table: &'a Table, index: &'a Index) -> Option<Vec<&'a Name>> {
    let others: &[Name] = match &index.projection {
        Projection::All => return None,
        Projection::Keys => &[],
        Projection::Attributes(names) => names,
    };
    Some(
        key_attributes(table)
            .chain(index.attributes())
            .map(|part| &part.name)
            .chain(others)
            .collect(),
    )
}
