//! The layouts of the tables that were used so far.

use std::collections::HashMap;
use std::sync::Arc;

use mintkey_store::Table;

use crate::keyspace::layout::Layout;
use crate::threads::fork_gate::{ForkGate, ForkGated};

/// The entries that are kept. A program that creates models without end empties the cache now and then.
const MAX_ENTRIES: usize = 20_000;

/// Layouts by slot group and the address of the table. An entry keeps its table alive, so that the address stays unique.
pub struct LayoutCache(ForkGated<Entries>);

type Entries = HashMap<(usize, u8), (Arc<Table>, Arc<Layout>)>;

impl LayoutCache {
    /// An empty cache.
    pub fn new(gate: &Arc<ForkGate>) -> Self {
        Self(ForkGated::new(gate))
    }

    /// The layout of a table in a slot group.
    pub fn find(&self, table: &Arc<Table>, slot_group: u8) -> Option<Arc<Layout>> {
        let key = (Arc::as_ptr(table).addr(), slot_group);
        self.0
            .with(|entries| entries.get(&key).map(|(_, layout)| Arc::clone(layout)))
    }

    /// Adds a layout.
    pub fn insert(&self, table: &Arc<Table>, layout: &Arc<Layout>) {
        let key = (Arc::as_ptr(table).addr(), layout.slot_group);
        self.0.with(|entries| {
            if entries.len() >= MAX_ENTRIES {
                entries.clear();
            }
            entries.insert(key, (Arc::clone(table), Arc::clone(layout)));
        });
    }

    /// Removes everything: a catalog entry has changed.
    pub fn clear(&self) {
        self.0.with(HashMap::clear);
    }
}
