//! The catalog: what each table of the store is like, whatever the classes of today say.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;

use mintkey_store::{Error, Key, KeyValue, Result, Table, description, json};

use crate::keyspace::commands::{Mode, write_call};
use crate::keyspace::layout::{Layout, MASTER};
use crate::keyspace::rows::stored;
use crate::operations::context::Errand;
use crate::protocol::replies::{accepted, bulks, pairs, unexpected};
use crate::protocol::resp::{Call, Value};
use crate::protocol::scripts::{DESCRIBE, DROP};

/// The layout this code writes. A higher one means that newer code wrote it.
const LAYOUT: u32 = 1;
/// Rows that are looked for or dropped in one go.
const CHUNK: usize = 500;
/// Rows that are held here at once to be indexed.
const ROWS: usize = 64;
/// A table's entry as it is stored.
struct Entry {
    epoch: String,
    table: Table,
    unbuilt: Vec<String>,
}

/// An entry to be written: its bucket and key, the table, the epoch it follows, what is not built up.
struct Draft {
    bucket: u8,
    key: Vec<u8>,
    table: Table,
    before: String,
    unbuilt: Vec<String>,
}

impl Errand<'_> {
    /// The layout of the bucket with this partition; the table is made or extended there if need be.
    pub async fn layout(&self, table: &Arc<Table>, partition: &KeyValue) -> Result<Arc<Layout>> {
        let bucket = self.engine.config.space.bucket(partition);
        loop {
            if let Some(layout) = self.engine.layouts.find(table, bucket) {
                return Ok(layout);
            }
            if let Some(layout) = self.layouts(table, &[bucket]).await?.pop() {
                return Ok(layout);
            }
        }
    }

    /// The layouts of all buckets, in order.
    pub async fn all_layouts(&self, table: &Arc<Table>) -> Result<Vec<Arc<Layout>>> {
        let buckets: Vec<u8> = self.engine.config.space.buckets().collect();
        self.layouts(table, &buckets).await
    }

    /// The layouts of these buckets. What the class has and the catalog lacks is added, in a Cluster to
    /// the entry for all buckets first; a bucket follows when it is first used.
    pub async fn layouts(&self, table: &Arc<Table>, buckets: &[u8]) -> Result<Vec<Arc<Layout>>> {
        let space = &self.engine.config.space;
        let mut found: Vec<Option<Arc<Layout>>> = buckets
            .iter()
            .map(|bucket| self.engine.layouts.find(table, *bucket))
            .collect();
        loop {
            let missing: Vec<usize> = (0..found.len()).filter(|at| found[*at].is_none()).collect();
            if missing.is_empty() {
                return Ok(found.into_iter().flatten().collect());
            }
            let mut calls: Vec<Call> = missing
                .iter()
                .map(|at| {
                    let key = space.catalog(&table.name, buckets[*at]);
                    Call::on(buckets[*at], "HGETALL").arg(key)
                })
                .collect();
            if space.in_buckets {
                calls.push(Call::on(MASTER, "HGETALL").arg(space.master(&table.name)));
            }
            let mut replies = self.talk.ask(calls).await?;
            let mut drafts = Vec::new();
            let mut whole = (**table).clone();
            if space.in_buckets {
                let stored = entry(replies.pop().unwrap_or(Value::Nil), table)?;
                match compare(stored, &whole, MASTER, space.master(&table.name))? {
                    Stand::Fits(entry) => whole = entry.table,
                    // Nothing is built up there.
                    Stand::Lacks(draft) => drafts.push(Draft {
                        unbuilt: Vec::new(),
                        ..draft
                    }),
                }
            }
            let mut unbuilt = Vec::new();
            // The entry for all comes first: a bucket is never ahead of it.
            if drafts.is_empty() {
                for (at, reply) in missing.into_iter().zip(replies) {
                    let (bucket, stored) = (buckets[at], entry(reply, table)?);
                    let key = space.catalog(&table.name, bucket);
                    let entry = match compare(stored, &whole, bucket, key)? {
                        Stand::Fits(entry) => entry,
                        Stand::Lacks(draft) => {
                            drafts.push(draft);
                            continue;
                        }
                    };
                    let (own, left) = (Arc::new(entry.table), entry.unbuilt);
                    let layout = Arc::new(Layout::new(space, bucket, own, entry.epoch, left));
                    if layout.unbuilt.is_empty() {
                        self.engine.layouts.remember(table, &layout);
                        found[at] = Some(layout);
                    } else {
                        unbuilt.push(layout);
                    }
                }
            }
            self.describe(drafts, table).await?;
            for layout in unbuilt {
                self.build(&layout).await?;
            }
        }
    }

    /// Writes entries, unless somebody has changed them meanwhile.
    async fn describe(&self, drafts: Vec<Draft>, table: &Table) -> Result<()> {
        let calls = drafts.into_iter().map(|draft| {
            Call::script(draft.bucket, &DESCRIBE, &[&draft.key], &[], 1024)
                .arg(draft.before)
                .arg("layout")
                .arg(LAYOUT.to_string())
                .arg("epoch")
                .arg(token())
                .arg("description")
                .arg(json::encode(&description::describe(&draft.table)))
                .arg("unbuilt")
                .arg(draft.unbuilt.join("\0"))
                .repeatable()
        });
        let calls: Vec<Call> = calls.collect();
        if !calls.is_empty() {
            for reply in self.talk.ask(calls).await? {
                accepted(reply, table)?;
            }
        }
        Ok(())
    }

    /// Adds the rows that were there before an index to it. Whoever needs the index does it; several at
    /// once do no harm.
    async fn build(&self, layout: &Layout) -> Result<()> {
        let table = &layout.table;
        let mut low = b"-".to_vec();
        loop {
            self.talk.start_anew();
            let range = layout
                .call("ZRANGEBYLEX")
                .arg(&layout.order)
                .arg(&low)
                .arg("+")
                .arg("LIMIT")
                .arg("0")
                .arg(CHUNK.to_string());
            let members = bulks(self.talk.ask_one(range).await?, table)?;
            let Some(last) = members.last() else { break };
            low = [b"(", &last[..]].concat();
            for members in members.chunks(ROWS) {
                self.talk.start_anew();
                let keys: Vec<_> = members.iter().filter_map(|own| layout.key(own)).collect();
                if !self.index_rows(layout, &keys).await? {
                    return Ok(());
                }
            }
        }
        let draft = Draft {
            bucket: layout.bucket,
            key: layout.catalog.clone(),
            table: (**table).clone(),
            before: layout.epoch.clone(),
            unbuilt: Vec::new(),
        };
        self.describe(vec![draft], table).await
    }

    /// Adds rows to the indexes; false if the catalog is another by now.
    async fn index_rows(&self, layout: &Layout, keys: &[Key]) -> Result<bool> {
        let table = &layout.table;
        let row = |key| layout.call("HGETALL").arg(layout.row(key));
        let rows = self.talk.ask(keys.iter().map(row).collect()).await?;
        let mut calls = Vec::with_capacity(keys.len());
        for (key, row) in keys.iter().zip(rows) {
            if let Some(row) = stored(row, table).map_err(|error| error.at(key))? {
                calls.push(write_call(
                    layout,
                    key,
                    &row.item,
                    Mode::Same(Some(&row)),
                    self.now,
                ));
            }
        }
        for reply in self.talk.ask(calls).await? {
            // A row that has moved was written by somebody who knows the index.
            if accepted(reply, table)? == Value::Status("STALE".to_owned()) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops a table with everything in it.
    pub async fn drop_table(&self, table: &Arc<Table>) -> Result<()> {
        let space = &self.engine.config.space;
        self.drop_buckets(table).await?;
        if space.in_buckets {
            let call = Call::on(MASTER, "DEL")
                .arg(space.master(&table.name))
                .writing();
            accepted(self.talk.ask_one(call).await?, table)?;
            // Whoever makes a bucket looks at the entry for all afterwards: either it is made before this,
            // and dropped here, or he sees that the table is gone, and makes it anew.
            self.drop_buckets(table).await?;
        }
        Ok(())
    }

    /// Drops what the buckets have of a table.
    async fn drop_buckets(&self, table: &Arc<Table>) -> Result<()> {
        let space = &self.engine.config.space;
        let entries = space
            .buckets()
            .map(|bucket| Call::on(bucket, "HGETALL").arg(space.catalog(&table.name, bucket)));
        let replies = self.talk.ask(entries.collect()).await?;
        for (bucket, reply) in space.buckets().zip(replies) {
            if let Some(Entry {
                epoch,
                table: stored,
                unbuilt,
            }) = entry(reply, table)?
            {
                let layout = Layout::new(space, bucket, Arc::new(stored), epoch, unbuilt);
                self.drop_bucket(&layout).await?;
            }
        }
        Ok(())
    }

    async fn drop_bucket(&self, layout: &Layout) -> Result<()> {
        let table = &layout.table;
        let indexes: Vec<Vec<u8>> = table
            .indexes
            .iter()
            .map(|index| layout.index(&index.name))
            .collect();
        loop {
            self.talk.start_anew();
            let range = layout
                .call("ZRANGEBYLEX")
                .arg(&layout.order)
                .arg("-")
                .arg("+")
                .arg("LIMIT")
                .arg("0")
                .arg(CHUNK.to_string());
            let members = bulks(self.talk.ask_one(range).await?, table)?;
            let rows: Vec<Vec<u8>> = members
                .iter()
                .filter_map(|member| layout.key(member))
                .map(|key| layout.row(&key))
                .collect();
            if rows.len() != members.len() {
                return Err(Error::configuration(format!(
                    "the order of table {:?} holds what is no key: something else wrote to it, or it is damaged",
                    table.name
                ))
                .of(table));
            }
            let mut keys: Vec<&[u8]> = vec![&layout.order, &layout.catalog];
            keys.extend(indexes.iter().chain(&rows).map(Vec::as_slice));
            let mut call = Call::script(layout.bucket, &DROP, &keys, &[], 64 * keys.len())
                .arg(indexes.len().to_string())
                .repeatable();
            for member in &members {
                call.push(member);
            }
            let reply = accepted(self.talk.ask_one(call).await?, table)?;
            self.engine.layouts.forget();
            if reply == Value::Int(1) {
                return Ok(());
            }
        }
    }

    /// Whether the catalog has a table.
    pub async fn table_exists(&self, table: &Table) -> Result<bool> {
        let key = self.engine.config.space.master(&table.name);
        let reply = self
            .talk
            .ask_one(Call::on(MASTER, "EXISTS").arg(key))
            .await?;
        Ok(accepted(reply, table)? == Value::Int(1))
    }
}

/// Reads an entry.
fn entry(reply: Value, table: &Arc<Table>) -> Result<Option<Entry>> {
    let fields = pairs(accepted(reply, table)?).ok_or_else(|| unexpected(table))?;
    if fields.is_empty() {
        return Ok(None);
    }
    let text = |name: &str| {
        let field = fields.iter().find(|(own, _)| own == name.as_bytes());
        field.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let layout = text("layout").and_then(|text| text.parse::<u32>().ok());
    if let Some(newer) = layout.filter(|layout| *layout > LAYOUT) {
        return Err(Error::configuration(format!(
            "table {:?} was written by a newer mintkey (layout {newer}, this one knows up to {LAYOUT}): \
             upgrade mintkey",
            table.name
        ))
        .of(table));
    }
    let read = || {
        layout?;
        let description = json::decode(text("description")?).ok()?;
        let unbuilt = text("unbuilt")?.split('\0').filter(|name| !name.is_empty());
        Some(Entry {
            epoch: text("epoch")?.to_owned(),
            table: description::parse(table, &description)?,
            unbuilt: unbuilt.map(str::to_owned).collect(),
        })
    };
    read().map(Some).ok_or_else(|| {
        Error::configuration(format!(
            "the catalog's entry of table {:?} cannot be read: something else wrote to it, or it is damaged",
            table.name
        ))
        .of(table)
    })
}

/// How an entry stands to what is wanted of it.
enum Stand {
    /// It has everything.
    Fits(Entry),
    /// It is to be written anew.
    Lacks(Draft),
}

fn compare(stored: Option<Entry>, wanted: &Table, bucket: u8, key: Vec<u8>) -> Result<Stand> {
    let (table, before, unbuilt) = match stored {
        None => (wanted.clone(), String::new(), Vec::new()),
        Some(entry) => {
            let merged = description::merge(&entry.table, wanted)?;
            if merged == entry.table {
                return Ok(Stand::Fits(entry));
            }
            let old = entry.table.indexes.len();
            let mut unbuilt = entry.unbuilt;
            unbuilt.extend(merged.indexes[old..].iter().map(|index| index.name.clone()));
            (merged, entry.epoch, unbuilt)
        }
    };
    Ok(Stand::Lacks(Draft {
        bucket,
        key,
        table,
        before,
        unbuilt,
    }))
}

/// A word that no two entries of a catalog share, in whatever process.
fn token() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    if let Ok(time) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        hasher.write_u128(time.as_nanos());
    }
    format!("{:016x}", hasher.finish())
}
