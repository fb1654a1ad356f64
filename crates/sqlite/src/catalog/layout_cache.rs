//! The layouts of the tables that were used so far.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use mintkey_runtime::locked;
use mintkey_store::Table;

use crate::layout::Layout;

/// The most layouts kept. A program that defines classes without end loads them again now and then.
const MAX_ENTRIES: usize = 1_000;

/// The layouts loaded so far, which are valid for one schema version of the database.
#[derive(Default)]
pub struct LayoutCache(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    version: i64,
    /// By the address of the table, which is unique as long as this map keeps the table alive.
    tables: HashMap<usize, (Arc<Table>, Arc<Layout>)>,
}

fn address(table: &Arc<Table>) -> usize {
    Arc::as_ptr(table).addr()
}

impl LayoutCache {
    /// The known layout of a table, at this version or at any.
    pub fn find(&self, table: &Arc<Table>, version: Option<i64>) -> Option<Arc<Layout>> {
        let known = locked(&self.0);
        if version.is_some_and(|version| version != known.version) {
            return None;
        }
        known
            .tables
            .get(&address(table))
            .map(|(_, layout)| Arc::clone(layout))
    }

    /// Adds a layout that was loaded at a version, and removes those of other versions.
    pub fn insert(&self, version: i64, table: &Arc<Table>, layout: &Arc<Layout>) {
        self.set_version(version);
        let mut known = locked(&self.0);
        if known.tables.len() >= MAX_ENTRIES {
            known.tables.clear();
        }
        known
            .tables
            .insert(address(table), (Arc::clone(table), Arc::clone(layout)));
    }

    /// Removes all layouts.
    pub fn clear(&self) {
        locked(&self.0).tables.clear();
    }

    /// Removes all layouts of other versions.
    pub fn set_version(&self, version: i64) {
        let mut known = locked(&self.0);
        if known.version != version {
            known.version = version;
            known.tables.clear();
        }
    }
}
