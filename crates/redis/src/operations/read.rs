//! Reads: one item, several, or a page of them.

use std::collections::BTreeSet;
use std::mem::take;
use std::ops::RangeBounds;
use std::sync::Arc;

use mintkey_store::{
    BatchGet, Condition, Error, Get, Index, Item, Key, KeyValue, Name, Page, Position, Projection,
    Query, Reply, Result, Scan, Table, json,
};

use crate::keyspace::commands::clean_call;
use crate::keyspace::layout::{self, Layout, Span, key_attributes};
use crate::keyspace::projection::Fields;
use crate::keyspace::ranges;
use crate::keyspace::rows::item;
use crate::operations::context::Errand;
use crate::operations::slot_group_merge::{Merge, Source};
use crate::protocol::replies::{accepted, unexpected};
use crate::protocol::resp::{self, Call};

/// The bytes of rows that a page looks at before it ends, as on `DynamoDB`.
const PAGE_BYTES: usize = 1024 * 1024;
/// The rows it looks at, when they are only counted.
const PAGE_ROWS: usize = 100_000;
/// Rows read at once: at first, and at most, which is a large page and the row that says that more is behind.
const FIRST_ROWS: usize = 64;
const MOST_ROWS: usize = 1_025;

impl Errand<'_> {
    /// Answers a get.
    pub async fn get(&self, get: &Get) -> Result<Reply> {
        get.table.check_key(&get.key)?;
        let (layout, mut replies) = loop {
            let layout = self.layout(&get.table, &get.key.partition).await?;
            let call = layout.call("HGETALL").arg(layout.row(&get.key));
            let layouts = std::slice::from_ref(&layout);
            if let Some(replies) = self.ask(layouts, vec![call]).await? {
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
        let space = &self.engine.config.space;
        let mut buckets: BTreeSet<u8> = BTreeSet::new();
        for key in &batch.keys {
            batch.table.check_key(key)?;
            buckets.insert(space.bucket(&key.partition));
        }
        let buckets: Vec<u8> = buckets.into_iter().collect();
        let place = |key: &Key| {
            let bucket = space.bucket(&key.partition);
            buckets.binary_search(&bucket).unwrap_or(0)
        };
        let (layouts, replies) = loop {
            let layouts = self.layouts(&batch.table, &buckets).await?;
            let mut calls = Vec::with_capacity(batch.keys.len() + layouts.len());
            for key in &batch.keys {
                let layout = &layouts[place(key)];
                calls.push(layout.call("HGETALL").arg(layout.row(key)));
            }
            if let Some(replies) = self.ask(&layouts, calls).await? {
                break (layouts, replies);
            }
        };
        let mut decoder = json::Decoder::default();
        let mut items = Vec::with_capacity(batch.keys.len());
        for (key, value) in batch.keys.iter().zip(replies) {
            let found = item(value, &batch.table, &mut decoder).map_err(|error| error.at(key))?;
            let layout = &layouts[place(key)];
            let found = self.living(layout, key, found).await?;
            items.push(found.map(|mut item| {
                keep(&mut item, &layout.table, batch.attributes.as_deref());
                item
            }));
        }
        Ok(Reply::Items(items))
    }

    /// The item unless it has expired; then it is cleared away.
    async fn living(&self, layout: &Layout, key: &Key, item: Option<Item>) -> Result<Option<Item>> {
        match item {
            Some(item) if layout.table.is_expired(&item, self.now) => {
                let call = clean_call(layout, key, &Layout::member(key), None, Some(&item));
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
        let table = &query.table;
        // A partition lies in one bucket; so does what an index says of it.
        let layouts = match ranges::partition(table, query) {
            Some(partition) => vec![self.layout(table, partition).await?],
            None => self.all_layouts(table).await?,
        };
        let index = ranges::index(&layouts[0], query)?.cloned();
        let span = ranges::of_query(&layouts[0], index.as_ref(), query)?;
        let reading = Reading {
            errand: self,
            table: &layouts[0].table,
            index: index.as_ref(),
            filter: query.filter.as_ref(),
            attributes: query.attributes.as_deref(),
            descending: query.descending,
            limit: query.limit,
            count: query.count,
            segment: None,
        };
        reading.page(&layouts, span).await
    }

    async fn scan_page(&self, scan: &Scan) -> Result<Option<Page>> {
        let mut layouts = self.all_layouts(&scan.table).await?;
        let table = Arc::clone(&layouts[0].table);
        let range = ranges::of_scan(&table, scan)?;
        let mut segment = scan.segment.filter(|(_, segments)| *segments > 1);
        if let Some((own, segments)) = segment
            && segments as usize <= layouts.len()
        {
            layouts.retain(|layout| u32::from(layout.bucket) % segments == own);
            segment = None;
        }
        let reading = Reading {
            errand: self,
            table: &table,
            index: None,
            filter: scan.filter.as_ref(),
            attributes: scan.attributes.as_deref(),
            descending: scan.descending,
            limit: scan.limit,
            count: scan.count,
            segment,
        };
        reading.page(&layouts, range).await
    }
}

/// One page being read.
struct Reading<'a> {
    errand: &'a Errand<'a>,
    table: &'a Table,
    index: Option<&'a Index>,
    filter: Option<&'a Condition>,
    attributes: Option<&'a [Name]>,
    descending: bool,
    limit: Option<usize>,
    count: bool,
    segment: Option<(u32, u32)>,
}

/// What is found where a member points to.
struct Found {
    /// The member's place.
    place: usize,
    key: Key,
    /// The bytes of the row.
    size: usize,
    item: Option<Item>,
    /// Where it is in the index, if not where the member says.
    moved: Option<Moved>,
}

/// Where a row is that is not where its index said.
enum Moved {
    /// Here, in the part of the index that was read.
    Here(Vec<u8>),
    /// Elsewhere, or not in the index.
    Away,
}

impl Reading<'_> {
    /// The page; nothing if a catalog is not what is known here.
    async fn page(&self, layouts: &[Arc<Layout>], mut span: Span) -> Result<Option<Page>> {
        if self.limit == Some(0) {
            return Err(Error::invalid(
                "a page of 0 items leads nowhere: the limit is at least 1",
            ));
        }
        if let Some(filter) = self.filter {
            filter.check()?;
        }
        let sources = layouts.iter().map(|layout| {
            let set = match self.index {
                Some(index) => layout.index(&index.name),
                None => layout.order.clone(),
            };
            Source::new(Arc::clone(layout), set, span.clone())
        });
        let mut merge = Merge::new(sources.collect(), self.descending);
        let table = self.table;
        let plain = self.filter.is_none() && self.limit.is_none() && self.segment.is_none();
        if self.count && plain && table.ttl.is_none() {
            return self.counted(&merge).await;
        }
        let fields = self.fields();
        let shown = self.index.and_then(|index| shown(table, index));
        let mut decoder = json::Decoder::default();
        let mut page = Page::default();
        let (mut bytes, mut seen) = (0, 0);
        let mut last: Option<Position> = None;
        let mut full = false;
        let mut rows = self.first_rows(&fields);
        let mut stale = Vec::new();
        loop {
            let was_full = full;
            let Some(members) = merge.take(self.errand, rows).await? else {
                return Ok(None);
            };
            if members.is_empty() {
                break;
            }
            let more = members.len() == rows;
            seen += members.len();
            let found = self.rows(&merge, &members, &fields, &mut decoder, take(&mut stale));
            let mut found = found.await?;
            let read: usize = found.iter().map(|row| row.size).sum();
            let end = members.last().filter(|_| more).map(|(_, member)| member);
            self.follow(&members, &mut found, &span, end.map(Vec::as_slice));
            let mut next = None;
            for row in found {
                let (source, member) = &members[row.place];
                let layout = &merge.sources[*source].layout;
                let expired = |item: &&Item| table.is_expired(item, self.errand.now);
                let gone = row.item.as_ref().filter(expired);
                if gone.is_some() || row.item.is_none() || row.moved.is_some() {
                    stale.push(clean_call(layout, &row.key, member, self.index, gone));
                }
                let Found {
                    key,
                    size,
                    item: Some(item),
                    moved: None | Some(Moved::Here(_)),
                    ..
                } = row
                else {
                    continue;
                };
                if expired(&&item) {
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
            if next.is_some() {
                page.next = next;
                break;
            }
            if !more {
                break;
            }
            if let Some((_, end)) = members.last() {
                span = layout::resume(span, end.clone(), self.descending);
            }
            rows = match (full, was_full) {
                // Whether something is behind is mostly seen at once.
                (true, false) => 2,
                (true, true) => (2 * rows).min(MOST_ROWS),
                (false, _) => self.most_rows(page.count).min(fitting(members.len(), read)),
            };
        }
        if !stale.is_empty() {
            self.errand.talk.ask(stale).await?;
        }
        Ok(Some(page))
    }

    /// How many rows are read first.
    fn first_rows(&self, fields: &Fields) -> usize {
        let open = self.filter.is_some() || self.limit.is_none();
        if open && matches!(fields, Fields::All) {
            return FIRST_ROWS;
        }
        self.most_rows(0)
    }

    /// How many rows are read at most when so many are found: those that are missing, and one more to know whether
    /// something is behind.
    fn most_rows(&self, found: u64) -> usize {
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        match self.limit {
            Some(limit) if self.filter.is_none() => {
                limit.saturating_sub(found).saturating_add(1).min(MOST_ROWS)
            }
            _ => MOST_ROWS,
        }
    }

    /// Looks which rows are not where their index says any more. One that was changed since the index was read
    /// is answered where it is now, if that is in the part that was read: else a row that never left the
    /// range could be missing.
    fn follow(
        &self,
        members: &[(usize, Vec<u8>)],
        found: &mut [Found],
        span: &Span,
        end: Option<&[u8]>,
    ) {
        let Some(index) = self.index else { return };
        let is_read = |member: &Vec<u8>| {
            let before_end = end.is_none_or(|end| (&member[..] > end) == self.descending);
            before_end && span.contains(member) && members.iter().all(|(_, own)| own != member)
        };
        let mut here: Vec<Vec<u8>> = Vec::new();
        let mut any = false;
        for row in &mut *found {
            let Some(item) = &row.item else { continue };
            let now = Layout::index_member(index, item, &row.key);
            if now.as_ref() != Some(&members[row.place].1) {
                let now = now.filter(|now| is_read(now) && !here.contains(now));
                here.extend(now.clone());
                row.moved = Some(now.map_or(Moved::Away, Moved::Here));
                any = true;
            }
        }
        if any {
            let member = |row: &Found| match &row.moved {
                Some(Moved::Here(member)) => member.clone(),
                _ => members[row.place].1.clone(),
            };
            found.sort_by_cached_key(member);
            if self.descending {
                found.reverse();
            }
        }
    }

    async fn counted(&self, merge: &Merge) -> Result<Option<Page>> {
        let Some(replies) = merge.count(self.errand).await? else {
            return Ok(None);
        };
        let mut page = Page::default();
        for reply in replies {
            match accepted(reply, self.table)? {
                resp::Value::Int(count) => page.count += count.unsigned_abs(),
                _ => return Err(unexpected(self.table)),
            }
        }
        Ok(Some(page))
    }

    /// The rows of members that belong here. What is stale is cleared away beside; what cannot be cleared, on a
    /// replica for example, does no harm.
    async fn rows(
        &self,
        merge: &Merge,
        members: &[(usize, Vec<u8>)],
        fields: &Fields,
        decoder: &mut json::Decoder,
        stale: Vec<Call>,
    ) -> Result<Vec<Found>> {
        let table = self.table;
        let cleared = stale.len();
        if cleared > 0 {
            // However much has expired, it becomes less.
            self.errand.talk.start_anew();
        }
        let (mut found, mut calls) = (Vec::new(), stale);
        for (place, (source, member)) in members.iter().enumerate() {
            let layout = &merge.sources[*source].layout;
            let key = match self.index {
                None => layout.key(member),
                Some(index) => layout.index_key(index, member),
            };
            let key = key.ok_or_else(|| {
                Error::configuration(format!(
                    "the order of table {:?} holds what is no key: something else wrote to it, or it is damaged",
                    table.name
                ))
                .of(table)
            })?;
            if let Some((segment, segments)) = self.segment
                && ranges::segment_of(&key.partition, segments) != segment
            {
                continue;
            }
            calls.push(fields.call(layout, &key));
            found.push(Found {
                place,
                key,
                size: 0,
                item: None,
                moved: None,
            });
        }
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.errand.talk.ask(calls).await?;
        for (row, value) in found.iter_mut().zip(values.into_iter().skip(cleared)) {
            row.size = size(&value);
            row.item = fields
                .item(value, table, decoder)
                .map_err(|error| error.at(&row.key))?;
        }
        Ok(found)
    }

    /// What must be read of rows to answer.
    fn fields(&self) -> Fields {
        let table = self.table;
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
            keep(&mut item, self.table, self.attributes);
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

fn size(value: &resp::Value) -> usize {
    match value {
        resp::Value::Bulk(bytes) => bytes.len(),
        resp::Value::Array(members) => members.iter().map(size).sum(),
        _ => 0,
    }
}

/// How many rows like those that were read make a page.
fn fitting(rows: usize, bytes: usize) -> usize {
    (PAGE_BYTES * rows / bytes.max(1)).max(1)
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
