//! Writes: a row with its place in the order and in the indexes, in one step.

use mintkey_store::{
    Delete, Error, ErrorKind, Item, Key, Outcome, Put, Reply, Result, Row, Table, Update, json,
    size, update,
};

use crate::keyspace::layout::Layout;
use crate::keyspace::rows::{Stored, accepted, fields, lifetime, stored, unexpected};
use crate::operations::context::Errand;
use crate::operations::uncertainty::Doubt;
use crate::protocol::resp::{Call, Value};
use crate::protocol::scripts::{PUT, REMOVE, WRITE};

/// What must be there for a row to be written.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Anything.
    Any,
    /// Nothing.
    Absent,
    /// Nothing, which is as good as certain: nobody looks.
    New,
    /// What was read before, or nothing.
    Same(Option<&'a Stored>),
}

/// How a script ended.
pub enum Ended {
    /// It is done.
    Done,
    /// The catalog is another than the one known here.
    Stale,
    /// The row is not what it was.
    Moved,
    /// A row is in the way.
    Met(Value),
    /// It was sent, and no reply came. The row has to be read.
    Unknown,
}

/// Reads how a script ended.
pub fn ended(value: Value, table: &Table) -> Result<Ended> {
    Ok(match accepted(value, table)? {
        Value::Status(word) if word == "OK" => Ended::Done,
        Value::Status(word) if word == "STALE" => Ended::Stale,
        Value::Status(word) if word == "MOVED" => Ended::Moved,
        row @ Value::Array(_) => Ended::Met(row),
        _ => return Err(unexpected(table)),
    })
}

/// Whether a write may have happened, and there may be time to read the row.
pub fn is_doubtful(error: &Error) -> bool {
    error.kind == ErrorKind::Unavailable(Outcome::Unknown)
}

impl Errand<'_> {
    /// The call that writes an item.
    pub fn write_call(&self, layout: &Layout, key: &Key, item: &Item, mode: Mode<'_>) -> Call {
        let mut new = fields(item);
        let entries = if layout.table.indexes.is_empty() {
            Vec::new()
        } else {
            layout.entries(item, key)
        };
        let lifetime = lifetime(&layout.table, item, self.now);
        let room = 256
            + new
                .iter()
                .map(|(n, v)| n.len() + v.len() + 24)
                .sum::<usize>();
        let row = layout.row(key);
        let keys: [&[u8]; 3] = [&row, &layout.order, &layout.catalog];
        let mut call = layout.script(&WRITE, &keys, room).arg(&layout.epoch);
        call.push(match mode {
            Mode::Any => b"any",
            Mode::Absent | Mode::New => b"absent",
            Mode::Same(_) => b"same",
        });
        call.push(&Layout::member(key));
        match lifetime {
            Some(milliseconds) => call.push(milliseconds.to_string().as_bytes()),
            None => call.push(b""),
        }
        call.push(&layout.indexes);
        call.push(&entries);
        let mut gone: Vec<&[u8]> = Vec::new();
        if let Mode::Same(Some(old)) = mode {
            push_expected(&mut call, Some(old));
            for (name, value) in &old.fields {
                match new.iter().position(|(own, _)| own == name) {
                    Some(place) if new[place].1 == *value => drop(new.swap_remove(place)),
                    Some(_) => {}
                    None if name.is_empty() => {}
                    None => gone.push(name),
                }
            }
        } else {
            push_expected(&mut call, None);
        }
        call.push(gone.len().to_string().as_bytes());
        for name in gone {
            call.push(name);
        }
        for (name, value) in &new {
            call.push(name);
            call.push(value);
        }
        call.repeatable = matches!(mode, Mode::Any);
        call
    }

    pub fn remove_call(layout: &Layout, key: &Key, expected: Option<&Stored>) -> Call {
        let row = layout.row(key);
        let keys: [&[u8]; 3] = [&row, &layout.order, &layout.catalog];
        let mut call = layout
            .script(&REMOVE, &keys, 256)
            .arg(&layout.epoch)
            .arg(if expected.is_some() { "same" } else { "any" })
            .arg(Layout::member(key))
            .arg(&layout.indexes);
        push_expected(&mut call, expected);
        call.repeatable = expected.is_none();
        call
    }

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

    /// The call that puts items of a table without indexes, each in its own mode.
    pub fn put_call(&self, layout: &Layout, puts: &[(&Key, &Put, Mode<'_>)]) -> Call {
        let rows: Vec<Vec<u8>> = puts.iter().map(|(key, _, _)| layout.row(key)).collect();
        let mut keys: Vec<&[u8]> = vec![&layout.order, &layout.catalog];
        keys.extend(rows.iter().map(Vec::as_slice));
        let mut call = layout
            .script(&PUT, &keys, 512 * puts.len())
            .arg(&layout.epoch);
        call.repeatable = puts.iter().all(|(_, _, mode)| matches!(mode, Mode::Any));
        let mut text = String::new();
        for (key, put, mode) in puts {
            call.push(match mode {
                Mode::Any => b"any",
                Mode::New => b"new",
                _ => b"absent",
            });
            call.push(&Layout::member(key));
            match lifetime(&layout.table, &put.item, self.now) {
                Some(milliseconds) => call.push(milliseconds.to_string().as_bytes()),
                None => call.push(b""),
            }
            call.push((2 * put.item.len()).to_string().as_bytes());
            for (name, value) in &*put.item {
                text.clear();
                json::encode_value(value, &mut text);
                call.push(name.as_bytes());
                call.push(text.as_bytes());
            }
        }
        call
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
                    self.put_call(&layout, &[(&key, put, mode)])
                } else {
                    self.write_call(&layout, &key, &put.item, mode)
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
            let call = self.write_call(&layout, &key, &put.item, Mode::Same(before.as_ref()));
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
            let call = self.write_call(&layout, key, &item, Mode::Same(before.as_ref()));
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
            let call = Self::remove_call(&layout, key, before.as_ref());
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

/// How a put goes that needs no look at the row before.
pub const fn one_step(put: &Put) -> Option<Mode<'static>> {
    match (&put.guard.row, &put.guard.version, &put.guard.condition) {
        (Row::Any, None, None) => Some(Mode::Any),
        (Row::Absent, None, None) => Some(Mode::Absent),
        _ => None,
    }
}

/// Adds the number of fields that must be there, and these.
fn push_expected(call: &mut Call, expected: Option<&Stored>) {
    let fields = expected.map_or(&[][..], |stored| &stored.fields);
    call.push(fields.len().to_string().as_bytes());
    for (name, value) in fields {
        call.push(name);
        call.push(value);
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
