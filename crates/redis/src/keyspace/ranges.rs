//! The ranges of members that queries and scans read.

use std::ops::Bound;

use mintkey_store::{Error, Index, KeyAttribute, KeyValue, Query, Result, Scan, Table};

use crate::keyspace::layout::{self, Layout, MemberRange};

/// The index of a query.
pub fn index<'a>(layout: &'a Layout, query: &Query) -> Result<Option<&'a Index>> {
    let Some(name) = &query.index else {
        return Ok(None);
    };
    layout.table.index(name).map(Some).ok_or_else(|| {
        Error::configuration(format!("{} has no index {name:?}", layout.table.model))
            .of(&layout.table)
    })
}

/// The range of members that a query reads.
pub fn of_query(layout: &Layout, index: Option<&Index>, query: &Query) -> Result<MemberRange> {
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
    let sort_range = match &query.sort {
        None => (Bound::Unbounded, Bound::Unbounded),
        Some(condition) => {
            let Some(sort) = sort else {
                return Err(Error::invalid(format!(
                    "{} has no sort key to compare: use a filter instead",
                    index.map_or(table.model.as_str(), |index| &index.name)
                ))
                .of(table));
            };
            for value in condition.values() {
                table.check_kind(sort, value)?;
            }
            condition.bounds(&sort.name)?
        }
    };
    let range = match (index, query.partition.first()) {
        (Some(_), _) => Layout::index_range(&query.partition, sort_range),
        (None, Some(partition)) => layout.partition_range(partition, sort_range),
        (None, None) => (Bound::Unbounded, Bound::Unbounded),
    };
    let Some(after) = &query.after else {
        return Ok(range);
    };
    after.check(table, index, &query.partition)?;
    let member = match index {
        None => Layout::member(&after.key),
        Some(_) => Layout::position_member(&after.index, &after.key),
    };
    Ok(layout::resume_after(range, member, query.descending))
}

/// The range of members that a scan reads.
pub fn of_scan(table: &Table, scan: &Scan) -> Result<MemberRange> {
    if let Some((segment, segments)) = scan.segment
        && segment >= segments
    {
        return Err(Error::invalid(format!(
            "segment {segment} of {segments} does not exist: segments are numbered from 0"
        )));
    }
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let Some(after) = &scan.after else {
        return Ok(everything);
    };
    after.check(table, None, &[])?;
    let member = Layout::member(&after.key);
    Ok(layout::resume_after(everything, member, scan.descending))
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

/// The segment of a row, by the bytes of its partition key.
pub fn segment_of(partition: &KeyValue, segments: u32) -> u32 {
    // FNV-1a: the same in every process and version, so that cursors stay valid.
    let hash = partition
        .encode()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    u32::try_from(hash % u64::from(segments)).unwrap_or(0)
}
