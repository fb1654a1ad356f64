//! The buckets of a Cluster: which one a partition belongs to, and the hash tag that all its keys share.
//!
//! A Cluster puts each key into one of 16,384 slots, and a script may only touch keys of one. So the
//! tables of a Cluster are cut into 64 buckets, each of which is in one slot and has what a table on a
//! server of its own has. Bucket `i` stands for the slots from `256 i` on: a row is in the bucket of the
//! slot that its partition key, encoded as in a member, would be in by itself (CRC-16/XMODEM modulo
//! 16,384). The tag of a bucket is the smallest number that, in base 36, is in one of its slots.
//!
//! None of this may ever change: rows would not be found any more.

use mintkey_store::KeyValue;

/// How many there are.
pub const BUCKETS: u8 = 64;

/// The slots of a Cluster.
const SLOTS: u16 = 16_384;
const SLOTS_OF_A_BUCKET: u16 = SLOTS / BUCKETS as u16;

/// The hash tag of each bucket.
pub const TAGS: [&str; BUCKETS as usize] = [
    "10", "18", "6h", "6d", "29", "21", "3", "4s", "1p", "1x", "1a", "1i", "b", "j", "s", "2d",
    "11", "19", "6i", "6a", "28", "20", "2", "4r", "1q", "1y", "1d", "1h", "c", "k", "r", "z",
    "12", "6s", "6j", "6b", "4h", "23", "1", "9", "1r", "1z", "1c", "1k", "d", "h", "q", "y", "13",
    "6r", "6k", "6c", "4i", "22", "0", "8", "1s", "62", "1b", "1j", "a", "i", "p", "x",
];

/// The bucket of a partition.
pub fn of(partition: &KeyValue) -> u8 {
    u8::try_from(slot(&partition.encode()) / SLOTS_OF_A_BUCKET).unwrap_or(0)
}

/// The slot that a bucket's keys are in.
pub fn slot_of(bucket: u8) -> u16 {
    slot(TAGS[usize::from(bucket)].as_bytes())
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
    fn slots_are_those_of_the_cluster() {
        // The first as the specification of the Cluster gives it, the others as CLUSTER KEYSLOT does.
        assert_eq!(slot(b"123456789"), 0x31C3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b""), 0);
    }

    #[test]
    fn a_tag_is_the_smallest_number_in_the_slots_of_its_bucket() {
        let mut found = [const { None }; BUCKETS as usize];
        for number in 0..1_000 {
            let text = base36(number);
            let bucket = slot(text.as_bytes()) / SLOTS_OF_A_BUCKET;
            found[usize::from(bucket)].get_or_insert(text);
        }
        assert_eq!(found.map(Option::unwrap), TAGS);
    }

    #[test]
    fn buckets_stay_what_they_are() {
        let text = |text: &str| of(&KeyValue::String(text.to_owned()));
        assert_eq!(text("foo"), 47);
        assert_eq!(text("01ARZ3NDEKTSV4RRFFQ69G5FAV"), 43);
        assert_eq!(of(&KeyValue::Number(7_i64.into())), 35);
        assert_eq!(of(&KeyValue::Binary(vec![0, 255])), 30);
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
