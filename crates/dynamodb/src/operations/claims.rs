//! Which markers a transaction writes, with its rows, and which rows of other holders it depends on.

use std::collections::HashMap;
use std::sync::Arc;

use mintkey_store::transaction::{MAX_ITEMS, check_total};
use mintkey_store::{Condition, Error, Item, Key, Path, Result, Table};

use crate::config::Config;
use crate::operations::markers::{self, Held};
use crate::operations::participant::{Changes, Participant};
use crate::wire::body;
use crate::wire::transaction::Part;

/// A marker that a transaction puts or deletes.
#[derive(Debug)]
pub struct Change {
    /// The index of the participant that claims or releases the value.
    pub participant: usize,
    /// The table of the rows.
    pub table: Arc<Table>,
    pub held: Held,
    /// Whether the value is claimed, not released.
    pub claims: bool,
    /// The rows that may have held the value before, besides the participant's.
    from: Vec<Key>,
}

/// A row outside the transaction that has a marker, and no longer the value.
#[derive(Debug)]
pub struct Displaced {
    pub table: Arc<Table>,
    pub key: Key,
    /// The row, if it is there: it has expired, or does not have the value.
    row: Option<Item>,
}

/// What earlier calls of a transaction have shown about markers.
#[derive(Debug, Default)]
pub struct Known {
    /// By table and marker, the row that may be displaced.
    holders: HashMap<(String, Vec<u8>), Key>,
    displaced: Vec<Displaced>,
    /// The markers that other rows hold: they are not released.
    foreign: Vec<(String, Vec<u8>)>,
}

/// The markers of a transaction, and the rows of other holders that it depends on.
#[derive(Debug, Default)]
pub struct Plan {
    pub changes: Vec<Change>,
    /// The tables and keys of displaced rows.
    pub rows: Vec<(Arc<Table>, Key)>,
}

impl Change {
    fn id(&self) -> (String, Vec<u8>) {
        (self.table.name.clone(), self.held.marker.clone())
    }
}

impl Known {
    /// Records that the row of this key gives up a value, by its own write in the transaction.
    pub fn allow(&mut self, change: &Change, holder: Key) {
        self.holders.insert(change.id(), holder);
    }

    /// Records that the row of this key, which is not in the transaction, does not have a value any more.
    pub fn displace(&mut self, change: &Change, holder: Key, row: Option<Item>) {
        self.forget(&change.table, &holder);
        self.displaced.push(Displaced {
            table: Arc::clone(&change.table),
            key: holder.clone(),
            row,
        });
        self.holders.insert(change.id(), holder);
    }

    /// Forgets that a row may be displaced, because it has changed.
    pub fn forget(&mut self, table: &Table, key: &Key) {
        self.displaced
            .retain(|own| own.table.name != table.name || own.key != *key);
        self.holders
            .retain(|(name, _), own| *name != table.name || own != key);
    }

    /// Records that another row holds a value that was to be released.
    pub fn keep(&mut self, change: &Change) {
        self.foreign.push(change.id());
    }

    fn displaced(&self, table: &Table, key: &Key) -> Option<&Displaced> {
        let mut displaced = self.displaced.iter();
        displaced.find(|own| own.table.name == table.name && own.key == *key)
    }
}

impl Displaced {
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

impl Plan {
    /// The plan for these participants.
    ///
    /// # Errors
    ///
    /// `TransactionCancelled` with the reasons of items if two have the same value, or a value cannot be unique;
    /// `InvalidValue` if there are too many markers.
    pub fn new(participants: &[Participant<'_>], known: &Known, now: i64) -> Result<Self> {
        let mut plan = Self::default();
        if participants.iter().all(|own| own.table.unique.is_empty()) {
            return Ok(plan);
        }
        let mut reasons: Vec<Option<Error>> = participants.iter().map(|_| None).collect();
        let mut all = Vec::with_capacity(participants.len());
        for (participant, reason) in participants.iter().zip(&mut reasons) {
            all.push(participant.changes(now).unwrap_or_else(|error| {
                *reason = Some(error);
                Changes::default()
            }));
        }
        let mut owners: HashMap<(&str, &[u8]), usize> = HashMap::new();
        for (index, changes) in all.iter().enumerate() {
            for held in &changes.kept {
                owners.insert((&participants[index].table.name, &held.marker), index);
            }
        }
        for (index, changes) in all.iter().enumerate() {
            let Participant { table, .. } = &participants[index];
            for held in &changes.claimed {
                match owners.insert((&table.name, &held.marker), index) {
                    Some(owner) if owner != index => {
                        let (key, holder) = (participants[index].key(), participants[owner].key());
                        reasons[index] = Some(held.violation(table, key, holder.clone()));
                    }
                    _ => plan.claim(index, table, held, known),
                }
            }
        }
        if reasons.iter().any(Option::is_some) {
            return Err(Error::cancelled(reasons));
        }
        for (index, changes) in all.iter().enumerate() {
            let Participant { table, .. } = &participants[index];
            for held in &changes.released {
                plan.release(index, table, participants[index].key(), held, known);
            }
        }
        check_total(participants.len(), plan.changes.len())?;
        plan.add_displaced(known);
        // The rows of other holders count only here.
        if participants.len() + plan.changes.len() + plan.rows.len() > MAX_ITEMS {
            check_total(participants.len(), plan.changes.len() + plan.rows.len())?;
        }
        Ok(plan)
    }

    fn claim(&mut self, participant: usize, table: &Arc<Table>, held: &Held, known: &Known) {
        let mut change = Change {
            participant,
            table: Arc::clone(table),
            held: held.clone(),
            claims: true,
            from: Vec::new(),
        };
        change.from.extend(known.holders.get(&change.id()).cloned());
        self.changes.push(change);
    }

    fn release(
        &mut self,
        participant: usize,
        table: &Arc<Table>,
        key: &Key,
        held: &Held,
        known: &Known,
    ) {
        let mut changes = self.changes.iter_mut();
        let same =
            |own: &&mut Change| own.table.name == table.name && own.held.marker == held.marker;
        if let Some(moved) = changes.find(same) {
            moved.from.push(key.clone());
            return;
        }
        let change = Change {
            participant,
            table: Arc::clone(table),
            held: held.clone(),
            claims: false,
            from: Vec::new(),
        };
        if !known.foreign.contains(&change.id()) {
            self.changes.push(change);
        }
    }

    /// Adds the displaced rows whose markers are claimed.
    fn add_displaced(&mut self, known: &Known) {
        for change in &self.changes {
            for holder in &change.from {
                let is_new = !self
                    .rows
                    .iter()
                    .any(|(table, key)| table.name == change.table.name && key == holder);
                if is_new && known.displaced(&change.table, holder).is_some() {
                    self.rows.push((Arc::clone(&change.table), holder.clone()));
                }
            }
        }
    }

    /// The participant that claims a value of a displaced row.
    pub fn claimant(&self, table: &Table, holder: &Key) -> usize {
        let displaces = |own: &&Change| own.table.name == table.name && own.from.contains(holder);
        let change = self.changes.iter().find(displaces);
        change.map_or(0, |change| change.participant)
    }

    /// The parts of the call for the markers, then for the displaced rows.
    pub fn parts(
        &self,
        config: &Config,
        participants: &[Participant<'_>],
        known: &Known,
        now: i64,
    ) -> Vec<Part> {
        let markers = self.changes.iter().map(|change| {
            let table = markers::table(&change.table);
            let own = participants[change.participant].key();
            let condition = markers::free_for([own].into_iter().chain(&change.from));
            if change.claims {
                let item = markers::item(&change.held.marker, own);
                ("Put", body::put(config, &table, &item, Some(&condition)))
            } else {
                let key = markers::key_of(&change.held.marker);
                (
                    "Delete",
                    body::delete(config, &table, &key, Some(&condition)),
                )
            }
        });
        let rows = self.rows.iter();
        let rows = rows.filter_map(|(table, key)| known.displaced(table, key));
        markers
            .chain(rows.map(|row| row.part(config, now)))
            .collect()
    }
}
