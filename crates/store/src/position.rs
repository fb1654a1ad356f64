//! Where a page ended.

use crate::error::{Error, ErrorKind, Remedy, Result};
use crate::key::{Key, KeyKind, KeyValue, MAX_PARTITION};
use crate::table::{Index, Table};

/// The first byte of a written position: its format.
const FORMAT: u8 = 1;
const STRING: u8 = b'S';
const NUMBER: u8 = b'N';
const BINARY: u8 = b'B';

/// Where a page of a query or scan ended: the last item it saw. The next page begins after it, even
/// if that item is gone by then.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Position {
    /// The item's key in its table.
    pub key: Key,
    /// The item's values of the index attributes, partition then sort, when an index was read.
    pub index: Vec<KeyValue>,
}

impl Position {
    /// Bytes from which another process can continue.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![FORMAT, if self.key.sort.is_some() { 2 } else { 1 }];
        for value in std::iter::once(&self.key.partition)
            .chain(&self.key.sort)
            .chain(&self.index)
        {
            let encoded = value.encode();
            bytes.push(match value.kind() {
                KeyKind::String => STRING,
                KeyKind::Number => NUMBER,
                KeyKind::Binary => BINARY,
            });
            // Keys are checked to be far shorter before anything is stored under them.
            bytes.extend_from_slice(
                &u16::try_from(encoded.len())
                    .unwrap_or(u16::MAX)
                    .to_be_bytes(),
            );
            bytes.extend_from_slice(&encoded);
        }
        bytes
    }

    /// Reads what [`Position::to_bytes`] wrote.
    ///
    /// # Errors
    ///
    /// `InvalidCursor` if it was not written there.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(bytes).ok_or_else(|| {
            Error::new(ErrorKind::InvalidCursor, "this cursor is damaged")
                .remedy(Remedy::StartAgain)
        })
    }

    /// Checks that a page can begin here: of a query by this index or by the table's key, with these values of the
    /// partition attributes, or of a scan, which has none. A client may have written the position itself.
    ///
    /// # Errors
    ///
    /// `InvalidCursor` if it is in another table, index or partition.
    pub fn check(
        &self,
        table: &Table,
        index: Option<&Index>,
        partition: &[KeyValue],
    ) -> Result<()> {
        let fits = table.check_key(&self.key).is_ok()
            && match index {
                None => {
                    self.index.is_empty()
                        && partition.iter().all(|value| *value == self.key.partition)
                }
                Some(index) => self.fits(table, index) && self.index.starts_with(partition),
            };
        if fits {
            return Ok(());
        }
        Err(Error::foreign_cursor(table))
    }

    /// Whether the values can stand in this index, and those of key attributes are the key's.
    fn fits(&self, table: &Table, index: &Index) -> bool {
        let kinds = index.attributes().map(|part| part.kind);
        let (partition, sort) = self
            .index
            .split_at(index.partition.len().min(self.index.len()));
        let key = table
            .key_attributes()
            .zip(std::iter::once(&self.key.partition).chain(&self.key.sort));
        self.index.iter().map(KeyValue::kind).eq(kinds)
            && partition
                .iter()
                .all(|value| value.check_partition().is_ok())
            && sort.iter().all(|value| value.check_sort().is_ok())
            && key.into_iter().all(|(attribute, own)| {
                let mut twice = index.attributes().zip(&self.index);
                twice.all(|(part, value)| part.name != attribute.name || value == own)
            })
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let [FORMAT, keys @ (1 | 2), rest @ ..] = bytes else {
            return None;
        };
        let mut rest = rest;
        let mut values = Vec::new();
        while let [tag, high, low, after @ ..] = rest {
            let kind = match *tag {
                STRING => KeyKind::String,
                NUMBER => KeyKind::Number,
                BINARY => KeyKind::Binary,
                _ => return None,
            };
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if length > MAX_PARTITION {
                return None;
            }
            let (own, after) = after.split_at_checked(length)?;
            values.push(KeyValue::decode(kind, own).ok()?);
            rest = after;
        }
        if !rest.is_empty() || values.len() < usize::from(*keys) {
            return None;
        }
        let index = values.split_off(usize::from(*keys));
        let mut own = values.into_iter();
        let key = Key {
            partition: own.next()?,
            sort: own.next(),
        };
        Some(Self { key, index })
    }
}
