//! Writes: a row with its place in the order and in the indexes, in one step.

use mintkey_store::{
    Delete, Error, ErrorKind, Item, Key, Outcome, Put, Reply, Result, Row, Table, Update, json,
    size, update,
};

use crate::engine::Errand;
use crate::layout::Layout;
use crate::resp::{Call, Value};
use crate::script::{PUT, REMOVE, WRITE};
use crate::translate::{Stored, accepted, fields, lifetime, stored, unexpected};

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

/// Whether a write may have happened, and there may be time to look.
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

    /// Writes a whole item.
    pub async fn put(&self, put: &Put) -> Result<()> {
        self.put_once(put, false).await
    }

    /// Writes a whole item that is not there, though it was sent before and may still be on its way.
    pub async fn put_again(&self, put: &Put) -> Result<()> {
        self.put_once(put, true).await
    }

    async fn put_once(&self, put: &Put, mut sent: bool) -> Result<()> {
        let table = &put.table;
        let guard = &put.guard;
        let key = table.key_of(&put.item)?;
        loop {
            let layout = self.layout(table, &key.partition).await?;
            self.check_put(&layout, put)?;
            let mut stored_row = None;
            if let Some(mode) = one_step(put) {
                let answer = if layout.table.indexes.is_empty() {
                    let call = self.put_call(&layout, &[(&key, put, mode)]);
                    self.talk.ask_one(call).await.map(only)
                } else {
                    let call = self.write_call(&layout, &key, &put.item, mode);
                    self.talk.ask_one(call).await
                };
                let ended = match answer {
                    Err(error) if is_doubtful(&error) => {
                        match self.look_back(&layout, &key, &put.item).await {
                            Found::Sent => return Ok(()),
                            Found::Nothing => {
                                sent = true;
                                continue;
                            }
                            Found::Other => return Err(error),
                        }
                    }
                    answer => ended(answer?, table).map_err(|error| error.at(&key))?,
                };
                match ended {
                    Ended::Done => return Ok(()),
                    Ended::Stale => {
                        self.engine.layouts.forget();
                        continue;
                    }
                    Ended::Moved => continue,
                    Ended::Met(row) => stored_row = stored(row, &layout.table)?,
                }
                if sent && stored_row.as_ref().is_some_and(|row| row.item == *put.item) {
                    // What was sent first has come after all.
                    return Ok(());
                }
            } else {
                stored_row = self.read(&layout, &key).await?.or(stored_row);
            }
            guard.check(table, &key, self.live(&layout.table, stored_row.as_ref()))?;
            let resolvable = guard.row == Row::Absent || guard.version.is_some();
            if self
                .swap(&layout, &key, stored_row.as_ref(), &put.item, resolvable)
                .await?
            {
                return Ok(());
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

    /// Puts an item in the place of what was read; false if that has changed meanwhile.
    async fn swap(
        &self,
        layout: &Layout,
        key: &Key,
        before: Option<&Stored>,
        item: &Item,
        resolvable: bool,
    ) -> Result<bool> {
        let call = self.write_call(layout, key, item, Mode::Same(before));
        let value = match self.talk.ask_one(call).await {
            Err(error) if resolvable && is_doubtful(&error) => {
                let found = self.read(layout, key).await;
                return match found {
                    Ok(Some(found)) if found.item == *item => Ok(true),
                    Ok(found)
                        if found.as_ref().map(|found| &found.item)
                            == before.map(|before| &before.item) =>
                    {
                        Ok(false)
                    }
                    _ => Err(error),
                };
            }
            answer => answer?,
        };
        match ended(value, &layout.table).map_err(|error| error.at(key))? {
            Ended::Done => Ok(true),
            Ended::Stale => {
                self.engine.layouts.forget();
                Ok(false)
            }
            Ended::Moved | Ended::Met(_) => Ok(false),
        }
    }

    /// Looks whether a row of which nobody knows is there.
    pub async fn look_back(&self, layout: &Layout, key: &Key, sent: &Item) -> Found {
        match self.read(layout, key).await {
            Ok(None) => Found::Nothing,
            Ok(Some(found)) if found.item == *sent => Found::Sent,
            _ => Found::Other,
        }
    }

    /// Changes an item.
    pub async fn update(&self, update: &Update) -> Result<Reply> {
        let table = &update.table;
        table.check_key(&update.key)?;
        update::check(&update.actions, table)?;
        if let Some(condition) = &update.guard.condition {
            condition.check()?;
        }
        loop {
            let layout = self.layout(table, &update.key.partition).await?;
            let before = self.read(&layout, &update.key).await?;
            let live = self.live(&layout.table, before.as_ref());
            if live.is_none() && !update.upsert && update.guard.version.is_none() {
                return Err(Error::gone(table, &update.key, false));
            }
            update.guard.check(table, &update.key, live)?;
            let mut item = match live {
                Some(item) => item.clone(),
                None if update.upsert => key_item(table, &update.key),
                None => return Err(Error::gone(table, &update.key, true)),
            };
            update::apply(&update.actions, &mut item)
                .map_err(|error| error.of(table).at(&update.key))?;
            size::check_item(&item, table, self.engine.config.max_item)?;
            layout.table.check_indexed(&item)?;
            let resolvable = update.guard.version.is_some();
            if self
                .swap(&layout, &update.key, before.as_ref(), &item, resolvable)
                .await?
            {
                return Ok(if update.returning {
                    Reply::Item(Some(item))
                } else {
                    Reply::Done
                });
            }
        }
    }

    /// Removes an item.
    pub async fn delete(&self, delete: &Delete) -> Result<()> {
        let table = &delete.table;
        table.check_key(&delete.key)?;
        if let Some(condition) = &delete.guard.condition {
            condition.check()?;
        }
        loop {
            let layout = self.layout(table, &delete.key.partition).await?;
            let before = if delete.guard.is_open() {
                None
            } else {
                let before = self.read(&layout, &delete.key).await?;
                let live = self.live(&layout.table, before.as_ref());
                delete.guard.check(table, &delete.key, live)?;
                if before.is_none() {
                    return Ok(());
                }
                before
            };
            let call = Self::remove_call(&layout, &delete.key, before.as_ref());
            let value = match self.talk.ask_one(call).await {
                Err(error) if delete.guard.version.is_some() && is_doubtful(&error) => {
                    match self.read(&layout, &delete.key).await {
                        Ok(None) => return Ok(()),
                        Ok(found)
                            if found.as_ref().map(|found| &found.item)
                                == before.as_ref().map(|before| &before.item) =>
                        {
                            continue;
                        }
                        _ => return Err(error),
                    }
                }
                answer => answer?,
            };
            match ended(value, table).map_err(|error| error.at(&delete.key))? {
                Ended::Done => return Ok(()),
                Ended::Stale => self.engine.layouts.forget(),
                Ended::Moved | Ended::Met(_) => {}
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

/// What is there after a write of which nobody knows.
pub enum Found {
    /// Nothing.
    Nothing,
    /// What was sent.
    Sent,
    /// Something else, or that cannot be found out.
    Other,
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
