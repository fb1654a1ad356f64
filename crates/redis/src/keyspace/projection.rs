//! Which attributes of rows are read.

use mintkey_store::{Item, Key, Name, Result, Table, json};

use crate::keyspace::layout::Layout;
use crate::keyspace::rows::{decode_attributes, decode_item};
use crate::protocol::resp::{self, Call};

/// The attributes of rows that are read.
pub enum RowProjection {
    /// All.
    All,
    /// These. The first ones are the key attributes.
    Some(Vec<Name>),
}

impl RowProjection {
    /// The key, the time of expiry, and these attributes.
    pub fn of<'a>(table: &'a Table, wanted: impl IntoIterator<Item = &'a Name>) -> Self {
        let mut names: Vec<Name> = Vec::new();
        let keys = table.key_attributes().map(|part| &part.name);
        for name in keys.chain(&table.ttl).chain(wanted) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        Self::Some(names)
    }

    /// The names of the attributes, unless these are all.
    pub fn names(&self) -> &[Name] {
        match self {
            Self::All => &[],
            Self::Some(names) => names,
        }
    }

    /// The call that reads a row.
    pub fn call(&self, layout: &Layout, key: &Key) -> Call {
        match self {
            Self::All => layout.read_call(key),
            Self::Some(names) => {
                let call = layout.call("HMGET").arg(layout.row_key(key));
                names
                    .iter()
                    .fold(call, |call, name| call.arg(name.as_bytes()))
            }
        }
    }

    /// Decodes the reply to the call that reads the row with this key.
    pub fn item(
        &self,
        value: resp::Value,
        table: &Table,
        key: &Key,
        decoder: &mut json::Decoder,
    ) -> Result<Option<Item>> {
        match self {
            Self::All => decode_item(value, table, key, decoder),
            Self::Some(names) => decode_attributes(value, names, table, key, decoder),
        }
    }
}
