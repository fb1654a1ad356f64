//! Unique values where a script writes markers and rows together: values that are taken, and reads by a value.

use std::collections::HashSet;
use std::sync::Arc;

use mintkey_store::unique::encode;
use mintkey_store::{
    Error, GetUnique, Item, Key, Outcome, Reply, Result, Row, Table, Write, update,
};

use crate::keyspace::layout::{Layout, MarkerLocation};
use crate::keyspace::rows::{StoredRow, UNIQUE_ENTRIES, decode_row};
use crate::keyspace::unique::{
    TakenValue, UniqueValue, marker_call, parse_unique_values, release_call, stored_unique_values,
    unique_values,
};
use crate::operations::context::OperationContext;
use crate::protocol::replies::{Cause, checked, damaged, is_out_of_sync, unexpected_reply};
use crate::protocol::resp::{Call, Value};

/// What the row of a marker shows.
pub enum Holder {
    /// The row holds the value.
    Row(Item),
    /// No row holds it.
    None,
    /// The marker has changed meanwhile.
    Changed,
}

impl OperationContext<'_> {
    /// Frees a value whose marker names another row, so that the write can be repeated. `item` is what was to be written.
    ///
    /// # Errors
    ///
    /// `UniqueViolation` if that row holds the value.
    pub async fn free_value(
        &self,
        layout: &Layout,
        key: &Key,
        item: &Item,
        taken: TakenValue,
    ) -> Result<()> {
        let holder = layout
            .key_of(&taken.marker)
            .ok_or_else(|| damaged_marker(&layout.table))?;
        match self.holder(layout, &holder, &taken).await {
            Ok(Holder::Row(_)) => Err(violation(&layout.table, key, item, &taken.value, holder)),
            Ok(Holder::None | Holder::Changed) => Ok(()),
            Err(error) if is_out_of_sync(&error) => Err(error.uncertain()),
            // The script has written nothing.
            Err(error) => Err(not_applied(error)),
        }
    }

    /// Finds out whether the row of a marker holds the value, on a single server. If not, removes the marker.
    async fn holder(&self, layout: &Layout, holder: &Key, taken: &TakenValue) -> Result<Holder> {
        let row = self.read(layout, holder).await?;
        match row {
            Some(row) if lists_value(&row, &taken.value) => {
                let item = self.unless_expired(layout, holder, Some(row.item)).await?;
                Ok(item.map_or(Holder::None, Holder::Row))
            }
            _ => {
                let call = release_call(layout, holder, taken);
                let removed = checked(self.channel.send_one(call).await?, &layout.table)?;
                Ok(match removed {
                    Value::Int(1) => Holder::None,
                    _ => Holder::Changed,
                })
            }
        }
    }

    /// The number of writes of different rows, from the first on, of which no two concern the same unique value: as the rows
    /// are now, or will be.
    pub async fn independent_values(
        &self,
        layouts: &[Arc<Layout>],
        writes: &[Write],
    ) -> Result<usize> {
        let keyspace = &self.store.config.keyspace;
        let layout_of = |write: &Write| {
            let slot_group = keyspace.slot_group(&layouts.first()?.table, &write.key().partition);
            let mut own = layouts.iter();
            own.find(|layout| layout.slot_group == slot_group)
        };
        // A new row has no values yet. If it is not new, the write is refused.
        let is_new =
            |write: &Write| matches!(write, Write::Put(put) if put.guard.row == Row::Absent);
        let calls = writes.iter().filter(|write| !is_new(write));
        let calls = calls.filter_map(|write| {
            let (layout, key) = (layout_of(write)?, write.key());
            // An update also depends on the attributes that it keeps.
            Some(match write {
                Write::Update(_) => layout.read_call(key),
                _ => layout
                    .call("HGET")
                    .arg(layout.row_key(key))
                    .arg(UNIQUE_ENTRIES),
            })
        });
        let calls: Vec<Call> = calls.collect();
        let replies = if calls.is_empty() {
            Vec::new()
        } else {
            self.channel.send(calls).await?
        };
        let mut replies = replies.into_iter().peekable();
        let mut seen: HashSet<(Vec<u8>, Vec<u8>)> = HashSet::new();
        for (index, write) in writes.iter().enumerate() {
            let Some(layout) = layout_of(write) else {
                continue;
            };
            let (before, row) = match replies.next_if(|_| !is_new(write)) {
                Some(Value::Bulk(packed)) => (parse_unique_values(&packed), None),
                Some(reply) => {
                    let row = decode_row(reply, &layout.table, write.key()).unwrap_or_default();
                    (stored_unique_values(row.as_ref()), row)
                }
                None => (Vec::new(), None),
            };
            let after = self.claimed_after(&layout.table, write, row.as_ref());
            let values = before.into_iter().chain(after);
            let values: Vec<_> = values.map(|own| (own.name, own.encoded)).collect();
            if values.iter().any(|value| seen.contains(value)) {
                return Ok(index);
            }
            seen.extend(values);
        }
        Ok(writes.len())
    }

    /// The values that a row is to have. Of a row that is to be updated, `row` is what is stored.
    fn claimed_after(
        &self,
        table: &Table,
        write: &Write,
        row: Option<&StoredRow>,
    ) -> Vec<UniqueValue> {
        let claimed = |item: &Item| unique_values(table, item).unwrap_or_default();
        match write {
            Write::Put(put) => claimed(&put.item),
            Write::Update(update) => {
                let live = self.live(table, row).cloned();
                let mut item = live.unwrap_or_else(|| table.item_of(&update.key));
                // What cannot be applied is refused later.
                let _ = update::apply(&update.actions, &mut item);
                claimed(&item)
            }
            Write::Delete(_) => Vec::new(),
        }
    }

    /// Gets an item by its unique values.
    pub async fn get_unique(&self, get: &GetUnique) -> Result<Reply> {
        let mut value = UniqueValue {
            name: get.unique.clone().into_bytes(),
            encoded: encode(&get.values),
            token: Vec::new(),
        };
        let keyspace = &self.store.config.keyspace;
        let group = keyspace.marker_group(&get.table, &value.encoded);
        loop {
            let layouts = self.layouts_to_read(&get.table, &[group]).await?;
            let layout = &layouts[0];
            get.declaration(&layout.table)?;
            let call = marker_call(layout, &value.name, &value.encoded);
            let Some(mut replies) = self.send_with_epochs(&layouts, vec![call]).await? else {
                continue;
            };
            let reply = checked(replies.pop().unwrap_or(Value::Nil), &layout.table)?;
            let marker = match reply {
                Value::Nil => return Ok(Reply::Item(None)),
                Value::Bulk(marker) => marker,
                _ => return Err(unexpected_reply(&layout.table)),
            };
            let taken = TakenValue { value, marker };
            let holder = match layout.markers {
                MarkerLocation::Distributed => {
                    self.distributed_holder(layout, &get.table, &taken).await?
                }
                MarkerLocation::None | MarkerLocation::WithRows => {
                    let holder = layout
                        .key_of(&taken.marker)
                        .ok_or_else(|| damaged_marker(&layout.table))?;
                    self.holder(layout, &holder, &taken).await?
                }
            };
            match holder {
                Holder::Row(mut item) => {
                    layout.table.project(&mut item, get.attributes.as_deref());
                    return Ok(Reply::Item(Some(item)));
                }
                Holder::None => return Ok(Reply::Item(None)),
                Holder::Changed => value = taken.value,
            }
        }
    }
}

pub fn lists_value(row: &StoredRow, value: &UniqueValue) -> bool {
    stored_unique_values(Some(row))
        .iter()
        .any(|own| own.is_same(value))
}

/// The error for an item whose unique value another row holds.
pub fn violation(table: &Table, key: &Key, item: &Item, value: &UniqueValue, holder: Key) -> Error {
    let claims = table.claims(item).unwrap_or_default();
    let claim = claims.iter().find(|claim| {
        claim.unique.name.as_bytes() == value.name && claim.encode() == value.encoded
    });
    match claim {
        Some(claim) => Error::unique_violation(table, key, claim, holder),
        None => unexpected_reply(table),
    }
}

/// The error for a marker that does not name a row.
pub fn damaged_marker(table: &Table) -> Error {
    let error = damaged(table, "a marker of a unique value", "does not name a row");
    error.caused_by(Cause::OutOfSync)
}

/// The error of a write whose row was not written yet.
pub fn not_applied(mut error: Error) -> Error {
    use mintkey_store::ErrorKind::{Interrupted, Timeout, Unavailable};
    error.kind = match error.kind {
        Unavailable(_) => Unavailable(Outcome::NotApplied),
        Timeout(_) => Timeout(Outcome::NotApplied),
        Interrupted(_) => Interrupted(Outcome::NotApplied),
        other => other,
    };
    error
}
