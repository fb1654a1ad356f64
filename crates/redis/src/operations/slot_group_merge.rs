//! Reads a sorted set that is split into slot groups: from all groups at once, merged into one order.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::{Bound, RangeBounds as _};
use std::sync::Arc;

use mintkey_store::{Error, Result};

use crate::keyspace::layout::{self, Layout, MemberRange};
use crate::operations::context::OperationContext;
use crate::protocol::replies::{Cause, bulks};
use crate::protocol::resp::{Call, Value};

/// The members in one slot group.
pub struct Source {
    /// The layout in the slot group.
    pub layout: Arc<Layout>,
    set: Vec<u8>,
    /// The members that are not read yet.
    range: MemberRange,
    /// The members that are read and not taken.
    read: VecDeque<Vec<u8>>,
    /// Whether one of its members is among the heads.
    has_head: bool,
    /// The limit of the last call; 0 before the first.
    limit: usize,
    ended: bool,
}

impl Source {
    /// A range of members of a set in a slot group.
    pub const fn new(layout: Arc<Layout>, set: Vec<u8>, range: MemberRange) -> Self {
        Self {
            layout,
            set,
            range,
            read: VecDeque::new(),
            has_head: false,
            limit: 0,
            ended: false,
        }
    }

    fn is_exhausted(&self) -> bool {
        self.read.is_empty() && !self.has_head && !self.ended
    }

    fn call(&self, descending: bool) -> Call {
        let (low, high) = bounds(&self.range);
        let call = if descending {
            let call = self.layout.call("ZREVRANGEBYLEX").arg(&self.set);
            call.arg(high).arg(low)
        } else {
            let call = self.layout.call("ZRANGEBYLEX").arg(&self.set);
            call.arg(low).arg(high)
        };
        call.arg("LIMIT").arg("0").arg(self.limit.to_string())
    }

    fn count_call(&self) -> Call {
        let (low, high) = bounds(&self.range);
        let call = self.layout.call("ZLEXCOUNT").arg(&self.set);
        call.arg(low).arg(high)
    }
}

/// The merged members of all slot groups.
pub struct Merge {
    /// The slot groups.
    pub sources: Vec<Source>,
    descending: bool,
    /// The next member of each source, the first of all at the top.
    heads: BinaryHeap<Head>,
}

impl Merge {
    /// Merges these sources. Nothing is read yet.
    pub const fn new(sources: Vec<Source>, descending: bool) -> Self {
        Self {
            sources,
            descending,
            heads: BinaryHeap::new(),
        }
    }

    /// The next members with their sources: as many as wanted, or all that are left. `None` if a catalog entry has changed.
    pub async fn take(
        &mut self,
        context: &OperationContext<'_>,
        wanted: usize,
    ) -> Result<Option<Vec<(usize, Vec<u8>)>>> {
        let mut taken = Vec::with_capacity(wanted.min(64));
        while taken.len() < wanted {
            if self.sources.iter().any(Source::is_exhausted)
                && !self.refill(context, wanted - taken.len()).await?
            {
                return Ok(None);
            }
            if let [source] = &mut self.sources[..] {
                let count = source.read.len().min(wanted - taken.len());
                if count == 0 {
                    break;
                }
                taken.extend(source.read.drain(..count).map(|member| (0, member)));
                continue;
            }
            let Some(Head { member, source }) = self.heads.pop() else {
                break;
            };
            taken.push((source, member.into_bytes()));
            self.sources[source].has_head = false;
            self.push_head(source);
        }
        Ok(Some(taken))
    }

    fn push_head(&mut self, source: usize) {
        let own = &mut self.sources[source];
        if let Some(member) = own.read.pop_front() {
            own.has_head = true;
            let member = Member::new(member, self.descending);
            self.heads.push(Head { member, source });
        }
    }

    /// Reads more members of the sources that have few left. Returns false if a catalog entry has changed.
    async fn refill(&mut self, context: &OperationContext<'_>, wanted: usize) -> Result<bool> {
        let first = first_limit(wanted, self.sources.len());
        let is_single = self.sources.len() == 1;
        let (mut indexes, mut calls) = (Vec::new(), Vec::new());
        let mut layouts = Vec::new();
        for (index, source) in self.sources.iter_mut().enumerate() {
            if source.ended || source.read.len() > source.limit / 2 {
                continue;
            }
            let most = wanted.max(first).max(source.limit);
            source.limit = if is_single {
                wanted
            } else {
                (source.limit * 2).clamp(first, most)
            };
            calls.push(source.call(self.descending));
            layouts.push(Arc::clone(&source.layout));
            indexes.push(index);
        }
        let Some(replies) = context.send_with_epochs(&layouts, calls).await? else {
            return Ok(false);
        };
        for (index, reply) in indexes.into_iter().zip(replies) {
            let descending = self.descending;
            let source = &mut self.sources[index];
            let needs_head = !is_single && source.is_exhausted();
            let members = bulks(reply, &source.layout.table)?;
            // Another query has other bounds.
            if !members.iter().all(|member| source.range.contains(member)) {
                return Err(Error::other_row(&source.layout.table).caused_by(Cause::OutOfSync));
            }
            source.ended = members.len() < source.limit;
            if let Some(last) = members.last() {
                let everything = (Bound::Unbounded, Bound::Unbounded);
                let range = std::mem::replace(&mut source.range, everything);
                source.range = layout::resume_after(range, last.clone(), descending);
            }
            source.read.extend(members);
            if needs_head {
                self.push_head(index);
            }
        }
        Ok(true)
    }

    /// The replies with the numbers of members in each slot group. `None` if a catalog entry has changed.
    pub async fn count(&self, context: &OperationContext<'_>) -> Result<Option<Vec<Value>>> {
        let layouts: Vec<Arc<Layout>> = self
            .sources
            .iter()
            .map(|source| Arc::clone(&source.layout))
            .collect();
        let calls = self.sources.iter().map(Source::count_call).collect();
        context.send_with_epochs(&layouts, calls).await
    }
}

/// The next member of a source.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Head {
    member: Member,
    source: usize,
}

/// A member. The one that comes first in the order of the read is the greatest.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Member {
    Ascending(Reverse<Vec<u8>>),
    Descending(Vec<u8>),
}

impl Member {
    const fn new(bytes: Vec<u8>, descending: bool) -> Self {
        if descending {
            Self::Descending(bytes)
        } else {
            Self::Ascending(Reverse(bytes))
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Ascending(Reverse(bytes)) | Self::Descending(bytes) => bytes,
        }
    }
}

/// The limit of the first call to each source: the mean and twice its deviation. So one call is usually enough if the
/// wanted members are spread evenly.
const fn first_limit(wanted: usize, sources: usize) -> usize {
    let limit = wanted / sources + (4 * wanted / sources).isqrt() + 3;
    if sources == 1 || limit > wanted {
        wanted
    } else {
        limit
    }
}

/// The bounds of a range in the syntax of Redis.
fn bounds((low, high): &MemberRange) -> (Vec<u8>, Vec<u8>) {
    let encode = |bound: &Bound<Vec<u8>>, open: &[u8]| match bound {
        Bound::Included(bytes) => [b"[", &bytes[..]].concat(),
        Bound::Excluded(bytes) => [b"(", &bytes[..]].concat(),
        Bound::Unbounded => open.to_vec(),
    };
    (encode(low, b"-"), encode(high, b"+"))
}
