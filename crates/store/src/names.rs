//! Names of attributes that are shared between items.

use crate::value::Name;

/// Names beyond this many are not shared: maps whose keys all differ must not fill the memory.
const SHARED: usize = 64;

/// The names that the items before had. One item is like the next as a rule, so each name is looked for behind the last.
#[derive(Debug, Default)]
pub struct Names {
    known: Vec<Name>,
    /// The index of the next name, if this item has the same names as the one before.
    expected: usize,
}

impl Names {
    /// Begins a new item.
    pub const fn restart(&mut self) {
        self.expected = 0;
    }

    /// The position after the name that was asked for last. It rises from name to name of an item, unless a name is new and
    /// not shared, comes twice, or the items differ.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.expected
    }

    /// The name, shared if an item before had it.
    pub fn shared(&mut self, name: &str) -> Name {
        let count = self.known.len();
        for offset in 0..count {
            let index = (self.expected + offset) % count;
            if &*self.known[index] == name {
                self.expected = index + 1;
                return self.known[index].clone();
            }
        }
        let name = Name::from(name);
        if count < SHARED {
            self.known.push(name.clone());
        }
        self.expected = self.known.len();
        name
    }

    /// The same for the name that stood at this position in the item.
    pub fn shared_at(&mut self, name: &str, position: usize) -> Name {
        self.expected = position;
        self.shared(name)
    }
}
