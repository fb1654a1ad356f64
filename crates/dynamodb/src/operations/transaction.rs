//! Transactions: several rows in one call, all or none.
//!
//! A call that writes has a token. If there is no response, the same bytes are sent again with the same token, and the
//! server carries them out at most once. A call that the server has cancelled was not carried out: the next one, if any, has
//! another token.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mintkey_runtime::{Stop, random_token};
use mintkey_store::{
    BatchGet, Error, ErrorKind, Item, Key, Outcome, Reply, Result, Table, TransactionGet,
    TransactionWrite, Update, update,
};

use crate::aws::retry;
use crate::client::{Client, Effect};
use crate::operations::batch_get::read_all;
use crate::operations::cancellation::{
    Cancelled, Next, after_refusal, with_guards, with_violations, with_violations_within,
};
use crate::operations::claims::{MarkerPlan, ObservedMarkers};
use crate::operations::participant::{Participant, Stored};
use crate::operations::read::{own_row, stored};
use crate::operations::write::{applied, check_empty};
use crate::operations::{catalog, tables};
use crate::transport::Transport;
use crate::transport::error::Cause;
use crate::wire::errors::{ErrorClass, ErrorResponse, Failure, Progress};
use crate::wire::response::{CancellationReason, Snapshot};
use crate::wire::{body, transaction as wire};

/// How long a call is sent again with its token. The server keeps tokens for 10 minutes.
const TOKEN_LIFETIME: Duration = Duration::from_mins(9);
/// The retries after which the delay does not grow any more.
const MAX_DELAY_RETRIES: u32 = 5;

/// The kind of error of a call that was not sent because the time was over.
const NOT_SENT_IN_TIME: ErrorKind = ErrorKind::Timeout(Outcome::NotApplied);

/// The calls after changes of rows that are sent without a delay between them.
const PROMPT_CALLS: u32 = 3;

/// A call, and the plan that it follows.
struct Call {
    body: String,
    plan: MarkerPlan,
}

/// Carries out the writes of participants: all or none.
pub async fn commit<T: Transport>(
    client: &Client<'_, T>,
    participants: &mut [Participant<'_>],
    now: i64,
) -> Result<()> {
    for participant in &*participants {
        participant.check()?;
    }
    let Some(first) = participants.first().map(|first| first.write) else {
        return Ok(());
    };
    let deadline = client.deadline.get();
    let mut retries = 0;
    let mut changes = 0;
    let mut nulls_left = PROMPT_CALLS;
    let mut observed = ObservedMarkers::default();
    let mut call = None;
    let mut last_refusal: Option<Error> = None;
    loop {
        let sent = if let Some(call) = &call {
            call
        } else {
            let next = next_call(client, participants, &observed, now).await;
            let next = next.map_err(|error| in_time(error, &mut last_refusal))?;
            let last = Instant::now() + TOKEN_LIFETIME;
            client.deadline.set(deadline.min(last));
            call.insert(next)
        };
        let answer = client.call("TransactWriteItems", &sent.body, Effect::Idempotent);
        let failure = match answer.await {
            Ok(output) => return check_empty(&output, first.table(), first.key()),
            Err(failure) => failure,
        };
        if nulls_left > 0
            && is_definitely_invalid(&failure)
            && fill_nulls(client, participants, now).await?
        {
            nulls_left -= 1;
            client.progress.set(Progress::Nothing);
            call = None;
            continue;
        }
        let refusal = match failure {
            Failure::Refused(refusal) if refusal.class == ErrorClass::Cancelled => refusal,
            failure => {
                let error = failed(client, participants, failure, now).await;
                return Err(in_time(error, &mut last_refusal));
            }
        };
        let plan = &sent.plan;
        let next = after_refusal(client, participants, plan, &mut observed, &refusal, now).await;
        if next.is_ok() {
            note_retry(client, "TransactWriteItems", &refusal);
        }
        match next {
            Err(error) => {
                let error = with_guards(client, participants, error, now).await;
                return Err(with_violations_within(client, participants, error, now).await);
            }
            Ok(Next::Changed(error)) => {
                retries = 0;
                changes += 1;
                if let Some(more) = u32::checked_sub(changes, PROMPT_CALLS) {
                    last_refusal = Some(error.clone());
                    pause(client, more, error).await?;
                }
            }
            Ok(Next::Later(error)) => {
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

/// The error of the only item of a transaction.
pub fn single_reason(mut error: Error) -> Error {
    let reason = error.reasons.iter_mut().find_map(Option::take);
    reason.unwrap_or(error)
}

/// The last refusal, if there was no time to send another call: it says more.
fn in_time(error: Error, last_refusal: &mut Option<Error>) -> Error {
    let refused = last_refusal.take();
    let refused = refused.filter(|_| error.kind == NOT_SENT_IN_TIME);
    refused.unwrap_or(error)
}

/// The next call, with a new token. An error ends the transaction.
async fn next_call<T: Transport>(
    client: &Client<'_, T>,
    participants: &mut [Participant<'_>],
    observed: &ObservedMarkers,
    now: i64,
) -> Result<Call> {
    read_awaited(client, participants).await?;
    let refused = participants.iter_mut().map(|own| own.prepare(now).err());
    let refused: Vec<Option<Error>> = refused.collect();
    let plan = if refused.iter().any(Option::is_some) {
        Err(Error::cancelled(refused))
    } else {
        MarkerPlan::new(participants, observed, now)
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            let error = with_guards(client, participants, error, now).await;
            let error = with_violations(client, participants, error, now).await;
            return Err(with_violations_within(client, participants, error, now).await);
        }
    };
    let config = &client.shared.config;
    let mut parts = Vec::with_capacity(participants.len() + plan.changes.len());
    for participant in &*participants {
        parts.push(participant.part(config, now)?);
    }
    parts.extend(plan.parts(config, participants, observed, now));
    Ok(Call {
        body: wire::write_items(&parts, &random_token()?),
        plan,
    })
}

/// Reads the rows that participants need to know, consistently.
async fn read_awaited<T: Transport>(
    client: &Client<'_, T>,
    participants: &mut [Participant<'_>],
) -> Result<()> {
    let mut tables: HashMap<String, (Arc<Table>, Vec<Key>)> = HashMap::new();
    for participant in participants.iter().filter(|own| own.awaits_row()) {
        let (_, keys) = tables
            .entry(participant.table.name.clone())
            .or_insert_with(|| (Arc::clone(&participant.table), Vec::new()));
        keys.push(participant.key().clone());
    }
    for (name, (table, keys)) in tables {
        let mut rows = if let [key] = &keys[..] {
            let row = stored(client, &table, key).await?;
            row.map(|row| (key.clone(), row)).into_iter().collect()
        } else {
            let batch = BatchGet {
                table,
                keys,
                consistent: true,
                attributes: None,
            };
            read_all(client, &batch).await?
        };
        for participant in &mut *participants {
            if participant.table.name == name && participant.awaits_row() {
                participant.set_read(Stored(rows.remove(participant.key())));
            }
        }
    }
    Ok(())
}

/// Reports why a transaction is sent again, for the log of the program.
fn note_retry<T: Transport>(client: &Client<'_, T>, operation: &str, refusal: &ErrorResponse) {
    let codes = refusal.reasons.iter().map(CancellationReason::code);
    let codes: BTreeSet<&str> = codes.filter(|code| *code != "None").collect();
    let codes = codes.into_iter().collect::<Vec<_>>().join(", ");
    client.note(&format!("{operation} failed: {codes}"));
}

/// Waits before a transaction is sent again. If there is no time for that, it fails with this error.
async fn pause<T: Transport>(client: &Client<'_, T>, retries: u32, error: Error) -> Result<()> {
    client.metrics.add_retries(1);
    let delay = retry::delay(retries.min(MAX_DELAY_RETRIES));
    let paused = client.pause(delay).await;
    paused.map_err(|stop| match stop.cause {
        Cause::Stopped(Stop::Timeout(_)) => error,
        _ => client.transport_error(&stop),
    })
}

/// Whether the server has refused a value, and has carried nothing out.
fn is_definitely_invalid(failure: &Failure) -> bool {
    let Failure::Refused(refusal) = failure else {
        return false;
    };
    let names_item = || refusal.reasons.iter().any(CancellationReason::is_invalid);
    match refusal.class {
        ErrorClass::Invalid => !refusal.uncertain,
        ErrorClass::Cancelled => names_item(),
        _ => false,
    }
}

/// Reads the rows of updates that the server refuses if it finds a null. Returns whether other updates are to be sent.
async fn fill_nulls<T: Transport>(
    client: &Client<'_, T>,
    participants: &mut [Participant<'_>],
    now: i64,
) -> Result<bool> {
    let mut changed = false;
    for participant in participants.iter_mut().filter(|own| !own.has_read()) {
        if let TransactionWrite::Update(update) = participant.write
            && update::needs_types(&update.actions)
        {
            let row = stored(client, &update.table, &update.key).await?;
            changed |= participant.fill_nulls(update.table.live(row, now).as_ref());
        }
    }
    Ok(changed)
}

/// The error for a call that failed, but was not cancelled.
async fn failed<T: Transport>(
    client: &Client<'_, T>,
    participants: &[Participant<'_>],
    failure: Failure,
    now: i64,
) -> Error {
    if is_definitely_invalid(&failure)
        && let Some(error) = invalid_updates(client, participants, now).await
    {
        return error;
    }
    let tables = participants.iter().map(|own| &**own.write.table());
    explain(client, tables.collect(), failure).await
}

/// The error for updates that cannot be applied to their rows, if that is the case. DynamoDB Local does not name the items.
async fn invalid_updates<T: Transport>(
    client: &Client<'_, T>,
    participants: &[Participant<'_>],
    now: i64,
) -> Option<Error> {
    let mut reasons = Vec::with_capacity(participants.len());
    for participant in participants {
        reasons.push(match participant.write {
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
    let row = stored(client, table, key).await?;
    applied(update, table.live(row, now))
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
    if refusal.class == ErrorClass::TableMissing {
        for table in &tables {
            catalog::forget(client, table);
        }
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
    refusal: &ErrorResponse,
    now: i64,
) -> Result<Error> {
    let cancelled = Cancelled {
        client,
        refusal,
        now,
    };
    let mut passing = None;
    for ((table, key), reason) in get.keys.iter().zip(&refusal.reasons) {
        if let Some(error) = cancelled.other_reason(table, key, reason) {
            return Err(error);
        }
        passing = passing.or_else(|| cancelled.transient(table, key, reason));
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
            Err(Failure::Refused(refusal)) if refusal.class == ErrorClass::Cancelled => {
                let error = read_error(client, get, &refusal, now)?;
                note_retry(client, "TransactGetItems", &refusal);
                pause(client, retries, error).await?;
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
        items.push(table.live(item.transpose()?, now));
    }
    Ok(Reply::Items(items))
}
