//! Which members of an order a request is about.

use std::ops::Bound;

use mintkey_store::{Error, Index, KeyAttribute, KeyValue, Query, Result, Scan, Table};

use crate::keyspace::layout::{self, Layout, Span};

/// The index a query names.
pub fn index<'a>(layout: &'a Layout, query: &Query) -> Result<Option<&'a Index>> {
    let Some(name) = &query.index else {
        return Ok(None);
    };
    layout.table.index(name).map(Some).ok_or_else(|| {
        Error::configuration(format!("{} has no index {name:?}", layout.table.model))
            .of(&layout.table)
    })
}

/// The range of members that a query walks.
pub fn of_query(layout: &Layout, index: Option<&Index>, query: &Query) -> Result<Span> {
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
            condition.bounds(&sort.name)?
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
    after.check(table, index, &query.partition)?;
    let member = match index {
        None => Layout::member(&after.key),
        Some(_) => Layout::position_member(&after.index, &after.key),
    };
    Ok(layout::resume(range, member, query.descending))
}

/// The range of members that a scan walks.
pub fn of_scan(table: &Table, scan: &Scan) -> Result<Span> {
    if let Some((segment, segments)) = scan.segment
        && segment >= segments
    {
        return Err(Error::invalid(format!(
            "segment {segment} of {segments}: segments count from 0"
        )));
    }
    let whole = (Bound::Unbounded, Bound::Unbounded);
    let Some(after) = &scan.after else {
        return Ok(whole);
    };
    after.check(table, None, &[])?;
    let member = Layout::member(&after.key);
    Ok(layout::resume(whole, member, scan.descending))
}

/// The partition that a query is about, as far as its rows all lie in one; nothing if they may lie in
/// several, or if it does not fit its table.
pub fn partition<'a>(table: &Table, query: &'a Query) -> Option<&'a KeyValue> {
    let value = match &query.index {
        None => query.partition.first()?,
        Some(name) => {
            let mut parts = table.index(name)?.partition.iter();
            let place = parts.position(|part| part.name == table.partition.name)?;
            query.partition.get(place)?
        }
    };
    (value.kind() == table.partition.kind).then_some(value)
}

/// Which of so many segments a row belongs to, by the bytes of its partition key.
pub fn segment_of(partition: &KeyValue, segments: u32) -> u32 {
    // FNV-1a: the same in every process and version, so that a cursor stays good.
    let hash = partition
        .encode()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    u32::try_from(hash % u64::from(segments)).unwrap_or(0)
}
