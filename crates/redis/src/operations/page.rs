//! Reads a page of a query or scan.

use std::mem::take;
use std::ops::RangeBounds;
use std::sync::Arc;

use mintkey_store::query::segment_of;
use mintkey_store::{
    Condition, Error, Index, Item, Key, Name, Page, Path, Position, Result, Table, Work, json,
};

use crate::keyspace::commands::clean_call;
use crate::keyspace::layout::{self, Layout, MemberRange};
use crate::keyspace::projection::RowProjection;
use crate::operations::context::OperationContext;
use crate::operations::slot_group_merge::{Merge, Source};
use crate::protocol::replies::{checked, damaged, unexpected_reply};
use crate::protocol::resp::{self, Call};

/// The bytes of rows that a page reads before it ends, as on `DynamoDB`.
const PAGE_BYTES: usize = 1024 * 1024;
/// The rows that a page reads before it ends.
const PAGE_ROWS: usize = 100_000;
/// The rows that are read at first if it is unknown how many are needed.
const FIRST_ROWS: usize = 64;
/// The most rows that are read at once: a large page, and the row that shows that there is a next page.
const MAX_ROWS: usize = 1_025;

/// Reads one page of a query or scan.
pub struct PageReader<'a> {
    pub context: &'a OperationContext<'a>,
    /// The table, as the catalog describes it.
    pub table: &'a Table,
    /// The index; none: the row set.
    pub index: Option<&'a Index>,
    pub filter: Option<&'a Condition>,
    /// The attributes to return; none: all.
    pub attributes: Option<&'a [Path]>,
    /// Whether to read in descending order.
    pub descending: bool,
    /// The most items of the page.
    pub limit: Option<usize>,
    /// Whether to count the items only.
    pub count: bool,
    /// The segment to read, and the number of segments.
    pub segment: Option<(u32, u32)>,
}

struct FoundRow {
    /// The index of the member.
    member: usize,
    key: Key,
    /// The bytes of the row.
    size: usize,
    item: Option<Item>,
    /// Set if the row no longer has this member.
    moved: Option<Moved>,
}

/// Where a row is in the index after a change.
enum Moved {
    /// In the part of the index that was read, with this member.
    Inside(Vec<u8>),
    /// Elsewhere, or no longer in the index.
    Outside,
}

/// The page that has been read so far.
#[derive(Default)]
struct PageState<'a> {
    page: Page,
    /// The attributes that the index projects; none: all.
    visible: Option<Vec<&'a Name>>,
    /// The bytes of the rows.
    bytes: usize,
    /// The members that were read.
    seen: usize,
    /// The position of the last row.
    last: Option<Position>,
    is_full: bool,
    /// The calls that remove stale members.
    stale: Vec<Call>,
}

impl PageReader<'_> {
    /// Reads the page. Returns `None` if a catalog entry has changed.
    pub async fn read(&self, layouts: &[Arc<Layout>], range: MemberRange) -> Result<Option<Page>> {
        let sources = layouts.iter().map(|layout| {
            let set = match self.index {
                Some(index) => layout.index_set(&index.name),
                None => layout.row_set.clone(),
            };
            Source::new(Arc::clone(layout), set, range.clone())
        });
        let merge = Merge::new(sources.collect(), self.descending);
        let is_plain = self.filter.is_none() && self.limit.is_none() && self.segment.is_none();
        if self.count && is_plain && self.table.ttl.is_none() {
            return self.count_members(&merge).await;
        }
        self.read_rows(merge, range).await
    }

    async fn read_rows(&self, mut merge: Merge, mut range: MemberRange) -> Result<Option<Page>> {
        let projection = self.projection();
        let mut decoder = json::Decoder::default();
        let mut state = PageState {
            visible: self
                .index
                .and_then(|index| self.table.index_projection(index)),
            ..PageState::default()
        };
        let mut wanted = self.first_rows(&projection);
        loop {
            let was_full = state.is_full;
            let Some(members) = merge.take(self.context, wanted).await? else {
                return Ok(None);
            };
            if members.is_empty() {
                break;
            }
            let has_more = members.len() == wanted;
            state.seen += members.len();
            let cleanup = take(&mut state.stale);
            let found = self.rows(&merge, &members, &projection, &mut decoder, cleanup);
            let mut found = found.await?;
            let bytes: usize = found.iter().map(|row| row.size).sum();
            let end = members
                .last()
                .filter(|_| has_more)
                .map(|(_, member)| member);
            self.find_moved(&members, &mut found, &range, end.map(Vec::as_slice));
            self.context.evaluate(|work| {
                for row in found {
                    let (source, member) = &members[row.member];
                    let layout = &merge.sources[*source].layout;
                    self.add_row(row, member, layout, &mut state, work)?;
                    if state.page.next.is_some() {
                        break;
                    }
                }
                Ok(())
            })?;
            if state.page.next.is_some() || !has_more {
                break;
            }
            if let Some((_, end)) = members.last() {
                range = layout::resume_after(range, end.clone(), self.descending);
            }
            wanted = match (state.is_full, was_full) {
                // The next row is usually enough to see that there is a next page.
                (true, false) => 2,
                (true, true) => (2 * wanted).min(MAX_ROWS),
                (false, _) => self
                    .max_rows(state.page.count)
                    .min(rows_per_page(members.len(), bytes)),
            };
        }
        if !state.stale.is_empty() {
            self.context.channel.send(state.stale).await?;
        }
        Ok(Some(state.page))
    }

    /// Adds a row to the page. If the page is full, it sets the position of the next page instead.
    fn add_row(
        &self,
        row: FoundRow,
        member: &[u8],
        layout: &Layout,
        state: &mut PageState<'_>,
        work: &mut Work<'_, Error>,
    ) -> Result<()> {
        let is_expired = |item: &&Item| self.table.is_expired(item, self.context.now);
        let expired = row.item.as_ref().filter(is_expired);
        if expired.is_some() || row.item.is_none() || row.moved.is_some() {
            let call = clean_call(layout, &row.key, member, self.index, expired);
            state.stale.push(call);
        }
        let FoundRow {
            key,
            size,
            item: Some(item),
            moved: None | Some(Moved::Inside(_)),
            ..
        } = row
        else {
            return Ok(());
        };
        if is_expired(&&item) {
            return Ok(());
        }
        if state.is_full {
            state.page.next = state.last.take();
            return Ok(());
        }
        state.bytes += size;
        state.last = Some(self.position(key, &item));
        self.add_item(item, state.visible.as_deref(), &mut state.page, work)?;
        state.is_full = self
            .limit
            .is_some_and(|limit| state.page.count >= limit as u64)
            || state.bytes >= PAGE_BYTES
            || state.seen >= PAGE_ROWS;
        Ok(())
    }

    /// The number of rows to read first.
    fn first_rows(&self, projection: &RowProjection) -> usize {
        let is_open = self.filter.is_some() || self.limit.is_none();
        if is_open && matches!(projection, RowProjection::All) {
            return FIRST_ROWS;
        }
        self.max_rows(0)
    }

    /// The most rows to read next: those that the page still needs, and one more that shows whether there is a next page.
    fn max_rows(&self, found: u64) -> usize {
        let found = usize::try_from(found).unwrap_or(usize::MAX);
        match self.limit {
            Some(limit) if self.filter.is_none() => {
                limit.saturating_sub(found).saturating_add(1).min(MAX_ROWS)
            }
            _ => MAX_ROWS,
        }
    }

    /// Finds rows that have changed since the index was read, and that have another member now. If that is in the part that
    /// was read, the row is returned at its new position. Otherwise a row that never left the range could be missing.
    fn find_moved(
        &self,
        members: &[(usize, Vec<u8>)],
        found: &mut [FoundRow],
        range: &MemberRange,
        end: Option<&[u8]>,
    ) {
        let Some(index) = self.index else { return };
        let is_read = |member: &Vec<u8>| {
            let is_before_end = end.is_none_or(|end| (&member[..] > end) == self.descending);
            is_before_end && range.contains(member) && members.iter().all(|(_, own)| own != member)
        };
        let mut inside: Vec<Vec<u8>> = Vec::new();
        let mut any_moved = false;
        for row in &mut *found {
            let Some(item) = &row.item else { continue };
            let now = Layout::index_member(index, item, &row.key);
            if now.as_ref() != Some(&members[row.member].1) {
                let now = now.filter(|now| is_read(now) && !inside.contains(now));
                inside.extend(now.clone());
                row.moved = Some(now.map_or(Moved::Outside, Moved::Inside));
                any_moved = true;
            }
        }
        if any_moved {
            let member = |row: &FoundRow| match &row.moved {
                Some(Moved::Inside(member)) => member.clone(),
                _ => members[row.member].1.clone(),
            };
            found.sort_by_cached_key(member);
            if self.descending {
                found.reverse();
            }
        }
    }

    async fn count_members(&self, merge: &Merge) -> Result<Option<Page>> {
        let Some(replies) = merge.count(self.context).await? else {
            return Ok(None);
        };
        let mut page = Page::default();
        for reply in replies {
            match checked(reply, self.table)? {
                resp::Value::Int(count) => page.count += count.unsigned_abs(),
                _ => return Err(unexpected_reply(self.table)),
            }
        }
        Ok(Some(page))
    }

    /// Reads the rows of members that belong to the segment. The calls of `stale` remove stale members in the same round
    /// trip. If they fail, on a replica for example, that does no harm.
    async fn rows(
        &self,
        merge: &Merge,
        members: &[(usize, Vec<u8>)],
        projection: &RowProjection,
        decoder: &mut json::Decoder,
        stale: Vec<Call>,
    ) -> Result<Vec<FoundRow>> {
        let table = self.table;
        let stale_count = stale.len();
        if stale_count > 0 {
            // However many rows have expired, the read makes progress.
            self.context.channel.deadline().restart();
        }
        let (mut found, mut calls) = (Vec::new(), stale);
        for (index, (source, member)) in members.iter().enumerate() {
            let layout = &merge.sources[*source].layout;
            let key = match self.index {
                None => layout.key_of(member),
                Some(index) => layout.key_of_index_member(index, member),
            };
            let key = key
                .ok_or_else(|| damaged(table, "a sorted set", "has a member that is not a key"))?;
            if let Some((segment, segments)) = self.segment
                && segment_of(&key.partition.encode(), segments) != segment
            {
                continue;
            }
            calls.push(projection.call(layout, &key));
            found.push(FoundRow {
                member: index,
                key,
                size: 0,
                item: None,
                moved: None,
            });
        }
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let values = self.context.channel.send(calls).await?;
        for (row, value) in found.iter_mut().zip(values.into_iter().skip(stale_count)) {
            row.size = size(&value);
            row.item = projection
                .item(value, table, &row.key, decoder)
                .map_err(|error| error.at(&row.key))?;
        }
        Ok(found)
    }

    /// The attributes that must be read.
    fn projection(&self) -> RowProjection {
        let table = self.table;
        let wanted = match self.attributes {
            _ if self.filter.is_some() => return RowProjection::All,
            _ if self.count => &[][..],
            Some(paths) => paths,
            None => return RowProjection::All,
        };
        let indexed = self.index.into_iter().flat_map(Index::attributes);
        let wanted = wanted.iter().filter_map(Path::root);
        RowProjection::of(table, indexed.map(|part| &part.name).chain(wanted))
    }

    /// The position of a row, for a cursor.
    fn position(&self, key: Key, item: &Item) -> Position {
        let index = self.index.and_then(|index| index.values_of(item));
        Position {
            key,
            index: index.unwrap_or_default(),
        }
    }

    /// Adds an item to the page, if the filter accepts it.
    fn add_item(
        &self,
        mut item: Item,
        visible: Option<&[&Name]>,
        page: &mut Page,
        work: &mut Work<'_, Error>,
    ) -> Result<()> {
        if let Some(visible) = visible {
            item.retain(|name, _| visible.contains(&name));
        }
        if let Some(filter) = self.filter
            && !filter.evaluate(&item, work)?
        {
            return Ok(());
        }
        page.count += 1;
        if !self.count {
            self.table.project(&mut item, self.attributes);
            page.items.push(item);
        }
        Ok(())
    }
}

/// The bytes in a reply.
fn size(value: &resp::Value) -> usize {
    match value {
        resp::Value::Bulk(bytes) => bytes.len(),
        resp::Value::Array(members) => members.iter().map(size).sum(),
        _ => 0,
    }
}

/// The number of rows of the average size of these that make a page.
fn rows_per_page(rows: usize, bytes: usize) -> usize {
    (PAGE_BYTES * rows / bytes.max(1)).max(1)
}
