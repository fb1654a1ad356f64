//! The catalog: the stored description of each table. It may differ from the models of this program.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::time::SystemTime;

use mintkey_runtime::Stop;
use mintkey_store::{Error, Key, KeyValue, Outcome, Result, Table, description, json};

use crate::keyspace::layout::{Keyspace, Layout, TABLE_KEY_GROUP};
use crate::operations::context::OperationContext;
use crate::protocol::replies::{bulks, checked, damaged, pairs, unexpected_reply};
use crate::protocol::resp::{Call, Value};
use crate::protocol::scripts::{DESCRIBE, DROP, UNDESCRIBE};

/// The newest version of the layout that this mintkey supports. A newer mintkey may write a higher one.
const LAYOUT_VERSION: u32 = 3;
/// The members that one call reads or deletes.
const MEMBERS_PER_CALL: usize = 500;
/// The rows that are read and indexed at once.
pub const ROWS_PER_CALL: usize = 64;

/// A stored catalog entry.
pub struct CatalogEntry {
    pub epoch: String,
    pub table: Table,
    unbuilt: Vec<String>,
    /// The table with the unique values that its rows claim, if it is to have others that are not built yet.
    claimed: Option<Table>,
}

impl CatalogEntry {
    /// Whether a class declares unique values that are not built yet.
    pub fn lacks(&self, class: &Table) -> Result<bool> {
        Ok(match &self.claimed {
            Some(claimed) => description::merge(claimed, class)?.unique != claimed.unique,
            None => false,
        })
    }

    /// The entry, to be replaced.
    fn draft(self, slot_group: u8, key: Vec<u8>) -> EntryDraft {
        EntryDraft {
            slot_group,
            key,
            table: self.table,
            old_epoch: self.epoch,
            unbuilt: self.unbuilt,
            claimed: None,
        }
    }

    /// The layout of the table in a slot group.
    pub fn layout(self, keyspace: &Keyspace, slot_group: u8) -> Layout {
        Layout::new(
            keyspace,
            slot_group,
            Arc::new(self.table),
            self.epoch,
            self.unbuilt,
        )
    }
}

/// A catalog entry to write.
pub struct EntryDraft {
    slot_group: u8,
    key: Vec<u8>,
    table: Table,
    /// The epoch of the entry that it replaces.
    old_epoch: String,
    /// The indexes that are not built yet.
    unbuilt: Vec<String>,
    /// The description of the table with the unique values that its rows claim; empty if these are all. `None`: as before.
    claimed: Option<String>,
}

impl OperationContext<'_> {
    /// The layout of a table in the slot group of a partition. Creates or extends the table there if needed.
    pub async fn layout(&self, table: &Arc<Table>, partition: &KeyValue) -> Result<Arc<Layout>> {
        let slot_group = self.store.config.keyspace.slot_group(table, partition);
        self.layout_in(table, slot_group).await
    }

    pub async fn layout_in(&self, table: &Arc<Table>, slot_group: u8) -> Result<Arc<Layout>> {
        loop {
            if let Some(layout) = self.cached_layout(table, slot_group)? {
                return Ok(layout);
            }
            if let Some(layout) = self.layouts(table, &[slot_group]).await?.pop() {
                return Ok(layout);
            }
        }
    }

    /// The layout in the cache, if it is there.
    pub fn cached_layout(&self, table: &Arc<Table>, slot_group: u8) -> Result<Option<Arc<Layout>>> {
        if self.channel.deadline().has_forked() {
            // Another thread of the parent may have held the lock of the cache.
            let address = &self.store.config.address;
            return Err(Stop::Forked.error(address, "carrying out a request", Outcome::Unknown));
        }
        Ok(self.store.layouts.find(table, slot_group))
    }

    /// The layouts of a table in all slot groups that it uses, in order.
    pub async fn all_layouts(&self, table: &Arc<Table>) -> Result<Vec<Arc<Layout>>> {
        let slot_groups = self.store.config.keyspace.slot_groups_of(table);
        self.layouts(table, &slot_groups).await
    }

    /// The layouts of a table in these slot groups. Adds to the catalog what it lacks of the model. In a Cluster, the entry
    /// of the whole table comes first. The entry of a slot group follows when the group is first used.
    pub async fn layouts(
        &self,
        table: &Arc<Table>,
        slot_groups: &[u8],
    ) -> Result<Vec<Arc<Layout>>> {
        let keyspace = &self.store.config.keyspace;
        let mut found: Vec<Option<Arc<Layout>>> = slot_groups
            .iter()
            .map(|slot_group| self.cached_layout(table, *slot_group))
            .collect::<Result<_>>()?;
        loop {
            let missing: Vec<usize> = (0..found.len())
                .filter(|index| found[*index].is_none())
                .collect();
            if missing.is_empty() {
                return Ok(found.into_iter().flatten().collect());
            }
            let groups: Vec<u8> = missing.iter().map(|index| slot_groups[*index]).collect();
            let mut replies = self.channel.send(self.entry_calls(table, &groups)).await?;
            let mut drafts = Vec::new();
            let mut whole_table = (**table).clone();
            if keyspace.clustered {
                let stored = decode_entry(replies.pop().unwrap_or(Value::Nil), table)?;
                let key = keyspace.table_key(&table.name);
                if let Some(entry) = &stored {
                    description::check_colocation(&entry.table, table)?;
                }
                match compare(stored, &whole_table, TABLE_KEY_GROUP, key)? {
                    Comparison::Current(entry) if entry.lacks(table)? => {
                        self.build_unique(table).await?;
                        continue;
                    }
                    Comparison::Current(entry) => whole_table = entry.table,
                    // The entry of the whole table has no indexes to build.
                    Comparison::Outdated(draft) => drafts.push(EntryDraft {
                        unbuilt: Vec::new(),
                        ..draft
                    }),
                }
            }
            let mut lacks_unique = false;
            // The entry of the whole table comes first: a slot group is never ahead of it.
            if drafts.is_empty() {
                for (index, reply) in missing.into_iter().zip(replies) {
                    match self.compare_group(table, &whole_table, slot_groups[index], reply)? {
                        Comparison::Current(entry) if entry.lacks(table)? => lacks_unique = true,
                        Comparison::Current(entry) => {
                            let layout = Arc::new(entry.layout(keyspace, slot_groups[index]));
                            self.store.layouts.insert(table, &layout);
                            found[index] = Some(layout);
                        }
                        Comparison::Outdated(draft) => drafts.push(draft),
                    }
                }
            }
            self.write_entries(drafts, table).await?;
            if lacks_unique {
                self.build_unique(table).await?;
            }
        }
    }

    /// Compares the entry of a slot group with the whole table.
    fn compare_group(
        &self,
        table: &Arc<Table>,
        whole_table: &Table,
        slot_group: u8,
        reply: Value,
    ) -> Result<Comparison> {
        let keyspace = &self.store.config.keyspace;
        let key = keyspace.catalog_key(&table.name, slot_group);
        let mut comparison = compare(decode_entry(reply, table)?, whole_table, slot_group, key)?;
        if let Comparison::Outdated(draft) = &mut comparison
            && keyspace.clustered
        {
            // Only the entry of the whole table says which unique values are built.
            draft.claimed = None;
        }
        Ok(comparison)
    }

    /// The catalog entry of a whole table; `None` if there is none.
    pub async fn table_entry(&self, table: &Arc<Table>) -> Result<Option<CatalogEntry>> {
        let call = self.store.config.keyspace.table_call(&table.name);
        decode_entry(self.channel.send_one(call).await?, table)
    }

    /// The calls that read the catalog entries of a table: in these slot groups, and in a Cluster that of the whole table.
    pub fn entry_calls(&self, table: &Table, slot_groups: &[u8]) -> Vec<Call> {
        let keyspace = &self.store.config.keyspace;
        let calls = slot_groups
            .iter()
            .map(|slot_group| keyspace.entry_call(&table.name, *slot_group));
        let whole_table = keyspace.clustered.then(|| keyspace.table_call(&table.name));
        calls.chain(whole_table).collect()
    }

    /// Writes catalog entries, unless another process has changed them. Returns false if one was changed.
    async fn write_entries(&self, drafts: Vec<EntryDraft>, table: &Table) -> Result<bool> {
        let keyspace = &self.store.config.keyspace;
        let calls = drafts.into_iter().map(|draft| {
            let of_whole_table = draft.key == keyspace.table_key(&table.name);
            let tables = of_whole_table.then(|| keyspace.tables_key());
            let keys: Vec<&[u8]> = std::iter::once(&draft.key)
                .chain(&tables)
                .map(Vec::as_slice)
                .collect();
            let call = Call::script(draft.slot_group, &DESCRIBE, &keys, &[], 1024)
                .arg(draft.old_epoch)
                .arg(&table.name)
                .arg("layout")
                .arg(layout_version(&draft.table).to_string())
                .arg("epoch")
                .arg(new_epoch())
                .arg("description")
                .arg(json::encode(&description::describe(&draft.table)))
                .arg("unbuilt")
                .arg(draft.unbuilt.join("\0"))
                // A new index is built from the first row on.
                .arg("built")
                .arg("")
                .repeatable();
            match draft.claimed {
                Some(claimed) => call.arg("claimed").arg(claimed),
                None => call,
            }
        });
        let calls: Vec<Call> = calls.collect();
        let mut are_written = true;
        if !calls.is_empty() {
            for reply in self.channel.send(calls).await? {
                are_written &= checked(reply, table)? == Value::Status("OK".to_owned());
            }
        }
        Ok(are_written)
    }

    /// The next members of the row set of a slot group, after this lower bound.
    async fn members(&self, layout: &Layout, low: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.channel.deadline().restart();
        let range = layout
            .call("ZRANGEBYLEX")
            .arg(&layout.row_set)
            .arg(low)
            .arg("+")
            .arg("LIMIT")
            .arg("0")
            .arg(MEMBERS_PER_CALL.to_string());
        bulks(self.channel.send_one(range).await?, &layout.table)
    }

    /// The keys of the next rows of a slot group, after the lower bound of the row set, which moves on. `None` if there are
    /// no more.
    pub async fn next_keys(&self, layout: &Layout, low: &mut Vec<u8>) -> Result<Option<Vec<Key>>> {
        let members = self.members(layout, low).await?;
        let Some(last) = members.last() else {
            return Ok(None);
        };
        *low = [b"(", &last[..]].concat();
        let keys = members.iter().filter_map(|member| layout.key_of(member));
        Ok(Some(keys.collect()))
    }

    /// The entry that says which unique values are built, if some are not, to be replaced by one that has them all; with the
    /// table that has only those that are built.
    pub async fn pending_unique(&self, table: &Arc<Table>) -> Result<Option<(EntryDraft, Table)>> {
        let entry = self.table_entry(table).await?;
        Ok(entry.and_then(|mut entry| {
            let claimed = entry.claimed.take()?;
            let key = self.store.config.keyspace.table_key(&table.name);
            Some((entry.draft(TABLE_KEY_GROUP, key), claimed))
        }))
    }

    /// Notes that all indexes of a slot group are built, unless another process has changed the entry.
    pub async fn finish_indexes(&self, layout: &Layout) -> Result<()> {
        let draft = EntryDraft {
            slot_group: layout.slot_group,
            key: layout.catalog_key.clone(),
            table: (*layout.table).clone(),
            old_epoch: layout.epoch.clone(),
            unbuilt: Vec::new(),
            claimed: None,
        };
        let written = self.write_entries(vec![draft], &layout.table).await;
        written.map(drop)
    }

    /// Notes that all unique values are built, unless another process has changed the entry.
    pub async fn finish_unique(&self, draft: EntryDraft, table: &Table) -> Result<bool> {
        let draft = EntryDraft {
            claimed: Some(String::new()),
            ..draft
        };
        self.write_entries(vec![draft], table).await
    }

    /// Gives a table its old unique values back, unless another process has changed the entry.
    pub async fn restore_unique(
        &self,
        mut draft: EntryDraft,
        before: Table,
        table: &Arc<Table>,
    ) -> Result<bool> {
        let keyspace = &self.store.config.keyspace;
        let news = std::mem::replace(&mut draft.table.unique, before.unique.clone());
        if !self.finish_unique(draft, table).await? {
            return Ok(false);
        }
        if keyspace.clustered {
            let slot_groups = keyspace.slot_groups_of(table);
            let mut replies = self
                .channel
                .send(self.entry_calls(table, &slot_groups))
                .await?;
            replies.pop();
            let mut drafts = Vec::new();
            for (slot_group, reply) in slot_groups.into_iter().zip(replies) {
                if let Some(entry) = decode_entry(reply, table)? {
                    let key = keyspace.catalog_key(&table.name, slot_group);
                    let mut draft = entry.draft(slot_group, key);
                    draft.table.unique.clone_from(&before.unique);
                    drafts.push(draft);
                }
            }
            self.write_entries(drafts, table).await?;
        }
        self.store.layouts.clear();
        let removed = news.into_iter().map(|unique| unique.name);
        let removed: Vec<String> = removed
            .filter(|name| before.unique(name).is_none())
            .collect();
        self.release_rows(table, &removed).await?;
        Ok(true)
    }

    /// Stops keeping values unique: removes the declarations, then the claims and the markers.
    pub async fn drop_unique(&self, table: &Arc<Table>, names: &[String]) -> Result<()> {
        // What the class of this process declares is not to be added meanwhile.
        let follower = Arc::new(table.without_unique());
        let key = self.store.config.keyspace.table_key(&table.name);
        loop {
            self.channel.deadline().restart();
            let Some(entry) = self.table_entry(table).await? else {
                return Ok(());
            };
            let mut left = entry.table.clone();
            left.unique.retain(|unique| !names.contains(&unique.name));
            if left.unique.len() == entry.table.unique.len() {
                return Ok(());
            }
            if entry.claimed.is_some() {
                self.build_unique(table).await?;
                continue;
            }
            let draft = entry.draft(TABLE_KEY_GROUP, key.clone());
            if self.restore_unique(draft, left, &follower).await? {
                return Ok(());
            }
        }
    }

    /// Deletes a table with all its rows.
    pub async fn delete_table(&self, table: &Arc<Table>) -> Result<()> {
        let keyspace = &self.store.config.keyspace;
        self.delete_slot_groups(table).await?;
        if keyspace.clustered {
            let keys = [keyspace.table_key(&table.name), keyspace.tables_key()];
            let call = Call::script(TABLE_KEY_GROUP, &UNDESCRIBE, &[], &keys, 128)
                .arg(&table.name)
                .repeatable();
            checked(self.channel.send_one(call).await?, table)?;
            // A process that creates a slot group checks the entry of the whole table afterwards. Either the group was created
            // before, and is deleted here, or that process sees that the table is gone, and creates it again.
            self.delete_slot_groups(table).await?;
        }
        Ok(())
    }

    /// Deletes a table in all slot groups.
    async fn delete_slot_groups(&self, table: &Arc<Table>) -> Result<()> {
        let keyspace = &self.store.config.keyspace;
        let entries = keyspace
            .slot_groups()
            .map(|slot_group| keyspace.entry_call(&table.name, slot_group));
        let replies = self.channel.send(entries.collect()).await?;
        for (slot_group, reply) in keyspace.slot_groups().zip(replies) {
            if let Some(entry) = decode_entry(reply, table)? {
                let layout = entry.layout(keyspace, slot_group);
                self.delete_slot_group(&layout).await?;
            }
        }
        Ok(())
    }

    async fn delete_slot_group(&self, layout: &Layout) -> Result<()> {
        let table = &layout.table;
        let index_sets = table
            .indexes
            .iter()
            .map(|index| layout.index_set(&index.name));
        let marker_hashes = table.unique.iter();
        let marker_hashes = marker_hashes.map(|unique| layout.markers_key(unique.name.as_bytes()));
        let sets: Vec<Vec<u8>> = index_sets.chain(marker_hashes).collect();
        let keyspace = &self.store.config.keyspace;
        let tables = (!keyspace.clustered).then(|| keyspace.tables_key());
        loop {
            let members = self.members(layout, b"-").await?;
            let rows: Vec<Vec<u8>> = members
                .iter()
                .filter_map(|member| layout.key_of(member))
                .map(|key| layout.row_key(&key))
                .collect();
            if rows.len() != members.len() {
                return Err(damaged(
                    table,
                    "the row set",
                    "has a member that is not a key",
                ));
            }
            let mut keys: Vec<&[u8]> = vec![&layout.row_set, &layout.catalog_key];
            keys.extend(sets.iter().chain(&rows).chain(&tables).map(Vec::as_slice));
            let mut call = Call::script(layout.slot_group, &DROP, &keys, &[], 64 * keys.len())
                .arg(sets.len().to_string())
                .arg(&table.name)
                .repeatable();
            for member in &members {
                call.push(member);
            }
            let reply = checked(self.channel.send_one(call).await?, table)?;
            self.store.layouts.clear();
            if reply == Value::Int(1) {
                return Ok(());
            }
        }
    }

    pub async fn table_exists(&self, table: &Table) -> Result<bool> {
        let key = self.store.config.keyspace.table_key(&table.name);
        let reply = self
            .channel
            .send_one(Call::on(TABLE_KEY_GROUP, "EXISTS").arg(key))
            .await?;
        Ok(checked(reply, table)? == Value::Int(1))
    }
}

/// Decodes a catalog entry; `None` if there is none.
pub fn decode_entry(reply: Value, table: &Arc<Table>) -> Result<Option<CatalogEntry>> {
    let fields = pairs(checked(reply, table)?).ok_or_else(|| unexpected_reply(table))?;
    if fields.is_empty() {
        return Ok(None);
    }
    let text = |name: &str| {
        let field = fields.iter().find(|(own, _)| own == name.as_bytes());
        field.and_then(|(_, value)| std::str::from_utf8(value).ok())
    };
    let layout = text("layout").and_then(|text| text.parse::<u32>().ok());
    if let Some(newer) = layout.filter(|layout| *layout > LAYOUT_VERSION) {
        return Err(Error::configuration(format!(
            "table {:?} was written by a newer mintkey (layout {newer}, this version supports up to {LAYOUT_VERSION}): \
             upgrade mintkey",
            table.name
        ))
        .of(table));
    }
    let read = || {
        layout?;
        let description = json::decode(text("description")?).ok()?;
        let unbuilt = text("unbuilt")?.split('\0').filter(|name| !name.is_empty());
        let claimed = match text("claimed") {
            None | Some("") => None,
            Some(claimed) => Some(description::parse(table, &json::decode(claimed).ok()?)?),
        };
        Some(CatalogEntry {
            claimed,
            epoch: text("epoch")?.to_owned(),
            table: description::parse(table, &description)?,
            unbuilt: unbuilt.map(str::to_owned).collect(),
        })
    };
    read()
        .map(Some)
        .ok_or_else(|| damaged(table, "the catalog entry", "cannot be read"))
}

/// A catalog entry, compared with the model.
enum Comparison {
    /// It has everything that the model needs.
    Current(CatalogEntry),
    /// It must be written.
    Outdated(EntryDraft),
}

fn compare(
    stored: Option<CatalogEntry>,
    wanted: &Table,
    slot_group: u8,
    key: Vec<u8>,
) -> Result<Comparison> {
    let (table, old_epoch, unbuilt, claimed) = match stored {
        None => (wanted.clone(), String::new(), Vec::new(), None),
        Some(entry) => {
            let merged = description::merge(&entry.table, wanted)?;
            if merged == entry.table {
                return Ok(Comparison::Current(entry));
            }
            let old = entry.table.indexes.len();
            let mut unbuilt = entry.unbuilt;
            unbuilt.extend(merged.indexes[old..].iter().map(|index| index.name.clone()));
            let claimed = (merged.unique != entry.table.unique).then(|| {
                let claimed = entry.claimed.as_ref().unwrap_or(&entry.table);
                json::encode(&description::describe(claimed))
            });
            (merged, entry.epoch, unbuilt, claimed)
        }
    };
    Ok(Comparison::Outdated(EntryDraft {
        slot_group,
        key,
        table,
        old_epoch,
        unbuilt,
        claimed,
    }))
}

/// The version of the layout of a table: 2 if it has unique values, which a mintkey that supports only 1 would not keep up,
/// and 3 if its rows are in one slot group, where one that supports only 2 would not look for them.
const fn layout_version(table: &Table) -> u32 {
    match (&table.colocate, table.unique.is_empty()) {
        (Some(_), _) => LAYOUT_VERSION,
        (None, false) => 2,
        (None, true) => 1,
    }
}

/// A unique epoch: no two catalog entries share one, in any process.
fn new_epoch() -> String {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    if let Ok(time) = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        hasher.write_u128(time.as_nanos());
    }
    format!("{:016x}", hasher.finish())
}
