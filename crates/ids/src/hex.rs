//! UUIDs as text.

use crate::error::InvalidText;

#[inline]
fn digits(bits: u128) -> [u8; 32] {
    let bytes = bits.to_be_bytes();
    let mut out = [0; 32];
    for (pair, byte) in out.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    out
}

/// The 36 characters of a UUID (RFC 9562, 4).
#[inline]
pub fn write_uuid(bits: u128, out: &mut [u8; 36]) {
    let hex = digits(bits);
    out[..8].copy_from_slice(&hex[..8]);
    out[8] = b'-';
    out[9..13].copy_from_slice(&hex[8..12]);
    out[13] = b'-';
    out[14..18].copy_from_slice(&hex[12..16]);
    out[18] = b'-';
    out[19..23].copy_from_slice(&hex[16..20]);
    out[23] = b'-';
    out[24..].copy_from_slice(&hex[20..]);
}

/// The first characters of a UUID's 32 hexadecimal digits.
#[inline]
pub fn write_hex(bits: u128, out: &mut [u8]) {
    for (to, from) in out.iter_mut().zip(digits(bits)) {
        *to = from;
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
                format!("{:?} stands where '-' belongs", char::from(character)),
            ));
        }
        let Some(value) = char::from(character).to_digit(16) else {
            return Err(InvalidText::at(
                position,
                format!("{:?} is no hexadecimal digit", char::from(character)),
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
