//! Writes: a row with its place in the order and in the indexes, in one step.

use mintkey_store::{
    Delete, Error, ErrorKind, Item, Key, Outcome, Put, Reply, Result, Row, Table, Update, size,
    update,
};

use crate::keyspace::commands::{Ended, Mode, ended, one_step, puts_call, remove_call, write_call};
use crate::keyspace::layout::Layout;
use crate::keyspace::rows::{Stored, stored};
use crate::operations::context::Errand;
use crate::operations::uncertainty::Doubt;
use crate::protocol::replies::unexpected;
use crate::protocol::resp::{Call, Value};

/// Whether a write may have happened, and there may be time to read the row.
pub fn is_doubtful(error: &Error) -> bool {
    error.kind == ErrorKind::Unavailable(Outcome::Unknown)
}

impl Errand<'_> {
    /// The stored row, expired or not.
    pub async fn read(&self, layout: &Layout, key: &Key) -> Result<Option<Stored>> {
        let call = layout.call("HGETALL").arg(layout.row(key));
        stored(self.talk.ask_one(call).await?, &layout.table)
    }

    fn live<'a>(&self, table: &Table, stored: Option<&'a Stored>) -> Option<&'a Item> {
        stored
            .map(|stored| &stored.item)
            .filter(|item| !table.is_expired(item, self.now))
    }

    /// Sends a call of a write, and adds the doubt that it leaves. Gives how it ended; that it is unknown is an error
    /// unless the write is `resolvable` by reading the row.
    async fn step(
        &self,
        call: Call,
        table: &Table,
        resolvable: bool,
        doubt: &mut Doubt,
    ) -> Result<Ended> {
        let answered = match self.talk.exchange(vec![call]).await {
            Ok(answered) => answered.into_iter().next(),
            Err(error) => {
                doubt.add(Doubt::of(&error));
                return if resolvable && is_doubtful(&error) {
                    Ok(Ended::Unknown)
                } else {
                    Err(error)
                };
            }
        };
        let answered = answered.ok_or_else(|| unexpected(table))?;
        doubt.add(Doubt::after(answered.sent_before));
        match ended(only(answered.value), table)? {
            Ended::Stale => {
                self.engine.layouts.forget();
                Ok(Ended::Moved)
            }
            other => Ok(other),
        }
    }

    /// Writes a whole item, which was sent before if there is doubt.
    pub async fn put(&self, put: &Put, mut doubt: Doubt) -> Result<()> {
        let result = self.put_until_done(put, &mut doubt).await;
        doubt.settle(result)
    }

    async fn put_until_done(&self, put: &Put, doubt: &mut Doubt) -> Result<()> {
        let table = &put.table;
        let guard = &put.guard;
        let key = table.key_of(&put.item)?;
        let resolvable =
            guard.row == Row::Absent || guard.version.is_some() || guard.condition.is_none();
        // The row that a swap of unknown outcome found.
        let mut swapped: Option<Option<Item>> = None;
        loop {
            let layout = self.layout(table, &key.partition).await?;
            self.check_put(&layout, put)?;
            // In doubt the row is read first: it may be there.
            let mode = one_step(put).filter(|_| !doubt.is_there());
            let before = if let Some(mode) = mode {
                let call = if layout.table.indexes.is_empty() {
                    puts_call(&layout, &[(&key, put, mode)], self.now)
                } else {
                    write_call(&layout, &key, &put.item, mode, self.now)
                };
                let ended = self.step(call, table, true, doubt).await;
                match ended.map_err(|error| error.at(&key))? {
                    Ended::Done => return Ok(()),
                    Ended::Met(row) => stored(row, &layout.table)?,
                    Ended::Moved | Ended::Stale | Ended::Unknown => continue,
                }
            } else {
                self.read(&layout, &key).await?
            };
            if doubt.is_there() {
                let found = before.as_ref().map(|row| &row.item);
                if found == Some(&*put.item) {
                    return Ok(());
                }
                if swapped.as_ref().is_some_and(|own| own.as_ref() != found) {
                    return Err(doubt.error());
                }
            }
            guard.check(table, &key, self.live(&layout.table, before.as_ref()))?;
            let call = write_call(
                &layout,
                &key,
                &put.item,
                Mode::Same(before.as_ref()),
                self.now,
            );
            let ended = self.step(call, table, resolvable, doubt).await;
            match ended.map_err(|error| error.at(&key))? {
                Ended::Done => return Ok(()),
                Ended::Unknown => swapped = Some(before.map(|row| row.item)),
                Ended::Moved | Ended::Stale | Ended::Met(_) => {}
            }
        }
    }

    pub fn check_put(&self, layout: &Layout, put: &Put) -> Result<()> {
        size::check_item(&put.item, &put.table, self.engine.config.max_item)?;
        layout.table.check_indexed(&put.item)?;
        if let Some(condition) = &put.guard.condition {
            condition.check()?;
        }
        Ok(())
    }

    /// Changes an item.
    pub async fn update(&self, update: &Update) -> Result<Reply> {
        let mut doubt = Doubt::default();
        let item = self.update_until_done(update, &mut doubt).await;
        let item = doubt.settle(item)?;
        Ok(if update.returning {
            Reply::Item(Some(item))
        } else {
            Reply::Done
        })
    }

    async fn update_until_done(&self, update: &Update, doubt: &mut Doubt) -> Result<Item> {
        let (table, key) = (&update.table, &update.key);
        table.check_key(key)?;
        update::check(&update.actions, table)?;
        if let Some(condition) = &update.guard.condition {
            condition.check()?;
        }
        let resolvable = update.guard.version.is_some();
        // The row that a swap of unknown outcome found, and the item that it writes.
        let mut swapped: Option<(Option<Item>, Item)> = None;
        loop {
            let layout = self.layout(table, &key.partition).await?;
            let before = self.read(&layout, key).await?;
            if let Some((found, item)) = &swapped {
                let now = before.as_ref().map(|row| &row.item);
                if now == Some(item) {
                    return Ok(item.clone());
                }
                if now != found.as_ref() {
                    return Err(doubt.error());
                }
            }
            let live = self.live(&layout.table, before.as_ref());
            let item = self.changed(update, live)?;
            layout.table.check_indexed(&item)?;
            let call = write_call(&layout, key, &item, Mode::Same(before.as_ref()), self.now);
            let ended = self.step(call, table, resolvable, doubt).await;
            match ended.map_err(|error| error.at(key))? {
                Ended::Done => return Ok(item),
                Ended::Unknown => swapped = Some((before.map(|row| row.item), item)),
                Ended::Moved | Ended::Stale | Ended::Met(_) => {}
            }
        }
    }

    /// What an update makes of the stored item.
    fn changed(&self, update: &Update, stored: Option<&Item>) -> Result<Item> {
        let (table, key) = (&update.table, &update.key);
        if stored.is_none() && !update.upsert && update.guard.version.is_none() {
            return Err(Error::gone(table, key, false));
        }
        update.guard.check(table, key, stored)?;
        let mut item = match stored {
            Some(item) => item.clone(),
            None if update.upsert => key_item(table, key),
            None => return Err(Error::gone(table, key, true)),
        };
        update::apply(&update.actions, &mut item).map_err(|error| error.of(table).at(key))?;
        size::check_item(&item, table, self.engine.config.max_item)?;
        Ok(item)
    }

    /// Removes an item, which was tried before if there is doubt.
    pub async fn delete(&self, delete: &Delete, mut doubt: Doubt) -> Result<()> {
        let result = self.delete_until_done(delete, &mut doubt).await;
        doubt.settle(result)
    }

    async fn delete_until_done(&self, delete: &Delete, doubt: &mut Doubt) -> Result<()> {
        let (table, key) = (&delete.table, &delete.key);
        table.check_key(key)?;
        if let Some(condition) = &delete.guard.condition {
            condition.check()?;
        }
        let resolvable = delete.guard.version.is_some();
        // The row that a removal of unknown outcome found.
        let mut removed: Option<Item> = None;
        loop {
            let layout = self.layout(table, &key.partition).await?;
            let mut before = None;
            if !delete.guard.is_open() {
                before = self.read(&layout, key).await?;
                let live = self.live(&layout.table, before.as_ref());
                let found = before.as_ref().map(|row| &row.item);
                match (&removed, found) {
                    (None, _) => delete.guard.check(table, key, live)?,
                    (Some(removed), Some(now)) if removed != now => return Err(doubt.error()),
                    _ => {}
                }
                if found.is_none() {
                    return Ok(());
                }
            }
            let call = remove_call(&layout, key, before.as_ref());
            let ended = self.step(call, table, resolvable, doubt).await;
            match ended.map_err(|error| error.at(key))? {
                Ended::Done => return Ok(()),
                Ended::Unknown => removed = before.map(|row| row.item),
                Ended::Moved | Ended::Stale | Ended::Met(_) => {}
            }
        }
    }
}

/// The one answer of a script that answers for each row.
fn only(value: Value) -> Value {
    match value {
        Value::Array(mut answers) if answers.len() == 1 => answers.remove(0),
        other => other,
    }
}

/// An item of a key alone.
fn key_item(table: &Table, key: &Key) -> Item {
    let mut item = Item::with_capacity(8);
    item.insert(table.partition.name.clone(), key.partition.to_value());
    if let (Some(attribute), Some(value)) = (&table.sort, &key.sort) {
        item.insert(attribute.name.clone(), value.to_value());
    }
    item
}
