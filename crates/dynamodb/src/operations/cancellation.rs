//! What a cancelled transaction says of each of its items, and what follows.

use std::sync::Arc;

use mintkey_store::transaction::{CancelledItem, name_violations};
use mintkey_store::{Error, ErrorKind, Item, Key, Outcome, Result, Table};

use crate::client::Client;
use crate::operations::claims::{MarkerChange, MarkerPlan, ObservedMarkers};
use crate::operations::markers;
use crate::operations::participant::{Participant, Stored};
use crate::operations::read::stored;
use crate::transport::Transport;
use crate::wire::body;
use crate::wire::errors::{ErrorClass, ErrorResponse, Progress};
use crate::wire::response::CancellationReason;

/// What becomes of a transaction after a response that does not end it.
pub enum Next {
    /// It is sent again, with other writes. If that happens until there is no more time, this is its error.
    Changed(Error),
    /// It is sent again later. If there is no time for that, this is its error.
    Later(Error),
}

/// A response with reasons.
pub struct Cancelled<'a, T> {
    pub client: &'a Client<'a, T>,
    pub refusal: &'a ErrorResponse,
    pub now: i64,
}

/// What follows from a cancelled transaction. An error ends it.
pub async fn after_refusal<T: Transport>(
    client: &Client<'_, T>,
    participants: &mut [Participant<'_>],
    plan: &MarkerPlan,
    observed: &mut ObservedMarkers,
    refusal: &ErrorResponse,
    now: i64,
) -> Result<Next> {
    let cancelled = Cancelled {
        client,
        refusal,
        now,
    };
    let count = participants.len() + plan.changes.len() + plan.rows.len();
    cancelled.check_count(count, participants[0].write.table())?;
    if refusal.reasons.iter().any(CancellationReason::is_final) {
        // The server has evaluated the items: no attempt was carried out.
        client.progress.set(Progress::Nothing);
    }
    let (rows, others) = refusal.reasons.split_at(participants.len());
    let (changes, stale_holders) = others.split_at(plan.changes.len());
    let mut reasons = Vec::with_capacity(participants.len());
    let mut conflicts = vec![None; participants.len()];
    for (index, (participant, reason)) in participants.iter_mut().zip(rows).enumerate() {
        reasons.push(if is_refused(reason) {
            let refused = cancelled.refused_by(participant, reason)?;
            conflicts[index] = Some(conflict(participant));
            refused
        } else {
            let (table, key) = (participant.write.table(), participant.write.key());
            cancelled.other_reason(table, key, reason)
        });
    }
    for ((table, key), reason) in plan.rows.iter().zip(stale_holders) {
        if is_refused(reason) {
            observed.forget(table, key);
            conflicts[plan.claimant(table, key)] = Some(Error::conflict(table, key));
        } else if let Some(error) = cancelled.other_reason(table, key, reason) {
            return Err(error);
        }
    }
    for (change, reason) in plan.changes.iter().zip(changes) {
        let refused = if is_refused(reason) {
            conflicts[change.participant] = Some(conflict(&participants[change.participant]));
            cancelled
                .marker(participants, change, observed, reason)
                .await?
        } else {
            let participant = &participants[change.participant];
            cancelled.other_reason(participant.write.table(), participant.key(), reason)
        };
        let own = &mut reasons[change.participant];
        *own = own.take().or(refused);
    }
    if reasons.iter().any(Option::is_some) {
        return Err(Error::cancelled(reasons));
    }
    if conflicts.iter().any(Option::is_some) {
        return Ok(Next::Changed(Error::cancelled(conflicts)));
    }
    if refusal.uncertain {
        let table = participants[0].write.table();
        return Ok(Next::Later(client.errors(table, None).refused(refusal)));
    }
    Ok(Next::Later(cancelled.all_transient(participants, plan)))
}

/// The error of a participant whose row or markers keep changing.
fn conflict(participant: &Participant<'_>) -> Error {
    Error::conflict(participant.write.table(), participant.key())
}

fn is_refused(reason: &CancellationReason) -> bool {
    reason.code() == "ConditionalCheckFailed"
}

/// Reads the rows of participants that have a guard and were not read, when another reason refuses the transaction:
/// guards come before unique values.
pub async fn with_guards<T: Transport>(
    client: &Client<'_, T>,
    participants: &[Participant<'_>],
    error: Error,
    now: i64,
) -> Error {
    if error.kind != ErrorKind::TransactionCancelled
        || participants.iter().all(|own| own.table.unique.is_empty())
    {
        return error;
    }
    let mut reasons = error.reasons;
    for (participant, reason) in participants.iter().zip(&mut reasons) {
        let guarded = participant.guarded();
        let is_known = reason
            .as_ref()
            .is_some_and(|reason| reason.kind != ErrorKind::UniqueViolation);
        if participant.has_read() || guarded.guard.is_open() || is_known {
            continue;
        }
        match stored(client, &participant.table, participant.key()).await {
            Ok(row) => {
                let live = participant.table.live(row, now);
                if let Err(error) = guarded.check(live.as_ref()) {
                    *reason = Some(error);
                }
            }
            Err(error) => return error,
        }
    }
    Error::cancelled(reasons)
}

/// Adds the violations of participants that rows did not refuse, when a transaction is cancelled before it is sent.
pub async fn with_violations<T: Transport>(
    client: &Client<'_, T>,
    participants: &[Participant<'_>],
    mut cancelled: Error,
    now: i64,
) -> Error {
    if cancelled.kind != ErrorKind::TransactionCancelled {
        return cancelled;
    }
    let mut reasons = std::mem::take(&mut cancelled.reasons);
    for (participant, reason) in participants.iter().zip(&mut reasons) {
        let is_refused = |own: &Error| own.kind != ErrorKind::UniqueViolation;
        if reason.as_ref().is_some_and(is_refused) {
            continue;
        }
        match violation_of(client, participants, participant, now).await {
            Ok(found) => *reason = found.or(reason.take()),
            Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)) => return error,
            // What is known is enough.
            Err(_) => break,
        }
    }
    Error::cancelled(reasons)
}

/// The violation of a participant, if a row outside of the transaction has one of the values that it claims.
async fn violation_of<T: Transport>(
    client: &Client<'_, T>,
    all: &[Participant<'_>],
    participant: &Participant<'_>,
    now: i64,
) -> Result<Option<Error>> {
    let table = &participant.table;
    for value in participant.changes(now)?.claimed {
        let marker_table = Arc::new(markers::table(table));
        let marker = stored(client, &marker_table, &markers::key_of(&value.marker)).await?;
        let Some(marker) = marker else {
            continue;
        };
        let holder = markers::holder(table, &marker)?;
        // What rows of the transaction have is known when all items are.
        let is_written =
            |own: &Participant<'_>| own.table.name == table.name && *own.key() == holder;
        if all.iter().any(is_written) {
            continue;
        }
        let row = table.live(stored(client, table, &holder).await?, now);
        if row.is_some_and(|row| value.is_of(table, &row)) {
            return Ok(Some(value.violation(table, participant.key(), holder)));
        }
    }
    Ok(None)
}

/// Names the violations between the items of a transaction that rows have refused.
pub async fn with_violations_within<T: Transport>(
    client: &Client<'_, T>,
    participants: &[Participant<'_>],
    cancelled: Error,
    now: i64,
) -> Error {
    if !cancelled.is_cancelled_by_rows()
        || participants.iter().all(|own| own.table.unique.is_empty())
    {
        return cancelled;
    }
    let mut items = Vec::with_capacity(participants.len());
    for participant in participants {
        let table = &*participant.table;
        let row = if participant.has_read() || table.unique.is_empty() {
            participant.live(now).cloned()
        } else {
            match stored(client, &participant.table, participant.key()).await {
                Ok(row) => table.live(row, now),
                Err(error) if matches!(error.kind, ErrorKind::Interrupted(_)) => return error,
                // What is known is enough.
                Err(_) => return cancelled,
            }
        };
        items.push(CancelledItem {
            write: participant.write,
            table,
            row,
        });
    }
    let mut reasons = cancelled.reasons;
    name_violations(&items, &mut reasons);
    Error::cancelled(reasons)
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

    /// The stored item of a reason, which must have this key.
    fn item(&self, table: &Table, key: &Key, reason: &CancellationReason) -> Result<Option<Item>> {
        match &reason.item {
            Some(row) if !table.has_key(&row.0, key) => {
                self.client.transport.close_idle();
                self.client.progress.set(Progress::Uncertain);
                Err(Error::other_row(table).at(key).uncertain())
            }
            Some(row) => Ok(Some(body::strip_whole_table_key(table, row.0.clone()))),
            None => Ok(None),
        }
    }

    /// Why the stored row refused a write; `None` if another write is to be sent instead: the row has changed since it was
    /// read, or has nulls that an update counts as absent.
    fn refused_by(
        &self,
        participant: &mut Participant<'_>,
        reason: &CancellationReason,
    ) -> Result<Option<Error>> {
        let (table, key) = (participant.write.table(), participant.write.key());
        let stored = self.item(table, key, reason)?;
        if participant.has_read() {
            let stored = Stored(stored);
            if participant.was_read_as(&stored) {
                // The server evaluates its condition differently.
                let live = participant.live(self.now).cloned();
                return Ok(Some(participant.guarded().refused(live)));
            }
            participant.set_read(stored);
            return Ok(participant.prepare(self.now).err());
        }
        let live = table.live(stored, self.now);
        let guarded = participant.guarded();
        if live.is_some()
            && guarded.check(live.as_ref()).is_ok()
            && participant.fill_nulls(live.as_ref())
        {
            return Ok(None);
        }
        Ok(Some(guarded.refused(live)))
    }

    /// Why the stored marker refused a change; `None` if another call is to be sent instead.
    async fn marker(
        &self,
        participants: &mut [Participant<'_>],
        change: &MarkerChange,
        observed: &mut ObservedMarkers,
        reason: &CancellationReason,
    ) -> Result<Option<Error>> {
        let table = &change.table;
        let marker_table = markers::table(table);
        let marker = self.item(
            &marker_table,
            &markers::key_of(&change.value.marker),
            reason,
        )?;
        if !change.claims {
            observed.add_foreign(change);
            return Ok(None);
        }
        let Some(marker) = marker else {
            // It was deleted since.
            return Ok(None);
        };
        let holder = markers::holder(table, &marker)?;
        let claimant = participants[change.participant].key();
        let violation = || change.value.violation(table, claimant, holder.clone());
        let participant = participants
            .iter_mut()
            .find(|own| own.table.name == table.name && *own.key() == holder);
        let Some(participant) = participant else {
            let row = stored(self.client, table, &holder).await?;
            let live = row.as_ref().filter(|row| !table.is_expired(row, self.now));
            if live.is_some_and(|row| change.value.is_of(table, row)) {
                return Ok(Some(violation()));
            }
            observed.add_stale_holder(change, holder, row);
            return Ok(None);
        };
        if participant.depends_on_row() && !participant.has_read() {
            let row = stored(self.client, table, &holder).await?;
            participant.set_read(Stored(row));
            // If its guard refuses the row, the next call shows it.
            if participant.prepare(self.now).is_err() {
                return Ok(None);
            }
        }
        if participant.changes(self.now)?.kept.contains(&change.value) {
            return Ok(Some(violation()));
        }
        observed.add_releasing(change, holder);
        Ok(None)
    }

    /// The error for a reason that is not about a condition; `None` if there is none, or it passes.
    pub fn other_reason(
        &self,
        table: &Table,
        key: &Key,
        reason: &CancellationReason,
    ) -> Option<Error> {
        let class = match reason.code() {
            _ if !reason.is_final() => return None,
            _ if reason.is_invalid() => ErrorClass::Invalid,
            "ItemCollectionSizeLimitExceeded" => ErrorClass::CollectionFull,
            "AccessDenied" => ErrorClass::Denied,
            _ => ErrorClass::Other,
        };
        Some(self.error(class, table, key, reason))
    }

    /// The error for reasons that all pass.
    fn all_transient(&self, participants: &[Participant<'_>], plan: &MarkerPlan) -> Error {
        let own = participants.iter().enumerate().map(|(index, _)| index);
        let changes = plan.changes.iter().map(|change| change.participant);
        let rows = plan.rows.iter();
        let rows = rows.map(|(table, key)| plan.claimant(table, key));
        let indexes = own.chain(changes).chain(rows);
        let mut reasons = vec![None; participants.len()];
        for (index, reason) in indexes.zip(&self.refusal.reasons) {
            let participant = &participants[index];
            let error = self.transient(participant.write.table(), participant.key(), reason);
            reasons[index] = reasons[index].take().or(error);
        }
        let mut throttled = reasons.iter().flatten();
        match throttled.find(|error| error.kind == ErrorKind::Throttled) {
            Some(error) => error.clone(),
            None => Error::cancelled(reasons),
        }
    }

    /// The error for a reason that passes.
    pub fn transient(
        &self,
        table: &Table,
        key: &Key,
        reason: &CancellationReason,
    ) -> Option<Error> {
        match reason.code() {
            "TransactionConflict" => Some(Error::conflict(table, key)),
            _ if reason.is_transient() => {
                self.client.metrics.throttle();
                Some(self.error(ErrorClass::Throttled, table, key, reason))
            }
            _ => None,
        }
    }

    fn error(
        &self,
        class: ErrorClass,
        table: &Table,
        key: &Key,
        reason: &CancellationReason,
    ) -> Error {
        let refusal = ErrorResponse {
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
