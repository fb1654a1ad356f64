//! Strategies: a format with its parameters.

use crate::base32::{write_typeid, write_ulid, write_xid};
use crate::base62::write_ksuid;
use crate::chacha::{Expansion, Randomness};
use crate::error::{InvalidParameter, InvalidText, start};
use crate::hex::{write_hex, write_uuid};
use crate::iso8601::{write_iso8601, write_iso8601_ms};
use crate::kind::Kind;
use crate::minter::SNOWFLAKE_EPOCH;
use crate::node_choice::NodeChoice;

/// The alphabet of nanoid's own packages: URL-safe, in their order.
pub const NANOID_ALPHABET: &str =
    "useandom-26T198340PX75pxJACKVERYMINDBUSHWOLF_GQZbfghjklqvwyzrict";
/// Characters of a nanoid by default.
pub const NANOID_SIZE: u16 = 21;
/// Characters of a CUID2 by default.
pub const CUID2_LENGTH: u8 = 24;
const MAX_NANOID_SIZE: u16 = 255;
const MAX_PREFIX: usize = 255;
/// The words of a draft hold this many random bits.
const DRAFT_BITS: u32 = 256;

/// The parameters of one format.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Shape {
    Fixed,
    /// That many hexadecimal digits of a version 4 UUID.
    Hex(u8),
    Nanoid {
        size: u16,
        alphabet: Box<[u8]>,
    },
    Snowflake {
        epoch: i64,
        node: NodeChoice,
    },
    Cuid2(u8),
}

/// The parameters of a caller; `None` if not given.
#[derive(Debug, Clone, Default)]
pub struct Parameters<'a> {
    /// The prefix; for a `TypeID` its type.
    pub prefix: Option<&'a str>,
    /// Characters of a nanoid.
    pub size: Option<i64>,
    /// The characters of a nanoid.
    pub alphabet: Option<&'a str>,
    /// Hexadecimal digits of a UUID4, characters of a CUID2.
    pub length: Option<i64>,
    /// Nodes a snowflake may use.
    pub node: Option<NodeChoice>,
    /// Milliseconds from the Unix epoch to a snowflake's.
    pub epoch: Option<i64>,
    /// Milliseconds to add to a timestamp.
    pub plus_ms: Option<i64>,
}

/// A format with its parameters, checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Strategy {
    kind: Kind,
    prefix: Box<str>,
    shape: Shape,
    plus_ms: i64,
}

/// What was generated under the lock, to be written as a text or a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draft {
    /// The bits of an id.
    Bits(u128),
    /// A KSUID's time and payload.
    Ksuid(u32, u128),
    /// The random bits of formats that contain nothing else.
    Words([u64; 4]),
    /// A snowflake.
    Int(i64),
    /// An instant, in milliseconds since the Unix epoch.
    Time(i64),
}

fn refuse<T>(reason: String) -> Result<T, InvalidParameter> {
    Err(InvalidParameter(reason))
}

fn within<T: TryFrom<i64>>(
    name: &str,
    value: i64,
    from: i64,
    to: i64,
) -> Result<T, InvalidParameter> {
    match T::try_from(value) {
        Ok(fitting) if (from..=to).contains(&value) => Ok(fitting),
        _ => refuse(format!("{name}={value} is not between {from} and {to}")),
    }
}

impl Strategy {
    /// The format without parameters.
    #[must_use]
    pub fn plain(kind: Kind) -> Self {
        let shape = match kind {
            Kind::Nanoid => Shape::Nanoid {
                size: NANOID_SIZE,
                alphabet: NANOID_ALPHABET.as_bytes().into(),
            },
            Kind::Snowflake => Shape::Snowflake {
                epoch: SNOWFLAKE_EPOCH,
                node: NodeChoice::Default,
            },
            Kind::Cuid2 => Shape::Cuid2(CUID2_LENGTH),
            _ => Shape::Fixed,
        };
        Self {
            kind,
            prefix: "".into(),
            shape,
            plus_ms: 0,
        }
    }

    /// The names of the parameters that a format takes.
    #[must_use]
    pub const fn parameter_names(kind: Kind) -> &'static [&'static str] {
        match kind {
            Kind::Uuid4 | Kind::Cuid2 => &["prefix", "length"],
            Kind::Nanoid => &["prefix", "size", "alphabet"],
            Kind::Snowflake => &["node", "epoch"],
            Kind::Uuid7 | Kind::Ulid | Kind::Ksuid | Kind::Typeid | Kind::Xid => &["prefix"],
            Kind::Epoch | Kind::EpochMs => &["plus"],
            Kind::EpochUs => &[],
            Kind::Iso8601 | Kind::Iso8601Ms => &["prefix", "plus"],
        }
    }

    /// A format with parameters.
    ///
    /// Parameters the format does not take are ignored; see [`Strategy::parameter_names`].
    ///
    /// # Errors
    /// When a value is out of its range.
    pub fn new(kind: Kind, given: &Parameters<'_>) -> Result<Self, InvalidParameter> {
        let mut strategy = Self::plain(kind);
        let takes = |name| Self::parameter_names(kind).contains(&name);
        if let Some(prefix) = given.prefix.filter(|_| takes("prefix")) {
            check_prefix(kind, prefix)?;
            strategy.prefix = prefix.into();
        }
        strategy.plus_ms = given.plus_ms.filter(|_| takes("plus")).unwrap_or(0);
        match &mut strategy.shape {
            shape @ Shape::Fixed => {
                if let (Kind::Uuid4, Some(length)) = (kind, given.length) {
                    *shape = Shape::Hex(within("length", length, 1, 32)?);
                }
            }
            Shape::Nanoid { size, alphabet } => {
                if let Some(given) = given.size {
                    *size = within("size", given, 1, i64::from(MAX_NANOID_SIZE))?;
                }
                if let Some(given) = given.alphabet {
                    *alphabet = checked_alphabet(given)?;
                }
            }
            Shape::Snowflake { epoch, node } => {
                *epoch = within(
                    "epoch",
                    given.epoch.unwrap_or(*epoch),
                    -MAX_EPOCH,
                    MAX_EPOCH,
                )?;
                *node = given.node.unwrap_or_default();
            }
            Shape::Cuid2(length) => {
                if let Some(given) = given.length {
                    *length = within("length", given, 2, 32)?;
                }
            }
            Shape::Hex(_) => {}
        }
        Ok(strategy)
    }

    /// The format.
    #[inline]
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The prefix of each id.
    #[must_use]
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Milliseconds added to a timestamp.
    #[must_use]
    pub const fn plus_ms(&self) -> i64 {
        self.plus_ms
    }

    /// A nanoid's size and alphabet.
    #[must_use]
    pub fn nanoid(&self) -> Option<(u16, &str)> {
        match &self.shape {
            Shape::Nanoid { size, alphabet } => {
                Some((*size, std::str::from_utf8(alphabet).unwrap_or_default()))
            }
            _ => None,
        }
    }

    /// A snowflake's epoch and nodes.
    #[inline]
    #[must_use]
    pub const fn snowflake(&self) -> Option<(i64, NodeChoice)> {
        match self.shape {
            Shape::Snowflake { epoch, node } => Some((epoch, node)),
            _ => None,
        }
    }

    /// The length given to a UUID4 or a CUID2.
    #[must_use]
    pub const fn given_length(&self) -> Option<u8> {
        match self.shape {
            Shape::Hex(length) | Shape::Cuid2(length) => Some(length),
            _ => None,
        }
    }

    /// The separator between the prefix and the id, which only a `TypeID` has.
    #[must_use]
    pub fn separator(&self) -> &'static str {
        if self.kind == Kind::Typeid && !self.prefix.is_empty() {
            "_"
        } else {
            ""
        }
    }

    /// Bytes of the text without prefix; 0 for integers.
    #[inline]
    #[must_use]
    pub fn body_len(&self) -> usize {
        match (&self.shape, self.kind) {
            (Shape::Hex(length) | Shape::Cuid2(length), _) => usize::from(*length),
            (Shape::Nanoid { size, .. }, _) => usize::from(*size),
            (_, Kind::Uuid4 | Kind::Uuid7) => 36,
            (_, Kind::Ulid | Kind::Typeid) => 26,
            (_, Kind::Ksuid) => 27,
            (_, Kind::Xid | Kind::Iso8601) => 20,
            (_, Kind::Iso8601Ms) => 24,
            _ => 0,
        }
    }

    /// Characters of the text with its prefix, or `None` for integers.
    #[must_use]
    pub fn text_len(&self) -> Option<usize> {
        let ahead = self.prefix.chars().count() + self.separator().len();
        (!self.kind.is_int()).then(|| ahead + self.body_len())
    }

    /// The number of random bits that differ between two ids of one tick.
    #[must_use]
    pub fn random_bits(&self) -> u32 {
        match (&self.shape, self.kind) {
            // The 13th digit is the version; the 17th has two random bits.
            (Shape::Hex(n), _) => {
                4 * u32::from(*n) - if *n >= 13 { 4 } else { 0 } - if *n >= 17 { 2 } else { 0 }
            }
            (Shape::Nanoid { size, alphabet }, _) => {
                whole_bits(f64::from(*size) * alphabet_bits(alphabet)).min(DRAFT_BITS)
            }
            (Shape::Cuid2(n), _) => whole_bits(26_f64.log2() + f64::from(n - 1) * 36_f64.log2()),
            (_, Kind::Uuid4) => 122,
            (_, Kind::Uuid7 | Kind::Typeid) => 73,
            (_, Kind::Ulid) => 79,
            (_, Kind::Ksuid) => 127,
            (_, Kind::Xid) => 47,
            (_, Kind::Snowflake) => 11,
            _ => 0,
        }
    }

    /// The integer of a draft, for formats whose values are integers.
    #[inline]
    #[must_use]
    pub fn int(&self, draft: &Draft) -> Option<i64> {
        match (self.kind, draft) {
            (_, Draft::Int(value)) => Some(*value),
            (Kind::Epoch, Draft::Time(ms)) => {
                Some(ms.saturating_add(self.plus_ms).div_euclid(1000))
            }
            (Kind::EpochMs, Draft::Time(ms)) => Some(ms.saturating_add(self.plus_ms)),
            _ => None,
        }
    }

    /// Writes the text of a draft without its prefix into [`Strategy::body_len`] bytes.
    pub fn write_body(&self, draft: &Draft, out: &mut [u8]) {
        match (self.kind, &self.shape, draft) {
            (_, Shape::Hex(_), Draft::Bits(bits)) => write_hex(*bits, out),
            (_, Shape::Cuid2(_), Draft::Words(words)) => write_cuid2(words, out),
            (_, Shape::Nanoid { alphabet, .. }, Draft::Words(words)) => {
                write_nanoid(words, alphabet, out);
            }
            (Kind::Uuid4 | Kind::Uuid7, _, Draft::Bits(bits)) => {
                fixed(out, |out| write_uuid(*bits, out));
            }
            (Kind::Ulid, _, Draft::Bits(bits)) => fixed(out, |out| write_ulid(*bits, out)),
            (Kind::Typeid, _, Draft::Bits(bits)) => fixed(out, |out| write_typeid(*bits, out)),
            (Kind::Xid, _, Draft::Bits(bits)) => fixed(out, |out| write_xid(*bits, out)),
            (Kind::Ksuid, _, Draft::Ksuid(time, payload)) => {
                fixed(out, |out| write_ksuid(*time, *payload, out));
            }
            (Kind::Iso8601, _, Draft::Time(ms)) => fixed(out, |out| {
                write_iso8601(ms.saturating_add(self.plus_ms).div_euclid(1000), out);
            }),
            (Kind::Iso8601Ms, _, Draft::Time(ms)) => fixed(out, |out| {
                write_iso8601_ms(ms.saturating_add(self.plus_ms), out);
            }),
            _ => debug_assert!(false, "{draft:?} is not a draft of {self:?}"),
        }
    }

    /// The whole text of a draft: prefix, separator, body. Integers in decimal.
    #[must_use]
    pub fn text(&self, draft: &Draft) -> String {
        if let Some(int) = self.int(draft) {
            return int.to_string();
        }
        let mut body = vec![0; self.body_len()];
        self.write_body(draft, &mut body);
        format!(
            "{}{}{}",
            self.prefix,
            self.separator(),
            String::from_utf8_lossy(&body)
        )
    }
}

/// 10^14 ms: 3,168 years on either side of 1970.
const MAX_EPOCH: i64 = 100_000_000_000_000;

#[inline]
fn fixed<const LEN: usize>(out: &mut [u8], write: impl FnOnce(&mut [u8; LEN])) {
    if let Some((out, _)) = out.split_first_chunk_mut() {
        write(out);
    }
}

/// Checks a prefix; that of a `TypeID` is its type.
///
/// # Errors
/// When it is too long, or is not a valid type of a `TypeID`.
pub fn check_prefix(kind: Kind, prefix: &str) -> Result<(), InvalidParameter> {
    if kind != Kind::Typeid {
        return if prefix.len() > MAX_PREFIX {
            refuse(format!(
                "prefix= is {} bytes long; at most {MAX_PREFIX} fit",
                prefix.len()
            ))
        } else {
            Ok(())
        };
    }
    check_typeid_type(prefix.as_bytes()).map_err(|error| {
        InvalidParameter(format!(
            "prefix={:?} is not a TypeID type: {error}",
            start(prefix)
        ))
    })?;
    Ok(())
}

/// Checks the type of a `TypeID`: lower-case letters and underscores, a letter at both ends.
pub(crate) fn check_typeid_type(prefix: &[u8]) -> Result<(), InvalidText> {
    if prefix.len() > 63 {
        return Err(InvalidText::at(
            63,
            "a type has at most 63 characters, and this one has more",
        ));
    }
    for (position, &byte) in prefix.iter().enumerate() {
        let at_an_end = position == 0 || position + 1 == prefix.len();
        if !(byte.is_ascii_lowercase() || byte == b'_' && !at_an_end) {
            return Err(InvalidText::at(
                position,
                format!(
                    "a type contains lower-case letters, and '_' between them, not {:?}",
                    char::from(byte)
                ),
            ));
        }
    }
    Ok(())
}

fn checked_alphabet(given: &str) -> Result<Box<[u8]>, InvalidParameter> {
    let bytes = given.as_bytes();
    if !given.bytes().all(|byte| byte.is_ascii_graphic()) {
        return refuse("alphabet= may contain only visible ASCII characters".to_owned());
    }
    if bytes.len() < 2 {
        return refuse("alphabet= needs at least two characters".to_owned());
    }
    for (i, byte) in bytes.iter().enumerate() {
        if bytes[..i].contains(byte) {
            return refuse(format!(
                "alphabet= contains {:?} twice, which would make it more frequent than the others",
                char::from(*byte)
            ));
        }
    }
    Ok(bytes.into())
}

fn alphabet_bits(alphabet: &[u8]) -> f64 {
    // At most 94 characters.
    f64::from(u32::try_from(alphabet.len()).unwrap_or(u32::MAX)).log2()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "below 255 * 7"
)]
fn whole_bits(bits: f64) -> u32 {
    bits.floor() as u32
}

/// A letter, then base 36, six digits from each word: off from uniform by less than 2^-32.
#[inline]
pub fn write_cuid2(words: &[u64; 4], out: &mut [u8]) {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut more = None;
    for (i, six) in out.chunks_mut(6).enumerate() {
        let mut fraction = match words.get(i) {
            Some(word) => *word,
            None => more.get_or_insert_with(|| Expansion::of(words)).word(),
        };
        for (j, character) in six.iter_mut().enumerate() {
            let letter = i == 0 && j == 0;
            let scaled = u128::from(fraction) * if letter { 26 } else { 36 };
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the two words of a product"
            )]
            let (digit, rest) = ((scaled >> 64) as usize, scaled as u64);
            *character = DIGITS[(digit + if letter { 10 } else { 0 }) % 36];
            fraction = rest;
        }
    }
}

/// Characters of the alphabet, each as likely as any other.
#[inline]
pub fn write_nanoid(words: &[u64; 4], alphabet: &[u8], out: &mut [u8]) {
    let bits = alphabet.len().next_power_of_two().trailing_zeros();
    if alphabet.len().is_power_of_two() && bits > 0 {
        let per_word = (u64::BITS / bits) as usize;
        if out.len() <= per_word * words.len() {
            for (some, word) in out.chunks_mut(per_word).zip(words) {
                let mut word = *word;
                for character in some {
                    #[allow(clippy::cast_possible_truncation, reason = "masked")]
                    let index = word as usize & (alphabet.len() - 1);
                    *character = alphabet[index];
                    word >>= bits;
                }
            }
            return;
        }
    }
    write_by_rejection(words, alphabet, bits, out);
}

/// Takes as many bits as an index may need and draws again beyond the alphabet's end.
fn write_by_rejection(words: &[u64; 4], alphabet: &[u8], bits: u32, out: &mut [u8]) {
    let mut random = Expansion::of(words);
    let mut out = out.iter_mut();
    let mut next = out.next();
    while next.is_some() {
        let mut word = random.word();
        for _ in 0..u64::BITS / bits.max(1) {
            #[allow(clippy::cast_possible_truncation, reason = "masked")]
            let index = word as usize & ((1 << bits) - 1);
            if let (Some(&chosen), Some(character)) = (alphabet.get(index), &mut next) {
                **character = chosen;
                next = out.next();
            }
            word >>= bits;
        }
    }
}
