//! Adds the existing rows of a table to its new indexes, some rows at a time. Writers are not stopped.
//!
//! The catalog entry names the indexes that are not built. Writers follow the entry, so they keep these indexes up to date
//! from then on. Readers by such an index build it first. The entry also says how far the build has come, so that the next
//! process continues where another has ended.

use std::sync::Arc;

use mintkey_store::{Index, Key, Result};

use crate::keyspace::layout::{Layout, pack};
use crate::keyspace::projection::RowProjection;
use crate::operations::catalog::ROWS_PER_CALL;
use crate::operations::context::OperationContext;
use crate::protocol::replies::{checked, unexpected_reply};
use crate::protocol::resp::{Call, Value};
use crate::protocol::scripts::ADD_ENTRIES;

impl OperationContext<'_> {
    /// Builds what is not built of an index, or of all indexes, in these slot groups. Several processes at once do no harm.
    /// Returns whether anything was missing: then the layouts have changed.
    pub async fn build_indexes(
        &self,
        layouts: &[Arc<Layout>],
        index: Option<&Index>,
    ) -> Result<bool> {
        let is_wanted = |name: &String| index.is_none_or(|index| index.name == *name);
        let mut any = false;
        for layout in layouts {
            if layout.unbuilt.iter().any(is_wanted) {
                any = true;
                self.build_slot_group(layout).await?;
            }
        }
        if any {
            self.store.layouts.clear();
        }
        Ok(any)
    }

    /// Builds all indexes of a slot group. Ends early if the catalog entry changes.
    async fn build_slot_group(&self, layout: &Layout) -> Result<()> {
        let key = &layout.catalog_key;
        let call = layout.call("HMGET").arg(key).arg("epoch").arg("built");
        let mut low = match checked(self.channel.send_one(call).await?, &layout.table)? {
            Value::Array(fields) => match &fields[..] {
                [Value::Bulk(epoch), built] if epoch == layout.epoch.as_bytes() => match built {
                    Value::Bulk(member) if !member.is_empty() => [b"(", &member[..]].concat(),
                    _ => b"-".to_vec(),
                },
                _ => return Ok(()),
            },
            _ => return Err(unexpected_reply(&layout.table)),
        };
        while let Some(keys) = self.next_keys(layout, &mut low).await? {
            for keys in keys.chunks(ROWS_PER_CALL) {
                self.channel.deadline().restart();
                if !self.index_rows(layout, keys).await? {
                    return Ok(());
                }
            }
        }
        self.finish_indexes(layout).await
    }

    /// Adds rows to the indexes, and notes that. Returns false if the catalog entry has changed.
    async fn index_rows(&self, layout: &Layout, keys: &[Key]) -> Result<bool> {
        let indexed = layout.table.indexes.iter().flat_map(Index::attributes);
        let projection = RowProjection::of(&layout.table, indexed.map(|part| &part.name));
        let reads = keys.iter().map(|key| projection.call(layout, key));
        let rows = self.channel.send(reads.collect()).await?;
        let Some(call) = entries_call(layout, &projection, keys, rows)? else {
            return Ok(true);
        };
        let reply = checked(self.channel.send_one(call).await?, &layout.table)?;
        Ok(reply != Value::Status("STALE".to_owned()))
    }
}

/// The call that adds rows to the indexes; `None` if there are no keys.
fn entries_call(
    layout: &Layout,
    projection: &RowProjection,
    keys: &[Key],
    rows: Vec<Value>,
) -> Result<Option<Call>> {
    let Some(last) = keys.last() else {
        return Ok(None);
    };
    let table = &layout.table;
    let mut decoder = mintkey_store::json::Decoder::default();
    let (mut row_keys, mut arguments) = (Vec::new(), Vec::new());
    for (key, row) in keys.iter().zip(rows) {
        let Value::Array(values) = &row else {
            return Err(checked(row, table).map_or_else(|error| error, |_| unexpected_reply(table)));
        };
        let stored: Vec<&[u8]> = values
            .iter()
            .map(|value| match value {
                Value::Bulk(bytes) => &bytes[..],
                _ => &[],
            })
            .collect();
        let stored = pack(stored);
        let item = projection.item(row, table, key, &mut decoder);
        let Some(item) = item.map_err(|error| error.at(key))? else {
            continue;
        };
        let entries = layout.index_entries(&item, key);
        if !entries.is_empty() {
            row_keys.push(layout.row_key(key));
            arguments.extend([stored, entries]);
        }
    }
    let script_keys: Vec<&[u8]> = std::iter::once(&layout.catalog_key)
        .chain(&row_keys)
        .map(Vec::as_slice)
        .collect();
    let room = 256 * script_keys.len();
    let mut call = layout
        .script(&ADD_ENTRIES, &script_keys, room)
        .arg(&layout.epoch)
        .arg(Layout::member(last))
        .arg(&layout.index_prefix)
        .arg(pack(projection.names().iter().map(|name| name.as_bytes())));
    for argument in arguments {
        call.push(&argument);
    }
    Ok(Some(call.repeatable()))
}
