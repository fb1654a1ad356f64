//! No text makes a reader panic, and what is read is written back as the same text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintkey_ids::{Draft, Kind, Parsed, Strategy, candidates, likeliest, parse, prefixed};

fn bits(parsed: &Parsed) -> u128 {
    parsed
        .bytes
        .iter()
        .fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

/// What was read, as what is minted.
fn draft(parsed: &Parsed) -> Option<Draft> {
    Some(match parsed.kind {
        Kind::Ksuid => {
            let time = u32::from_be_bytes(parsed.bytes[..4].try_into().ok()?);
            Draft::Ksuid(time, parsed.random?.0)
        }
        Kind::Snowflake => Draft::Int(i64::try_from(bits(parsed)).ok()?),
        Kind::Epoch | Kind::EpochMs | Kind::Iso8601 | Kind::Iso8601Ms => {
            Draft::Time(parsed.time_ms?)
        }
        Kind::Nanoid | Kind::Cuid2 => return None,
        _ => Draft::Bits(bits(parsed)),
    })
}

fuzz_target!(|text: &str| {
    for kind in Kind::ALL {
        let strategy = Strategy::plain(kind);
        let Ok(parsed) = parse(&strategy, text) else {
            continue;
        };
        assert_eq!(parsed.kind, kind);
        assert!(candidates(text).contains(&kind));
        if let Some(draft) = draft(&parsed) {
            let written = strategy.text(&draft);
            let same = match kind {
                // A type stands before the id; it is not a parameter of the plain strategy.
                Kind::Typeid => text.ends_with(&written),
                Kind::Uuid4 | Kind::Uuid7 => written
                    .replace('-', "")
                    .eq_ignore_ascii_case(&text.replace('-', "")),
                // Zeros may stand before an integer.
                Kind::Snowflake | Kind::Epoch | Kind::EpochMs => {
                    written.parse::<i64>() == text.parse::<i64>()
                }
                _ => written.eq_ignore_ascii_case(text),
            };
            assert!(same, "{kind}: {text:?} became {written:?}");
        }
    }
    let _ = likeliest(text);
    let _ = prefixed(text);
});
