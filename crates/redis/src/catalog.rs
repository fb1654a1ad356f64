//! The catalog: what each table of the store is like, whatever the classes of today say.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;

use mintkey_store::{Error, Result, Table, description, json};

use crate::engine::Errand;
use crate::gate::{Gate, Shielded};
use crate::layout::{self, Layout};
use crate::resp::{Call, Value};
use crate::script::{DESCRIBE, DROP};
use crate::translate::{accepted, bulks, pairs, unexpected};
use crate::writer::Mode;

/// The layout this code writes. A higher one means that newer code wrote it.
const LAYOUT: u32 = 1;
/// Rows that are indexed or dropped in one go.
const CHUNK: usize = 500;
/// Tables remembered; a program that makes up classes without end starts anew now and then.
const REMEMBERED: usize = 1_000;

/// The layouts found so far, by the address of the table, which stays taken as long as the entry
/// keeps it alive.
pub struct Layouts(Shielded<Known>);

/// Tables and their layouts, by the address of the table.
type Known = HashMap<usize, (Arc<Table>, Arc<Layout>)>;

impl Layouts {
    /// Nothing is known yet.
    pub fn new(gate: &Arc<Gate>) -> Self {
        Self(Shielded::new(gate))
    }

    fn find(&self, table: &Arc<Table>) -> Option<Arc<Layout>> {
        self.0.with(|known| {
            known
                .get(&Arc::as_ptr(table).addr())
                .map(|(_, layout)| Arc::clone(layout))
        })
    }

    fn remember(&self, table: &Arc<Table>, layout: &Arc<Layout>) {
        self.0.with(|known| {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(
                Arc::as_ptr(table).addr(),
                (Arc::clone(table), Arc::clone(layout)),
            );
        });
    }

    /// Forgets everything: a catalog is not what it was.
    pub fn forget(&self) {
        self.0.with(HashMap::clear);
    }
}

/// A table's entry as it is stored.
struct Entry {
    epoch: String,
    table: Table,
    unbuilt: Vec<String>,
}

impl Errand<'_> {
    /// The layout of a table, which is made or extended if need be.
    pub async fn layout(&self, table: &Arc<Table>) -> Result<Arc<Layout>> {
        if let Some(layout) = self.engine.layouts.find(table) {
            return Ok(layout);
        }
        loop {
            let stored = self.entry(table).await?;
            let (before, merged, unbuilt) = match stored {
                None => (String::new(), (**table).clone(), Vec::new()),
                Some(entry) => {
                    let merged = description::merge(&entry.table, table)?;
                    if merged == entry.table {
                        let layout = self.make(merged, entry.epoch, entry.unbuilt);
                        if layout.unbuilt.is_empty() {
                            self.engine.layouts.remember(table, &layout);
                            return Ok(layout);
                        }
                        self.build(&layout).await?;
                        continue;
                    }
                    let old = entry.table.indexes.len();
                    let mut unbuilt = entry.unbuilt;
                    unbuilt.extend(merged.indexes[old..].iter().map(|index| index.name.clone()));
                    (entry.epoch, merged, unbuilt)
                }
            };
            self.describe(&merged, &before, &unbuilt).await?;
        }
    }

    fn make(&self, table: Table, epoch: String, unbuilt: Vec<String>) -> Arc<Layout> {
        let prefix = &self.engine.config.prefix;
        Arc::new(Layout::new(prefix, Arc::new(table), epoch, unbuilt))
    }

    async fn entry(&self, table: &Arc<Table>) -> Result<Option<Entry>> {
        let key = layout::catalog(&self.engine.config.prefix, &table.name);
        let reply = self.talk.ask_one(Call::new("HGETALL").arg(key)).await?;
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

    /// Writes a table's entry, unless somebody has changed it meanwhile.
    async fn describe(&self, table: &Table, before: &str, unbuilt: &[String]) -> Result<()> {
        let key = layout::catalog(&self.engine.config.prefix, &table.name);
        let description = json::encode(&description::describe(table));
        let call = Call::script(&DESCRIBE, &[&key], 1024)
            .arg(before)
            .arg("layout")
            .arg(LAYOUT.to_string())
            .arg("epoch")
            .arg(token())
            .arg("description")
            .arg(description)
            .arg("unbuilt")
            .arg(unbuilt.join("\0"))
            .repeatable();
        accepted(self.talk.ask_one(call).await?, table)?;
        self.engine.layouts.forget();
        Ok(())
    }

    /// Adds the rows that were there before an index to it. Whoever needs the index does it; several at
    /// once do no harm.
    async fn build(&self, layout: &Layout) -> Result<()> {
        let table = &layout.table;
        let mut low = b"-".to_vec();
        loop {
            self.talk.start_anew();
            let range = Call::new("ZRANGEBYLEX")
                .arg(&layout.order)
                .arg(&low)
                .arg("+")
                .arg("LIMIT")
                .arg("0")
                .arg(CHUNK.to_string());
            let members = bulks(self.talk.ask_one(range).await?, table)?;
            let Some(last) = members.last() else { break };
            low = [b"(", &last[..]].concat();
            for member in &members {
                let Some(key) = layout.key(member) else {
                    continue;
                };
                if let Some(stored) = self.read(layout, &key).await? {
                    let item = stored.item.clone();
                    let call = self.write_call(layout, &key, &item, Mode::Same(Some(&stored)));
                    // A row that has moved was written by somebody who knows the index.
                    if accepted(self.talk.ask_one(call).await?, table)?
                        == Value::Status("STALE".to_owned())
                    {
                        return Ok(());
                    }
                }
            }
        }
        self.describe(table, &layout.epoch, &[]).await
    }

    /// Drops a table with everything in it.
    pub async fn drop_table(&self, table: &Arc<Table>) -> Result<()> {
        let Some(entry) = self.entry(table).await? else {
            return Ok(());
        };
        let layout = self.make(entry.table, entry.epoch, entry.unbuilt);
        let indexes: Vec<Vec<u8>> = layout
            .table
            .indexes
            .iter()
            .map(|index| layout.index(&index.name))
            .collect();
        loop {
            self.talk.start_anew();
            let range = Call::new("ZRANGEBYLEX")
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
            let mut call = Call::script(&DROP, &keys, 64 * keys.len())
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
        let key = layout::catalog(&self.engine.config.prefix, &table.name);
        let reply = self.talk.ask_one(Call::new("EXISTS").arg(key)).await?;
        Ok(accepted(reply, table)? == Value::Int(1))
    }
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
