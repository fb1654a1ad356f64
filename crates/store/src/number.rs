//! Decimal numbers of up to 38 digits, as `DynamoDB` keeps them.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The digits a number may have.
pub const MAX_DIGITS: u32 = 38;
/// The greatest power of ten of a number's first digit.
const MAX_MAGNITUDE: i32 = 125;
/// The least power of ten of a number's first digit.
const MIN_MAGNITUDE: i32 = -130;
/// Powers of ten below this are written out, with zeros, and those from there on with an exponent.
const PLAIN_MAGNITUDE: i32 = 37;
const LEAST_PLAIN_MAGNITUDE: i32 = -7;

/// A decimal number: 0, or ±1E-130 to ±9.99…E+125, with up to 38 digits.
///
/// Always in the one form without trailing zeros, so that equal numbers are equal in every field.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Number {
    negative: bool,
    exponent: i16,
    coefficient: u128,
}

/// Why something is not a number that can be stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InvalidNumber {
    /// Not written as a number.
    Syntax,
    /// Not a number, or infinite.
    NotFinite,
    /// More than 38 digits.
    TooManyDigits,
    /// Of 1E+126 or more.
    TooLarge,
    /// Not zero, but nearer to it than 1E-130.
    TooSmall,
}

impl fmt::Display for InvalidNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Syntax => "it is not a number",
            Self::NotFinite => "NaN and infinity cannot be stored",
            Self::TooManyDigits => {
                "it has more than 38 significant digits: round it, or store it as a string"
            }
            Self::TooLarge => "a number must be less than 1E+126: store it as a string",
            Self::TooSmall => {
                "the smallest number is 1E-130: round it to 0, or store it as a string"
            }
        })
    }
}

impl std::error::Error for InvalidNumber {}

impl Number {
    /// Zero.
    pub const ZERO: Self = Self {
        negative: false,
        exponent: 0,
        coefficient: 0,
    };

    /// The number with this coefficient, multiplied by a power of ten.
    ///
    /// # Errors
    ///
    /// If it has more than 38 digits or leaves the range.
    pub(crate) fn new(
        negative: bool,
        mut coefficient: u128,
        mut exponent: i32,
    ) -> Result<Self, InvalidNumber> {
        if coefficient == 0 {
            return Ok(Self::ZERO);
        }
        while coefficient > u128::from(u64::MAX) && coefficient.is_multiple_of(10) {
            coefficient /= 10;
            exponent += 1;
        }
        if let Ok(mut small) = u64::try_from(coefficient) {
            while small.is_multiple_of(10) {
                small /= 10;
                exponent += 1;
            }
            coefficient = u128::from(small);
        }
        let digits = coefficient.ilog10() + 1;
        if digits > MAX_DIGITS {
            return Err(InvalidNumber::TooManyDigits);
        }
        let magnitude = exponent + digits.cast_signed() - 1;
        if magnitude > MAX_MAGNITUDE {
            return Err(InvalidNumber::TooLarge);
        }
        if magnitude < MIN_MAGNITUDE {
            return Err(InvalidNumber::TooSmall);
        }
        let exponent = i16::try_from(exponent).map_err(|_| InvalidNumber::TooSmall)?;
        Ok(Self {
            negative,
            exponent,
            coefficient,
        })
    }

    /// The number of a float's shortest text, which Python's `repr` prints.
    ///
    /// # Errors
    ///
    /// NaN, infinity, and floats outside the range.
    pub fn from_f64(float: f64) -> Result<Self, InvalidNumber> {
        if !float.is_finite() {
            return Err(InvalidNumber::NotFinite);
        }
        // Whole numbers of up to 15 digits are their own shortest text.
        if float.abs() < 1e15 && float.fract() == 0.0 {
            #[allow(clippy::cast_possible_truncation, reason = "whole and below 1e15")]
            return Ok(Self::from(float as i64));
        }
        format!("{float:e}").parse()
    }

    /// The float whose shortest text is this very number, if there is one.
    #[must_use]
    pub fn to_f64_exact(&self) -> Option<f64> {
        let digits = self.digits();
        if digits > 17 {
            return None;
        }
        let mut text = String::with_capacity(28);
        self.write_scientific(&mut text).ok()?;
        let float: f64 = text.parse().ok()?;
        // Up to 15 digits every number is the shortest text of the float nearest to it.
        (digits <= 15 || Self::from_f64(float) == Ok(*self)).then_some(float)
    }

    /// The number as a signed integer, if it is one that fits.
    #[must_use]
    pub fn to_i64(&self) -> Option<i64> {
        i64::try_from(self.to_i128()?).ok()
    }

    /// The number as a signed integer, if it is one that fits.
    #[must_use]
    pub fn to_i128(&self) -> Option<i128> {
        let power = 10_u128.checked_pow(u32::try_from(self.exponent).ok()?)?;
        let whole = i128::try_from(self.coefficient.checked_mul(power)?).ok()?;
        Some(if self.negative { -whole } else { whole })
    }

    /// Whether it is a whole number.
    #[must_use]
    pub const fn is_integer(&self) -> bool {
        self.exponent >= 0
    }

    /// Whether it is less than zero.
    #[must_use]
    pub const fn is_negative(&self) -> bool {
        self.negative
    }

    /// The digits without sign and point, as an integer.
    #[must_use]
    pub const fn coefficient(&self) -> u128 {
        self.coefficient
    }

    /// The power of ten by which the coefficient is multiplied.
    #[must_use]
    pub const fn exponent(&self) -> i16 {
        self.exponent
    }

    /// The number of digits.
    pub(crate) fn digits(&self) -> u32 {
        self.coefficient.checked_ilog10().map_or(1, |log| log + 1)
    }

    /// The power of ten of the first digit.
    pub(crate) fn magnitude(&self) -> i32 {
        i32::from(self.exponent) + self.digits().cast_signed() - 1
    }

    /// The coefficient with zeros to 38 digits: comparable where the magnitudes are the same.
    pub(crate) fn aligned(&self) -> u128 {
        self.coefficient * 10_u128.pow(MAX_DIGITS - self.digits())
    }

    /// The sum.
    ///
    /// # Errors
    ///
    /// If it has more than 38 digits or leaves the range.
    pub fn add(&self, other: &Self) -> Result<Self, InvalidNumber> {
        if self.coefficient == 0 {
            return Ok(*other);
        }
        if other.coefficient == 0 {
            return Ok(*self);
        }
        let (high, low) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        let shift = u32::from((high.exponent - low.exponent).unsigned_abs());
        // A gap that takes the upper number past 128 bits leaves more than 38 digits between the ends,
        // whatever the lower one takes away.
        let scaled = 10_u128
            .checked_pow(shift)
            .and_then(|power| high.coefficient.checked_mul(power))
            .ok_or(InvalidNumber::TooManyDigits)?;
        let exponent = i32::from(low.exponent);
        if high.negative == low.negative {
            let sum = scaled
                .checked_add(low.coefficient)
                .ok_or(InvalidNumber::TooManyDigits)?;
            Self::new(high.negative, sum, exponent)
        } else if scaled >= low.coefficient {
            Self::new(high.negative, scaled - low.coefficient, exponent)
        } else {
            Self::new(low.negative, low.coefficient - scaled, exponent)
        }
    }

    /// The difference.
    ///
    /// # Errors
    ///
    /// If it has more than 38 digits or leaves the range.
    pub fn sub(&self, other: &Self) -> Result<Self, InvalidNumber> {
        let negative = !other.negative && other.coefficient != 0;
        self.add(&Self { negative, ..*other })
    }

    /// Appends the canonical text, which is a JSON number too.
    pub fn push(&self, text: &mut String) {
        if self.negative {
            text.push('-');
        }
        let magnitude = self.magnitude();
        if (LEAST_PLAIN_MAGNITUDE..=PLAIN_MAGNITUDE).contains(&magnitude) {
            self.push_plain(text);
        } else {
            let mut buffer = [0; 40];
            let digits = decimal(self.coefficient, &mut buffer);
            text.push_str(&digits[..1]);
            if digits.len() > 1 {
                text.push('.');
                text.push_str(&digits[1..]);
            }
            text.push_str(if magnitude < 0 { "E-" } else { "E+" });
            text.push_str(decimal(u128::from(magnitude.unsigned_abs()), &mut buffer));
        }
    }

    fn push_plain(&self, text: &mut String) {
        let mut buffer = [0; 40];
        let digits = decimal(self.coefficient, &mut buffer);
        if let Ok(zeros) = usize::try_from(self.exponent) {
            text.push_str(digits);
            text.extend(std::iter::repeat_n('0', zeros));
            return;
        }
        let behind = usize::from(self.exponent.unsigned_abs());
        if let Some(ahead) = digits.len().checked_sub(behind).filter(|&ahead| ahead > 0) {
            text.push_str(&digits[..ahead]);
            text.push('.');
            text.push_str(&digits[ahead..]);
        } else {
            text.push_str("0.");
            text.extend(std::iter::repeat_n('0', behind - digits.len()));
            text.push_str(digits);
        }
    }

    fn write_scientific(&self, to: &mut String) -> fmt::Result {
        use fmt::Write as _;
        write!(
            to,
            "{}{}e{}",
            if self.negative { "-" } else { "" },
            self.coefficient,
            self.exponent
        )
    }
}

/// Writes an integer's digits at the end of a buffer; half the price of going through `fmt`.
fn decimal(mut number: u128, buffer: &mut [u8; 40]) -> &str {
    let mut start = buffer.len();
    while number > u128::from(u64::MAX) {
        start -= 1;
        buffer[start] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "the loop above ends at 64 bits"
    )]
    let mut small = number as u64;
    loop {
        start -= 1;
        buffer[start] = b'0' + (small % 10) as u8;
        small /= 10;
        if small == 0 {
            return std::str::from_utf8(&buffer[start..]).unwrap_or_default();
        }
    }
}

impl FromStr for Number {
    type Err = InvalidNumber;

    /// Reads what Python prints for an `int`, a `float` or a `Decimal`, and what JSON allows.
    fn from_str(text: &str) -> Result<Self, InvalidNumber> {
        let (negative, mut rest) = split_sign(text.as_bytes());
        let mut coefficient: u128 = 0;
        let mut exponent: i32 = 0;
        let mut kept = 0_u32;
        // Zeros that only count if another digit follows, so that 1 with 60 zeros is still one digit.
        let mut zeros = 0_u32;
        let mut seen = false;
        let mut behind = false;
        while let [byte, after @ ..] = rest {
            match byte {
                b'0'..=b'9' => {
                    seen = true;
                    if behind {
                        exponent = exponent.saturating_sub(1);
                    }
                    if *byte == b'0' {
                        if kept > 0 {
                            zeros = zeros.saturating_add(1);
                        }
                    } else {
                        let new_digits = zeros.saturating_add(1);
                        kept = if kept == 0 {
                            1
                        } else {
                            kept.saturating_add(new_digits)
                        };
                        if kept > MAX_DIGITS {
                            return Err(syntax_or(rest, InvalidNumber::TooManyDigits));
                        }
                        coefficient =
                            coefficient * 10_u128.pow(new_digits) + u128::from(byte - b'0');
                        zeros = 0;
                    }
                }
                b'.' if !behind => behind = true,
                _ => break,
            }
            rest = after;
        }
        if !seen {
            let word = text.trim_start_matches(['-', '+']).to_ascii_lowercase();
            let not_finite = matches!(word.as_str(), "nan" | "snan" | "inf" | "infinity");
            return Err(if not_finite {
                InvalidNumber::NotFinite
            } else {
                InvalidNumber::Syntax
            });
        }
        exponent = exponent.saturating_add_unsigned(zeros);
        if let [b'e' | b'E', power @ ..] = rest {
            exponent = exponent.saturating_add(parse_exponent(power)?);
        } else if !rest.is_empty() {
            return Err(InvalidNumber::Syntax);
        }
        Self::new(negative, coefficient, exponent)
    }
}

/// `Syntax` if what follows is no number, however many digits it has; else the other error.
fn syntax_or(rest: &[u8], other: InvalidNumber) -> InvalidNumber {
    let number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
    if rest.iter().all(number) {
        other
    } else {
        InvalidNumber::Syntax
    }
}

/// Whether there is a minus, and what follows the sign.
fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [sign @ (b'-' | b'+'), rest @ ..] => (*sign == b'-', rest),
        rest => (false, rest),
    }
}

fn parse_exponent(text: &[u8]) -> Result<i32, InvalidNumber> {
    let (negative, digits) = split_sign(text);
    if digits.is_empty() {
        return Err(InvalidNumber::Syntax);
    }
    let mut power: i32 = 0;
    for byte in digits {
        if !byte.is_ascii_digit() {
            return Err(InvalidNumber::Syntax);
        }
        // Beyond a million the number is out of range whatever follows.
        power = (power * 10 + i32::from(byte - b'0')).min(1_000_000);
    }
    Ok(if negative { -power } else { power })
}

impl From<i64> for Number {
    fn from(number: i64) -> Self {
        Self::from_magnitude(number < 0, number.unsigned_abs())
    }
}

impl From<u64> for Number {
    fn from(number: u64) -> Self {
        Self::from_magnitude(false, number)
    }
}

impl Number {
    fn from_magnitude(negative: bool, mut magnitude: u64) -> Self {
        let mut exponent = 0;
        while magnitude != 0 && magnitude.is_multiple_of(10) {
            magnitude /= 10;
            exponent += 1;
        }
        Self {
            negative,
            exponent,
            coefficient: u128::from(magnitude),
        }
    }
}

impl TryFrom<u128> for Number {
    type Error = InvalidNumber;

    fn try_from(number: u128) -> Result<Self, InvalidNumber> {
        Self::new(false, number, 0)
    }
}

impl TryFrom<i128> for Number {
    type Error = InvalidNumber;

    fn try_from(number: i128) -> Result<Self, InvalidNumber> {
        Self::new(number < 0, number.unsigned_abs(), 0)
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.coefficient, number.negative) {
            (0, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        };
        sign(self).cmp(&sign(other)).then_with(|| {
            let size = |number: &Self| (number.magnitude(), number.aligned());
            match sign(self) {
                0 => Ordering::Equal,
                1 => size(self).cmp(&size(other)),
                _ => size(other).cmp(&size(self)),
            }
        })
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::with_capacity(48);
        self.push(&mut text);
        f.write_str(&text)
    }
}
