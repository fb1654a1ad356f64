//! Hash slots and slot groups of a Cluster.
//!
//! A Cluster maps each key to one of 16,384 slots, and a script may only use keys of one slot. So the tables of a Cluster
//! are split into 64 slot groups. All keys of a group share a hash tag and are in one slot. A group has the same keys as a
//! table on a single server. Group `i` stands for the slots from `256 i` to `256 i + 255`: a row is in the group of the
//! slot of its partition key, encoded as in a member of the row set (CRC-16/XMODEM modulo 16,384). The hash tag of a group
//! is the smallest number that, in base 36, is in one of its slots.
//!
//! None of this may ever change: stored rows would not be found any more.

use mintkey_store::KeyValue;

/// The number of slot groups.
pub const SLOT_GROUPS: u8 = 64;

/// The number of slots of a Cluster.
const SLOTS: u16 = 16_384;
const SLOTS_PER_GROUP: u16 = SLOTS / SLOT_GROUPS as u16;

pub const HASH_TAGS: [&str; SLOT_GROUPS as usize] = [
    "10", "18", "6h", "6d", "29", "21", "3", "4s", "1p", "1x", "1a", "1i", "b", "j", "s", "2d",
    "11", "19", "6i", "6a", "28", "20", "2", "4r", "1q", "1y", "1d", "1h", "c", "k", "r", "z",
    "12", "6s", "6j", "6b", "4h", "23", "1", "9", "1r", "1z", "1c", "1k", "d", "h", "q", "y", "13",
    "6r", "6k", "6c", "4i", "22", "0", "8", "1s", "62", "1b", "1j", "a", "i", "p", "x",
];

/// The slot group of a partition.
pub fn group_of(partition: &KeyValue) -> u8 {
    group_of_bytes(&partition.encode())
}

/// The slot group of an encoded value.
pub fn group_of_bytes(value: &[u8]) -> u8 {
    u8::try_from(slot(value) / SLOTS_PER_GROUP).unwrap_or(0)
}

/// The slot of the keys of a group.
pub fn slot_of_group(slot_group: u8) -> u16 {
    slot(HASH_TAGS[usize::from(slot_group)].as_bytes())
}

/// The slot of bytes without a hash tag.
fn slot(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            (crc << 1) ^ if crc >> 15 == 1 { 0x1021 } else { 0 }
        })
    }) % SLOTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_match_redis_cluster() {
        // The first is from the specification of Redis Cluster, the others from CLUSTER KEYSLOT.
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn a_hash_tag_is_the_smallest_number_in_the_slots_of_its_group() {
        let mut found = [const { None }; SLOT_GROUPS as usize];
        for number in 0..1_000 {
            let text = base36(number);
            let slot_group = slot(text.as_bytes()) / SLOTS_PER_GROUP;
            found[usize::from(slot_group)].get_or_insert(text);
        }
        assert_eq!(found.map(Option::unwrap), HASH_TAGS);
    }

    #[test]
    fn slot_groups_never_change() {
        let text = |text: &str| group_of(&KeyValue::String(text.to_owned()));
        assert_eq!(text("foo"), 47);
        assert_eq!(group_of_bytes(b"foo"), 47);
        assert_eq!(text("01ARZ3NDEKTSV4RRFFQ69G5FAV"), 43);
        assert_eq!(group_of(&KeyValue::Number(7_i64.into())), 35);
        assert_eq!(group_of(&KeyValue::Binary(vec![0, 255])), 30);
    }

    fn base36(mut number: u32) -> String {
        let mut digits = Vec::new();
        loop {
            digits.push(char::from_digit(number % 36, 36).unwrap());
            number /= 36;
            if number == 0 {
                return digits.iter().rev().collect();
            }
        }
    }
}
