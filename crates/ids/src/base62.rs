//! 160 bits as 27 digits of base 62 (KSUID), in multiplications instead of divisions.
//!
//! The number is split into three parts below 62^10 by adding up the parts of its words, each part
//! into two below 62^5, and those into digits as fixed-point fractions: all six chains run side by side.

use crate::error::InvalidText;

/// The 62 digits; the last two only make the table's length a power of two.
const ALPHABET: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz??";
const POW4: u64 = 62_u64.pow(4);
const POW5: u64 = 62_u64.pow(5);
const POW10: u64 = 62_u64.pow(10);

/// The three base-62^10 digits, least significant first, of 2^`shift`.
const fn digits_of_power(shift: u32) -> [u64; 3] {
    let mut digits = [1, 0, 0];
    let mut i = 0;
    while i < shift {
        let mut carry = 0;
        let mut at = 0;
        while at < 3 {
            let doubled = digits[at] * 2 + carry;
            carry = doubled / POW10;
            digits[at] = doubled % POW10;
            at += 1;
        }
        i += 1;
    }
    digits
}

const P32: [u64; 3] = digits_of_power(32);
const P64: [u64; 3] = digits_of_power(64);
const P96: [u64; 3] = digits_of_power(96);
const P128: [u64; 3] = digits_of_power(128);

/// 2^120 / 62^10, for [`divide`].
const RECIPROCAL: u64 = {
    let reciprocal = (1_u128 << 120) / POW10 as u128;
    assert!(reciprocal >> 64 == 0);
    #[allow(clippy::cast_possible_truncation, reason = "asserted")]
    let word = reciprocal as u64;
    word
};

/// Quotient and remainder by 62^10 of a number below 2^96.
#[inline]
#[allow(
    clippy::cast_possible_truncation,
    reason = "the number is below 2^96 and a remainder below 2^62"
)]
fn divide(number: u128) -> (u64, u64) {
    let high = (number >> 58) as u64;
    let mut quotient = ((u128::from(high) * u128::from(RECIPROCAL)) >> 62) as u64;
    let mut rest = (number - u128::from(quotient) * u128::from(POW10)) as u64;
    // The estimate is at most two too small.
    while rest >= POW10 {
        rest -= POW10;
        quotient += 1;
    }
    (quotient, rest)
}

/// Writes five digits of a number below 62^5.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "a digit is below 62")]
fn write_five(number: u64, out: &mut [u8]) {
    // The fraction number / 62^4 in 57 bits, rounded up: it errs by less than 2^-27, while digits
    // change at multiples of 62^-4 > 2^-24.
    const ONE: u32 = 57;
    const FACTOR: u64 = (1 << ONE) / POW4 + 1;
    let mut fraction = number * FACTOR;
    for digit in out {
        *digit = ALPHABET[(fraction >> ONE) as usize & 63];
        fraction = (fraction & ((1 << ONE) - 1)) * 62;
    }
}

/// Writes the 27 characters of a KSUID.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "the words of a number")]
pub fn write_ksuid(time: u32, payload: u128, out: &mut [u8; 27]) {
    let words = [
        u128::from(payload as u32),
        u128::from((payload >> 32) as u32),
        u128::from((payload >> 64) as u32),
        u128::from((payload >> 96) as u32),
        u128::from(time),
    ];
    let part = |i: usize| {
        words[1] * u128::from(P32[i])
            + words[2] * u128::from(P64[i])
            + words[3] * u128::from(P96[i])
            + words[4] * u128::from(P128[i])
    };
    let (carry, low) = divide(words[0] + part(0));
    let (carry, middle) = divide(part(1) + u128::from(carry));
    let high = (part(2) as u64) + carry;
    write_five(low % POW5, &mut out[22..27]);
    write_five(low / POW5, &mut out[17..22]);
    write_five(middle % POW5, &mut out[12..17]);
    write_five(middle / POW5, &mut out[7..12]);
    write_five(high % POW5, &mut out[2..7]);
    let top = high / POW5;
    out[0] = ALPHABET[(top / 62) as usize & 63];
    out[1] = ALPHABET[(top % 62) as usize];
}

fn value(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'A'..=b'Z' => Some(character - b'A' + 10),
        b'a'..=b'z' => Some(character - b'a' + 36),
        _ => None,
    }
}

/// The time and payload of a KSUID's 27 characters.
pub(crate) fn read_ksuid(text: &[u8]) -> Result<(u32, u128), InvalidText> {
    if text.len() != 27 {
        return Err(InvalidText::new(format!(
            "it is {} characters long, not 27",
            text.len()
        )));
    }
    let (mut time, mut payload) = (0_u64, 0_u128);
    for (position, &character) in text.iter().enumerate() {
        let Some(value) = value(character) else {
            return Err(InvalidText::at(
                position,
                format!("{:?} is not in base 62", char::from(character)),
            ));
        };
        let low = (payload & u128::from(u64::MAX)) * 62 + u128::from(value);
        let high = (payload >> 64) * 62 + (low >> 64);
        payload = high << 64 | low & u128::from(u64::MAX);
        #[allow(clippy::cast_possible_truncation, reason = "below 62")]
        let carry = (high >> 64) as u64;
        time = time * 62 + carry;
        if time > u64::from(u32::MAX) {
            return Err(InvalidText::at(
                position,
                "it exceeds 160 bits (the greatest is aWgEPTl1tmebfsQzFP4bxwgy80V)",
            ));
        }
    }
    let time = u32::try_from(time).map_err(|_| InvalidText::new("it exceeds 160 bits"))?;
    Ok((time, payload))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same digits by long division.
    fn slowly(time: u32, payload: u128) -> [u8; 27] {
        let mut out = [0; 27];
        let (mut time, mut payload) = (u128::from(time), payload);
        for digit in out.iter_mut().rev() {
            let middle = (time % 62) << 64 | payload >> 64;
            time /= 62;
            let low = (middle % 62) << 64 | payload & u128::from(u64::MAX);
            payload = ((middle / 62) << 64) | (low / 62);
            *digit = ALPHABET[usize::try_from(low % 62).unwrap()];
        }
        out
    }

    #[test]
    fn digits_are_those_of_long_division() {
        use crate::chacha::{ChaCha, Randomness};
        let mut random = ChaCha::new([3; 32]);
        let mut cases = vec![(0, 0), (u32::MAX, u128::MAX), (0, u128::MAX), (u32::MAX, 0)];
        for shift in 0..128 {
            cases.push((0, 1 << shift));
            cases.push((u32::MAX, !(1 << shift)));
        }
        for _ in 0..100_000 {
            let payload = u128::from(random.word()) << 64 | u128::from(random.word());
            let time = u32::try_from(random.word() >> 32).unwrap();
            cases.push((time, payload));
        }
        for (time, payload) in cases {
            let mut text = [0; 27];
            write_ksuid(time, payload, &mut text);
            assert_eq!(text, slowly(time, payload), "{time:#x} {payload:#x}");
            assert_eq!(read_ksuid(&text), Ok((time, payload)));
        }
    }

    #[test]
    fn the_estimated_quotient_is_right_at_its_edges() {
        let pow = u128::from(POW10);
        for number in (0..64).flat_map(|shift| {
            let multiple = pow * (1 << shift.min(35));
            [
                multiple - 1,
                multiple,
                multiple + 1,
                (1 << (95 - shift % 40)) - 1,
            ]
        }) {
            let (quotient, rest) = divide(number);
            assert_eq!(u128::from(quotient) * pow + u128::from(rest), number);
            assert!(rest < POW10);
        }
    }
}
