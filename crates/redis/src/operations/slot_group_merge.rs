//! Members of one order that lies in several buckets: read from all at once, and merged.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use mintkey_store::Result;

use crate::keyspace::layout::{self, Layout, Span};
use crate::operations::context::Errand;
use crate::protocol::replies::bulks;
use crate::protocol::resp::{Call, Value};

/// What is read of one bucket.
pub struct Source {
    /// The bucket's layout.
    pub layout: Arc<Layout>,
    set: Vec<u8>,
    /// What is left to be asked for.
    span: Span,
    read: VecDeque<Vec<u8>>,
    /// Whether one more member is among the heads.
    has_head: bool,
    /// How many members the next question asks for; nothing before the first.
    many: usize,
    ended: bool,
}

impl Source {
    /// The members of a set of this bucket.
    pub const fn new(layout: Arc<Layout>, set: Vec<u8>, span: Span) -> Self {
        Self {
            layout,
            set,
            span,
            read: VecDeque::new(),
            has_head: false,
            many: 0,
            ended: false,
        }
    }

    fn is_dry(&self) -> bool {
        self.read.is_empty() && !self.has_head && !self.ended
    }

    fn call(&self, descending: bool) -> Call {
        let (low, high) = bounds(&self.span);
        let call = if descending {
            let call = self.layout.call("ZREVRANGEBYLEX").arg(&self.set);
            call.arg(high).arg(low)
        } else {
            let call = self.layout.call("ZRANGEBYLEX").arg(&self.set);
            call.arg(low).arg(high)
        };
        call.arg("LIMIT").arg("0").arg(self.many.to_string())
    }

    fn count_call(&self) -> Call {
        let (low, high) = bounds(&self.span);
        let call = self.layout.call("ZLEXCOUNT").arg(&self.set);
        call.arg(low).arg(high)
    }
}

/// The sources of one read, in one order.
pub struct Merge {
    /// The buckets.
    pub sources: Vec<Source>,
    descending: bool,
    /// The next member of each source that has been read, the first of all on top.
    heads: BinaryHeap<Head>,
}

impl Merge {
    /// Nothing is read yet.
    pub const fn new(sources: Vec<Source>, descending: bool) -> Self {
        Self {
            sources,
            descending,
            heads: BinaryHeap::new(),
        }
    }

    /// The next members with their sources, as many as wanted unless there are no more; nothing if a
    /// catalog is not what is known here.
    pub async fn take(
        &mut self,
        errand: &Errand<'_>,
        wanted: usize,
    ) -> Result<Option<Vec<(usize, Vec<u8>)>>> {
        let mut taken = Vec::with_capacity(wanted.min(64));
        while taken.len() < wanted {
            if self.sources.iter().any(Source::is_dry)
                && !self.refill(errand, wanted - taken.len()).await?
            {
                return Ok(None);
            }
            if let [source] = &mut self.sources[..] {
                let many = source.read.len().min(wanted - taken.len());
                if many == 0 {
                    break;
                }
                taken.extend(source.read.drain(..many).map(|member| (0, member)));
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

    /// Reads on where nothing is left, and at once where little is; false if a catalog is not what is
    /// known here.
    async fn refill(&mut self, errand: &Errand<'_>, wanted: usize) -> Result<bool> {
        let first = first_share(wanted, self.sources.len());
        let alone = self.sources.len() == 1;
        let (mut asked, mut calls) = (Vec::new(), Vec::new());
        let mut layouts = Vec::new();
        for (number, source) in self.sources.iter_mut().enumerate() {
            if source.ended || source.read.len() > source.many / 2 {
                continue;
            }
            let most = wanted.max(first).max(source.many);
            source.many = if alone {
                wanted
            } else {
                (source.many * 2).clamp(first, most)
            };
            calls.push(source.call(self.descending));
            layouts.push(Arc::clone(&source.layout));
            asked.push(number);
        }
        let Some(replies) = errand.ask(&layouts, calls).await? else {
            return Ok(false);
        };
        for (number, reply) in asked.into_iter().zip(replies) {
            let descending = self.descending;
            let source = &mut self.sources[number];
            let needs_head = !alone && source.is_dry();
            let members = bulks(reply, &source.layout.table)?;
            source.ended = members.len() < source.many;
            if let Some(last) = members.last() {
                let whole = (Bound::Unbounded, Bound::Unbounded);
                let span = std::mem::replace(&mut source.span, whole);
                source.span = layout::resume(span, last.clone(), descending);
            }
            source.read.extend(members);
            if needs_head {
                self.push_head(number);
            }
        }
        Ok(true)
    }

    /// How many members there are in all; nothing if a catalog is not what is known here.
    pub async fn count(&self, errand: &Errand<'_>) -> Result<Option<Vec<Value>>> {
        let layouts: Vec<Arc<Layout>> = self
            .sources
            .iter()
            .map(|source| Arc::clone(&source.layout))
            .collect();
        let calls = self.sources.iter().map(Source::count_call).collect();
        errand.ask(&layouts, calls).await
    }
}

/// The next member of a source.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Head {
    member: Member,
    source: usize,
}

/// A member that is the greater the earlier it comes.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
enum Member {
    Up(Reverse<Vec<u8>>),
    Down(Vec<u8>),
}

impl Member {
    const fn new(bytes: Vec<u8>, descending: bool) -> Self {
        if descending {
            Self::Down(bytes)
        } else {
            Self::Up(Reverse(bytes))
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        match self {
            Self::Up(Reverse(bytes)) | Self::Down(bytes) => bytes,
        }
    }
}

/// How many members each of so many sources is asked for at first, so that one question is mostly enough
/// when the wanted ones lie anywhere: their mean and twice its deviation.
const fn first_share(wanted: usize, sources: usize) -> usize {
    let share = wanted / sources + (4 * wanted / sources).isqrt() + 3;
    if sources == 1 || share > wanted {
        wanted
    } else {
        share
    }
}

/// A range as Redis reads it.
fn bounds((low, high): &Span) -> (Vec<u8>, Vec<u8>) {
    let written = |bound: &Bound<Vec<u8>>, open: &[u8]| match bound {
        Bound::Included(bytes) => [b"[", &bytes[..]].concat(),
        Bound::Excluded(bytes) => [b"(", &bytes[..]].concat(),
        Bound::Unbounded => open.to_vec(),
    };
    (written(low, b"-"), written(high, b"+"))
}
