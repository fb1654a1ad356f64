//! The ranges of members that queries and scans read.

use std::ops::Bound;

use mintkey_store::{KeyValue, Query, QueryKey, Scan, Table};

use crate::keyspace::layout::{self, Layout, MemberRange};

/// The range of members that a query reads.
pub fn of_query(layout: &Layout, key: &QueryKey<'_>, query: &Query) -> MemberRange {
    let range = match (key.index, query.partition.first()) {
        (Some(_), _) => Layout::index_range(&query.partition, key.range.clone()),
        (None, Some(partition)) => layout.partition_range(partition, key.range.clone()),
        (None, None) => (Bound::Unbounded, Bound::Unbounded),
    };
    let Some(after) = &query.after else {
        return range;
    };
    let member = match key.index {
        None => Layout::member(&after.key),
        Some(_) => Layout::position_member(&after.index, &after.key),
    };
    layout::resume_after(range, member, query.descending)
}

/// The range of members that a scan reads.
pub fn of_scan(scan: &Scan) -> MemberRange {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    match &scan.after {
        Some(after) => {
            layout::resume_after(everything, Layout::member(&after.key), scan.descending)
        }
        None => everything,
    }
}

/// The partition of the table that all rows of a query are in; `None` if they may be in several, or if the query has a
/// value of the wrong kind.
pub fn partition<'a>(table: &Table, query: &'a Query) -> Option<&'a KeyValue> {
    let value = match &query.index {
        None => query.partition.first()?,
        Some(name) => {
            let mut parts = table.index(name)?.partition.iter();
            let index = parts.position(|part| part.name == table.partition.name)?;
            query.partition.get(index)?
        }
    };
    (value.kind() == table.partition.kind).then_some(value)
}
