//! Batches of independent writes.
//!
//! DynamoDB takes 25 writes in a call, returns what it had no capacity for, and supports no conditions there: a write with
//! a condition, or of a table with unique values, is sent as a single write.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use mintkey_runtime::{Generation, Stop};
use mintkey_store::size::MAX_ITEM;
use mintkey_store::{
    BatchWrite, Delete, Error, ErrorKind, Guard, Item, Outcome, Put, Reply, Result, Row, Table,
    Write,
};

use crate::client::{Client, Effect, Output};
use crate::operations::batch_get::pause;
use crate::operations::batch_order::{self, Dependence};
use crate::operations::unique;
use crate::transport::Transport;
use crate::transport::error::Cause;
use crate::transport::join_all::join_all;
use crate::wire::response::{UnprocessedWrite, Written};
use crate::wire::{body, errors};

/// The writes in one call.
const MAX_WRITES: usize = 25;

/// Results of writes, by their indexes in the batch.
type Outcomes = Vec<(usize, Result<()>)>;

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
        dependences: Vec::new(),
        deadline: Cell::new(client.deadline.get()),
        unavailable: RefCell::default(),
    };
    let valid = writer.valid();
    if !batch.table.unique.is_empty() && !valid.is_empty() {
        match batch_order::dependences(&client.part(), batch, now).await {
            Ok(dependences) => {
                writer.dependences = dependences;
                writer.restart_deadline();
            }
            Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)) => return Err(error),
            Err(error) => {
                for (index, outcome) in all_failed(valid, error, &batch.table) {
                    writer.outcomes[index] = Some(outcome);
                }
                return Ok(writer.into_reply(generation));
            }
        }
    }
    for wave in batch_order::waves(&batch.writes, valid, &writer.dependences) {
        writer.write_wave(&wave).await?;
    }
    Ok(writer.into_reply(generation))
}

struct BatchWriter<'a, T> {
    client: &'a Client<'a, T>,
    batch: &'a BatchWrite,
    now: i64,
    outcomes: Vec<Option<Result<()>>>,
    /// In a table with unique values, one for each write.
    dependences: Vec<Dependence>,
    /// When the calls that begin now must have ended. Each write that the server carries out or refuses restarts it.
    deadline: Cell<Instant>,
    /// Why nothing more is sent.
    unavailable: RefCell<Option<Error>>,
}

impl<T: Transport> BatchWriter<'_, T> {
    /// The indexes of the writes that are valid. The others get their outcome here.
    fn valid(&mut self) -> Vec<usize> {
        let mut valid = Vec::with_capacity(self.batch.writes.len());
        for (index, write) in self.batch.writes.iter().enumerate() {
            match check(&self.batch.table, write) {
                Ok(()) => valid.push(index),
                Err(error) => self.outcomes[index] = Some(Err(error)),
            }
        }
        valid
    }

    /// The outcomes of all writes.
    fn into_reply(self, generation: Generation) -> Reply {
        let address = &self.client.shared.config.address;
        let not_sent = if generation.is_current() {
            self.not_sent(Outcome::NotApplied)
        } else {
            // The parent continues the batch, and may send it.
            Stop::Forked.error(address, "sending a batch", Outcome::Unknown)
        };
        let not_sent = not_sent.of(&self.batch.table);
        let outcomes = self.outcomes.into_iter();
        let outcomes = outcomes.map(|own| own.unwrap_or_else(|| Err(not_sent.clone())));
        Reply::Written(outcomes.collect())
    }

    /// The error for a write that was not sent because an earlier one failed. `outcome` is that of an attempt to write it
    /// together with others.
    fn not_sent(&self, outcome: Outcome) -> Error {
        let address = &self.client.shared.config.address;
        let unavailable = self.unavailable.borrow();
        let (kind, reason) = match (&*unavailable, outcome) {
            (Some(error), Outcome::NotApplied) if error.kind == ErrorKind::Throttled => {
                (error.kind, &*error.message)
            }
            (error, outcome) => (
                ErrorKind::Unavailable(outcome),
                error.as_ref().map_or("", |error| &*error.message),
            ),
        };
        Error::new(
            kind,
            format!("{address}: not sent, because an earlier write of the batch failed ({reason})"),
        )
    }

    /// Carries out one group, with several calls at once. An interrupt ends the whole batch.
    async fn write_wave(&mut self, indexes: &[usize]) -> Result<()> {
        let (plain, guarded): (Vec<usize>, Vec<usize>) = indexes
            .iter()
            .partition(|index| self.is_plain(&self.batch.writes[**index]));
        let calls: Vec<&[usize]> = plain.chunks(MAX_WRITES).chain(guarded.chunks(1)).collect();
        let calls = calls.into_iter().map(|indexes| self.write_chunk(indexes));
        for (index, outcome) in join_all(calls).await?.into_iter().flatten() {
            self.outcomes[index] = Some(outcome);
        }
        Ok(())
    }

    /// Carries out the writes of one call, unless the server was not available for an earlier one.
    async fn write_chunk(&self, indexes: &[usize]) -> Result<Outcomes> {
        if self.unavailable.borrow().is_some() {
            return Ok(Vec::new());
        }
        let outcomes = match indexes {
            [only] => vec![(
                *only,
                self.write_single(self.part(self.client), *only).await,
            )],
            indexes => self.write_many(indexes).await,
        };
        for (_, outcome) in &outcomes {
            self.record(outcome)?;
        }
        Ok(outcomes)
    }

    /// Decides by the result of a write whether more are sent, and until when. An interrupt ends the whole batch.
    fn record(&self, outcome: &Result<()>) -> Result<()> {
        let Err(error) = outcome else {
            self.restart_deadline();
            return Ok(());
        };
        let fails_all = match error.kind {
            ErrorKind::Interrupted(_) => {
                // The outcome of the whole batch: other writes may have been carried out.
                let error = Cause::Stopped(Stop::Interrupted).sent();
                let config = &self.client.shared.config;
                return Err(errors::transport_error(config, &error, Outcome::Unknown));
            }
            ErrorKind::Unavailable(_) | ErrorKind::Timeout(_) => true,
            // Others may have more capacity, such as writes of another partition key.
            ErrorKind::Throttled => Instant::now() >= self.deadline.get(),
            _ => {
                self.restart_deadline();
                false
            }
        };
        if fails_all {
            let mut unavailable = self.unavailable.borrow_mut();
            unavailable.get_or_insert_with(|| error.for_another());
        }
        Ok(())
    }

    fn restart_deadline(&self) {
        let timeout = self.client.shared.config.timeout;
        self.deadline.set(Instant::now() + timeout);
    }

    /// A client for a call of the batch.
    fn part<'c>(&self, client: &Client<'c, T>) -> Client<'c, T> {
        let part = client.part();
        part.deadline.set(self.deadline.get());
        part
    }

    /// Carries out one write as a single write.
    async fn write_single(&self, client: Client<'_, T>, index: usize) -> Result<()> {
        let row = self.dependences.get(index).and_then(|own| own.row.clone());
        let result = match &self.batch.writes[index] {
            Write::Put(put) => unique::put(&client, put, row, self.now).await,
            Write::Update(update) => unique::update(&client, update, row, self.now).await,
            Write::Delete(delete) => unique::delete(&client, delete, row, self.now).await,
        };
        result.map(drop)
    }

    /// Whether a write depends neither on the stored row nor on unique values.
    fn is_plain(&self, write: &Write) -> bool {
        self.batch.table.unique.is_empty() && is_plain(write)
    }

    /// Carries out writes in one call, with more calls for those that the server returns unprocessed. What is returned
    /// stays uncertain for the client: an attempt without a response may have written it.
    async fn write_many(&self, indexes: &[usize]) -> Outcomes {
        let client = self.part(self.client);
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
            let outcome = self.write_single(self.part(client), index).await;
            let ends = self.record(&outcome).is_err() || self.unavailable.borrow().is_some();
            outcomes.push((index, outcome));
            if ends {
                let error = self.not_sent(client.progress.get().outcome());
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
