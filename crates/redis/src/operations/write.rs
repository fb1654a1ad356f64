//! Writes of single rows. A script writes a row, its member of the row set and its index entries atomically.

use mintkey_store::size::check_item;
use mintkey_store::{
    Delete, Error, ErrorKind, Item, Key, Outcome, Put, Reply, Result, Returning, Row, Table,
    TransactionWrite, Update,
};

use crate::keyspace::commands::{
    Mode, ScriptResult, puts_call, remove_call, script_result, single_step_mode, write_call,
};
use crate::keyspace::layout::{Layout, MarkerLocation};
use crate::keyspace::rows::{StoredRow, decode_row};
use crate::operations::context::OperationContext;
use crate::operations::uncertainty::Uncertainty;
use crate::protocol::replies::{is_out_of_sync, unexpected_reply};
use crate::protocol::resp::{Call, Value};

/// Whether a write may have happened, and there may be time to read the row.
pub fn is_uncertain(error: &Error) -> bool {
    error.kind == ErrorKind::Unavailable(Outcome::Unknown)
}

impl OperationContext<'_> {
    /// The stored row, expired or not.
    pub async fn read(&self, layout: &Layout, key: &Key) -> Result<Option<StoredRow>> {
        let call = layout.read_call(key);
        decode_row(self.channel.send_one(call).await?, &layout.table, key)
            .map_err(|error| error.at(key))
    }

    /// The item of a row that has not expired.
    pub fn live<'a>(&self, table: &Table, stored: Option<&'a StoredRow>) -> Option<&'a Item> {
        stored
            .map(|stored| &stored.item)
            .filter(|item| !table.is_expired(item, self.now))
    }

    /// Sends a call of a write, and notes whether it is uncertain. An unknown outcome is an error, unless the write is
    /// `resolvable`: reading the row shows whether it happened.
    async fn send_write(
        &self,
        call: Call,
        table: &Table,
        resolvable: bool,
        uncertainty: &mut Uncertainty,
    ) -> Result<ScriptResult> {
        let reply = self.channel.exchange(vec![call]).await.pop();
        let reply = match reply.ok_or_else(|| unexpected_reply(table).uncertain())? {
            Ok(reply) => reply,
            Err(error) => {
                uncertainty.add(Uncertainty::of(&error));
                return if resolvable && is_uncertain(&error) {
                    Ok(ScriptResult::Unknown)
                } else {
                    Err(error)
                };
            }
        };
        uncertainty.add(Uncertainty::after(reply.sent_before));
        script_result(single(reply.value), table, &self.store.layouts)
    }

    /// The call that writes an item.
    fn write_call(&self, layout: &Layout, key: &Key, item: &Item, mode: Mode<'_>) -> Result<Call> {
        let call = write_call(layout, key, item, mode, self.now);
        call.map_err(|error| error.of(&layout.table).at(key))
    }

    /// Puts an item. It may have been sent before: see `uncertainty`.
    pub async fn put(&self, put: &Put, mut uncertainty: Uncertainty) -> Result<()> {
        let result = self.put_until_done(put, &mut uncertainty).await;
        uncertainty.settle(result)
    }

    async fn put_until_done(&self, put: &Put, uncertainty: &mut Uncertainty) -> Result<()> {
        let (table, key, guard) = (&put.table, &put.key, &put.guard);
        let resolvable =
            guard.row == Row::Absent || guard.version.is_some() || guard.condition.is_none();
        // The row before a conditional write of unknown outcome.
        let mut attempted: Option<Option<Item>> = None;
        loop {
            let layout = self.layout(table, &key.partition).await?;
            if layout.markers == MarkerLocation::Distributed {
                let write = TransactionWrite::Put(put.clone());
                return Box::pin(self.write_distributed(write)).await.map(drop);
            }
            put.check(&layout.table, self.store.config.max_item)?;
            // An uncertain write reads the row first: it may have been written already.
            let mode = single_step_mode(put).filter(|_| !uncertainty.exists());
            let before = if let Some(mode) = mode {
                let call = if layout.is_plain() {
                    puts_call(&layout, &[(put, mode)], self.now)
                } else {
                    self.write_call(&layout, key, &put.item, mode)?
                };
                let result = self.send_write(call, table, true, uncertainty).await;
                match result.map_err(|error| error.at(key))? {
                    ScriptResult::Done => return Ok(()),
                    ScriptResult::RowPresent(row) => decode_present_row(row, &layout.table, key)?,
                    ScriptResult::ValueTaken(taken) => {
                        self.free_value(&layout, key, &put.item, taken).await?;
                        continue;
                    }
                    ScriptResult::Changed | ScriptResult::Unknown => continue,
                }
            } else {
                self.read(&layout, key).await?
            };
            if uncertainty.exists() {
                let found = before.as_ref().map(|row| &row.item);
                if found == Some(&*put.item) {
                    return Ok(());
                }
                if attempted.as_ref().is_some_and(|own| own.as_ref() != found) {
                    return Err(uncertainty.error());
                }
            }
            let live = self.live(&layout.table, before.as_ref());
            self.evaluate(|work| guard.check(table, key, live, work))?;
            let mode = Mode::Same(before.as_ref());
            let call = self.write_call(&layout, key, &put.item, mode)?;
            let result = self.send_write(call, table, resolvable, uncertainty).await;
            match result.map_err(|error| error.at(key))? {
                ScriptResult::Done => return Ok(()),
                ScriptResult::Unknown => attempted = Some(before.map(|row| row.item)),
                ScriptResult::ValueTaken(taken) => {
                    self.free_value(&layout, key, &put.item, taken).await?;
                }
                ScriptResult::Changed | ScriptResult::RowPresent(_) => {}
            }
        }
    }

    /// Updates an item.
    pub async fn update(&self, update: &Update) -> Result<Reply> {
        let mut uncertainty = Uncertainty::default();
        let returned = self.update_until_done(update, &mut uncertainty).await;
        let returned = uncertainty.settle(returned)?;
        Ok(match update.returning {
            Returning::Nothing => Reply::Done,
            Returning::Old | Returning::New => Reply::Item(returned),
        })
    }

    /// Updates an item until that is done. Returns the item that the update returns.
    async fn update_until_done(
        &self,
        update: &Update,
        uncertainty: &mut Uncertainty,
    ) -> Result<Option<Item>> {
        let (table, key) = (&update.table, &update.key);
        update.check()?;
        let resolvable = update.guard.version.is_some();
        // The row before a conditional write of unknown outcome, and the item that it writes.
        let mut attempted: Option<(Option<Item>, Item)> = None;
        loop {
            let layout = self.layout(table, &key.partition).await?;
            if layout.markers == MarkerLocation::Distributed {
                let write = TransactionWrite::Update(update.clone());
                return Box::pin(self.write_distributed(write)).await;
            }
            let before = self.read(&layout, key).await?;
            if let Some((found, item)) = &attempted {
                let now = before.as_ref().map(|row| &row.item);
                if now == Some(item) {
                    let found = found.as_ref();
                    let live = found.filter(|item| !layout.table.is_expired(item, self.now));
                    return Ok(returned(update, live, item.clone()));
                }
                if now != found.as_ref() {
                    return Err(uncertainty.error());
                }
            }
            let live = self.live(&layout.table, before.as_ref());
            let item = self.evaluate(|work| update.evaluate(live.cloned(), work))?;
            check_item(&item, &layout.table, self.store.config.max_item)?;
            let mode = Mode::Same(before.as_ref());
            let call = self.write_call(&layout, key, &item, mode)?;
            let result = self.send_write(call, table, resolvable, uncertainty).await;
            match result.map_err(|error| error.at(key))? {
                ScriptResult::Done => return Ok(returned(update, live, item)),
                ScriptResult::Unknown => attempted = Some((before.map(|row| row.item), item)),
                ScriptResult::ValueTaken(taken) => {
                    self.free_value(&layout, key, &item, taken).await?;
                }
                ScriptResult::Changed | ScriptResult::RowPresent(_) => {}
            }
        }
    }

    /// Deletes an item, and returns it if that is wanted. It may have been sent before: see `uncertainty`.
    pub async fn delete(
        &self,
        delete: &Delete,
        mut uncertainty: Uncertainty,
    ) -> Result<Option<Item>> {
        let result = self.delete_until_done(delete, &mut uncertainty).await;
        uncertainty.settle(result)
    }

    async fn delete_until_done(
        &self,
        delete: &Delete,
        uncertainty: &mut Uncertainty,
    ) -> Result<Option<Item>> {
        let (table, key) = (&delete.table, &delete.key);
        delete.check()?;
        // If the row is gone, it is not known which writer has deleted it: only one of them may return it.
        let resolvable = delete.guard.version.is_some() && !delete.returns_old;
        // The row before a deletion of unknown outcome.
        let mut attempted: Option<Item> = None;
        loop {
            let layout = self.layout(table, &key.partition).await?;
            if layout.markers == MarkerLocation::Distributed {
                let write = TransactionWrite::Delete(delete.clone());
                return Box::pin(self.write_distributed(write)).await;
            }
            let mut before = None;
            if delete.returns_old || !delete.guard.is_open() {
                before = self.read(&layout, key).await?;
                let live = self.live(&layout.table, before.as_ref());
                let found = before.as_ref().map(|row| &row.item);
                match (&attempted, found) {
                    (None, _) => {
                        self.evaluate(|work| delete.guard.check(table, key, live, work))?;
                    }
                    (Some(attempted), Some(now)) if attempted != now => {
                        return Err(uncertainty.error());
                    }
                    _ => {}
                }
                if found.is_none() {
                    return Ok(None);
                }
            }
            let call = remove_call(&layout, key, before.as_ref());
            let result = self.send_write(call, table, resolvable, uncertainty).await;
            match result.map_err(|error| error.at(key))? {
                ScriptResult::Done => {
                    let live = self.live(&layout.table, before.as_ref());
                    return Ok(live.filter(|_| delete.returns_old).cloned());
                }
                ScriptResult::Unknown => attempted = before.map(|row| row.item),
                ScriptResult::Changed
                | ScriptResult::ValueTaken(_)
                | ScriptResult::RowPresent(_) => {}
            }
        }
    }
}

pub fn returned(update: &Update, old: Option<&Item>, new: Item) -> Option<Item> {
    match update.returning {
        Returning::Nothing => None,
        Returning::Old => old.cloned(),
        Returning::New => Some(new),
    }
}

/// Decodes the row that kept a put from being carried out. After another row, the reply belongs to another call: whether the
/// put was carried out is unknown.
pub fn decode_present_row(row: Value, table: &Table, key: &Key) -> Result<Option<StoredRow>> {
    decode_row(row, table, key).map_err(|error| {
        let error = error.at(key);
        if is_out_of_sync(&error) {
            error.uncertain()
        } else {
            error
        }
    })
}

/// The reply for a single row of a script that replies for each row.
fn single(value: Value) -> Value {
    match value {
        Value::Array(mut replies) if replies.len() == 1 => replies.remove(0),
        other => other,
    }
}
