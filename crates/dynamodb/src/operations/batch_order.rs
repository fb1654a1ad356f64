//! In which order the writes of a batch are carried out: those of the same row or of the same unique value one after the
//! other, all others at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use mintkey_store::{BatchGet, BatchWrite, Item, Key, Result, Row, Table, Write, update};

use crate::client::Client;
use crate::operations::batch_get::read_all;
use crate::operations::participant::{Stored, changes_unique};
use crate::operations::{catalog, markers};
use crate::transport::Transport;

/// What a write of a batch depends on.
#[derive(Default)]
pub struct Dependence {
    /// The markers that it may change.
    markers: Vec<Vec<u8>>,
    /// The stored row, if it was read.
    pub row: Option<Stored>,
}

/// The groups of writes that are carried out one after the other. Each has each key and each marker once.
pub fn waves(writes: &[Write], valid: Vec<usize>, dependences: &[Dependence]) -> Vec<Vec<usize>> {
    let mut waves: Vec<Vec<usize>> = Vec::new();
    let mut keys: HashMap<&Key, usize> = HashMap::with_capacity(writes.len());
    let mut markers: HashMap<&[u8], usize> = HashMap::new();
    for index in valid {
        let own = dependences.get(index).map_or(&[][..], |own| &own.markers);
        let key = writes[index].key();
        let before = own.iter().filter_map(|marker| markers.get(&**marker));
        // The number of waves before this one.
        let wave = before.chain(keys.get(key)).max().copied().unwrap_or(0);
        keys.insert(key, wave + 1);
        markers.extend(own.iter().map(|marker| (&**marker, wave + 1)));
        if waves.len() <= wave {
            waves.push(Vec::new());
        }
        waves[wave].push(index);
    }
    waves
}

/// What each write of a batch depends on, in a table with unique values. The rows that writes need to know are read.
pub async fn dependences<T: Transport>(
    client: &Client<'_, T>,
    batch: &BatchWrite,
    now: i64,
) -> Result<Vec<Dependence>> {
    let Some(table) = catalog::for_writes(client, &batch.table).await? else {
        // Each write finds that out for itself.
        return Ok(Vec::new());
    };
    let awaits = |write: &&Write| needs_row(&table, write);
    let wanted = BatchGet {
        keys: batch
            .writes
            .iter()
            .filter(awaits)
            .map(Write::key)
            .cloned()
            .collect(),
        table: table.clone(),
        consistent: true,
        attributes: None,
    };
    let mut stored = read_all(client, &wanted).await?;
    // What is known of each row before the next write of its key, and the markers that writes of the key may change.
    let mut known: HashMap<&Key, (Option<Item>, Vec<Vec<u8>>)> = HashMap::new();
    let mut dependences = Vec::with_capacity(batch.writes.len());
    for write in &batch.writes {
        let mut row = None;
        let (item, markers) = match known.entry(write.key()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let found = stored.remove(write.key());
                row = needs_row(&table, write).then(|| Stored(found.clone()));
                unknown.insert((found, Vec::new()))
            }
        };
        let after = result(&table, write, item.as_ref(), now);
        for item in item.iter().chain(&after) {
            let values = markers::stored_unique_values(&table, item);
            markers.extend(values.into_iter().map(|value| value.marker));
        }
        *item = after;
        dependences.push(Dependence {
            markers: markers.clone(),
            row,
        });
    }
    Ok(dependences)
}

/// Whether a write may free or move a unique value of its row.
fn needs_row(table: &Table, write: &Write) -> bool {
    match write {
        Write::Put(put) => put.guard.row != Row::Absent && !put.guard.collision_free,
        Write::Update(update) => changes_unique(table, update),
        Write::Delete(_) => true,
    }
}

/// The row after a write, if that succeeds.
fn result(table: &Table, write: &Write, row: Option<&Item>, now: i64) -> Option<Item> {
    match write {
        Write::Put(put) => Some((*put.item).clone()),
        Write::Delete(_) => None,
        Write::Update(update) => {
            let mut item = row.filter(|row| !table.is_expired(row, now))?.clone();
            update::apply(&update.actions, &mut item)
                .ok()
                .map(|()| item)
        }
    }
}
