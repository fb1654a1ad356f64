//! Where everything lies: the names of keys, and the members that keep the order.
//!
//! With the prefix `shop`, table `Order` and index `by_status` the keys are
//!
//! - `shop/Order:KEY`: a row, a hash of its attributes. In a table with a sort key it is
//!   `shop/Order:{PARTITION}:SORT`, where `%`, `{` and `}` of the partition are percent-escaped.
//! - `shop/@Order`: the catalog's entry, a hash.
//! - `shop/@Order:rows`: the table's order, a sorted set with a member for each row.
//! - `shop/@Order:index:by_status`: an index, a sorted set with a member for each row that is in it.
//!
//! Without a prefix the slash is missing too. In a Cluster each bucket has all of these keys for itself,
//! with its hash tag behind the slash: `shop/{6h}Order:KEY`, `shop/{6h}@Order`; and the first bucket has
//! `shop/{10}@Order:master`, the catalog's entry for the table as a whole. Numbers in keys are written in decimal, in members in an
//! encoding that keeps their order. All scores are 0, so that Redis orders by the bytes of members. A
//! member is a sequence of values, each but the last closed by the bytes 0 1; a byte 0 inside is
//! written as 0 255. So the bytes are in the order of the values, and no value runs into the next.
//!
//! A table's member is the partition, then the sort value. An index's member is the index's partition
//! values, then its sort value, all closed, then the row's member of the table.

use std::ops::{Bound, Range};
use std::sync::Arc;

use mintkey_store::{Index, Item, Key, KeyAttribute, KeyKind, KeyValue, Put, Table};

use crate::protocol::resp::Call;
use crate::protocol::scripts::Script;
use crate::protocol::slots::{self, BUCKETS, TAGS};

const ZERO: u8 = 0;
const INNER_ZERO: u8 = 0xFF;
const END: u8 = 1;
/// One above `END`: behind everything that goes on from a closed value.
const BEHIND: u8 = 2;

/// A range of members.
pub type Span = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// A table with the names of its keys.
#[derive(Debug)]
pub struct Layout {
    /// The table as the catalog has it.
    pub table: Arc<Table>,
    /// What changes whenever the catalog's entry does.
    pub epoch: String,
    /// The names of the indexes that are not built up yet.
    pub unbuilt: Vec<String>,
    /// The catalog's key.
    pub catalog: Vec<u8>,
    /// The key of the table's order.
    pub order: Vec<u8>,
    /// The start of the keys of the indexes.
    pub indexes: Vec<u8>,
    /// The bucket it is for, in a Cluster; else 0.
    pub bucket: u8,
    /// The keys of the indexes, if scripts must name all keys that they touch.
    pub named: Vec<Vec<u8>>,
    start: String,
}

/// Where the tables of a store lie.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Space {
    /// What the names of all keys begin with.
    pub prefix: String,
    /// Whether they are cut into the buckets of a Cluster.
    pub in_buckets: bool,
}

impl Space {
    /// The bucket of a partition.
    pub fn bucket(&self, partition: &KeyValue) -> u8 {
        if self.in_buckets {
            slots::of(partition)
        } else {
            0
        }
    }

    /// The bucket of an item; nothing if it has no partition key.
    pub fn bucket_of(&self, put: &Put) -> Option<u8> {
        if !self.in_buckets {
            return Some(0);
        }
        let attribute = &put.table.partition;
        let value = put.item.get(&attribute.name)?;
        let partition = KeyValue::from_value(value, attribute.kind)?;
        Some(slots::of(&partition))
    }

    /// All buckets.
    pub fn buckets(&self) -> Range<u8> {
        0..if self.in_buckets { BUCKETS } else { 1 }
    }

    /// What all keys of a bucket begin with.
    fn start(&self, bucket: u8) -> String {
        let prefix = &self.prefix;
        let slash = if prefix.is_empty() { "" } else { "/" };
        if self.in_buckets {
            format!("{prefix}{slash}{{{}}}", TAGS[usize::from(bucket)])
        } else {
            format!("{prefix}{slash}")
        }
    }

    /// The key of a table's entry in a bucket's catalog.
    pub fn catalog(&self, table: &str, bucket: u8) -> Vec<u8> {
        format!("{}@{table}", self.start(bucket)).into_bytes()
    }

    /// The key of a table's entry for all buckets.
    pub fn master(&self, table: &str) -> Vec<u8> {
        let mut key = self.catalog(table, MASTER);
        if self.in_buckets {
            key.extend_from_slice(b":master");
        }
        key
    }
}

/// The bucket with the entries for all buckets.
pub const MASTER: u8 = 0;

impl Layout {
    /// The layout of a table.
    pub fn new(
        space: &Space,
        bucket: u8,
        table: Arc<Table>,
        epoch: String,
        unbuilt: Vec<String>,
    ) -> Self {
        let start = space.start(bucket);
        let name = &table.name;
        let mut layout = Self {
            catalog: space.catalog(name, bucket),
            order: format!("{start}@{name}:rows").into_bytes(),
            indexes: format!("{start}@{name}:index:").into_bytes(),
            bucket,
            named: Vec::new(),
            start: format!("{start}{name}:"),
            table,
            epoch,
            unbuilt,
        };
        if space.in_buckets {
            // While a slot moves, the server looks whether all keys that a script names are on its side.
            let indexes = layout.table.indexes.iter();
            layout.named = indexes.map(|index| layout.index(&index.name)).collect();
        }
        layout
    }

    /// A command for this bucket.
    pub fn call(&self, name: &str) -> Call {
        Call::on(self.bucket, name)
    }

    /// A script for this bucket, on these keys and those of the indexes.
    pub fn script(&self, script: &'static Script, keys: &[&[u8]], room: usize) -> Call {
        Call::script(self.bucket, script, keys, &self.named, room)
    }

    /// The key of a row.
    pub fn row(&self, key: &Key) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.start.len() + 64);
        name.extend_from_slice(self.start.as_bytes());
        match &key.sort {
            None => push_readable(&mut name, &key.partition),
            Some(sort) => {
                let mut partition = Vec::new();
                push_readable(&mut partition, &key.partition);
                name.push(b'{');
                push_escaped(&mut name, &partition);
                name.extend_from_slice(b"}:");
                push_readable(&mut name, sort);
            }
        }
        name
    }

    /// The key of an index.
    pub fn index(&self, index: &str) -> Vec<u8> {
        [&self.indexes, index.as_bytes()].concat()
    }

    /// A row's member of the table's order.
    pub fn member(key: &Key) -> Vec<u8> {
        let mut member = Vec::with_capacity(64);
        push_key(&mut member, key);
        member
    }

    /// The key that a member of the table's order stands for.
    pub fn key(&self, member: &[u8]) -> Option<Key> {
        let Some(sort) = &self.table.sort else {
            return Some(Key {
                partition: KeyValue::decode(self.table.partition.kind, member).ok()?,
                sort: None,
            });
        };
        let (partition, rest) = closed(self.table.partition.kind, member)?;
        Some(Key {
            partition,
            sort: Some(KeyValue::decode(sort.kind, rest).ok()?),
        })
    }

    /// An item's member of an index; nothing if it is not in it.
    pub fn index_member(index: &Index, item: &Item, key: &Key) -> Option<Vec<u8>> {
        let mut member = Vec::with_capacity(64);
        for attribute in index.attributes() {
            let value = item.get(&attribute.name)?;
            push_closed(
                &mut member,
                &KeyValue::from_value(value, attribute.kind)?.encode(),
            );
        }
        push_key(&mut member, key);
        Some(member)
    }

    /// The member of an index that a position stands for.
    pub fn position_member(index: &[KeyValue], key: &Key) -> Vec<u8> {
        let mut member = Vec::with_capacity(64);
        for value in index {
            push_closed(&mut member, &value.encode());
        }
        push_key(&mut member, key);
        member
    }

    /// The key of the row that a member of an index stands for.
    pub fn index_key(&self, index: &Index, member: &[u8]) -> Option<Key> {
        let mut rest = member;
        for attribute in index.attributes() {
            (_, rest) = closed(attribute.kind, rest)?;
        }
        self.key(rest)
    }

    /// An item's entries in all indexes, packed for the scripts: index, member, index, member.
    pub fn entries(&self, item: &Item, key: &Key) -> Vec<u8> {
        let entries: Vec<(&str, Vec<u8>)> = self
            .table
            .indexes
            .iter()
            .filter_map(|index| Some((index.name.as_str(), Self::index_member(index, item, key)?)))
            .collect();
        let mut packed = Vec::new();
        if !entries.is_empty() {
            packed.push(PACKED_LIST);
            packed.extend_from_slice(&length(2 * entries.len()).to_be_bytes());
        }
        for (name, member) in &entries {
            for text in [name.as_bytes(), member] {
                push_packed(&mut packed, text);
            }
        }
        packed
    }

    /// The range of members of a partition, narrowed to sort values.
    pub fn range(&self, partition: &KeyValue, sort: (Bound<KeyValue>, Bound<KeyValue>)) -> Span {
        let mut start = Vec::new();
        if self.table.sort.is_none() {
            start.extend_from_slice(&partition.encode());
            return (Bound::Included(start.clone()), Bound::Included(start));
        }
        push_closed(&mut start, &partition.encode());
        let with = |value: KeyValue| [&start[..], &value.encode()].concat();
        let low = match sort.0 {
            Bound::Included(value) => Bound::Included(with(value)),
            Bound::Excluded(value) => Bound::Excluded(with(value)),
            Bound::Unbounded => Bound::Included(start.clone()),
        };
        let high = match sort.1 {
            Bound::Included(value) => Bound::Included(with(value)),
            Bound::Excluded(value) => Bound::Excluded(with(value)),
            Bound::Unbounded => Bound::Excluded(behind(&start)),
        };
        (low, high)
    }

    /// The range of members of an index with these partition values, narrowed to sort values.
    pub fn index_range(partition: &[KeyValue], sort: (Bound<KeyValue>, Bound<KeyValue>)) -> Span {
        let mut start = Vec::new();
        for value in partition {
            push_closed(&mut start, &value.encode());
        }
        let with = |value: &KeyValue| {
            let mut member = start.clone();
            push_closed(&mut member, &value.encode());
            member
        };
        let low = match &sort.0 {
            Bound::Included(value) => Bound::Included(with(value)),
            Bound::Excluded(value) => Bound::Included(behind(&with(value))),
            Bound::Unbounded => Bound::Included(start.clone()),
        };
        let high = match &sort.1 {
            Bound::Included(value) => Bound::Excluded(behind(&with(value))),
            Bound::Excluded(value) => Bound::Excluded(with(value)),
            Bound::Unbounded if start.is_empty() => Bound::Unbounded,
            Bound::Unbounded => Bound::Excluded(behind(&start)),
        };
        (low, high)
    }
}

/// Opens a packed list; its length follows in four bytes (`MessagePack`'s array 32).
const PACKED_LIST: u8 = 0xDD;
/// Opens a packed text; its length follows in four bytes (`MessagePack`'s raw 32).
const PACKED_TEXT: u8 = 0xDB;
/// Opens a packed text of less than 32 bytes, and holds its length.
const PACKED_SHORT: u8 = 0xA0;

/// Lengths of names and keys fit: all are limited.
fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Adds a text to what the scripts unpack (`MessagePack`).
pub fn push_packed(packed: &mut Vec<u8>, text: &[u8]) {
    if let Ok(length @ ..32) = u8::try_from(text.len()) {
        packed.push(PACKED_SHORT | length);
    } else {
        packed.push(PACKED_TEXT);
        packed.extend_from_slice(&length(text.len()).to_be_bytes());
    }
    packed.extend_from_slice(text);
}

fn push_readable(name: &mut Vec<u8>, value: &KeyValue) {
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
            push_closed(member, &key.partition.encode());
            member.extend_from_slice(&sort.encode());
        }
    }
}

fn push_closed(member: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        member.push(*byte);
        if *byte == ZERO {
            member.push(INNER_ZERO);
        }
    }
    member.extend_from_slice(&[ZERO, END]);
}

/// The least bytes behind all that begin with a closed value.
fn behind(closed: &[u8]) -> Vec<u8> {
    let mut bytes = closed.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last = BEHIND;
    }
    bytes
}

/// Reads a closed value, and gives it with what follows.
fn closed(kind: KeyKind, member: &[u8]) -> Option<(KeyValue, &[u8])> {
    let mut bytes = Vec::new();
    let mut rest = member;
    loop {
        let place = rest.iter().position(|byte| *byte == ZERO)?;
        bytes.extend_from_slice(&rest[..place]);
        let next = *rest.get(place + 1)?;
        rest = &rest[place + 2..];
        match next {
            INNER_ZERO => bytes.push(ZERO),
            END => return Some((KeyValue::decode(kind, &bytes).ok()?, rest)),
            _ => return None,
        }
    }
}

/// A range without what lies before a member, or behind it in the other direction.
pub fn resume(range: Span, after: Vec<u8>, descending: bool) -> Span {
    let (low, high) = range;
    if descending {
        let narrower = match &high {
            Bound::Included(bound) | Bound::Excluded(bound) => after <= *bound,
            Bound::Unbounded => true,
        };
        (
            low,
            if narrower {
                Bound::Excluded(after)
            } else {
                high
            },
        )
    } else {
        let narrower = match &low {
            Bound::Included(bound) | Bound::Excluded(bound) => after >= *bound,
            Bound::Unbounded => true,
        };
        (
            if narrower {
                Bound::Excluded(after)
            } else {
                low
            },
            high,
        )
    }
}

/// The attributes of a table's own key.
pub fn key_attributes(table: &Table) -> impl Iterator<Item = &KeyAttribute> {
    std::iter::once(&table.partition).chain(&table.sort)
}
