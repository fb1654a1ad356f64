//! Reads: single rows, and pages of queries and scans.

use std::sync::Arc;

use mintkey_store::{Get, Item, Key, Page, Path, Query, Reply, Result, Scan, Table, Work};

use crate::client::{Client, Output};
use crate::operations::query_plan::QueryPlan;
use crate::transport::Transport;
use crate::wire::body;
use crate::wire::json::StoredItem;
use crate::wire::response::{self, Row};

/// The items that the first call for a limited page with a filter evaluates.
const FIRST_LIMIT: usize = 32;
/// The items that any call evaluates: the limit is a 32-bit number.
const MAX_LIMIT: usize = 1 << 30;
/// The calls for one limited page with a filter.
const MAX_CALLS: u32 = 8;

/// Reads a row.
pub async fn get<T: Transport>(client: &Client<'_, T>, get: &Get, now: i64) -> Result<Reply> {
    let table = &get.table;
    table.check_key(&get.key)?;
    let body = body::get(&client.shared.config, get);
    let item = read_row(client, table, &get.key, &body).await?;
    let item = table.projected(table.live(item, now), get.attributes.as_deref());
    Ok(Reply::Item(item))
}

/// Reads the row of a key, expired or not.
async fn read_row<T: Transport>(
    client: &Client<'_, T>,
    table: &Table,
    key: &Key,
    body: &str,
) -> Result<Option<Item>> {
    let output = client.read(table, Some(key), "GetItem", body).await?;
    let row: Row = output.parse().map_err(|error| error.of(table))?;
    if row.attributes.is_some() || row.other.is_some() {
        return Err(output.unreadable().of(table).at(key));
    }
    let item = row.item.map(|item| own_row(&output, item, table, key));
    item.transpose()
}

/// Reads the row of a key consistently, expired or not.
pub async fn stored<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
    key: &Key,
) -> Result<Option<Item>> {
    stored_attributes(client, table, key, None).await
}

/// Reads these attributes of the row of a key consistently; `None`: all.
pub async fn stored_attributes<T: Transport>(
    client: &Client<'_, T>,
    table: &Arc<Table>,
    key: &Key,
    attributes: Option<Vec<Path>>,
) -> Result<Option<Item>> {
    let get = Get {
        table: Arc::clone(table),
        key: key.clone(),
        consistent: true,
        attributes,
    };
    let body = body::get(&client.shared.config, &get);
    read_row(client, table, key, &body).await
}

/// The row of a key in a response. Any other row was sent in response to another call.
pub fn own_row<T: Transport>(
    output: &Output<'_, T>,
    StoredItem(item): StoredItem,
    table: &Table,
    key: &Key,
) -> Result<Item> {
    if table.has_key(&item, key) {
        Ok(body::strip_whole_table_key(table, item))
    } else {
        Err(output.other_row(table).at(key))
    }
}

/// Reads a page of a query.
pub async fn query<T: Transport>(client: &Client<'_, T>, query: &Query, now: i64) -> Result<Reply> {
    match QueryPlan::of_query(query, now)? {
        Some(plan) => page(client, &plan).await,
        None => Ok(Reply::Page(Page::default())),
    }
}

/// Reads a page of a scan.
pub async fn scan<T: Transport>(client: &Client<'_, T>, scan: &Scan, now: i64) -> Result<Reply> {
    match QueryPlan::of_scan(scan, now)? {
        Some(plan) => page(client, &plan).await,
        None => Ok(Reply::Page(Page::default())),
    }
}

/// Reads a page, with more calls if the first ones return too few items.
async fn page<T: Transport>(client: &Client<'_, T>, plan: &QueryPlan<'_>) -> Result<Reply> {
    let projection = plan.projection();
    let projection = projection.as_deref();
    // One more item than wanted shows whether there is a next page.
    let mut limit = plan.limit.map(|limit| {
        let wanted = limit.saturating_add(1);
        if plan.is_filtered() {
            wanted.max(FIRST_LIMIT)
        } else {
            wanted
        }
    });
    let mut page = Page::default();
    let mut after = plan.after.cloned();
    // The position of the last item of a full page.
    let mut end = None;
    let mut calls = 0;
    loop {
        let body = plan.body(&client.shared.config, projection, after.as_ref(), limit);
        let batch = call(client, plan, &body).await;
        let batch = batch.map_err(|error| plan.refused_start(error))?;
        let last = match &batch.last_evaluated_key {
            Some(StoredItem(last)) => Some(plan.position(last)?),
            None => None,
        };
        if plan.counts_on_server() {
            page.count = batch.count;
            page.next = last;
            return Ok(Reply::Page(page));
        }
        let mut ask = || client.may_continue();
        let mut work = Work::new(&mut ask);
        for mut item in batch.items.unwrap_or_default().0 {
            if let Some(projection) = projection {
                item.retain(|name, _| projection.contains(&name));
            }
            if !plan.accepts(&item, &mut work)? {
                continue;
            }
            if end.is_some() {
                page.next = end;
                return Ok(Reply::Page(page));
            }
            page.count += 1;
            if plan.limit.is_some_and(|limit| page.count >= limit as u64) {
                end = Some(plan.position(&item)?);
            }
            if !plan.count {
                page.items.push(returned(plan, item));
            }
        }
        calls += 1;
        // The server stopped before the limit, at its limit of 1 MB.
        let is_cut = limit.is_none_or(|limit| batch.scanned_count < limit as u64);
        if last.is_none() || is_cut || calls == MAX_CALLS {
            page.next = if last.is_some() { end.or(last) } else { None };
            return Ok(Reply::Page(page));
        }
        after = last;
        limit = limit.map(|limit| limit.saturating_mul(2).min(MAX_LIMIT));
    }
}

/// An item as the caller gets it.
fn returned(plan: &QueryPlan<'_>, item: Item) -> Item {
    let mut item = body::strip_whole_table_key(plan.table, item);
    plan.table.project(&mut item, plan.attributes);
    item
}

async fn call<T: Transport>(
    client: &Client<'_, T>,
    plan: &QueryPlan<'_>,
    body: &str,
) -> Result<response::Page> {
    let output = client.read(plan.table, None, plan.operation, body).await?;
    let page: response::Page = output.parse().map_err(|error| error.of(plan.table))?;
    match &page.items {
        None if plan.counts_on_server() => {}
        None => return Err(output.unreadable().of(plan.table)),
        Some(items) if items.0.iter().all(|item| plan.is_asked_for(item)) => {}
        Some(_) => return Err(output.other_row(plan.table)),
    }
    Ok(page)
}
