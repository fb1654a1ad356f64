//! Batches: many reads, or many independent writes.
//!
//! DynamoDB takes 100 keys or 25 writes in a call, returns what it had no capacity for, and supports no conditions
//! there: a write with a condition is sent as a single write.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use mintkey_runtime::{Generation, Stop};
use mintkey_store::size::MAX_ITEM;
use mintkey_store::{
    BatchGet, BatchWrite, Delete, Error, ErrorKind, Guard, Item, Key, Outcome, Put, Reply, Result,
    Row, Table, Write,
};

use crate::aws::retry;
use crate::client::{Client, Effect, Output};
use crate::operations::write;
use crate::transport::Transport;
use crate::transport::error::{Cause, TransportError};
use crate::transport::join_all::join_all;
use crate::wire::response::{Rows, UnprocessedWrite, Written};
use crate::wire::{body, errors};

/// The keys in one call.
const MAX_KEYS: usize = 100;
/// The writes in one call.
const MAX_WRITES: usize = 25;

/// Results of writes, by their indexes in the batch.
type Outcomes = Vec<(usize, Result<()>)>;

/// Reads many rows.
pub async fn get<T: Transport>(
    client: &Client<'_, T>,
    batch: &BatchGet,
    now: i64,
) -> Result<Reply> {
    let table = &batch.table;
    // Each key once: DynamoDB refuses duplicates.
    let mut found: HashMap<&Key, Option<Item>> = HashMap::with_capacity(batch.keys.len());
    let mut wanted = Vec::with_capacity(batch.keys.len());
    for key in &batch.keys {
        table.check_key(key)?;
        if let Entry::Vacant(entry) = found.entry(key) {
            entry.insert(None);
            wanted.push(key);
        }
    }
    let chunks = wanted.chunks(MAX_KEYS);
    let reads = chunks.map(|keys| read_chunk(client, batch, keys));
    for items in join_all(reads).await {
        for (key, item) in items? {
            if let Some(entry) = found.get_mut(&key) {
                *entry = Some(item);
            }
        }
    }
    let mut items = Vec::with_capacity(batch.keys.len());
    for key in &batch.keys {
        let item = found.get(key).cloned().flatten();
        let mut item = item.filter(|item| !table.is_expired(item, now));
        if let Some(item) = &mut item {
            table.project(item, batch.attributes.as_deref());
        }
        items.push(item);
    }
    Ok(Reply::Items(items))
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
    let output = client.call("BatchGetItem", &body, Effect::None).await;
    let output = output.map_err(|failure| client.errors(table, None).failed(failure))?;
    let rows: Rows = output.parse().map_err(|error| error.of(table))?;
    // A key that was not asked for belongs to the response to another call.
    let asked: HashSet<&Key> = keys.iter().copied().collect();
    let own = |item: &Item| asked.get(&table.key_of(item).ok()?).copied();
    for item in rows.responses.into_values().flat_map(|items| items.0) {
        let key = own(&item).ok_or_else(|| output.other_row(table))?.clone();
        found.push((key, body::unmark(table, item)));
    }
    let unprocessed = rows.unprocessed_keys.values();
    let left = unprocessed.flat_map(|table| &table.keys.0).map(own);
    left.collect::<Option<_>>()
        .ok_or_else(|| output.other_row(table))
}

/// Waits before unprocessed parts of a batch are sent again.
async fn pause<T: Transport>(client: &Client<'_, T>, table: &Table, round: u32) -> Result<()> {
    client.metrics.throttle();
    let deadline = client.deadline.get();
    let paused = client.transport.pause(retry::delay(round), deadline).await;
    paused.map_err(|error| {
        if matches!(error.cause, Cause::Stopped(Stop::Timeout(_))) {
            return throttled(client, table);
        }
        let outcome = client.progress.get().outcome();
        errors::transport_error(&client.shared.config, &error, outcome).of(table)
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
    .advice("slow down (rate_limit=), or raise the table's capacity")
    .of(table)
}

/// Carries out many writes.
pub async fn write<T: Transport>(
    client: &Client<'_, T>,
    batch: &BatchWrite,
    now: i64,
) -> Result<Reply> {
    let generation = Generation::current();
    let mut writer = BatchWriter {
        client,
        batch,
        now,
        outcomes: batch.writes.iter().map(|_| None).collect(),
        unavailable: RefCell::default(),
    };
    for wave in writer.waves() {
        writer.write_wave(&wave).await?;
    }
    let BatchWriter {
        outcomes,
        unavailable,
        ..
    } = writer;
    let outcomes = outcomes.into_iter().map(|outcome| match outcome {
        Some(outcome) => outcome,
        None => Err(not_sent(
            client,
            &batch.table,
            generation,
            unavailable.borrow().as_ref(),
        )),
    });
    Ok(Reply::Written(outcomes.collect()))
}

/// The error for a write that was not sent because an earlier one failed.
fn not_sent<T>(
    client: &Client<'_, T>,
    table: &Table,
    generation: Generation,
    unavailable: Option<&Error>,
) -> Error {
    if !generation.is_current() {
        // The parent goes on with the batch, and may send it.
        let address = &client.shared.config.address;
        let stopped = Stop::Forked.error(address, "sending a batch", Outcome::Unknown);
        return stopped.of(table);
    }
    let reason = unavailable.map_or("", |error| error.message.as_str());
    Error::new(
        ErrorKind::Unavailable(Outcome::NotApplied),
        format!(
            "{}: not sent, because the server is not available ({reason})",
            client.shared.config.address
        ),
    )
    .of(table)
}

struct BatchWriter<'a, T> {
    client: &'a Client<'a, T>,
    batch: &'a BatchWrite,
    now: i64,
    outcomes: Vec<Option<Result<()>>>,
    /// Why nothing more is sent.
    unavailable: RefCell<Option<Error>>,
}

impl<T: Transport> BatchWriter<'_, T> {
    /// The indexes of the writes in groups that have each key once, so that two writes of a key are carried out in order.
    /// Writes that are not valid get their outcome here.
    fn waves(&mut self) -> Vec<Vec<usize>> {
        let mut waves: Vec<Vec<usize>> = Vec::new();
        let mut seen: HashMap<&Key, usize> = HashMap::with_capacity(self.batch.writes.len());
        for (index, write) in self.batch.writes.iter().enumerate() {
            if let Err(error) = check(&self.batch.table, write) {
                self.outcomes[index] = Some(Err(error));
                continue;
            }
            let wave = seen
                .entry(write.key())
                .and_modify(|wave| *wave += 1)
                .or_insert(0);
            if waves.len() <= *wave {
                waves.push(Vec::new());
            }
            waves[*wave].push(index);
        }
        waves
    }

    /// Carries out one group, with several calls at once. An interrupt ends the whole batch.
    async fn write_wave(&mut self, indexes: &[usize]) -> Result<()> {
        let (plain, guarded): (Vec<usize>, Vec<usize>) = indexes
            .iter()
            .partition(|index| is_plain(&self.batch.writes[**index]));
        let calls: Vec<&[usize]> = plain.chunks(MAX_WRITES).chain(guarded.chunks(1)).collect();
        let calls = calls.into_iter().map(|indexes| self.write_chunk(indexes));
        for outcomes in join_all(calls).await {
            for (index, outcome) in outcomes? {
                self.outcomes[index] = Some(outcome);
            }
        }
        Ok(())
    }

    /// Carries out the writes of one call, unless the server was not available for an earlier one.
    async fn write_chunk(&self, indexes: &[usize]) -> Result<Outcomes> {
        if self.unavailable.borrow().is_some() {
            return Ok(Vec::new());
        }
        let outcomes = match indexes {
            [only] => vec![(*only, self.write_single(self.client.part(), *only).await)],
            indexes => self.write_many(indexes).await,
        };
        for (_, outcome) in &outcomes {
            let Err(error) = outcome else { continue };
            match error.kind {
                ErrorKind::Interrupted(_) => {
                    // The outcome of the whole batch: other writes may have been carried out.
                    let error = Cause::Stopped(Stop::Interrupted).sent();
                    return Err(self.transport_error(&error, Outcome::Unknown));
                }
                ErrorKind::Unavailable(_) | ErrorKind::Timeout(_) => {
                    let mut unavailable = self.unavailable.borrow_mut();
                    unavailable.get_or_insert_with(|| error.for_another());
                }
                _ => {}
            }
        }
        Ok(outcomes)
    }

    fn transport_error(&self, error: &TransportError, outcome: Outcome) -> Error {
        errors::transport_error(&self.client.shared.config, error, outcome)
    }

    /// Carries out one write as a single write.
    async fn write_single(&self, client: Client<'_, T>, index: usize) -> Result<()> {
        let result = match &self.batch.writes[index] {
            Write::Put(put) => write::put(&client, put, self.now).await,
            Write::Update(update) => write::update(&client, update, self.now).await,
            Write::Delete(delete) => write::delete(&client, delete, self.now).await,
        };
        result.map(drop)
    }

    /// Carries out writes in one call, with more calls for those that the server returns unprocessed. What is returned
    /// stays uncertain for the client: an attempt without a response may have written it.
    async fn write_many(&self, indexes: &[usize]) -> Outcomes {
        let client = self.client.part();
        let table = &*self.batch.table;
        let mut outcomes = Vec::with_capacity(indexes.len());
        let mut left = indexes.to_vec();
        let mut rounds = 0;
        while !left.is_empty() {
            if rounds > 0
                && let Err(error) = pause(&client, table, rounds).await
            {
                outcomes.extend(all_failed(left, error, table));
                break;
            }
            let before = left.len();
            match self.write_once(&client, &left).await {
                Ok(unprocessed) => {
                    let done = left.iter().filter(|index| !unprocessed.contains(index));
                    outcomes.extend(done.map(|index| (*index, Ok(()))));
                    left = unprocessed;
                }
                // One item that is not valid must not stop the others: each is sent as a single write.
                Err(error) if error.kind == ErrorKind::InvalidValue => {
                    outcomes.extend(self.write_one_by_one(&client, left).await);
                    break;
                }
                Err(error) => {
                    outcomes.extend(all_failed(left, error, table));
                    break;
                }
            }
            rounds = if left.len() < before { 1 } else { rounds + 1 };
        }
        outcomes
    }

    /// Carries out writes as single writes. After a failure of the server, the rest is not sent again.
    async fn write_one_by_one(&self, client: &Client<'_, T>, indexes: Vec<usize>) -> Outcomes {
        let mut outcomes = Vec::with_capacity(indexes.len());
        let mut indexes = indexes.into_iter();
        while let Some(index) = indexes.next() {
            let outcome = self.write_single(client.part(), index).await;
            let has_failed = outcome.as_ref().is_err_and(|error| {
                matches!(
                    error.kind,
                    ErrorKind::Unavailable(_) | ErrorKind::Timeout(_) | ErrorKind::Interrupted(_)
                )
            });
            outcomes.push((index, outcome));
            if has_failed {
                let outcome = client.progress.get().outcome();
                let address = &client.shared.config.address;
                let reason = "the server was not available for a write before it";
                let error = Error::new(
                    ErrorKind::Unavailable(outcome),
                    format!("{address}: not sent, because {reason}"),
                );
                outcomes.extend(all_failed(indexes.collect(), error, &self.batch.table));
                break;
            }
        }
        outcomes
    }

    /// Sends writes in one call, and returns the indexes of those that are unprocessed.
    async fn write_once(&self, client: &Client<'_, T>, indexes: &[usize]) -> Result<Vec<usize>> {
        let table = &*self.batch.table;
        let writes = indexes.iter().map(|index| &self.batch.writes[*index]);
        let body = body::batch_write(&client.shared.config, table, writes);
        let output = client
            .call("BatchWriteItem", &body, Effect::Idempotent)
            .await;
        let output = output.map_err(|failure| client.errors(table, None).failed(failure))?;
        self.unprocessed(&output, indexes)
    }

    /// The indexes of the writes that a response returns unprocessed.
    fn unprocessed(&self, output: &Output<'_, T>, indexes: &[usize]) -> Result<Vec<usize>> {
        let written: Written = output.parse()?;
        let table = &*self.batch.table;
        let index = |item: &Item| {
            let key = table.key_of(item).ok()?;
            let own = |index: &&usize| *self.batch.writes[**index].key() == key;
            indexes.iter().find(own).copied()
        };
        // A write that was not sent cannot be returned: then the response belongs to another call.
        let unprocessed = written.unprocessed_items.values().flatten();
        let left = unprocessed.map(|write| match write {
            UnprocessedWrite::PutRequest { item } => index(&item.0),
            UnprocessedWrite::DeleteRequest { key } => index(&key.0),
        });
        left.collect::<Option<_>>()
            .ok_or_else(|| output.unreadable())
    }
}

/// One failure of several writes.
fn all_failed(indexes: Vec<usize>, error: Error, table: &Table) -> Outcomes {
    let errors = error.of_all(indexes.len()).into_iter();
    let errors = errors.map(|own: Result<()>| own.map_err(|error| error.of(table)));
    indexes.into_iter().zip(errors).collect()
}

/// Checks that a write is valid.
fn check(table: &Table, write: &Write) -> Result<()> {
    match write {
        Write::Put(put) => {
            put.check(table, MAX_ITEM)?;
            table.check_indexed(&put.item)
        }
        Write::Update(update) => update.check(),
        Write::Delete(delete) => delete.check(),
    }
}

/// Whether a write does not depend on the stored row.
fn is_plain(write: &Write) -> bool {
    let is_open = |guard: &Guard| {
        let any_row = guard.row == Row::Any || (guard.row == Row::Absent && guard.collision_free);
        any_row && guard.version.is_none() && guard.condition.is_none()
    };
    match write {
        Write::Put(Put { guard, .. }) => is_open(guard),
        Write::Delete(Delete { guard, .. }) => guard.is_open(),
        Write::Update(_) => false,
    }
}
