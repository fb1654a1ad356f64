//! 128 bits as 26 digits of 5 bits, in the alphabets of ULID and `TypeID`, and 96 bits as 20 for XID.

use crate::error::InvalidText;

/// Crockford's alphabet, upper case (ULID).
pub(crate) const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Crockford's alphabet, lower case (`TypeID`).
pub(crate) const CROCKFORD_LOWER: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The alphabet of RFC 4648's base32hex, lower case (XID).
const HEX: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";

/// Two digits for each ten bits.
const fn pairs(alphabet: &[u8; 32]) -> [[u8; 2]; 1024] {
    let mut table = [[0; 2]; 1024];
    let mut i = 0;
    while i < 1024 {
        table[i] = [alphabet[i >> 5], alphabet[i & 31]];
        i += 1;
    }
    table
}

/// The value of each character, or [`NONE`].
const fn values(alphabet: &[u8; 32], fold_case: bool) -> [u8; 256] {
    let mut table = [NONE; 256];
    let mut i = 0;
    while i < 32 {
        #[allow(clippy::cast_possible_truncation, reason = "below 32")]
        let value = i as u8;
        table[alphabet[i] as usize] = value;
        if fold_case {
            table[alphabet[i].to_ascii_lowercase() as usize] = value;
        }
        i += 1;
    }
    table
}

const NONE: u8 = 0xff;
static CROCKFORD_PAIRS: [[u8; 2]; 1024] = pairs(CROCKFORD);
static CROCKFORD_LOWER_PAIRS: [[u8; 2]; 1024] = pairs(CROCKFORD_LOWER);
static HEX_PAIRS: [[u8; 2]; 1024] = pairs(HEX);
static CROCKFORD_VALUES: [u8; 256] = values(CROCKFORD, true);
static CROCKFORD_LOWER_VALUES: [u8; 256] = values(CROCKFORD_LOWER, false);
static HEX_VALUES: [u8; 256] = values(HEX, false);

#[inline]
fn write<const LEN: usize>(bits: u128, pairs: &[[u8; 2]; 1024], out: &mut [u8; LEN]) {
    for (i, pair) in out.as_chunks_mut::<2>().0.iter_mut().enumerate() {
        let index = (bits >> (5 * (LEN - 2) - 10 * i)) & 0x3ff;
        *pair = pairs[index as usize];
    }
}

/// A ULID's 26 characters.
#[inline]
pub fn write_ulid(bits: u128, out: &mut [u8; 26]) {
    write(bits, &CROCKFORD_PAIRS, out);
}

/// A `TypeID`'s 26 characters after the prefix.
#[inline]
pub fn write_typeid(bits: u128, out: &mut [u8; 26]) {
    write(bits, &CROCKFORD_LOWER_PAIRS, out);
}

/// An XID's 20 characters: 96 bits and four of padding.
#[inline]
pub fn write_xid(bits: u128, out: &mut [u8; 20]) {
    write(bits << 4, &HEX_PAIRS, out);
}

/// Reads digits, the first of which may be at most `first_max`.
fn read(text: &[u8], len: usize, table: &[u8; 256], alphabet: &str) -> Result<u128, InvalidText> {
    if text.len() != len {
        return Err(InvalidText::new(format!(
            "it is {} characters long, not {len}",
            text.len()
        )));
    }
    let mut bits = 0_u128;
    for (position, &character) in text.iter().enumerate() {
        let value = table[usize::from(character)];
        if value == NONE {
            return Err(InvalidText::at(
                position,
                format!("{:?} is not in {alphabet}", char::from(character)),
            ));
        }
        if position == 0 && len == 26 && value > 7 {
            return Err(InvalidText::at(
                0,
                format!(
                    "{:?} exceeds 128 bits (the greatest is '7')",
                    char::from(character)
                ),
            ));
        }
        bits = bits << 5 | u128::from(value);
    }
    Ok(bits)
}

/// The 128 bits of a ULID, in either case.
pub(crate) fn read_ulid(text: &[u8]) -> Result<u128, InvalidText> {
    read(text, 26, &CROCKFORD_VALUES, "Crockford's base 32")
}

/// The 128 bits of a `TypeID`'s suffix: lower case only, as its specification says.
pub(crate) fn read_typeid(text: &[u8]) -> Result<u128, InvalidText> {
    read(
        text,
        26,
        &CROCKFORD_LOWER_VALUES,
        "lower-case Crockford base 32",
    )
}

/// The 96 bits of an XID.
pub(crate) fn read_xid(text: &[u8]) -> Result<u128, InvalidText> {
    let bits = read(text, 20, &HEX_VALUES, "lower-case base32hex")?;
    if bits & 0xf != 0 {
        return Err(InvalidText::at(
            19,
            "the four padding bits of the last character are not zero: the greatest forms are '0' and 'g'",
        ));
    }
    Ok(bits >> 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_from_their_digits() {
        for bits in [0, 1, u128::MAX, 0x0123_4567_89ab_cdef_0fed_cba9_8765_4321] {
            let mut text = [0; 26];
            write_ulid(bits, &mut text);
            assert_eq!(read_ulid(&text), Ok(bits));
            assert_eq!(read_ulid(&text.to_ascii_lowercase()), Ok(bits));
            write_typeid(bits, &mut text);
            assert_eq!(read_typeid(&text), Ok(bits));
            let mut text = [0; 20];
            write_xid(bits >> 32, &mut text);
            assert_eq!(read_xid(&text), Ok(bits >> 32));
        }
    }
}
