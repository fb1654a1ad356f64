//! Transactions: several rows in one call, all or none.
//!
//! A call that writes has a token. If there is no response, the same bytes are sent again with the same token, and the
//! server carries them out at most once. A call that the server has cancelled was not carried out: the next one, if any, has
//! another token.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use mintkey_runtime::{Stop, random_token};
use mintkey_store::size::{MAX_ITEM, check_item};
use mintkey_store::{
    Condition, Error, ErrorKind, Get, Guard, Item, Key, Outcome, Path, Reply, Result, Table,
    Transaction, TransactionGet, TransactionWrite, Update, update,
};

use crate::aws::retry;
use crate::client::{Client, Effect};
use crate::operations::read::{own_row, read_row};
use crate::operations::tables;
use crate::operations::write::{
    GuardedWrite, check_empty, check_values, replacement, update_guard,
};
use crate::transport::Transport;
use crate::transport::error::Cause;
use crate::wire::errors::{self, Class, Failure, Progress, Refusal};
use crate::wire::response::{CancellationReason, Snapshot};
use crate::wire::{body, transaction as wire};

/// How long a call is sent again with its token. The server keeps tokens for 10 minutes.
const TOKEN_LIFETIME: Duration = Duration::from_mins(9);
/// The retries after which the delay does not grow any more.
const MAX_DELAY_RETRIES: u32 = 5;

/// The kind of error of a call that was not sent because the time was over.
const NOT_SENT_IN_TIME: ErrorKind = ErrorKind::Timeout(Outcome::NotApplied);

/// A write or check of a transaction.
struct Participant<'a> {
    write: &'a TransactionWrite,
    /// The item that an upsert stores over an expired row.
    replacement: Option<Item>,
}

/// What becomes of a transaction after a response that does not end it.
enum Next {
    /// It is sent again at once, with other writes.
    Changed,
    /// It is sent again later. If there is no time for that, this is its error.
    Later(Error),
}

/// Writes several items: all or none.
pub async fn write<T: Transport>(
    client: &Client<'_, T>,
    transaction: &Transaction,
    now: i64,
) -> Result<Reply> {
    transaction.check(MAX_ITEM)?;
    for write in &transaction.writes {
        check_stored(write).map_err(|error| error.of(write.table()).at(write.key()))?;
    }
    let Some(first) = transaction.writes.first() else {
        return Ok(Reply::Items(Vec::new()));
    };
    let participant = |write| Participant {
        write,
        replacement: None,
    };
    let mut participants: Vec<Participant<'_>> =
        transaction.writes.iter().map(participant).collect();
    let deadline = client.deadline.get();
    let mut retries = 0;
    let mut call = None;
    let mut last_refusal = None;
    loop {
        let body = if let Some(body) = &call {
            body
        } else {
            let last = Instant::now() + TOKEN_LIFETIME;
            client.deadline.set(deadline.min(last));
            call.insert(write_body(client, &participants, now)?)
        };
        let sent = client.call("TransactWriteItems", body, Effect::Idempotent);
        let refusal = match sent.await {
            Ok(output) => {
                check_empty(&output, first.table(), first.key())?;
                let items = participants.into_iter().map(Participant::returned);
                return Ok(Reply::Items(items.collect()));
            }
            Err(Failure::Refused(refusal)) if refusal.class == Class::Cancelled => refusal,
            Err(failure) => {
                let error = failed(client, transaction, failure, now).await;
                // It says more than that there was no time to send another call.
                let refused = last_refusal.filter(|_| error.kind == NOT_SENT_IN_TIME);
                return Err(refused.unwrap_or(error));
            }
        };
        match after_refusal(client, &mut participants, &refusal, now)? {
            Next::Changed => retries = 0,
            Next::Later(error) => {
                last_refusal = Some(error.clone());
                pause(client, retries, error).await?;
                retries += 1;
                if client.progress.get() == Progress::Uncertain {
                    // An attempt without a response may have been carried out: only its token shows that.
                    continue;
                }
            }
        }
        call = None;
    }
}

impl Participant<'_> {
    /// The changed item of an update, if it is known.
    fn returned(self) -> Option<Item> {
        let is_returned =
            matches!(self.write, TransactionWrite::Update(Update { returning, .. }) if *returning);
        self.replacement.filter(|_| is_returned)
    }

    /// The guard, and whether the write needs a row whatever that says.
    fn guarded(&self) -> GuardedWrite<'_> {
        let (guard, needs_row) = match self.write {
            TransactionWrite::Put(put) => (&put.guard, false),
            TransactionWrite::Update(update) => (&update.guard, !update.upsert),
            TransactionWrite::Delete(delete) => (&delete.guard, false),
            TransactionWrite::Check(check) => (&check.guard, false),
        };
        GuardedWrite {
            table: self.write.table(),
            key: self.write.key(),
            guard,
            needs_row,
        }
    }
}

/// Checks what is stored, as for single writes.
fn check_stored(write: &TransactionWrite) -> Result<()> {
    match write {
        TransactionWrite::Put(put) => put.table.check_indexed(&put.item),
        TransactionWrite::Update(update) => check_values(&update.table, update).map(drop),
        TransactionWrite::Delete(_) | TransactionWrite::Check(_) => Ok(()),
    }
}

/// The body of a call that writes, with a new token.
fn write_body<T>(
    client: &Client<'_, T>,
    participants: &[Participant<'_>],
    now: i64,
) -> Result<String> {
    let config = &client.shared.config;
    let mut writes = Vec::with_capacity(participants.len());
    for participant in participants {
        writes.push(match (participant.write, &participant.replacement) {
            (TransactionWrite::Update(update), Some(item)) => {
                let condition = body::absent(&update.table, now);
                let body = body::put(config, &update.table, item, Some(&condition));
                ("Put", body)
            }
            (TransactionWrite::Update(update), None) => {
                let guard = update_guard(update);
                let condition = body::guard(&update.table, &guard, now, true)?;
                let body = body::transaction_update(config, update, condition.as_ref());
                ("Update", body)
            }
            (TransactionWrite::Put(put), _) => {
                let condition = body::guard(&put.table, &put.guard, now, false)?;
                let body = body::put(config, &put.table, &put.item, condition.as_ref());
                ("Put", body)
            }
            (TransactionWrite::Delete(delete), _) => {
                let condition = body::guard(&delete.table, &delete.guard, now, false)?;
                let body = body::delete(config, &delete.table, &delete.key, condition.as_ref());
                ("Delete", body)
            }
            (TransactionWrite::Check(check), _) => {
                let condition = check_condition(&check.table, &check.guard, now)?;
                let body = body::delete(config, &check.table, &check.key, Some(&condition));
                ("ConditionCheck", body)
            }
        });
    }
    Ok(wire::write_items(&writes, &random_token()?))
}

/// The condition of a check, which must have one.
fn check_condition(table: &Table, guard: &Guard, now: i64) -> Result<Condition> {
    let condition = body::guard(table, guard, now, false)?;
    Ok(match condition {
        Some(condition) if condition.constant() != Some(true) => condition,
        _ => {
            let key = Path::attribute(table.partition.name.clone());
            Condition::Or(vec![
                Condition::Exists(key.clone()),
                Condition::Missing(key),
            ])
        }
    })
}

/// What follows from a cancelled transaction. An error ends it.
fn after_refusal<T: Transport>(
    client: &Client<'_, T>,
    participants: &mut [Participant<'_>],
    refusal: &Refusal,
    now: i64,
) -> Result<Next> {
    let cancelled = Cancelled { client, refusal };
    cancelled.check_count(participants.len(), participants[0].write.table())?;
    if refusal.reasons.iter().any(CancellationReason::is_final) {
        // The server has evaluated the items: no attempt was carried out.
        client.progress.set(Progress::Nothing);
    }
    let mut reasons = Vec::with_capacity(participants.len());
    let mut is_changed = false;
    for (participant, reason) in participants.iter_mut().zip(&refusal.reasons) {
        reasons.push(if reason.code() == "ConditionalCheckFailed" {
            let refused = cancelled.refused_by(participant, reason, now)?;
            is_changed |= refused.is_none();
            refused
        } else {
            let (table, key) = (participant.write.table(), participant.write.key());
            cancelled.other_reason(table, key, reason)
        });
    }
    if reasons.iter().any(Option::is_some) {
        return Err(Error::cancelled(reasons));
    }
    if is_changed {
        return Ok(Next::Changed);
    }
    if refusal.uncertain {
        let table = participants[0].write.table();
        return Ok(Next::Later(client.errors(table, None).refused(refusal)));
    }
    let reasons = participants.iter().zip(&refusal.reasons);
    let reasons = reasons.map(|(participant, reason)| {
        cancelled.passing(participant.write.table(), participant.write.key(), reason)
    });
    let reasons: Vec<Option<Error>> = reasons.collect();
    let throttled = reasons
        .iter()
        .flatten()
        .find(|error| error.kind == ErrorKind::Throttled);
    Ok(Next::Later(match throttled {
        Some(error) => error.clone(),
        None => Error::cancelled(reasons),
    }))
}

/// A response with reasons.
struct Cancelled<'a, T> {
    client: &'a Client<'a, T>,
    refusal: &'a Refusal,
}

impl<T: Transport> Cancelled<'_, T> {
    /// Fails unless there is a reason for each item.
    fn check_count(&self, count: usize, table: &Table) -> Result<()> {
        if self.refusal.reasons.len() == count {
            return Ok(());
        }
        self.client.progress.set(Progress::Uncertain);
        let error = Error::new(
            ErrorKind::Unavailable(Outcome::Unknown),
            format!(
                "{}: the server cancelled the transaction without a reason for each item ({})",
                self.client.shared.config.address, self.refusal.message
            ),
        );
        Err(error.of(table))
    }

    /// Why the stored row refused a write; `None` if another write is to be sent instead: an upsert does not change an
    /// expired row, but replaces it.
    fn refused_by(
        &self,
        participant: &mut Participant<'_>,
        reason: &CancellationReason,
        now: i64,
    ) -> Result<Option<Error>> {
        let (table, key) = (participant.write.table(), participant.write.key());
        let stored = match &reason.item {
            Some(row) if !table.has_key(&row.0, key) => {
                self.client.transport.close_idle();
                self.client.progress.set(Progress::Uncertain);
                return Err(Error::other_row(table).at(key).uncertain());
            }
            Some(row) => Some(body::unmark(table, row.0.clone())),
            None => None,
        };
        let has_row = stored.is_some();
        let live = stored.filter(|item| !table.is_expired(item, now));
        if participant.replacement.take().is_some() {
            return Ok(None);
        }
        let guarded = participant.guarded();
        if let TransactionWrite::Update(update) = participant.write
            && has_row
            && live.is_none()
            && guarded.check(None).is_ok()
        {
            participant.replacement = Some(replacement(update)?);
            return Ok(None);
        }
        Ok(Some(guarded.refused(live)))
    }

    /// The error for a reason that is not about a condition; `None` if there is none, or it passes.
    fn other_reason(&self, table: &Table, key: &Key, reason: &CancellationReason) -> Option<Error> {
        let class = match reason.code() {
            _ if !reason.is_final() => return None,
            "ValidationError" => Class::Invalid,
            "ItemCollectionSizeLimitExceeded" => Class::CollectionFull,
            "AccessDenied" => Class::Denied,
            _ => Class::Other,
        };
        Some(self.error(class, table, key, reason))
    }

    /// The error for a reason that passes.
    fn passing(&self, table: &Table, key: &Key, reason: &CancellationReason) -> Option<Error> {
        match reason.code() {
            "TransactionConflict" => Some(Error::conflict(table, key)),
            _ if reason.is_passing() => {
                self.client.metrics.throttle();
                Some(self.error(Class::Throttled, table, key, reason))
            }
            _ => None,
        }
    }

    fn error(&self, class: Class, table: &Table, key: &Key, reason: &CancellationReason) -> Error {
        let refusal = Refusal {
            class,
            code: reason.code().to_owned(),
            message: reason.message.clone().unwrap_or_default(),
            item: None,
            reasons: Vec::new(),
            uncertain: false,
        };
        self.client.errors(table, Some(key)).refused(&refusal)
    }
}

/// Waits before a transaction is sent again. If there is no time for that, it fails with this error.
async fn pause<T: Transport>(client: &Client<'_, T>, retries: u32, error: Error) -> Result<()> {
    let delay = retry::delay(retries.min(MAX_DELAY_RETRIES));
    let paused = client.transport.pause(delay, client.deadline.get()).await;
    paused.map_err(|stop| {
        if matches!(stop.cause, Cause::Stopped(Stop::Timeout(_))) {
            return error;
        }
        let outcome = client.progress.get().outcome();
        errors::transport_error(&client.shared.config, &stop, outcome)
    })
}

/// The error for a call that failed, but was not cancelled.
async fn failed<T: Transport>(
    client: &Client<'_, T>,
    transaction: &Transaction,
    failure: Failure,
    now: i64,
) -> Error {
    if let Failure::Refused(refusal) = &failure
        && refusal.class == Class::Invalid
        && !refusal.uncertain
        && let Some(error) = invalid_updates(client, transaction, now).await
    {
        return error;
    }
    let tables = transaction.writes.iter().map(|write| &**write.table());
    explain(client, tables.collect(), failure).await
}

/// The error for updates that cannot be applied to their rows, if that is the case. DynamoDB Local does not name the items.
async fn invalid_updates<T: Transport>(
    client: &Client<'_, T>,
    transaction: &Transaction,
    now: i64,
) -> Option<Error> {
    let mut reasons = Vec::with_capacity(transaction.writes.len());
    for write in &transaction.writes {
        reasons.push(match write {
            TransactionWrite::Update(update) => apply(client, update, now).await.err(),
            _ => None,
        });
    }
    let refuses = |error: &Error| {
        matches!(
            error.kind,
            ErrorKind::InvalidValue | ErrorKind::ItemTooLarge
        )
    };
    let found = reasons.iter().flatten().any(refuses);
    found.then(|| Error::cancelled(reasons))
}

/// Applies an update to its row, without writing it.
async fn apply<T: Transport>(client: &Client<'_, T>, update: &Update, now: i64) -> Result<Item> {
    let (table, key) = (&update.table, &update.key);
    let get = Get {
        table: table.clone(),
        key: key.clone(),
        consistent: true,
        attributes: None,
    };
    let body = body::get(&client.shared.config, &get);
    let stored = read_row(client, table, key, &body).await?;
    let stored = stored.filter(|item| !table.is_expired(item, now));
    let mut item = stored.unwrap_or_else(|| table.item_of(key));
    update::apply(&update.actions, &mut item).map_err(|error| error.of(table).at(key))?;
    check_item(&item, table, MAX_ITEM).map_err(|error| error.at(key))?;
    Ok(item)
}

/// The error for a failed call on these tables.
async fn explain<T: Transport>(
    client: &Client<'_, T>,
    tables: Vec<&Table>,
    failure: Failure,
) -> Error {
    let Failure::Refused(refusal) = failure else {
        return client.errors(tables[0], None).failed(failure);
    };
    if refusal.uncertain {
        return client.errors(tables[0], None).refused(&refusal);
    }
    if refusal.code == "UnknownOperationException" {
        let address = &client.shared.config.address;
        return Error::new(
            ErrorKind::Unsupported,
            format!("{address}: this server has no transactions: write the items one by one"),
        )
        .of(tables[0]);
    }
    if refusal.class == Class::TableMissing {
        // The server does not name the table.
        let mut known = HashSet::new();
        for table in tables.iter().filter(|table| known.insert(&table.name)) {
            if let Ok(Reply::Exists(false)) = tables::exists(client, table).await {
                return client.errors(table, None).table_missing().of(table);
            }
        }
    }
    client.errors(tables[0], None).refused(&refusal)
}

/// The error for reads that were cancelled, if they are not repeated in time. Another error ends the request now.
fn read_error<T: Transport>(
    client: &Client<'_, T>,
    get: &TransactionGet,
    refusal: &Refusal,
) -> Result<Error> {
    let cancelled = Cancelled { client, refusal };
    let mut passing = None;
    for ((table, key), reason) in get.keys.iter().zip(&refusal.reasons) {
        if let Some(error) = cancelled.other_reason(table, key, reason) {
            return Err(error);
        }
        passing = passing.or_else(|| cancelled.passing(table, key, reason));
    }
    passing.ok_or_else(|| client.errors(&get.keys[0].0, None).refused(refusal))
}

/// Reads several items, as they were at one moment.
pub async fn get<T: Transport>(
    client: &Client<'_, T>,
    get: &TransactionGet,
    now: i64,
) -> Result<Reply> {
    get.check()?;
    let Some((first, _)) = get.keys.first() else {
        return Ok(Reply::Items(Vec::new()));
    };
    let config = &client.shared.config;
    let keys = get.keys.iter();
    let bodies = keys.map(|(table, key)| ("Get", body::key(config, table, key)));
    let body = wire::get_items(&bodies.collect::<Vec<_>>());
    let mut retries = 0;
    let output = loop {
        match client.call("TransactGetItems", &body, Effect::None).await {
            Ok(output) => break output,
            Err(Failure::Refused(refusal)) if refusal.class == Class::Cancelled => {
                pause(client, retries, read_error(client, get, &refusal)?).await?;
                retries += 1;
            }
            Err(failure) => {
                let tables = get.keys.iter().map(|(table, _)| &**table);
                return Err(explain(client, tables.collect(), failure).await);
            }
        }
    };
    let rows: Snapshot = output.parse().map_err(|error| error.of(first))?;
    if rows.responses.len() != get.keys.len() {
        return Err(output.unreadable().of(first));
    }
    let mut items = Vec::with_capacity(get.keys.len());
    for ((table, key), row) in get.keys.iter().zip(rows.responses) {
        let item = row.item.map(|item| own_row(&output, item, table, key));
        let item = item.transpose()?;
        items.push(item.filter(|item| !table.is_expired(item, now)));
    }
    Ok(Reply::Items(items))
}
