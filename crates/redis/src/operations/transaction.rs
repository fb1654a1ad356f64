//! Transactions. The rows are read and evaluated here, as for single writes. One script then writes all of them, if none has
//! changed.
//!
//! Each call of the script has a marker of its own, which the script writes together with the rows. When it is not known
//! whether a call was carried out, the marker shows it. If the marker is not there, it is written now, which cancels the
//! call: then nothing was written, whatever is still on its way to the server.

use std::sync::Arc;
use std::time::Duration;

use mintkey_runtime::random_token;
use mintkey_store::{
    Delete, Error, ErrorKind, Item, Key, Outcome, Put, Remedy, Reply, Result, Row, Table,
    Transaction, TransactionGet, TransactionWrite, Update, json,
};

use crate::keyspace::layout::{Layout, MarkerLocation};
use crate::keyspace::rows::{decode_item, decode_row};
use crate::keyspace::transactions::{
    Expected, RowChange, TransactionMarker, TransactionResult, settle_call, settled, snapshot_call,
    transact_call, transaction_result,
};
use crate::keyspace::unique::TakenValue;
use crate::operations::claims::{Intent, Items};
use crate::operations::context::OperationContext;
use crate::operations::evaluation::{Before, Evaluated, Tables, cancelled_for, is_new, is_reason};
use crate::operations::uncertainty::Uncertainty;
use crate::operations::unique::not_applied;
use crate::operations::write::is_uncertain;
use crate::protocol::replies::{checked, is_out_of_sync, unexpected_reply};
use crate::protocol::resp::{Call, Value};

/// The seconds that a marker lives after the time limit of the request.
const MARKER_SECONDS: u64 = 60;

/// The retries of a transaction that follow at once.
const PROMPT_RETRIES: u32 = 2;
/// The longest delay before the next one; it doubles up to the longest of all.
const FIRST_DELAY: Duration = Duration::from_millis(2);
const LONGEST_DELAY: Duration = Duration::from_millis(64);

/// What became of one attempt.
enum Attempt {
    /// All rows were written. These are the items that the writes return.
    Done(Vec<Option<Item>>),
    /// Nothing was written: another writer has changed the row of the item at this position.
    Conflict(usize),
    /// Nothing was written, for another reason that passes.
    Again,
    /// Nothing was written: items are refused, and rows that were not read may refuse others.
    Unread,
}

impl OperationContext<'_> {
    /// Writes several items: all or none.
    pub async fn transaction(&self, transaction: &Transaction) -> Result<Reply> {
        transaction.check(self.store.config.max_item)?;
        self.write_all(&transaction.writes).await.map(Reply::Items)
    }

    /// Writes an item whose unique values have their markers in other slot groups. Returns the item that the write returns.
    pub async fn write_distributed(&self, write: TransactionWrite) -> Result<Option<Item>> {
        match &write {
            TransactionWrite::Update(update) => update.check()?,
            TransactionWrite::Delete(delete) => delete.check()?,
            TransactionWrite::Put(_) | TransactionWrite::Check(_) => {}
        }
        let result = self.write_all(std::slice::from_ref(&write)).await;
        result
            .map(|mut items| items.pop().flatten())
            .map_err(|mut error| match error.reasons.pop() {
                Some(Some(reason)) => reason,
                _ => error,
            })
    }

    /// Writes several items: all or none. Returns the changed items of updates.
    pub async fn write_all(&self, writes: &[TransactionWrite]) -> Result<Vec<Option<Item>>> {
        let items = writes.iter().map(|write| (write.table(), write.key()));
        let Some(tables) = self.tables(items.collect())? else {
            return Ok(Vec::new());
        };
        let mut conflict = None;
        let mut reads_new = false;
        let mut retries = 0;
        loop {
            match self.attempt(&tables, writes, reads_new).await {
                Ok(Attempt::Done(items)) => return Ok(items),
                Ok(Attempt::Conflict(index)) => {
                    conflict = Some(index);
                    reads_new = true;
                }
                Ok(Attempt::Again) => {}
                Ok(Attempt::Unread) => reads_new = true,
                Err(error) => return Err(after_conflict(error, writes, conflict)),
            }
            retries += 1;
            let paused = self.pause(tables.slot_group, retries).await;
            paused.map_err(|error| after_conflict(not_applied(error), writes, conflict))?;
        }
    }

    /// Waits before a transaction is evaluated again, longer after each failed attempt. After the first attempts it does
    /// not wait, because the other writer is usually done.
    async fn pause(&self, slot_group: u8, retries: u32) -> Result<()> {
        let Some(more) = retries.checked_sub(PROMPT_RETRIES).filter(|more| *more > 0) else {
            let checked = self.channel.deadline().check();
            let address = &self.store.config.address;
            let doing = "repeating a transaction";
            return checked.map_err(|stop| stop.error(address, doing, Outcome::NotApplied));
        };
        let longest = (FIRST_DELAY * 2_u32.saturating_pow(more - 1)).min(LONGEST_DELAY);
        // Writers that were in conflict must not try again at the same moment.
        let token = random_token()?;
        let random = token.get(..4).map(|digits| u32::from_str_radix(digits, 16));
        let random = random.and_then(std::result::Result::ok).unwrap_or_default();
        let delay = longest * random / 0x1_0000;
        // No row has this key: the call only waits.
        let key = self
            .store
            .config
            .keyspace
            .transaction_marker_key(slot_group, &token);
        let call = Call::on(slot_group, "EXISTS").arg(key).delayed(delay);
        self.channel.send_one(call).await.map(drop)
    }

    /// Reads, evaluates and writes once. Items that must be new are not read at first, if no other item is read. With
    /// `reads_new` they are.
    async fn attempt(
        &self,
        tables: &Tables<'_>,
        writes: &[TransactionWrite],
        reads_new: bool,
    ) -> Result<Attempt> {
        let layouts = self.layouts_of_tables(tables).await?;
        let marker = self.marker(tables.slot_group)?;
        let mut intent = Intent::new(&self.store.config.keyspace, &marker);
        let positioned = || writes.iter().zip(&tables.positions);
        let markers = |position: &usize| layouts[*position].markers;
        let reads_new = reads_new
            || positioned().any(|(write, position)| needs_row(write, markers(position), false));
        let wanted = |write: &TransactionWrite, position: usize| {
            needs_row(write, layouts[position].markers, reads_new)
        };
        // A new row usually claims something. Its intent shares the round trip of the reads.
        let begins = positioned().any(|(write, position)| {
            markers(position) == MarkerLocation::Distributed && is_new(write)
        });
        let first = begins.then(|| intent.call());
        let rows = match self.rows(&layouts, tables, writes, wanted, first).await {
            Ok(Some(rows)) => rows,
            Ok(None) => return Ok(Attempt::Again),
            // Another attempt has another intent.
            Err(error) if begins && is_uncertain(&error) => return Ok(Attempt::Again),
            Err(error) => return Err(not_applied(error)),
        };
        let evaluated = self
            .evaluate_writes(&layouts, tables, writes, &rows)
            .await?;
        let Some(evaluated) = evaluated else {
            return Ok(Attempt::Unread);
        };
        let items = Items {
            tables,
            writes,
            evaluated: &evaluated,
        };
        let Some(claims) = self
            .claim_distributed(&layouts, &items, &mut intent)
            .await?
        else {
            return Ok(Attempt::Again);
        };
        let changes = writes.iter().zip(&rows).zip(&evaluated);
        let changes: Vec<RowChange<'_>> = changes
            .zip(&tables.positions)
            .map(|(((write, before), own), table)| {
                row_change(write, before, own, *table, layouts[*table].markers, &marker)
            })
            .collect();
        let call = transact_call(&marker, &layouts, &changes, intent.into_key(), self.now);
        let result = self.commit(call, &marker, writes[0].table()).await?;
        self.clear_distributed(&items, &claims, matches!(result, TransactionResult::Done))
            .await;
        Ok(match result {
            TransactionResult::Done => {
                Attempt::Done(evaluated.into_iter().map(|own| own.returned).collect())
            }
            TransactionResult::RowChanged(index) => Attempt::Conflict(index),
            TransactionResult::Cancelled => Attempt::Again,
            TransactionResult::ValuesTaken(taken) => {
                self.free_values(&layouts, &items, taken).await?;
                Attempt::Again
            }
        })
    }

    /// Frees values that have the markers of other rows, so that the transaction can be repeated.
    async fn free_values(
        &self,
        layouts: &[Arc<Layout>],
        items: &Items<'_>,
        taken: Vec<(usize, TakenValue)>,
    ) -> Result<()> {
        let mut reasons = vec![None; items.writes.len()];
        for (index, value) in taken {
            let Some((key, item)) = items.put(index) else {
                return Err(unexpected_reply(items.writes[0].table()).uncertain());
            };
            let layout = &layouts[items.tables.positions[index]];
            match self.free_value(layout, key, item, value).await {
                Ok(()) => {}
                Err(error) if is_reason(&error) => {
                    reasons[index].get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        cancelled_for(reasons)
    }

    /// Reads several items, as they were at one moment.
    pub async fn transaction_get(&self, get: &TransactionGet) -> Result<Reply> {
        get.check()?;
        let items: Vec<(&Arc<Table>, &Key)> =
            get.keys.iter().map(|(table, key)| (table, key)).collect();
        let Some(tables) = self.tables(items)? else {
            return Ok(Reply::Items(Vec::new()));
        };
        let positions = tables.positions.iter().copied();
        let rows: Vec<(usize, &Key)> = positions.zip(get.keys.iter().map(|(_, key)| key)).collect();
        let (table, _) = &get.keys[0];
        let (layouts, values) = loop {
            let mut layouts = Vec::with_capacity(tables.distinct.len());
            for (table, _) in &tables.distinct {
                layouts.extend(self.layouts_to_read(table, &[tables.slot_group]).await?);
            }
            let call = snapshot_call(tables.slot_group, &layouts, &rows);
            match self.channel.send_one(call).await? {
                Value::Array(values) if values.len() == rows.len() => break (layouts, values),
                Value::Status(word) if word == "STALE" => self.store.layouts.clear(),
                other => {
                    checked(other, table)?;
                    return Err(unexpected_reply(table));
                }
            }
        };
        let mut decoder = json::Decoder::default();
        let mut found = Vec::with_capacity(rows.len());
        for ((table, key), value) in get.keys.iter().zip(values) {
            let item = decode_item(value, table, key, &mut decoder);
            found.push(item.map_err(|error| error.at(key))?);
        }
        let mut items = Vec::with_capacity(rows.len());
        for ((position, key), item) in rows.iter().zip(found) {
            items.push(self.unless_expired(&layouts[*position], key, item).await?);
        }
        Ok(Reply::Items(items))
    }

    /// The tables of these items; `None` if there are no items. In a Cluster, all rows must be in one slot group.
    fn tables<'a>(&self, items: Vec<(&'a Arc<Table>, &'a Key)>) -> Result<Option<Tables<'a>>> {
        let Some((first, rest)) = items.split_first() else {
            return Ok(None);
        };
        let keyspace = &self.store.config.keyspace;
        let slot_group =
            |(table, key): &(&Arc<Table>, &Key)| keyspace.slot_group(table, &key.partition);
        let group = slot_group(first);
        if let Some(other) = rest.iter().find(|item| slot_group(item) != group) {
            return Err(different_groups(*first, *other));
        }
        let mut tables = Tables {
            slot_group: group,
            distinct: Vec::new(),
            positions: Vec::with_capacity(items.len()),
        };
        for (table, key) in items {
            let mut known = tables.distinct.iter();
            let position = known.position(|(own, _)| Arc::ptr_eq(own, table));
            tables.positions.push(position.unwrap_or_else(|| {
                tables.distinct.push((table, key));
                tables.distinct.len() - 1
            }));
        }
        Ok(Some(tables))
    }

    /// The layouts of tables in their slot group.
    async fn layouts_of_tables(&self, tables: &Tables<'_>) -> Result<Vec<Arc<Layout>>> {
        let mut layouts = Vec::with_capacity(tables.distinct.len());
        for (table, key) in &tables.distinct {
            layouts.push(self.layout(table, &key.partition).await?);
        }
        Ok(layouts)
    }

    /// Reads the rows of the writes that need them, and writes an intent; `None` if a catalog entry has changed.
    async fn rows(
        &self,
        layouts: &[Arc<Layout>],
        tables: &Tables<'_>,
        writes: &[TransactionWrite],
        wanted: impl Fn(&TransactionWrite, usize) -> bool,
        intent: Option<Call>,
    ) -> Result<Option<Vec<Before>>> {
        let positioned = || writes.iter().zip(tables.positions.iter().copied());
        let calls = positioned().filter(|(write, position)| wanted(write, *position));
        let calls = calls.map(|(write, position)| layouts[position].read_call(write.key()));
        let calls: Vec<Call> = calls.chain(intent).collect();
        let replies = if calls.is_empty() {
            Vec::new()
        } else {
            match self.send_with_epochs(layouts, calls).await? {
                Some(replies) => replies,
                None => return Ok(None),
            }
        };
        let mut replies = replies.into_iter();
        let mut rows = Vec::with_capacity(writes.len());
        for (write, position) in positioned() {
            let reply = if wanted(write, position) {
                replies.next()
            } else {
                None
            };
            rows.push(match reply {
                None => Before::Unread,
                Some(value) => {
                    let key = write.key();
                    let row = decode_row(value, &layouts[position].table, key);
                    Before::Read(row.map_err(|error| error.at(key))?)
                }
            });
        }
        // The reply to the call that writes the intent.
        for reply in replies {
            checked(reply, &layouts[0].table).map_err(not_applied)?;
        }
        Ok(Some(rows))
    }

    /// A new marker.
    fn marker(&self, slot_group: u8) -> Result<TransactionMarker> {
        let config = &self.store.config;
        let lifetime = config.timeout.as_millis() + u128::from(1000 * MARKER_SECONDS);
        let token = random_token()?;
        Ok(TransactionMarker {
            slot_group,
            key: config.keyspace.transaction_marker_key(slot_group, &token),
            token,
            lifetime: lifetime.to_string(),
        })
    }

    /// Sends the script. If that returns an error with a known outcome, or another result than `Done`, nothing was written
    /// and nothing will be.
    async fn commit(
        &self,
        call: Call,
        marker: &TransactionMarker,
        table: &Table,
    ) -> Result<TransactionResult> {
        let reply = self.channel.exchange(vec![call]).await.pop();
        let reply = reply.unwrap_or_else(|| Err(unexpected_reply(table).uncertain()));
        let (mut uncertainty, result) = match reply {
            Ok(reply) => (
                Uncertainty::after(reply.sent_before),
                transaction_result(reply.value, table, &self.store.layouts),
            ),
            // If it was not carried out, it is evaluated again.
            Err(error) if is_uncertain(&error) => {
                (Uncertainty::of(&error), Ok(TransactionResult::Cancelled))
            }
            Err(error) => return Err(error),
        };
        match &result {
            Ok(TransactionResult::Done) => return result,
            // Replies on this connection may belong to other calls.
            Err(error) if is_out_of_sync(error) => return result,
            Err(error) => uncertainty.add(Uncertainty::of(error)),
            Ok(_) => {}
        }
        if !uncertainty.exists() {
            return result;
        }
        match self.settle(marker, table).await {
            Ok(true) => Ok(TransactionResult::Done),
            Ok(false) => result.map_err(not_applied),
            Err(error) => uncertainty.settle(Err(error)),
        }
    }

    /// Finds out what became of a call of the script, and cancels it unless it was carried out.
    async fn settle(&self, marker: &TransactionMarker, table: &Table) -> Result<bool> {
        settled(self.channel.send_one(settle_call(marker)).await?, table)
    }
}

/// Whether an item needs its stored row: for its guard, or for its unique values. With `reads_new` an item that must be new
/// does, too.
fn needs_row(write: &TransactionWrite, markers: MarkerLocation, reads_new: bool) -> bool {
    match write {
        _ if markers == MarkerLocation::Distributed => true,
        TransactionWrite::Put(Put { guard, .. }) => {
            let is_conditional = guard.version.is_some() || guard.condition.is_some();
            is_conditional
                || match guard.row {
                    Row::Present => true,
                    Row::Absent => reads_new,
                    Row::Any => markers != MarkerLocation::None,
                }
        }
        TransactionWrite::Update(Update { .. }) | TransactionWrite::Check(_) => true,
        TransactionWrite::Delete(Delete {
            guard, returns_old, ..
        }) => *returns_old || !guard.is_open() || markers != MarkerLocation::None,
    }
}

/// What the script does with the row of an item.
fn row_change<'a>(
    write: &'a TransactionWrite,
    before: &'a Before,
    evaluated: &'a Evaluated,
    table: usize,
    markers: MarkerLocation,
    marker: &TransactionMarker,
) -> RowChange<'a> {
    let token = match markers {
        MarkerLocation::Distributed => &*marker.token,
        MarkerLocation::None | MarkerLocation::WithRows => "",
    };
    RowChange {
        table,
        key: write.key(),
        expected: match before {
            Before::Read(row) => Expected::Same(row.as_ref()),
            Before::Unread if is_new(write) => Expected::Same(None),
            Before::Unread => Expected::Any,
        },
        change: &evaluated.change,
        claims: evaluated.claims.after(token),
    }
}

/// The error of a transaction that failed. If its rows kept changing until there was no more time, that is the reason.
fn after_conflict(error: Error, writes: &[TransactionWrite], conflict: Option<usize>) -> Error {
    let is_late = error.kind == ErrorKind::Timeout(Outcome::NotApplied);
    let Some(index) = conflict.filter(|index| is_late && *index < writes.len()) else {
        return error;
    };
    let own = &writes[index];
    let mut reasons = vec![None; writes.len()];
    reasons[index] = Some(Error::conflict(own.table(), own.key()));
    Error::cancelled(reasons)
}

/// The error for rows in different slot groups.
fn different_groups(first: (&Arc<Table>, &Key), other: (&Arc<Table>, &Key)) -> Error {
    let ((first_table, first_key), (table, key)) = (first, other);
    let models = if first_table.model == table.model {
        table.model.clone()
    } else {
        format!("{} and {}", first_table.model, table.model)
    };
    let texts = [&first_table.colocate, &table.colocate];
    let text = texts.into_iter().flatten().next();
    let remedy = Remedy::Colocate {
        models,
        equal_keys: text.is_none(),
        text: text.unwrap_or(&first_table.name).as_str().into(),
    };
    let message = format!(
        "the items of a transaction on a Redis Cluster must be in one slot group, and {} {first_key} and {} {key} are not",
        first_table.model, table.model
    );
    Error::new(ErrorKind::Unsupported, message)
        .remedy(remedy)
        .of(table)
        .at(key)
}
