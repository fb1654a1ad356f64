//! The layouts of the tables that were used so far.

use std::collections::HashMap;
use std::sync::Arc;

use mintkey_store::Table;

use crate::fork_gate::{Gate, Shielded};
use crate::keyspace::layout::Layout;

/// Layouts remembered; a program that makes up classes without end starts anew now and then.
const REMEMBERED: usize = 20_000;

/// The layouts found so far, by the address of the table, which stays taken as long as the entry
/// keeps it alive, and by bucket.
pub struct LayoutCache(Shielded<Known>);

/// Tables and their layouts.
type Known = HashMap<(usize, u8), (Arc<Table>, Arc<Layout>)>;

impl LayoutCache {
    /// Nothing is known yet.
    pub fn new(gate: &Arc<Gate>) -> Self {
        Self(Shielded::new(gate))
    }

    /// The layout of a table in a bucket.
    pub fn find(&self, table: &Arc<Table>, bucket: u8) -> Option<Arc<Layout>> {
        let place = (Arc::as_ptr(table).addr(), bucket);
        self.0
            .with(|known| known.get(&place).map(|(_, layout)| Arc::clone(layout)))
    }

    /// Keeps a layout.
    pub fn remember(&self, table: &Arc<Table>, layout: &Arc<Layout>) {
        let place = (Arc::as_ptr(table).addr(), layout.bucket);
        self.0.with(|known| {
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(place, (Arc::clone(table), Arc::clone(layout)));
        });
    }

    /// Forgets everything: a catalog is not what it was.
    pub fn forget(&self) {
        self.0.with(HashMap::clear);
    }
}
