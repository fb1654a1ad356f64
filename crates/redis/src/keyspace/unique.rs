//! The unique values that rows claim, the markers of these values, and the calls on them.

use mintkey_store::{Claim, Item, Key, Result, Table};

use crate::keyspace::layout::{Keyspace, Layout, pack, unpack};
use crate::keyspace::rows::{StoredRow, UNIQUE_ENTRIES};
use crate::protocol::resp::{Call, Value};
use crate::protocol::unique_scripts::{CLAIM, DROP_MARKERS, INSPECT, RELEASE, RELEASE_EXACT};

/// A unique value that a row claims.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UniqueValue {
    /// The name of the unique values.
    pub name: Vec<u8>,
    /// The encoded values.
    pub encoded: Vec<u8>,
    /// In a Cluster, the token of the write that claimed it.
    pub token: Vec<u8>,
}

impl UniqueValue {
    /// Whether it is the same value of the same name.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name && self.encoded == other.encoded
    }

    fn of(claim: &Claim<'_>) -> Self {
        Self {
            name: claim.unique.name.as_bytes().to_vec(),
            encoded: claim.encode(),
            token: Vec::new(),
        }
    }
}

/// How a write changes what a row claims.
#[derive(Debug, Default)]
pub struct UniqueChanges {
    /// The values that it keeps.
    pub kept: Vec<UniqueValue>,
    /// The values that it did not have before, without tokens.
    pub claimed: Vec<UniqueValue>,
    /// The values that it gives up.
    pub released: Vec<UniqueValue>,
    /// Whether the markers of the kept values may be missing: unique values are being built.
    pub again: bool,
}

impl UniqueChanges {
    /// The change from what a row claims to what it is to claim.
    pub fn between(before: Vec<UniqueValue>, after: &[UniqueValue]) -> Self {
        let is_in = |values: &[UniqueValue], value: &UniqueValue| {
            values.iter().any(|other| other.is_same(value))
        };
        let claimed = after.iter().filter(|value| !is_in(&before, value));
        let claimed = claimed.cloned().collect();
        let (kept, released) = before.into_iter().partition(|value| is_in(after, value));
        Self {
            kept,
            claimed,
            released,
            again: false,
        }
    }

    /// What the row claims afterwards. New claims get this token.
    pub fn after(&self, token: &str) -> Vec<UniqueValue> {
        let claimed = self.claimed.iter().map(|value| UniqueValue {
            token: token.as_bytes().to_vec(),
            ..value.clone()
        });
        self.kept.iter().cloned().chain(claimed).collect()
    }

    /// The values that it claims and gives up.
    pub fn changed(&self) -> impl Iterator<Item = &UniqueValue> {
        self.claimed.iter().chain(&self.released)
    }
}

/// What an item claims, without tokens.
pub fn unique_values(table: &Table, item: &Item) -> Result<Vec<UniqueValue>> {
    Ok(table.claims(item)?.iter().map(UniqueValue::of).collect())
}

/// What a stored row claims.
pub fn stored_unique_values(row: Option<&StoredRow>) -> Vec<UniqueValue> {
    let mut fields = row.map_or(&[][..], |row| &row.fields).iter();
    let Some((_, packed)) = fields.find(|(name, _)| name == UNIQUE_ENTRIES) else {
        return Vec::new();
    };
    parse_unique_values(packed)
}

/// The claims in the hidden field of a row.
pub fn parse_unique_values(packed: &[u8]) -> Vec<UniqueValue> {
    let parts = unpack(packed);
    let value = |parts: &[&[u8]]| UniqueValue {
        name: parts[0].to_vec(),
        encoded: parts[1].to_vec(),
        token: parts[2].to_vec(),
    };
    parts.chunks_exact(3).map(value).collect()
}

/// Claims as the strings that the scripts and the hidden field have.
pub fn value_parts<'a>(values: &'a [UniqueValue]) -> impl Iterator<Item = &'a [u8]> {
    let parts = |own: &'a UniqueValue| [&own.name[..], &own.encoded, &own.token];
    values.iter().flat_map(parts)
}

/// The hidden field of a row with these claims; empty if there are none.
pub fn hidden_field(values: &[UniqueValue]) -> Vec<u8> {
    if values.is_empty() {
        Vec::new()
    } else {
        pack(value_parts(values))
    }
}

/// A unique value that has the marker of another row.
#[derive(Debug)]
pub struct TakenValue {
    pub value: UniqueValue,
    /// What the marker holds.
    pub marker: Vec<u8>,
}

/// The values that are taken, each with the number of its row, if this is the reply of a script that says so. The reply of a
/// script that writes one row has no numbers.
pub fn taken_values(value: &Value) -> Option<Vec<(usize, TakenValue)>> {
    let Value::Array(parts) = value else {
        return None;
    };
    let (Value::Status(word), parts) = parts.split_first()? else {
        return None;
    };
    if word != "TAKEN" {
        return None;
    }
    let bytes = |value: &Value| match value {
        Value::Bulk(bytes) => Some(bytes.clone()),
        _ => None,
    };
    let parts = parts.iter().map(bytes).collect::<Option<Vec<_>>>()?;
    let taken = |number: usize, parts: &[Vec<u8>]| {
        let value = UniqueValue {
            name: parts[0].clone(),
            encoded: parts[1].clone(),
            token: Vec::new(),
        };
        let marker = parts[2].clone();
        (number, TakenValue { value, marker })
    };
    if parts.len() == 3 {
        return Some(vec![taken(0, &parts)]);
    }
    let numbered = |parts: &[Vec<u8>]| {
        let number = std::str::from_utf8(&parts[0]).ok()?.parse::<usize>().ok()?;
        Some(taken(number.checked_sub(1)?, &parts[1..]))
    };
    parts.chunks_exact(4).map(numbered).collect()
}

/// A row in a marker in a Cluster: the token of the write that claims the value, and the key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Claimant {
    pub token: String,
    /// The key of the row.
    pub key: Key,
}

/// A marker in a Cluster: the row that claims the value. While a transaction moves the value from one of its rows to another,
/// the row that still has it follows.
pub fn marker<'a>(claimants: impl IntoIterator<Item = &'a Claimant>) -> Vec<u8> {
    let mut parts = Vec::new();
    for claimant in claimants {
        parts.push(claimant.token.as_bytes().to_vec());
        parts.push(Layout::member(&claimant.key));
    }
    pack(parts.iter().map(Vec::as_slice))
}

/// The rows in a marker in a Cluster; `None` if it is damaged.
pub fn parse_marker(layout: &Layout, marker: &[u8]) -> Option<Vec<Claimant>> {
    let parts = unpack(marker);
    let claimant = |pair: &[&[u8]]| {
        Some(Claimant {
            token: std::str::from_utf8(pair[0]).ok()?.to_owned(),
            key: layout.key_of(pair[1])?,
        })
    };
    let claimants: Option<Vec<Claimant>> = parts.chunks_exact(2).map(claimant).collect();
    claimants.filter(|claimants| !claimants.is_empty())
}

/// The call that reads a marker.
pub fn marker_call(layout: &Layout, name: &[u8], value: &[u8]) -> Call {
    layout.call("HGET").arg(layout.markers_key(name)).arg(value)
}

/// The call that writes an intent, which lives for these milliseconds. It is never sent twice: an intent that was cancelled
/// must not come back.
pub fn intent_call(slot_group: u8, intent: &[u8], lifetime: &str) -> Call {
    let call = Call::on(slot_group, "SET").arg(intent).arg("");
    let mut call = call.arg("PX").arg(lifetime).writing();
    call.repeatable = false;
    call
}

/// The call that removes the marker of a row that does not list the value, on a single server.
pub fn release_call(layout: &Layout, key: &Key, taken: &TakenValue) -> Call {
    let (set, row) = (layout.markers_key(&taken.value.name), layout.row_key(key));
    Call::script(layout.slot_group, &RELEASE, &[&set, &row], &[], 256)
        .arg(&taken.value.encoded)
        .arg(&taken.marker)
        .arg(&taken.value.name)
        .repeatable()
}

/// The call that claims a value in a Cluster. `layout` is that of its slot group; `replaced` is the marker that it may
/// replace, or empty.
pub fn claim_call(layout: &Layout, value: &UniqueValue, marker: &[u8], replaced: &[u8]) -> Call {
    let set = layout.markers_key(&value.name);
    let keys: [&[u8]; 2] = [&set, &layout.catalog_key];
    Call::script(layout.slot_group, &CLAIM, &keys, &[], 512)
        .arg(&layout.epoch)
        .arg(&value.encoded)
        .arg(marker)
        .arg(replaced)
        .repeatable()
}

/// The call that removes a marker in a Cluster, if it is still this one. `layout` is that of the slot group of the value.
pub fn release_exact_call(layout: &Layout, value: &UniqueValue, marker: &[u8]) -> Call {
    let set = layout.markers_key(&value.name);
    Call::script(layout.slot_group, &RELEASE_EXACT, &[&set], &[], 256)
        .arg(&value.encoded)
        .arg(marker)
        .repeatable()
}

/// The call that finds out whether the row of a claimant has a value. `layout` is that of the slot group of the row.
pub fn inspect_call(
    keyspace: &Keyspace,
    layout: &Layout,
    claimant: &Claimant,
    value: &UniqueValue,
    cancel: bool,
) -> Call {
    let intent = keyspace.intent_key(layout.slot_group, &claimant.token);
    let row = layout.row_key(&claimant.key);
    let mut call = Call::script(layout.slot_group, &INSPECT, &[&intent, &row], &[], 512)
        .arg(&value.name)
        .arg(&value.encoded)
        .arg(if cancel { "cancel" } else { "" })
        .repeatable();
    call.writes = cancel;
    call
}

/// The call that removes all markers of these unique values in a slot group, if the catalog entry is still the same.
pub fn drop_markers_call(layout: &Layout, uniques: &[String]) -> Call {
    let sets = uniques
        .iter()
        .map(|name| layout.markers_key(name.as_bytes()));
    let sets: Vec<Vec<u8>> = sets.collect();
    let keys: [&[u8]; 1] = [&layout.catalog_key];
    Call::script(layout.slot_group, &DROP_MARKERS, &keys, &sets, 256)
        .arg(&layout.epoch)
        .repeatable()
}
