//! The limits of keys, and the bytes that have their order.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::key::{KeyKind, KeyValue, MAX_PARTITION, MAX_SORT};
use crate::number::{MAX_DIGITS, Number};

/// Encoded numbers open with their sign, and these bytes are in its order.
const NEGATIVE: u8 = 0x40;
const ZERO: u8 = 0x80;
const POSITIVE: u8 = 0xC0;
/// Closes a negative number: greater than any inverted pair of digits, so that the shorter of two
/// with a common start, which is the greater, comes last.
const NEGATIVE_END: u8 = 0xFF;
/// Added to a magnitude (-130 to 125) it gives a byte.
const MAGNITUDE_BIAS: i32 = 130;

impl KeyValue {
    /// Checks it as a partition key.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if it is empty or longer than 2,048 bytes.
    pub fn check_partition(&self) -> Result<()> {
        self.check("partition", MAX_PARTITION)
    }

    /// Checks it as a sort key.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if it is empty or longer than 1,024 bytes.
    pub fn check_sort(&self) -> Result<()> {
        self.check("sort", MAX_SORT)
    }

    fn check(&self, part: &str, limit: usize) -> Result<()> {
        let length = match self {
            Self::String(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Number(_) => return Ok(()),
        };
        if length == 0 {
            Err(Error::invalid(format!(
                "a {part} key must not be empty: give it a value"
            )))
        } else if length > limit {
            Err(Error::invalid(format!(
                "a {part} key of {length} bytes is too long: at most {limit} are allowed"
            )))
        } else {
            Ok(())
        }
    }

    /// Bytes whose order is the order of the values of one kind: strings and bytes as they are,
    /// numbers encoded.
    #[must_use]
    pub fn encode(&self) -> Cow<'_, [u8]> {
        match self {
            Self::String(text) => Cow::Borrowed(text.as_bytes()),
            Self::Binary(bytes) => Cow::Borrowed(bytes),
            Self::Number(number) => Cow::Owned(encode_number(number)),
        }
    }

    /// Reads what [`KeyValue::encode`] wrote.
    ///
    /// # Errors
    ///
    /// `InvalidValue` if it cannot have been written for this kind.
    pub fn decode(kind: KeyKind, bytes: &[u8]) -> Result<Self> {
        let found = match kind {
            KeyKind::String => std::str::from_utf8(bytes)
                .ok()
                .map(|text| Self::String(text.to_owned())),
            KeyKind::Binary => Some(Self::Binary(bytes.to_vec())),
            KeyKind::Number => decode_number(bytes).map(Self::Number),
        };
        found.ok_or_else(|| {
            Error::invalid(format!(
                "stored key bytes are no {}: the data is damaged",
                kind.value_type()
            ))
        })
    }
}

fn encode_number(number: &Number) -> Vec<u8> {
    if number.coefficient() == 0 {
        return vec![ZERO];
    }
    let mut bytes = Vec::with_capacity(22);
    bytes.push(POSITIVE);
    // Magnitudes of valid numbers fit: -130 gives 0, 125 gives 255.
    bytes.push(u8::try_from(number.magnitude() + MAGNITUDE_BIAS).unwrap_or(u8::MAX));
    let mut rest = number.aligned();
    let mut unit = 10_u128.pow(MAX_DIGITS - 2);
    while rest > 0 {
        // One more than the pair, so that an inverted pair never looks like the closing byte.
        bytes.push(u8::try_from(rest / unit).unwrap_or(0) + 1);
        rest %= unit;
        unit = (unit / 100).max(1);
    }
    if number.is_negative() {
        bytes[0] = NEGATIVE;
        for byte in &mut bytes[1..] {
            *byte = !*byte;
        }
        bytes.push(NEGATIVE_END);
    }
    bytes
}

fn decode_number(bytes: &[u8]) -> Option<Number> {
    let (negative, magnitude, pairs) = match bytes {
        [ZERO] => return Some(Number::ZERO),
        [POSITIVE, magnitude, pairs @ ..] => (false, *magnitude, pairs),
        [NEGATIVE, magnitude, pairs @ .., NEGATIVE_END] => (true, !*magnitude, pairs),
        _ => return None,
    };
    if pairs.is_empty() || pairs.len() > MAX_DIGITS as usize / 2 {
        return None;
    }
    let mut coefficient: u128 = 0;
    for pair in pairs {
        let pair = if negative { !*pair } else { *pair };
        let digits = pair.checked_sub(1).filter(|digits| *digits < 100)?;
        coefficient = coefficient * 100 + u128::from(digits);
    }
    let written = 2 * i32::try_from(pairs.len()).ok()?;
    let exponent = i32::from(magnitude) - MAGNITUDE_BIAS - (written - 1);
    let number = Number::new(negative, coefficient, exponent).ok()?;
    // Only the one canonical form counts: two encodings of one number would be two keys.
    (encode_number(&number) == bytes).then_some(number)
}
