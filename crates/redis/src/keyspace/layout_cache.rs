//! The layouts of the tables that were used so far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mintkey_runtime::locked;
use mintkey_store::Table;

use crate::keyspace::layout::Layout;

/// The entries that are kept. A program that creates models without end empties the cache now and then.
const MAX_ENTRIES: usize = 20_000;

/// Layouts by slot group and the address of the table. An entry keeps its table alive, so that the address stays unique.
#[derive(Default)]
pub struct LayoutCache(Mutex<Entries>);

type Entries = HashMap<(usize, u8), (Arc<Table>, Arc<Layout>)>;

impl LayoutCache {
    /// The layout of a table in a slot group.
    pub fn find(&self, table: &Arc<Table>, slot_group: u8) -> Option<Arc<Layout>> {
        let key = (Arc::as_ptr(table).addr(), slot_group);
        let entries = locked(&self.0);
        entries.get(&key).map(|(_, layout)| Arc::clone(layout))
    }

    /// Adds a layout.
    pub fn insert(&self, table: &Arc<Table>, layout: &Arc<Layout>) {
        let key = (Arc::as_ptr(table).addr(), layout.slot_group);
        let mut entries = locked(&self.0);
        if entries.len() >= MAX_ENTRIES {
            entries.clear();
        }
        entries.insert(key, (Arc::clone(table), Arc::clone(layout)));
    }

    /// Removes everything: a catalog entry has changed.
    pub fn clear(&self) {
        locked(&self.0).clear();
    }
}
