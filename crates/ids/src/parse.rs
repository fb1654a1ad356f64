//! Reads ids and timestamps, strictly.

use crate::base32::{read_typeid, read_ulid, read_xid};
use crate::base62::read_ksuid;
use crate::error::InvalidText;
use crate::hex::read_uuid;
use crate::iso8601::read_iso8601;
use crate::kind::Kind;
use crate::minter::{KSUID_EPOCH, SEQUENCE_MASK, SNOWFLAKE_EPOCH};
use crate::strategy::{Strategy, check_typeid_type};

/// The parts of an id or a timestamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The format.
    pub kind: Kind,
    /// The prefix, without the separator of a `TypeID`.
    pub prefix: String,
    /// The id as bytes: 16, 20 (KSUID), 12 (XID) or 8 (integers); none where a format has no binary form.
    pub bytes: Vec<u8>,
    /// When it was generated, in milliseconds since the Unix epoch.
    pub time_ms: Option<i64>,
    /// The random part and how many bits it has.
    pub random: Option<(u128, u32)>,
    /// A snowflake's node.
    pub node: Option<u16>,
    /// A snowflake's sequence, an XID's counter.
    pub sequence: Option<u32>,
    /// An XID's machine.
    pub machine: Option<u32>,
    /// An XID's process.
    pub process: Option<u16>,
}

impl Parsed {
    fn new(kind: Kind, bytes: Vec<u8>) -> Self {
        Self {
            kind,
            prefix: String::new(),
            bytes,
            time_ms: None,
            random: None,
            node: None,
            sequence: None,
            machine: None,
            process: None,
        }
    }
}

const LOW_62: u128 = (1 << 62) - 1;
const LOW_80: u128 = (1 << 80) - 1;

/// Milliseconds in the highest 48 of 128 bits.
fn high_48(bits: u128) -> Option<i64> {
    i64::try_from(bits >> 80).ok()
}

fn uuid(kind: Kind, bits: u128) -> Parsed {
    let mut parsed = Parsed::new(kind, bits.to_be_bytes().to_vec());
    let middle = bits >> 64 & 0xfff;
    if kind == Kind::Uuid4 {
        parsed.random = Some((bits >> 80 << 74 | middle << 62 | bits & LOW_62, 122));
    } else {
        parsed.time_ms = high_48(bits);
        parsed.random = Some((middle << 62 | bits & LOW_62, 74));
    }
    parsed
}

/// Checks that bits are a UUID of the version of `kind`.
fn check_version(kind: Kind, bits: u128) -> Result<(), InvalidText> {
    let (found, wanted) = (bits >> 76 & 0xf, if kind == Kind::Uuid4 { 4 } else { 7 });
    if found != wanted {
        return Err(InvalidText::new(format!(
            "it is a UUID of version {found}, not {wanted}"
        )));
    }
    if bits >> 62 & 0x3 != 0x2 {
        return Err(InvalidText::new(
            "its variant is not that of RFC 9562 (the first digit of the fourth group is 8, 9, a or b)",
        ));
    }
    Ok(())
}

/// Reads 16 bytes as the id of a format that has 128 bits.
///
/// # Errors
/// When the format has another size, or the bits are not a UUID of its version.
pub fn parse_bits(kind: Kind, bits: u128) -> Result<Parsed, InvalidText> {
    match kind {
        Kind::Uuid4 | Kind::Uuid7 => check_version(kind, bits).map(|()| uuid(kind, bits)),
        Kind::Typeid => Ok(Parsed {
            kind,
            ..uuid(Kind::Uuid7, bits)
        }),
        Kind::Ulid => {
            let mut parsed = Parsed::new(kind, bits.to_be_bytes().to_vec());
            parsed.time_ms = high_48(bits);
            parsed.random = Some((bits & LOW_80, 80));
            Ok(parsed)
        }
        _ => Err(InvalidText::new(format!("{kind} has no form of 128 bits"))),
    }
}

/// A KSUID from its time and payload.
#[must_use]
pub fn parse_ksuid(time: u32, payload: u128) -> Parsed {
    let mut bytes = time.to_be_bytes().to_vec();
    bytes.extend(payload.to_be_bytes());
    let mut parsed = Parsed::new(Kind::Ksuid, bytes);
    parsed.time_ms = Some((i64::from(time) + KSUID_EPOCH) * 1000);
    parsed.random = Some((payload, 128));
    parsed
}

#[allow(
    clippy::cast_possible_truncation,
    reason = "cut to the bits of each part"
)]
fn xid(bits: u128) -> Parsed {
    let mut parsed = Parsed::new(Kind::Xid, bits.to_be_bytes()[4..].to_vec());
    parsed.time_ms = Some((bits >> 64) as i64 * 1000);
    parsed.machine = Some((bits >> 40) as u32 & 0xff_ffff);
    parsed.process = Some((bits >> 24) as u16);
    parsed.sequence = Some(bits as u32 & 0xff_ffff);
    parsed
}

/// Reads an integer as a snowflake or a timestamp.
///
/// # Errors
/// When it is negative where that cannot be, or the strategy's values are texts.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "masked"
)]
pub fn parse_int(strategy: &Strategy, value: i64) -> Result<Parsed, InvalidText> {
    let kind = strategy.kind();
    let mut parsed = Parsed::new(kind, value.to_be_bytes().to_vec());
    match kind {
        Kind::Snowflake => {
            if value < 0 {
                return Err(InvalidText::new("it is negative; a snowflake has 63 bits"));
            }
            let epoch = strategy
                .snowflake()
                .map_or(SNOWFLAKE_EPOCH, |(epoch, _)| epoch);
            parsed.time_ms = Some((value >> 22) + epoch);
            parsed.node = Some((value >> 12 & 0x3ff) as u16);
            parsed.sequence = Some(value as u32 & SEQUENCE_MASK);
        }
        Kind::Epoch => match value.checked_mul(1000) {
            Some(ms) => parsed.time_ms = Some(ms),
            None => return Err(InvalidText::new("its time is later than any date")),
        },
        Kind::EpochMs => parsed.time_ms = Some(value),
        Kind::EpochUs => parsed.time_ms = Some(value.div_euclid(1000)),
        _ => return Err(InvalidText::new(format!("{kind} is text, not an integer"))),
    }
    Ok(parsed)
}

/// Reads a text as a value of this strategy: its prefix, then its body.
///
/// # Errors
/// The first mistake, with its position in the text.
pub fn parse(strategy: &Strategy, text: &str) -> Result<Parsed, InvalidText> {
    let expected = strategy.prefix();
    if strategy.kind() == Kind::Typeid {
        let parsed = typeid(text)?;
        if !expected.is_empty() && parsed.prefix != expected {
            return Err(InvalidText::new(format!(
                "its type is {:?}, not {expected:?}",
                parsed.prefix
            )));
        }
        return Ok(parsed);
    }
    let Some(body) = text.strip_prefix(expected) else {
        return Err(InvalidText::new(format!(
            "it does not begin with {expected:?}"
        )));
    };
    let ahead = expected.chars().count();
    match parse_body(strategy, body) {
        Ok(parsed) => Ok(Parsed {
            prefix: expected.to_owned(),
            ..parsed
        }),
        Err(error) => Err(InvalidText {
            position: error.position.map(|position| position + ahead),
            ..error
        }),
    }
}

fn parse_body(strategy: &Strategy, body: &str) -> Result<Parsed, InvalidText> {
    if let Some((position, character)) = body.chars().enumerate().find(|(_, c)| !c.is_ascii()) {
        return Err(InvalidText::at(
            position,
            format!("{character:?} is not ASCII"),
        ));
    }
    let bytes = body.as_bytes();
    match strategy.kind() {
        Kind::Uuid4 if strategy.given_length().is_some() => hex(strategy, bytes),
        kind @ (Kind::Uuid4 | Kind::Uuid7) => parse_bits(kind, read_uuid(bytes)?),
        Kind::Ulid => parse_bits(Kind::Ulid, read_ulid(bytes)?),
        Kind::Ksuid => read_ksuid(bytes).map(|(time, payload)| parse_ksuid(time, payload)),
        Kind::Xid => read_xid(bytes).map(xid),
        Kind::Nanoid => nanoid(strategy, bytes),
        Kind::Cuid2 => cuid2(strategy, bytes),
        Kind::Snowflake | Kind::Epoch | Kind::EpochMs | Kind::EpochUs => integer(strategy, body),
        kind @ (Kind::Iso8601 | Kind::Iso8601Ms) => {
            check_len(strategy, bytes)?;
            let mut parsed = Parsed::new(kind, Vec::new());
            parsed.time_ms = Some(read_iso8601(bytes)?);
            Ok(parsed)
        }
        Kind::Typeid => typeid(body),
    }
}

fn integer(strategy: &Strategy, body: &str) -> Result<Parsed, InvalidText> {
    let digits = body.strip_prefix('-').unwrap_or(body);
    if let Some(position) = digits.bytes().position(|byte| !byte.is_ascii_digit()) {
        let position = position + body.len() - digits.len();
        return Err(InvalidText::at(
            position,
            "it is not an integer: a digit is missing",
        ));
    }
    match body.parse() {
        Ok(value) => parse_int(strategy, value),
        Err(_) if digits.is_empty() => Err(InvalidText::new("it is empty")),
        Err(_) => Err(InvalidText::new("it exceeds 63 bits")),
    }
}

fn check_len(strategy: &Strategy, body: &[u8]) -> Result<(), InvalidText> {
    if body.len() != strategy.body_len() {
        return Err(InvalidText::new(format!(
            "it is {} characters long, not {}",
            body.len(),
            strategy.body_len()
        )));
    }
    Ok(())
}

/// The hexadecimal digits of a UUID4, or as many as the strategy keeps of them.
fn hex(strategy: &Strategy, body: &[u8]) -> Result<Parsed, InvalidText> {
    check_len(strategy, body)?;
    let fits = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if let Some(position) = body.iter().position(|byte| !fits(byte)) {
        return Err(InvalidText::at(
            position,
            format!(
                "{:?} is not a lower-case hexadecimal digit",
                char::from(body[position])
            ),
        ));
    }
    if body.len() == 32 {
        return parse_bits(Kind::Uuid4, read_uuid(body)?);
    }
    Ok(Parsed::new(Kind::Uuid4, Vec::new()))
}

fn nanoid(strategy: &Strategy, body: &[u8]) -> Result<Parsed, InvalidText> {
    check_len(strategy, body)?;
    let alphabet = strategy.nanoid().map_or("", |(_, alphabet)| alphabet);
    if let Some(position) = body
        .iter()
        .position(|byte| !alphabet.as_bytes().contains(byte))
    {
        return Err(InvalidText::at(
            position,
            format!("{:?} is not in the alphabet", char::from(body[position])),
        ));
    }
    Ok(Parsed::new(Kind::Nanoid, Vec::new()))
}

fn cuid2(strategy: &Strategy, body: &[u8]) -> Result<Parsed, InvalidText> {
    check_len(strategy, body)?;
    let fits = |i: usize, byte: u8| byte.is_ascii_lowercase() || i > 0 && byte.is_ascii_digit();
    if let Some(position) = (0..body.len()).find(|&i| !fits(i, body[i])) {
        let wanted = if position == 0 {
            "lower-case letter"
        } else {
            "lower-case letter or digit"
        };
        return Err(InvalidText::at(
            position,
            format!("{:?} is not a {wanted}", char::from(body[position])),
        ));
    }
    Ok(Parsed::new(Kind::Cuid2, Vec::new()))
}

/// A `TypeID`: an optional type and '_', then 26 characters (`TypeID` specification 0.3).
fn typeid(text: &str) -> Result<Parsed, InvalidText> {
    if let Some((position, character)) = text.chars().enumerate().find(|(_, c)| !c.is_ascii()) {
        return Err(InvalidText::at(
            position,
            format!("{character:?} is not ASCII"),
        ));
    }
    let (prefix, suffix, ahead) = match text.rsplit_once('_') {
        Some(("", _)) => {
            return Err(InvalidText::at(
                0,
                "it begins with '_', which only follows a type",
            ));
        }
        Some((prefix, suffix)) => (prefix, suffix, prefix.len() + 1),
        None => ("", text, 0),
    };
    check_typeid_type(prefix.as_bytes())?;
    let bits = read_typeid(suffix.as_bytes()).map_err(|error| InvalidText {
        position: error.position.map(|position| position + ahead),
        reason: if error.position.is_none() {
            format!("in the part after the type, {}", error.reason)
        } else {
            error.reason
        },
    })?;
    let parsed = parse_bits(Kind::Typeid, bits)?;
    Ok(Parsed {
        prefix: prefix.to_owned(),
        ..parsed
    })
}

/// The formats whose values, with their usual parameters, look like this text, likeliest first.
#[must_use]
pub fn candidates(text: &str) -> Vec<Kind> {
    let likeliest = [
        Kind::Iso8601,
        Kind::Iso8601Ms,
        Kind::Uuid4,
        Kind::Uuid7,
        Kind::Snowflake,
        Kind::Epoch,
        Kind::EpochMs,
        Kind::Ulid,
        Kind::Typeid,
        Kind::Ksuid,
        Kind::Xid,
        Kind::Cuid2,
        Kind::Nanoid,
    ];
    let fits = |kind: &Kind| parse(&Strategy::plain(*kind), text).is_ok();
    let mut found: Vec<Kind> = likeliest.into_iter().filter(fits).collect();
    // Few integers are what the likeliest of them says: a snowflake below 10^14 would be of the first
    // seven hours of its epoch, milliseconds below 10^11 of before 1974.
    if let Ok(value) = text.parse::<i64>() {
        let kind = integer_kind(value);
        if let Some(at) = found.iter().position(|found| *found == kind) {
            found[..=at].rotate_right(1);
        }
    }
    // A lower-case text of 26 could be both. Those who write ULIDs write capitals, and a TypeID is a UUID 7.
    if found.starts_with(&[Kind::Ulid, Kind::Typeid])
        && text.bytes().any(|b| b.is_ascii_lowercase())
        && read_typeid(text.as_bytes()).is_ok_and(|bits| check_version(Kind::Uuid7, bits).is_ok())
    {
        found.swap(0, 1);
    }
    found
}

/// The most probable format of an integer.
#[must_use]
pub const fn integer_kind(value: i64) -> Kind {
    if value < 100_000_000_000 {
        Kind::Epoch
    } else if value < 100_000_000_000_000 {
        Kind::EpochMs
    } else {
        Kind::Snowflake
    }
}

/// The format that a text without candidates was probably meant to be, to say what is wrong with it.
#[must_use]
pub fn likeliest(text: &str) -> Option<Kind> {
    let bytes = text.as_bytes();
    let typed = text
        .rsplit_once('_')
        .is_some_and(|(_, suffix)| suffix.len() == 26);
    let digits = text.strip_prefix('-').unwrap_or(text);
    let number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let dated = bytes.len() >= 10
        && bytes[..4].iter().all(u8::is_ascii_digit)
        && (bytes[4], bytes[7]) == (b'-', b'-');
    match text.chars().count() {
        _ if typed => Some(Kind::Typeid),
        24 if dated => Some(Kind::Iso8601Ms),
        _ if dated => Some(Kind::Iso8601),
        ..=20 if number => Some(Kind::Snowflake),
        36 | 32 => Some(Kind::Uuid4),
        27 => Some(Kind::Ksuid),
        26 => Some(Kind::Ulid),
        24 => Some(Kind::Cuid2),
        21 => Some(Kind::Nanoid),
        20 => Some(Kind::Xid),
        _ => None,
    }
}

/// A prefix and the format of the id after it, if a mark such as `#` separates them. Formats that match any text are not
/// considered.
#[must_use]
pub fn prefixed(text: &str) -> Option<(&str, Kind)> {
    [
        Kind::Uuid4,
        Kind::Uuid7,
        Kind::Ksuid,
        Kind::Ulid,
        Kind::Iso8601Ms,
        Kind::Iso8601,
        Kind::Xid,
    ]
    .into_iter()
    .find_map(|kind| {
        let plain = Strategy::plain(kind);
        let (prefix, id) = text.split_at_checked(text.len().checked_sub(plain.body_len())?)?;
        let parted = prefix.ends_with(|last: char| !last.is_alphanumeric());
        // Lower-case letters after '_' are meant to be a TypeID's.
        let typed = kind == Kind::Ulid
            && prefix.ends_with('_')
            && id.bytes().any(|byte| byte.is_ascii_lowercase());
        (parted && !typed && parse(&plain, id).is_ok()).then_some((prefix, kind))
    })
}
