//! Carries out requests inside a transaction.

use std::sync::Arc;

use mintkey_store::size::check_item;
use mintkey_store::{
    BatchWrite, Check, Delete, Guard, Item, Key, Number, Operation, Put, Reply, Request, Returning,
    Row, Table, TransactionGet, Update, Work, Write, json,
};

use crate::catalog;
use crate::catalog::layout_cache::LayoutCache;
use crate::layout::{Cell, Held, Layout};
use crate::reading::{reader, rows};
use crate::storage::connection::{self, Attempt, Connection, Fault};
use crate::writing::build::{self, Step};
use crate::writing::stored_rows;

/// A transaction, and the tables that it uses.
pub struct Transaction<'a> {
    pub(super) connection: &'a Connection,
    layouts: &'a LayoutCache,
    pub(super) max_item: usize,
    /// Whether it has one request. Then a batch that fails in the middle can roll back everything.
    alone: bool,
    /// The schema version at its begin.
    version: i64,
    /// The layouts that it loaded or created, to be kept by the store after the commit.
    layouts_used: Vec<(Arc<Table>, Arc<Layout>)>,
    /// Whether it changed the schema. Then the known layouts are no longer valid.
    schema_changed: bool,
    /// The tables with expiry that it wrote to.
    written: Vec<Arc<Layout>>,
    /// The latest time of its requests.
    now: i64,
    /// A buffer for encoded items.
    text: String,
}

impl<'a> Transaction<'a> {
    /// For a transaction that has begun; reads the schema version.
    pub fn begin(
        connection: &'a Connection,
        layouts: &'a LayoutCache,
        max_item: usize,
        alone: bool,
    ) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            layouts,
            max_item,
            alone,
            version: connection.schema_version()?,
            layouts_used: Vec::new(),
            schema_changed: false,
            written: Vec::new(),
            now: i64::MIN,
            text: String::new(),
        })
    }

    /// Carries out one request. A refused one has changed nothing.
    pub fn apply(&mut self, request: &Request) -> Attempt<Reply> {
        #[cfg(test)]
        crate::writing::tests::panic_if_wanted(request);
        let now = request.now;
        self.now = self.now.max(now);
        match &request.operation {
            Operation::CreateTable(table) => {
                self.extended(table)?;
                self.build_step(table, now)
            }
            Operation::DropUnique(table, names) => {
                self.change_schema();
                self.in_savepoint(|own| catalog::drop_unique(own.connection, table, names))?;
                self.build_step(&table.without_unique(), now)
            }
            Operation::DeleteTable(table) => {
                self.change_schema();
                self.written
                    .retain(|layout| layout.table.name != table.name);
                self.in_savepoint(|own| catalog::drop_table(own.connection, table))?;
                Ok(Reply::Done)
            }
            Operation::Put(put) => self.put(put, now),
            Operation::Update(update) => self.update(update, now),
            Operation::Delete(delete) => self.delete(delete, now),
            // If SQLite fails in the middle, nothing of the batch stays. A savepoint copies each page before its first
            // change, so a batch without others has none, and the caller rolls back.
            Operation::BatchWrite(batch) if self.alone => self.batch(batch, now),
            Operation::BatchWrite(batch) => self.in_savepoint(|own| own.batch(batch, now)),
            Operation::Transaction(transaction) => self.all_or_none(transaction, now),
            Operation::TransactionGet(get) => self.get_all(get, now),
            // The others are reads of a database in memory, which has one connection.
            read => match read.table().filter(|_| reader::reads_rows(read)) {
                Some(table) => {
                    let mut layout = self.layout(table)?;
                    if layout.lacks(read) {
                        layout = self.completed(table)?;
                    }
                    rows::read(self.connection, &layout, read, now)
                }
                None => reader::without_layout(self.connection, read, "sqlite://"),
            },
        }
    }

    /// Deletes some expired rows of the tables that it wrote to. To be called before the commit.
    pub fn delete_expired(&self) -> rusqlite::Result<()> {
        for layout in &self.written {
            if let Some(sql) = &layout.delete_expired {
                let mut statement = self.connection.raw.prepare_cached(sql)?;
                statement.raw_bind_parameter(1, Cell::number(Number::from(self.now)))?;
                statement.raw_execute()?;
            }
        }
        Ok(())
    }

    /// Adds the layouts to those of the store. To be called after the commit.
    pub fn publish_layouts(&self) {
        if self.schema_changed {
            // The next request loads them at the new schema version.
            self.layouts.clear();
        } else {
            for (table, layout) in &self.layouts_used {
                self.layouts.insert(self.version, table, layout);
            }
        }
    }

    /// The layout of a table, which is created or extended if necessary. Unique values that the class declares are built.
    pub(super) fn layout(&mut self, table: &Arc<Table>) -> Attempt<Arc<Layout>> {
        let layout = self.extended(table)?;
        if layout.awaits_unique(table) {
            return self.completed(table);
        }
        Ok(layout)
    }

    /// The layout of a table, which is created or extended if necessary.
    fn extended(&mut self, table: &Arc<Table>) -> Attempt<Arc<Layout>> {
        if let Some((_, layout)) = self
            .layouts_used
            .iter()
            .find(|(own, _)| Arc::ptr_eq(own, table))
        {
            return Ok(Arc::clone(layout));
        }
        if !self.schema_changed
            && let Some(layout) = self.layouts.find(table, Some(self.version))
        {
            return Ok(layout);
        }
        let layout = if let Some(layout) = catalog::load(self.connection, table)? {
            layout
        } else {
            self.change_schema();
            self.in_savepoint(|own| catalog::create_or_extend(own.connection, table))?
        };
        self.layouts_used
            .push((Arc::clone(table), Arc::clone(&layout)));
        Ok(layout)
    }

    /// The layout of a table, after building all that the class declares. Most requests come after a build that took a
    /// transaction for each step. This one is for those that meet a change in between, and for databases in memory.
    fn completed(&mut self, table: &Arc<Table>) -> Attempt<Arc<Layout>> {
        self.change_schema();
        self.in_savepoint(|own| {
            loop {
                match build::step(own.connection, table, own.now)? {
                    Step::More => {}
                    Step::Done => return Ok(()),
                    Step::Refused(error) => return Err(error.into()),
                }
            }
        })?;
        self.extended(table)
    }

    /// Does a part of what is not built. The reply says whether nothing is left.
    fn build_step(&mut self, table: &Table, now: i64) -> Attempt<Reply> {
        self.connection.deadline.remove_timeout();
        // What a step that fails has filled may stay, so a step without other requests needs no savepoint.
        let step = if self.alone {
            build::step(self.connection, table, now)
        } else {
            self.in_savepoint(|own| build::step(own.connection, table, now))
        };
        match step? {
            Step::More => Ok(Reply::Exists(false)),
            Step::Done => Ok(Reply::Done),
            Step::Refused(error) => {
                self.change_schema();
                Err(error.into())
            }
        }
    }

    /// Forgets the known layouts before a change of the schema.
    fn change_schema(&mut self) {
        self.schema_changed = true;
        self.layouts_used.clear();
        // Without a timeout: what takes long would time out again and again.
        self.connection.deadline.remove_timeout();
    }

    /// Does some work completely or not at all.
    pub(super) fn in_savepoint<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Attempt<T>,
    ) -> Attempt<T> {
        let raw = &self.connection.raw;
        raw.prepare_cached("SAVEPOINT step")?.raw_execute()?;
        match work(self) {
            Ok(value) => {
                raw.prepare_cached("RELEASE step")?.raw_execute()?;
                Ok(value)
            }
            Err(fault) => {
                // Some errors have rolled back the whole transaction already.
                if !raw.is_autocommit() {
                    raw.execute_batch("ROLLBACK TO step; RELEASE step")?;
                }
                Err(fault)
            }
        }
    }

    /// Records a table whose expired rows are deleted before the commit.
    fn track_expiring(&mut self, layout: &Arc<Layout>) {
        if layout.delete_expired.is_some()
            && !self.written.iter().any(|own| own.name == layout.name)
        {
            self.written.push(Arc::clone(layout));
        }
    }

    fn batch(&mut self, batch: &BatchWrite, now: i64) -> Attempt<Reply> {
        let mut written = Vec::with_capacity(batch.writes.len());
        for write in &batch.writes {
            let outcome = match write {
                Write::Put(put) => self.put(put, now),
                Write::Update(update) => self.update(update, now),
                Write::Delete(delete) => self.delete(delete, now),
            };
            written.push(match outcome {
                Ok(_) => Ok(()),
                Err(Fault::Refused(error)) => Err(error),
                Err(fault) => return Err(fault),
            });
        }
        Ok(Reply::Written(written))
    }

    pub(super) fn check(&mut self, check: &Check, now: i64) -> Attempt<Reply> {
        let layout = self.layout(&check.table)?;
        self.check_guard(&layout, &check.guard, &check.key, now)?;
        Ok(Reply::Done)
    }

    fn get_all(&mut self, get: &TransactionGet, now: i64) -> Attempt<Reply> {
        get.check()?;
        let mut items = Vec::with_capacity(get.keys.len());
        for (table, key) in &get.keys {
            let layout = self.layout(table)?;
            items.push(rows::live(self.connection, &layout, key, now)?);
        }
        Ok(Reply::Items(items))
    }

    pub(super) fn put(&mut self, put: &Put, now: i64) -> Attempt<Reply> {
        let layout = self.layout(&put.table)?;
        put.check(&layout.table, self.max_item)?;
        let (key, guard) = (&put.key, &put.guard);
        let plain = guard.version.is_none() && guard.condition.is_none();
        if plain && guard.row == Row::Any {
            self.write(&layout, key, &put.item, now)?;
        } else if plain && guard.row == Row::Absent {
            // If no row has the key, or a unique value of the item, one lookup in each index is enough.
            let held = layout.held_by(&put.item, key)?;
            if self.try_write(&layout, &layout.insert, key, &put.item, &held)? != Some(1) {
                self.check_guard(&layout, guard, key, now)?;
                self.write(&layout, key, &put.item, now)?;
            }
        } else {
            self.check_guard(&layout, guard, key, now)?;
            self.write(&layout, key, &put.item, now)?;
        }
        self.track_expiring(&layout);
        Ok(Reply::Done)
    }

    pub(super) fn update(&mut self, update: &Update, now: i64) -> Attempt<Reply> {
        let layout = self.layout(&update.table)?;
        update.check()?;
        let stored = rows::live(self.connection, &layout, &update.key, now)?;
        let old = stored
            .as_ref()
            .filter(|_| update.returning == Returning::Old)
            .cloned();
        let item = self.evaluate(&update.guard, |work| update.evaluate(stored, work))?;
        check_item(&item, &layout.table, self.max_item)?;
        self.write(&layout, &update.key, &item, now)?;
        self.track_expiring(&layout);
        Ok(match update.returning {
            Returning::Nothing => Reply::Done,
            Returning::Old => Reply::Item(old),
            Returning::New => Reply::Item(Some(item)),
        })
    }

    pub(super) fn delete(&mut self, delete: &Delete, now: i64) -> Attempt<Reply> {
        let layout = self.layout(&delete.table)?;
        delete.check()?;
        let mut old = None;
        if delete.returns_old || !delete.guard.is_open() {
            old = rows::live(self.connection, &layout, &delete.key, now)?;
            let (guard, key) = (&delete.guard, &delete.key);
            self.evaluate(guard, |work| {
                guard.check(&layout.table, key, old.as_ref(), work)
            })?;
        }
        stored_rows::change(self.connection, &layout.delete, &delete.key)?;
        self.track_expiring(&layout);
        Ok(if delete.returns_old {
            Reply::Item(old)
        } else {
            Reply::Done
        })
    }

    fn check_guard(&self, layout: &Layout, guard: &Guard, key: &Key, now: i64) -> Attempt<()> {
        let stored = rows::live(self.connection, layout, key, now)?;
        self.evaluate(guard, |work| {
            guard.check(&layout.table, key, stored.as_ref(), work)
        })
    }

    /// Evaluates a stored row for a write with this guard, until the deadline of the request.
    fn evaluate<T>(
        &self,
        guard: &Guard,
        evaluate: impl FnOnce(&mut Work<'_, Fault>) -> Attempt<T>,
    ) -> Attempt<T> {
        let mut ask = || self.connection.may_continue();
        if guard.condition.is_some() {
            // A batch may hold many conditions, none of which is long enough to ask by itself.
            ask()?;
        }
        evaluate(&mut Work::new(&mut ask))
    }

    /// Inserts or replaces a row. Expired rows that hold its unique values are deleted.
    fn write(&mut self, layout: &Layout, key: &Key, item: &Item, now: i64) -> Attempt<()> {
        let held = layout.held_by(item, key)?;
        let written = self.try_write(layout, &layout.upsert, key, item, &held)?;
        if written.is_none() {
            stored_rows::delete_expired_holders(self.connection, layout, key, &held, now)?;
            self.try_write(layout, &layout.upsert, key, item, &held)?;
        }
        Ok(())
    }

    /// Writes a row, and returns the number of changed rows; `None` if another row holds one of its unique values.
    fn try_write(
        &mut self,
        layout: &Layout,
        sql: &str,
        key: &Key,
        item: &Item,
        held: &[Held<'_>],
    ) -> Attempt<Option<usize>> {
        self.text.clear();
        json::encode_into(item, &mut self.text);
        let mut statement = self.connection.raw.prepare_cached(sql)?;
        statement.raw_bind_parameter(1, Cell::key(&key.partition))?;
        let mut index = 2;
        if let Some(sort) = &key.sort {
            statement.raw_bind_parameter(index, Cell::key(sort))?;
            index += 1;
        }
        statement.raw_bind_parameter(index, self.text.as_str())?;
        for column in &layout.columns {
            index += 1;
            statement.raw_bind_parameter(index, Cell::indexed(item, column))?;
        }
        for (position, _) in &layout.marks {
            index += 1;
            let is_member = layout.table.indexes[*position].values_of(item).is_some();
            statement.raw_bind_parameter(index, Cell::mark(is_member))?;
        }
        for held in held {
            index += 1;
            statement.raw_bind_parameter(index, Cell::held(held, key))?;
        }
        match statement.raw_execute() {
            Err(error) if connection::is_duplicate(&error) => Ok(None),
            changed => Ok(Some(changed?)),
        }
    }
}
