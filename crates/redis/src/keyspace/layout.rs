//! The names of keys, and the members of sorted sets.
//!
//! With the prefix `shop`, table `Order` and index `by_status` the keys are
//!
//! - `shop/Order:KEY`: a row, a hash of its attributes. In a table with a sort key it is
//!   `shop/Order:{PARTITION}:SORT`, where `%`, `{` and `}` of the partition are percent-escaped.
//! - `shop/@Order`: the catalog entry, a hash.
//! - `shop/@Order:rows`: the row set, a sorted set with a member for each row.
//! - `shop/@Order:index:by_status`: an index set, a sorted set with a member for each row that is in the index.
//! - `shop/@Order:unique:email`: the markers of unique values, a hash with a field for each value.
//! - `shop/@:tables`: a set with the name of each table.
//!
//! Without a prefix there is no slash. In a Cluster each slot group has all of these keys for itself, with its hash tag
//! after the slash: `shop/{6h}Order:KEY`, `shop/{6h}@Order`. A table with `colocate` uses only the slot group of that text,
//! for its markers of unique values, too. The first group also has `shop/{10}@Order:table`, the
//! catalog entry of the whole table, and `shop/{10}@:tables`.
//!
//! A transaction leaves `shop/@:transaction:TOKEN`, its marker, which expires. In a Cluster, a write that claims unique
//! values has an intent, `shop/{6h}@:intent:TOKEN`, in the slot group of its rows. A marker of a unique value is in the slot
//! group of the value.
//!
//! Numbers are written in decimal in keys, and in an order-preserving encoding in members. All scores are 0, so that Redis
//! orders by the bytes of members. A member is a sequence of values. Each value except the last is terminated by the bytes
//! 0 1, and a byte 0 inside a value is written as 0 255. So bytes compare like values, and no value runs into the next.
//!
//! A member of the row set is the partition, then the sort value. A member of an index set is the index's partition values,
//! then its sort value, all terminated, then the row's member of the row set.

use std::ops::{Bound, Range};
use std::sync::Arc;

use mintkey_store::{Index, Item, Key, KeyKind, KeyValue, Table};

use crate::protocol::resp::Call;
use crate::protocol::scripts::Script;
use crate::protocol::slots::{self, HASH_TAGS, SLOT_GROUPS};

const ZERO: u8 = 0;
/// Follows a byte 0 inside a value.
const ESCAPED: u8 = 0xFF;
/// Follows the byte 0 that ends a value.
const TERMINATOR: u8 = 1;
/// One above `TERMINATOR`: greater than everything that starts with a terminated value.
const AFTER_TERMINATOR: u8 = 2;

/// A range of members.
pub type MemberRange = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A table with the names of its keys in a slot group.
#[derive(Debug)]
pub struct Layout {
    /// The table that the catalog describes.
    pub table: Arc<Table>,
    /// Changes with each change of the catalog entry.
    pub epoch: String,
    /// The names of the indexes that are not built yet.
    pub unbuilt: Vec<String>,
    /// The key of the catalog entry.
    pub catalog_key: Vec<u8>,
    /// The key of the row set.
    pub row_set: Vec<u8>,
    /// The prefix of the keys of the index sets.
    pub index_prefix: Vec<u8>,
    /// The slot group in a Cluster; otherwise 0.
    pub slot_group: u8,
    /// In a Cluster, the keys of the index sets: scripts must name all keys that they use.
    pub index_sets: Vec<Vec<u8>>,
    /// The prefix of the keys of markers of unique values.
    pub unique_prefix: Vec<u8>,
    /// Where the markers of unique values are.
    pub markers: MarkerLocation,
    row_prefix: String,
}

/// Where the markers of a table's unique values are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MarkerLocation {
    /// Nowhere: the table has no unique values.
    None,
    /// Where the rows are. Scripts write both.
    WithRows,
    /// In the slot groups of the values, in a Cluster.
    Distributed,
}

/// The keys of a store.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Keyspace {
    /// The prefix of all keys.
    pub prefix: String,
    /// Whether tables are split into the slot groups of a Cluster.
    pub clustered: bool,
}

impl Keyspace {
    /// The slot group of a partition of a table.
    pub fn slot_group(&self, table: &Table, partition: &KeyValue) -> u8 {
        self.only_group(table)
            .unwrap_or_else(|| slots::group_of(partition))
    }

    /// The slot group of the marker of a unique value of a table.
    pub fn marker_group(&self, table: &Table, value: &[u8]) -> u8 {
        self.only_group(table)
            .unwrap_or_else(|| slots::group_of_bytes(value))
    }

    /// The slot groups that a table uses, in order.
    pub fn slot_groups_of(&self, table: &Table) -> Vec<u8> {
        match self.only_group(table) {
            Some(group) => vec![group],
            None => self.slot_groups().collect(),
        }
    }

    /// The slot group of all rows of a table; `None` if a table uses all of them.
    fn only_group(&self, table: &Table) -> Option<u8> {
        match &table.colocate {
            _ if !self.clustered => Some(0),
            Some(text) => Some(slots::group_of_bytes(text.as_bytes())),
            None => None,
        }
    }

    /// All slot groups.
    pub fn slot_groups(&self) -> Range<u8> {
        0..if self.clustered { SLOT_GROUPS } else { 1 }
    }

    /// The prefix of all keys of a slot group.
    fn group_prefix(&self, slot_group: u8) -> String {
        let prefix = &self.prefix;
        let slash = if prefix.is_empty() { "" } else { "/" };
        if self.clustered {
            format!("{prefix}{slash}{{{}}}", HASH_TAGS[usize::from(slot_group)])
        } else {
            format!("{prefix}{slash}")
        }
    }

    /// The key of the set of the names of tables. No table has an empty name.
    pub fn tables_key(&self) -> Vec<u8> {
        format!("{}@:tables", self.group_prefix(TABLE_KEY_GROUP)).into_bytes()
    }

    /// The key of a table's catalog entry in a slot group.
    pub fn catalog_key(&self, table: &str, slot_group: u8) -> Vec<u8> {
        format!("{}@{table}", self.group_prefix(slot_group)).into_bytes()
    }

    /// The key of a table's row set in a slot group.
    pub fn row_set(&self, table: &str, slot_group: u8) -> Vec<u8> {
        format!("{}@{table}:rows", self.group_prefix(slot_group)).into_bytes()
    }

    /// The key of the marker of a transaction. No table has an empty name.
    pub fn transaction_marker_key(&self, slot_group: u8, token: &str) -> Vec<u8> {
        format!("{}@:transaction:{token}", self.group_prefix(slot_group)).into_bytes()
    }

    /// The key of the intent of a write that claims unique values.
    pub fn intent_key(&self, slot_group: u8, token: &str) -> Vec<u8> {
        format!("{}@:intent:{token}", self.group_prefix(slot_group)).into_bytes()
    }

    /// The key of the catalog entry of a whole table.
    pub fn table_key(&self, table: &str) -> Vec<u8> {
        let mut key = self.catalog_key(table, TABLE_KEY_GROUP);
        if self.clustered {
            key.extend_from_slice(b":table");
        }
        key
    }

    /// The call that reads a table's catalog entry in a slot group.
    pub fn entry_call(&self, table: &str, slot_group: u8) -> Call {
        Call::on(slot_group, "HGETALL").arg(self.catalog_key(table, slot_group))
    }

    /// The call that reads the catalog entry of a whole table.
    pub fn table_call(&self, table: &str) -> Call {
        Call::on(TABLE_KEY_GROUP, "HGETALL").arg(self.table_key(table))
    }
}

/// The slot group with the catalog entries of whole tables.
pub const TABLE_KEY_GROUP: u8 = 0;

impl Layout {
    /// The layout of a table in a slot group.
    pub fn new(
        keyspace: &Keyspace,
        slot_group: u8,
        table: Arc<Table>,
        epoch: String,
        unbuilt: Vec<String>,
    ) -> Self {
        let prefix = keyspace.group_prefix(slot_group);
        let name = &table.name;
        let markers = match (table.unique.is_empty(), keyspace.clustered) {
            (true, _) => MarkerLocation::None,
            (false, false) => MarkerLocation::WithRows,
            (false, true) => MarkerLocation::Distributed,
        };
        let mut layout = Self {
            catalog_key: keyspace.catalog_key(name, slot_group),
            row_set: keyspace.row_set(name, slot_group),
            index_prefix: format!("{prefix}@{name}:index:").into_bytes(),
            slot_group,
            index_sets: Vec::new(),
            unique_prefix: format!("{prefix}@{name}:unique:").into_bytes(),
            markers,
            row_prefix: format!("{prefix}{name}:"),
            table,
            epoch,
            unbuilt,
        };
        if keyspace.clustered {
            // While a slot migrates, the server checks that it has all keys that a script names.
            let indexes = layout.table.indexes.iter();
            layout.index_sets = indexes.map(|index| layout.index_set(&index.name)).collect();
        }
        layout
    }

    /// A command on keys of this slot group.
    pub fn call(&self, name: &str) -> Call {
        Call::on(self.slot_group, name)
    }

    /// A call of a script on these keys of the slot group, and in a Cluster on the index sets.
    pub fn script(&self, script: &'static Script, keys: &[&[u8]], room: usize) -> Call {
        Call::script(self.slot_group, script, keys, &self.index_sets, room)
    }

    /// The key of a row.
    pub fn row_key(&self, key: &Key) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.row_prefix.len() + 64);
        name.extend_from_slice(self.row_prefix.as_bytes());
        match &key.sort {
            None => push_plain(&mut name, &key.partition),
            Some(sort) => {
                let mut partition = Vec::new();
                push_plain(&mut partition, &key.partition);
                name.push(b'{');
                push_escaped(&mut name, &partition);
                name.extend_from_slice(b"}:");
                push_plain(&mut name, sort);
            }
        }
        name
    }

    /// The call that reads a row.
    pub fn read_call(&self, key: &Key) -> Call {
        self.call("HGETALL").arg(self.row_key(key))
    }

    /// The key of an index set.
    pub fn index_set(&self, index: &str) -> Vec<u8> {
        [&self.index_prefix, index.as_bytes()].concat()
    }

    /// The key of the markers of unique values.
    pub fn markers_key(&self, unique: &[u8]) -> Vec<u8> {
        [&self.unique_prefix, unique].concat()
    }

    /// Whether a write of a row changes only the row and the row set.
    pub fn is_plain(&self) -> bool {
        self.table.indexes.is_empty() && self.markers == MarkerLocation::None
    }

    /// A row's member of the row set.
    pub fn member(key: &Key) -> Vec<u8> {
        let mut member = Vec::with_capacity(64);
        push_key(&mut member, key);
        member
    }

    /// The key of the row of a member of the row set.
    pub fn key_of(&self, member: &[u8]) -> Option<Key> {
        let Some(sort) = &self.table.sort else {
            return Some(Key {
                partition: KeyValue::decode(self.table.partition.kind, member).ok()?,
                sort: None,
            });
        };
        let (partition, rest) = read_terminated(self.table.partition.kind, member)?;
        Some(Key {
            partition,
            sort: Some(KeyValue::decode(sort.kind, rest).ok()?),
        })
    }

    /// An item's member of an index set; `None` if the item is not in the index.
    pub fn index_member(index: &Index, item: &Item, key: &Key) -> Option<Vec<u8>> {
        Some(Self::position_member(&index.values_of(item)?, key))
    }

    /// The member of an index set at the position of a cursor.
    pub fn position_member(index: &[KeyValue], key: &Key) -> Vec<u8> {
        let mut member = Vec::with_capacity(64);
        for value in index {
            push_terminated(&mut member, &value.encode());
        }
        push_key(&mut member, key);
        member
    }

    /// The key of the row of a member of an index set.
    pub fn key_of_index_member(&self, index: &Index, member: &[u8]) -> Option<Key> {
        let mut rest = member;
        for attribute in index.attributes() {
            (_, rest) = read_terminated(attribute.kind, rest)?;
        }
        self.key_of(rest)
    }

    /// An item's entries in all indexes, packed for the scripts: index, member, index, member.
    pub fn index_entries(&self, item: &Item, key: &Key) -> Vec<u8> {
        let entries: Vec<(&str, Vec<u8>)> = self
            .table
            .indexes
            .iter()
            .filter_map(|index| Some((index.name.as_str(), Self::index_member(index, item, key)?)))
            .collect();
        if entries.is_empty() {
            return Vec::new();
        }
        pack(
            entries
                .iter()
                .flat_map(|(name, member)| [name.as_bytes(), member]),
        )
    }

    /// The members of a partition in the row set, limited to a range of sort values.
    pub fn partition_range(
        &self,
        partition: &KeyValue,
        sort: (Bound<KeyValue>, Bound<KeyValue>),
    ) -> MemberRange {
        let mut start = Vec::new();
        if self.table.sort.is_none() {
            start.extend_from_slice(&partition.encode());
            return (Bound::Included(start.clone()), Bound::Included(start));
        }
        push_terminated(&mut start, &partition.encode());
        let with = |value: KeyValue| [&start[..], &value.encode()].concat();
        let low = match sort.0 {
            Bound::Unbounded => Bound::Included(start.clone()),
            bound => bound.map(with),
        };
        let high = match sort.1 {
            Bound::Unbounded => Bound::Excluded(after_all(&start)),
            bound => bound.map(with),
        };
        (low, high)
    }

    /// The members of an index set with these partition values, limited to a range of sort values.
    pub fn index_range(
        partition: &[KeyValue],
        sort: (Bound<KeyValue>, Bound<KeyValue>),
    ) -> MemberRange {
        let mut start = Vec::new();
        for value in partition {
            push_terminated(&mut start, &value.encode());
        }
        let with = |value: &KeyValue| {
            let mut member = start.clone();
            push_terminated(&mut member, &value.encode());
            member
        };
        let low = match &sort.0 {
            Bound::Included(value) => Bound::Included(with(value)),
            Bound::Excluded(value) => Bound::Included(after_all(&with(value))),
            Bound::Unbounded => Bound::Included(start.clone()),
        };
        let high = match &sort.1 {
            Bound::Included(value) => Bound::Excluded(after_all(&with(value))),
            Bound::Excluded(value) => Bound::Excluded(with(value)),
            Bound::Unbounded if start.is_empty() => Bound::Unbounded,
            Bound::Unbounded => Bound::Excluded(after_all(&start)),
        };
        (low, high)
    }
}

/// Starts a packed list. Its length follows in four bytes (`array 32` of `MessagePack`).
const PACKED_LIST: u8 = 0xDD;
/// Starts a packed string. Its length follows in four bytes (`str 32` of `MessagePack`).
const PACKED_STRING: u8 = 0xDB;
/// Starts a packed string of less than 32 bytes. It includes the length.
const PACKED_SHORT: u8 = 0xA0;

/// A length of a name or key. All of them are limited, so that it fits.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// A list of strings for the scripts to unpack (`MessagePack`).
pub fn pack<'a>(texts: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut packed = vec![PACKED_LIST, 0, 0, 0, 0];
    let mut count = 0;
    for text in texts {
        push_packed(&mut packed, text);
        count += 1;
    }
    packed[1..5].copy_from_slice(&length(count).to_be_bytes());
    packed
}

/// Adds a string for the scripts to unpack (`MessagePack`).
pub fn push_packed(packed: &mut Vec<u8>, text: &[u8]) {
    if let Ok(length @ ..32) = u8::try_from(text.len()) {
        packed.push(PACKED_SHORT | length);
    } else {
        packed.push(PACKED_STRING);
        packed.extend_from_slice(&length(text.len()).to_be_bytes());
    }
    packed.extend_from_slice(text);
}

/// The strings of a list that `pack` has made, as far as it is whole.
pub fn unpack(packed: &[u8]) -> Vec<&[u8]> {
    let mut texts = Vec::new();
    let mut rest = packed.get(5..).unwrap_or_default();
    while let [first, tail @ ..] = rest {
        let (length, tail) = match (*first, tail) {
            (PACKED_STRING, [a, b, c, d, tail @ ..]) => {
                (u32::from_be_bytes([*a, *b, *c, *d]) as usize, tail)
            }
            (short, tail) => (usize::from(short & !PACKED_SHORT), tail),
        };
        let Some((text, tail)) = tail.split_at_checked(length) else {
            break;
        };
        texts.push(text);
        rest = tail;
    }
    texts
}

fn push_plain(name: &mut Vec<u8>, value: &KeyValue) {
    match value {
        KeyValue::String(text) => name.extend_from_slice(text.as_bytes()),
        KeyValue::Binary(bytes) => name.extend_from_slice(bytes),
        KeyValue::Number(number) => name.extend_from_slice(number.to_string().as_bytes()),
    }
}

fn push_escaped(name: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        match byte {
            b'%' => name.extend_from_slice(b"%25"),
            b'{' => name.extend_from_slice(b"%7B"),
            b'}' => name.extend_from_slice(b"%7D"),
            other => name.push(*other),
        }
    }
}

fn push_key(member: &mut Vec<u8>, key: &Key) {
    match &key.sort {
        None => member.extend_from_slice(&key.partition.encode()),
        Some(sort) => {
            push_terminated(member, &key.partition.encode());
            member.extend_from_slice(&sort.encode());
        }
    }
}

fn push_terminated(member: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        member.push(*byte);
        if *byte == ZERO {
            member.push(ESCAPED);
        }
    }
    member.extend_from_slice(&[ZERO, TERMINATOR]);
}

/// The least bytes that are greater than all that start with this terminated value.
fn after_all(terminated: &[u8]) -> Vec<u8> {
    let mut bytes = terminated.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = AFTER_TERMINATOR;
    }
    bytes
}

/// Reads a terminated value. Returns it with the rest.
fn read_terminated(kind: KeyKind, member: &[u8]) -> Option<(KeyValue, &[u8])> {
    let mut bytes = Vec::new();
    let mut rest = member;
    loop {
        let zero = rest.iter().position(|byte| *byte == ZERO)?;
        bytes.extend_from_slice(&rest[..zero]);
        let next = *rest.get(zero + 1)?;
        rest = &rest[zero + 2..];
        match next {
            ESCAPED => bytes.push(ZERO),
            TERMINATOR => return Some((KeyValue::decode(kind, &bytes).ok()?, rest)),
            _ => return None,
        }
    }
}

/// The rest of a range after this member, in the direction of the read.
pub fn resume_after((low, high): MemberRange, after: Vec<u8>, descending: bool) -> MemberRange {
    let is_past = |bound: &Bound<Vec<u8>>| match bound {
        Bound::Included(bound) | Bound::Excluded(bound) if descending => after > *bound,
        Bound::Included(bound) | Bound::Excluded(bound) => after < *bound,
        Bound::Unbounded => false,
    };
    if is_past(if descending { &high } else { &low }) {
        (low, high)
    } else if descending {
        (low, Bound::Excluded(after))
    } else {
        (Bound::Excluded(after), high)
    }
}
