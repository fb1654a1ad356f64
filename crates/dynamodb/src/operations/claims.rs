//! Which markers a transaction writes, with its rows, and which rows of other holders it depends on.

use std::collections::HashMap;
use std::sync::Arc;

use mintkey_store::transaction::{MAX_ITEMS, check_total};
use mintkey_store::{Condition, Error, Item, Key, Path, Result, Table};

use crate::config::Config;
use crate::operations::markers::{self, UniqueValue};
use crate::operations::participant::{Participant, UniqueChanges};
use crate::wire::body;
use crate::wire::transaction::Part;

/// A marker that a transaction puts or deletes.
#[derive(Debug)]
pub struct MarkerChange {
    /// The index of the participant that claims or releases the value.
    pub participant: usize,
    /// The table of the rows.
    pub table: Arc<Table>,
    pub value: UniqueValue,
    /// Whether the value is claimed, not released.
    pub claims: bool,
    /// The rows that may have held the value before, besides the participant's.
    from: Vec<Key>,
}

/// A row outside the transaction that has a marker, and no longer the value.
#[derive(Debug)]
pub struct StaleHolder {
    pub table: Arc<Table>,
    pub key: Key,
    /// The row, if it is there: it has expired, or does not have the value.
    row: Option<Item>,
}

/// What earlier calls of a transaction have shown about markers.
#[derive(Debug, Default)]
pub struct ObservedMarkers {
    /// By table and marker, the row that may lose a marker.
    holders: HashMap<(String, Vec<u8>), Key>,
    stale_holders: Vec<StaleHolder>,
    /// The markers that other rows hold: they are not released.
    foreign: Vec<(String, Vec<u8>)>,
}

/// The markers of a transaction, and the rows of other holders that it depends on.
#[derive(Debug, Default)]
pub struct MarkerPlan {
    pub changes: Vec<MarkerChange>,
    /// The tables and keys of stale holders.
    pub rows: Vec<(Arc<Table>, Key)>,
}

impl MarkerChange {
    fn id(&self) -> (String, Vec<u8>) {
        (self.table.name.clone(), self.value.marker.clone())
    }
}

impl ObservedMarkers {
    /// Records that the row of this key gives up a value, by its own write in the transaction.
    pub fn add_releasing(&mut self, change: &MarkerChange, holder: Key) {
        self.holders.insert(change.id(), holder);
    }

    /// Records that the row of this key, which is not in the transaction, does not have a value any more.
    pub fn add_stale_holder(&mut self, change: &MarkerChange, holder: Key, row: Option<Item>) {
        let known = self.stale_holder(&change.table, &holder);
        if known.is_none_or(|known| known.row != row) {
            // Another row was read before, if any: it does not show what values this one has.
            self.forget(&change.table, &holder);
            self.stale_holders.push(StaleHolder {
                table: Arc::clone(&change.table),
                key: holder.clone(),
                row,
            });
        }
        self.holders.insert(change.id(), holder);
    }

    /// Forgets that a row may lose a marker, because it has changed.
    pub fn forget(&mut self, table: &Table, key: &Key) {
        self.stale_holders
            .retain(|own| own.table.name != table.name || own.key != *key);
        self.holders
            .retain(|(name, _), own| *name != table.name || own != key);
    }

    /// Records that another row holds a value that was to be released.
    pub fn add_foreign(&mut self, change: &MarkerChange) {
        self.foreign.push(change.id());
    }

    fn stale_holder(&self, table: &Table, key: &Key) -> Option<&StaleHolder> {
        let mut stale_holders = self.stale_holders.iter();
        stale_holders.find(|own| own.table.name == table.name && own.key == *key)
    }
}

impl StaleHolder {
    /// The part of the call that removes the row, or checks that it is still not in the way.
    fn part(&self, config: &Config, now: i64) -> Part {
        let Self { table, key, row } = self;
        let condition = match row {
            None => {
                let path = Path::attribute(table.partition.name.clone());
                Some(Condition::Missing(path))
            }
            Some(row) if table.is_expired(row, now) => {
                let condition = body::absent(table, now);
                return ("Delete", body::delete(config, table, key, Some(&condition)));
            }
            Some(row) => Condition::all(markers::unchanged(table, Some(row), &[], false)),
        };
        ("ConditionCheck", body::check(config, table, key, condition))
    }
}

impl MarkerPlan {
    /// The plan for these participants.
    ///
    /// # Errors
    ///
    /// `TransactionCancelled` with the reasons of items if two have the same value, or a value cannot be unique;
    /// `InvalidValue` if there are too many markers.
    pub fn new(
        participants: &[Participant<'_>],
        observed: &ObservedMarkers,
        now: i64,
    ) -> Result<Self> {
        let mut plan = Self::default();
        if participants.iter().all(|own| own.table.unique.is_empty()) {
            return Ok(plan);
        }
        let mut reasons = vec![None; participants.len()];
        let mut all = Vec::with_capacity(participants.len());
        for (participant, reason) in participants.iter().zip(&mut reasons) {
            all.push(participant.changes(now).unwrap_or_else(|error| {
                *reason = Some(error);
                UniqueChanges::default()
            }));
        }
        let mut owners: HashMap<(&str, &[u8]), usize> = HashMap::new();
        for (index, changes) in all.iter().enumerate() {
            for value in &changes.kept {
                owners.insert((&participants[index].table.name, &value.marker), index);
            }
        }
        for (index, changes) in all.iter().enumerate() {
            let Participant { table, .. } = &participants[index];
            for value in &changes.claimed {
                match owners.insert((&table.name, &value.marker), index) {
                    Some(owner) if owner != index => {
                        let (key, holder) = (participants[index].key(), participants[owner].key());
                        reasons[index] = Some(value.violation(table, key, holder.clone()));
                    }
                    _ => plan.claim(index, table, value, observed),
                }
            }
        }
        if reasons.iter().any(Option::is_some) {
            return Err(Error::cancelled(reasons));
        }
        for (index, changes) in all.iter().enumerate() {
            let Participant { table, .. } = &participants[index];
            for value in &changes.released {
                plan.release(index, table, participants[index].key(), value, observed);
            }
        }
        check_total(participants.len(), plan.changes.len())?;
        plan.add_stale_holders(observed);
        // The rows of other holders count only here.
        if participants.len() + plan.changes.len() + plan.rows.len() > MAX_ITEMS {
            check_total(participants.len(), plan.changes.len() + plan.rows.len())?;
        }
        Ok(plan)
    }

    fn claim(
        &mut self,
        participant: usize,
        table: &Arc<Table>,
        value: &UniqueValue,
        observed: &ObservedMarkers,
    ) {
        let mut change = MarkerChange {
            participant,
            table: Arc::clone(table),
            value: value.clone(),
            claims: true,
            from: Vec::new(),
        };
        change
            .from
            .extend(observed.holders.get(&change.id()).cloned());
        self.changes.push(change);
    }

    fn release(
        &mut self,
        participant: usize,
        table: &Arc<Table>,
        key: &Key,
        value: &UniqueValue,
        observed: &ObservedMarkers,
    ) {
        let mut changes = self.changes.iter_mut();
        let same = |own: &&mut MarkerChange| {
            own.table.name == table.name && own.value.marker == value.marker
        };
        if let Some(moved) = changes.find(same) {
            moved.from.push(key.clone());
            return;
        }
        let change = MarkerChange {
            participant,
            table: Arc::clone(table),
            value: value.clone(),
            claims: false,
            from: Vec::new(),
        };
        if !observed.foreign.contains(&change.id()) {
            self.changes.push(change);
        }
    }

    /// Adds the stale holders whose markers are claimed.
    fn add_stale_holders(&mut self, observed: &ObservedMarkers) {
        for change in &self.changes {
            for holder in &change.from {
                let is_new = !self
                    .rows
                    .iter()
                    .any(|(table, key)| table.name == change.table.name && key == holder);
                if is_new && observed.stale_holder(&change.table, holder).is_some() {
                    self.rows.push((Arc::clone(&change.table), holder.clone()));
                }
            }
        }
    }

    /// The participant that claims a value of a stale holder.
    pub fn claimant(&self, table: &Table, holder: &Key) -> usize {
        let displaces =
            |own: &&MarkerChange| own.table.name == table.name && own.from.contains(holder);
        let change = self.changes.iter().find(displaces);
        change.map_or(0, |change| change.participant)
    }

    /// The parts of the call for the markers, then for the stale holders.
    pub fn parts(
        &self,
        config: &Config,
        participants: &[Participant<'_>],
        observed: &ObservedMarkers,
        now: i64,
    ) -> Vec<Part> {
        let markers = self.changes.iter().map(|change| {
            let table = markers::table(&change.table);
            let own = participants[change.participant].key();
            let condition = markers::free_for([own].into_iter().chain(&change.from));
            if change.claims {
                let item = markers::item(&change.value.marker, own);
                ("Put", body::put(config, &table, &item, Some(&condition)))
            } else {
                let key = markers::key_of(&change.value.marker);
                (
                    "Delete",
                    body::delete(config, &table, &key, Some(&condition)),
                )
            }
        });
        let rows = self.rows.iter();
        let rows = rows.filter_map(|(table, key)| observed.stale_holder(table, key));
        markers
            .chain(rows.map(|row| row.part(config, now)))
            .collect()
    }
}
