//! Reads of several items in order: queries and scans, and what must be true of them.

use std::ops::Bound;
use std::slice;
use std::sync::Arc;

use crate::condition::Condition;
use crate::error::{Error, Result};
use crate::key::KeyValue;
use crate::path::Path;
use crate::position::Position;
use crate::table::{Index, KeyAttribute, Table};
use crate::value::Name;

/// Reads the items of one partition, or of a whole-table index, in order.
#[derive(Clone, Debug)]
pub struct Query {
    /// The table.
    pub table: Arc<Table>,
    /// The index; `None`: the table's own key.
    pub index: Option<String>,
    /// The values of the partition attributes; empty for an index over the whole table.
    pub partition: Vec<KeyValue>,
    /// The condition on the sort key.
    pub sort: Option<SortCondition>,
    /// The filter; `None`: all items.
    pub filter: Option<Condition>,
    /// Whether to read from the last to the first item.
    pub descending: bool,
    /// The maximum number of items of a page.
    pub limit: Option<usize>,
    /// The position at which the page before ended.
    pub after: Option<Position>,
    /// Only what these paths lead to, and the keys.
    pub attributes: Option<Vec<Path>>,
    /// Whether to return the number of items only.
    pub count: bool,
    /// Whether the read is strongly consistent.
    pub consistent: bool,
}

/// A condition on the sort key.
#[derive(Clone, Debug, PartialEq)]
pub enum SortCondition {
    /// Equal.
    Eq(KeyValue),
    /// Less.
    Lt(KeyValue),
    /// Less or equal.
    Le(KeyValue),
    /// Greater.
    Gt(KeyValue),
    /// Greater or equal.
    Ge(KeyValue),
    /// From the first to the second, both included.
    Between(KeyValue, KeyValue),
    /// Between two bounds.
    Range {
        /// The lower bound.
        low: Bound<KeyValue>,
        /// The upper bound.
        high: Bound<KeyValue>,
    },
    /// Starting with these characters or bytes.
    BeginsWith(KeyValue),
}

/// Reads the items of a table, in the order of their keys where the engine has one.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The table.
    pub table: Arc<Table>,
    /// The filter; `None`: all items.
    pub filter: Option<Condition>,
    /// Whether to read from the last to the first item, if the store has an order.
    pub descending: bool,
    /// The maximum number of items of a page.
    pub limit: Option<usize>,
    /// The position at which the page before ended.
    pub after: Option<Position>,
    /// Only what these paths lead to, and the keys.
    pub attributes: Option<Vec<Path>>,
    /// Whether to return the number of items only.
    pub count: bool,
    /// The number of the segment, from 0, and the number of segments, for several readers at once.
    pub segment: Option<(u32, u32)>,
    /// Whether the read is strongly consistent.
    pub consistent: bool,
}

/// What a query reads by, once it is checked.
#[derive(Debug)]
pub struct QueryKey<'a> {
    /// The index; none: the table's own key.
    pub index: Option<&'a Index>,
    /// The partition attributes.
    pub partition: &'a [KeyAttribute],
    /// The sort attribute.
    pub sort: Option<&'a KeyAttribute>,
    /// The range of the sort attribute.
    pub range: (Bound<KeyValue>, Bound<KeyValue>),
}

impl Query {
    /// Checks all that is true of a valid query on every store.
    ///
    /// # Errors
    ///
    /// `Configuration` if there is no such index, `InvalidCursor` if the page cannot begin there, `InvalidValue` if a
    /// value, the sort condition, the filter or the limit is not valid.
    pub fn check(&self) -> Result<QueryKey<'_>> {
        self.check_parts().map_err(|error| error.of(&self.table))
    }

    fn check_parts(&self) -> Result<QueryKey<'_>> {
        let table = &*self.table;
        let index = match &self.index {
            None => None,
            Some(name) => Some(
                table
                    .index(name)
                    .ok_or_else(|| Error::configuration(format!("there is no index {name:?}")))?,
            ),
        };
        let (partition, sort) = match index {
            Some(index) => (&index.partition[..], index.sort.as_ref()),
            None => (slice::from_ref(&table.partition), table.sort.as_ref()),
        };
        if partition.len() != self.partition.len() {
            return Err(Error::invalid(format!(
                "a query by {} needs {} partition values, not {}",
                index.map_or("its key", |index| &index.name),
                partition.len(),
                self.partition.len()
            )));
        }
        for (attribute, value) in partition.iter().zip(&self.partition) {
            table.check_kind(attribute, value)?;
        }
        let mut range = (Bound::Unbounded, Bound::Unbounded);
        if let Some(condition) = &self.sort {
            let attribute = sort.ok_or_else(|| {
                Error::invalid(format!(
                    "{} has no sort key to compare with: use a filter instead",
                    index.map_or("the table", |index| &index.name)
                ))
            })?;
            for value in condition.values() {
                table.check_kind(attribute, value)?;
            }
            range = condition.bounds(&attribute.name)?;
        }
        check_page(self.limit, self.filter.as_ref())?;
        if let Some(after) = &self.after {
            after.check(table, index, &self.partition)?;
        }
        Ok(QueryKey {
            index,
            partition,
            sort,
            range,
        })
    }
}

impl Scan {
    /// Checks all that is true of a valid scan on every store.
    ///
    /// # Errors
    ///
    /// `InvalidCursor` if the page cannot begin there, `InvalidValue` if the segment, the filter or the limit is not
    /// valid.
    pub fn check(&self) -> Result<()> {
        if let Some((segment, segments)) = self.segment
            && segment >= segments
        {
            return Err(Error::invalid(format!(
                "segment {segment} of {segments} does not exist: the first is 0"
            )));
        }
        check_page(self.limit, self.filter.as_ref())?;
        self.after
            .as_ref()
            .map_or(Ok(()), |after| after.check(&self.table, None, &[]))
    }
}

fn check_page(limit: Option<usize>, filter: Option<&Condition>) -> Result<()> {
    if limit == Some(0) {
        return Err(Error::invalid(
            "limit=0 is not possible: a page has at least 1 item",
        ));
    }
    filter.map_or(Ok(()), Condition::check)
}

/// The segment of a row, by the bytes of its partition key.
#[must_use]
pub fn segment_of(partition: &[u8], segments: u32) -> u32 {
    // FNV-1a: the same in every process and version, so that a cursor stays valid.
    let hash = partition
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    u32::try_from(hash % u64::from(segments)).unwrap_or(0)
}

impl SortCondition {
    /// The range of keys it covers, of which this is the attribute.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if the lower bound of `between` is above the upper one, or for `begins_with` on numbers.
    pub fn bounds(&self, attribute: &Name) -> Result<(Bound<KeyValue>, Bound<KeyValue>)> {
        Ok(match self {
            Self::Eq(value) => (
                Bound::Included(value.clone()),
                Bound::Included(value.clone()),
            ),
            Self::Lt(value) => (Bound::Unbounded, Bound::Excluded(value.clone())),
            Self::Le(value) => (Bound::Unbounded, Bound::Included(value.clone())),
            Self::Gt(value) => (Bound::Excluded(value.clone()), Bound::Unbounded),
            Self::Ge(value) => (Bound::Included(value.clone()), Bound::Unbounded),
            Self::Between(low, high) if low > high => {
                return Err(Error::invalid(format!(
                    "between {low} and {high}: the lower bound is above the upper one: swap them"
                ))
                .on(attribute));
            }
            Self::Between(low, high) => {
                (Bound::Included(low.clone()), Bound::Included(high.clone()))
            }
            Self::Range { low, high } => (low.clone(), high.clone()),
            Self::BeginsWith(prefix) => {
                let end = match prefix {
                    KeyValue::String(text) => string_after(text).map(KeyValue::String),
                    KeyValue::Binary(bytes) => bytes_after(bytes).map(KeyValue::Binary),
                    KeyValue::Number(number) => {
                        return Err(Error::invalid(format!(
                            "begins_with {number}: numbers do not begin with anything; use between"
                        ))
                        .on(attribute));
                    }
                };
                (
                    Bound::Included(prefix.clone()),
                    end.map_or(Bound::Unbounded, Bound::Excluded),
                )
            }
        })
    }

    /// The values it compares with.
    pub fn values(&self) -> impl Iterator<Item = &KeyValue> {
        let (first, second) = match self {
            Self::Eq(value)
            | Self::Lt(value)
            | Self::Le(value)
            | Self::Gt(value)
            | Self::Ge(value)
            | Self::BeginsWith(value) => (Some(value), None),
            Self::Between(low, high) => (Some(low), Some(high)),
            Self::Range { low, high } => (bound_value(low), bound_value(high)),
        };
        first.into_iter().chain(second)
    }
}

const fn bound_value(bound: &Bound<KeyValue>) -> Option<&KeyValue> {
    match bound {
        Bound::Included(value) | Bound::Excluded(value) => Some(value),
        Bound::Unbounded => None,
    }
}

/// The least string above every string that starts with this one. The order of UTF-8 is the order of
/// code points, so that the last one that has a successor decides.
fn string_after(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        let next = match last {
            '\u{D7FF}' => Some('\u{E000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// The least bytes above all that start with these.
fn bytes_after(prefix: &[u8]) -> Option<Vec<u8>> {
    let position = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut bytes = prefix[..=position].to_vec();
    bytes[position] += 1;
    Some(bytes)
}
