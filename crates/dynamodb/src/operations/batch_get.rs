//! Batches of reads.
//!
//! DynamoDB takes 100 keys in a call, and returns what it had no capacity for.

use std::collections::{HashMap, HashSet};

use mintkey_runtime::Stop;
use mintkey_store::{BatchGet, Error, ErrorKind, Item, Key, Outcome, Remedy, Reply, Result, Table};

use crate::aws::retry;
use crate::client::Client;
use crate::transport::Transport;
use crate::transport::error::Cause;
use crate::transport::join_all::join_all;
use crate::wire::body;
use crate::wire::response::Rows;

/// The keys in one call.
const MAX_KEYS: usize = 100;

/// Reads many rows.
pub async fn get<T: Transport>(
    client: &Client<'_, T>,
    batch: &BatchGet,
    now: i64,
) -> Result<Reply> {
    let table = &batch.table;
    for key in &batch.keys {
        table.check_key(key)?;
    }
    let found = read_all(client, batch).await?;
    let mut items = Vec::with_capacity(batch.keys.len());
    for key in &batch.keys {
        let item = table.live(found.get(key).cloned(), now);
        items.push(table.projected(item, batch.attributes.as_deref()));
    }
    Ok(Reply::Items(items))
}

/// Reads the rows of a batch, expired or not.
pub async fn read_all<T: Transport>(
    client: &Client<'_, T>,
    batch: &BatchGet,
) -> Result<HashMap<Key, Item>> {
    // Each key once: DynamoDB refuses duplicates.
    let mut known = HashSet::with_capacity(batch.keys.len());
    let wanted = batch.keys.iter().filter(|key| known.insert(*key));
    let wanted: Vec<&Key> = wanted.collect();
    let mut found = HashMap::with_capacity(wanted.len());
    let chunks = wanted.chunks(MAX_KEYS);
    let reads = chunks.map(|keys| read_chunk(client, batch, keys));
    found.extend(join_all(reads).await?.into_iter().flatten());
    Ok(found)
}

/// Reads keys, with more calls for those that the server returns unprocessed.
async fn read_chunk<T: Transport>(
    client: &Client<'_, T>,
    batch: &BatchGet,
    keys: &[&Key],
) -> Result<Vec<(Key, Item)>> {
    let client = client.part();
    let mut found = Vec::with_capacity(keys.len());
    let mut left = keys.to_vec();
    let mut rounds = 0;
    while !left.is_empty() {
        if rounds > 0 {
            pause(&client, &batch.table, rounds).await?;
        }
        let before = left.len();
        left = read_once(&client, batch, &left, &mut found).await?;
        // The delay grows only without progress.
        rounds = if left.len() < before { 1 } else { rounds + 1 };
    }
    Ok(found)
}

/// Reads keys with one call, and returns those that are unprocessed.
async fn read_once<'k, T: Transport>(
    client: &Client<'_, T>,
    batch: &BatchGet,
    keys: &[&'k Key],
    found: &mut Vec<(Key, Item)>,
) -> Result<Vec<&'k Key>> {
    let table = &*batch.table;
    let body = body::batch_get(&client.shared.config, batch, keys);
    let output = client.read(table, None, "BatchGetItem", &body).await?;
    let rows: Rows = output.parse().map_err(|error| error.of(table))?;
    // A key that was not asked for belongs to the response to another call.
    let asked: HashSet<&Key> = keys.iter().copied().collect();
    let own = |item: &Item| asked.get(&table.key_of(item).ok()?).copied();
    for item in rows.responses.into_values().flat_map(|items| items.0) {
        let key = own(&item).ok_or_else(|| output.other_row(table))?.clone();
        found.push((key, body::strip_whole_table_key(table, item)));
    }
    let unprocessed = rows.unprocessed_keys.values();
    let left = unprocessed.flat_map(|table| &table.keys.0).map(own);
    left.collect::<Option<_>>()
        .ok_or_else(|| output.other_row(table))
}

/// Waits before unprocessed parts of a batch are sent again.
pub async fn pause<T: Transport>(client: &Client<'_, T>, table: &Table, round: u32) -> Result<()> {
    client.metrics.throttle();
    client.metrics.add_retries(1);
    let name = &table.name;
    client.note(&format!(
        "a part of the batch on table {name:?} is sent again: it was not processed"
    ));
    let paused = client.pause(retry::delay(round)).await;
    paused.map_err(|error| {
        if matches!(error.cause, Cause::Stopped(Stop::Timeout(_))) {
            return throttled(client, table);
        }
        client.transport_error(&error).of(table)
    })
}

fn throttled<T>(client: &Client<'_, T>, table: &Table) -> Error {
    let config = &client.shared.config;
    let outcome = client.progress.get().outcome();
    let kind = match outcome {
        Outcome::NotApplied => ErrorKind::Throttled,
        Outcome::Unknown => ErrorKind::Timeout(outcome),
    };
    Error::new(
        kind,
        format!(
            "{}: DynamoDB had no capacity for this part of the batch on table {:?} within {} s",
            config.address,
            table.name,
            config.timeout.as_secs_f64()
        ),
    )
    .remedy(Remedy::SlowDown)
    .of(table)
}
