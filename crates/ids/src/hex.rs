//! UUIDs as text.

use crate::error::InvalidText;

static PAIRS: [[u8; 2]; 256] = {
    let digits = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = [digits[i >> 4], digits[i & 15]];
        i += 1;
    }
    table
};

/// The 36 characters of a UUID (RFC 9562, 4).
#[inline]
pub fn write_uuid(bits: u128, out: &mut [u8; 36]) {
    const PLACES: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    for (byte, position) in bits.to_be_bytes().into_iter().zip(PLACES) {
        out[position..position + 2].copy_from_slice(&PAIRS[usize::from(byte)]);
    }
    for position in [8, 13, 18, 23] {
        out[position] = b'-';
    }
}

/// The first characters of a UUID's 32 hexadecimal digits.
#[inline]
pub fn write_hex(bits: u128, out: &mut [u8]) {
    for (to, from) in out.iter_mut().zip(
        bits.to_be_bytes()
            .map(|byte| PAIRS[usize::from(byte)])
            .as_flattened(),
    ) {
        *to = *from;
    }
}

/// The bits of 36 characters with hyphens or of 32 without, in either case.
pub(crate) fn read_uuid(text: &[u8]) -> Result<u128, InvalidText> {
    if text.len() != 36 && text.len() != 32 {
        return Err(InvalidText::new(format!(
            "it is {} characters long, not 36 (or 32 without hyphens)",
            text.len()
        )));
    }
    let mut bits = 0_u128;
    for (position, &character) in text.iter().enumerate() {
        if text.len() == 36 && matches!(position, 8 | 13 | 18 | 23) {
            if character == b'-' {
                continue;
            }
            return Err(InvalidText::at(
                position,
                format!("found {:?} in place of '-'", char::from(character)),
            ));
        }
        let Some(value) = char::from(character).to_digit(16) else {
            return Err(InvalidText::at(
                position,
                format!("{:?} is not a hexadecimal digit", char::from(character)),
            ));
        };
        bits = bits << 4 | u128::from(value);
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back_from_their_digits() {
        let bits = 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210;
        let mut text = [0; 36];
        write_uuid(bits, &mut text);
        assert_eq!(&text, b"01234567-89ab-cdef-fedc-ba9876543210");
        assert_eq!(read_uuid(&text), Ok(bits));
        assert_eq!(read_uuid(&text.to_ascii_uppercase()), Ok(bits));
        assert_eq!(read_uuid(b"0123456789abcdeffedcba9876543210"), Ok(bits));
        let mut cut = [0; 5];
        write_hex(bits, &mut cut);
        assert_eq!(&cut, b"01234");
    }
}
