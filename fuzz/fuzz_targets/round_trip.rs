//! Whatever bits are written are read back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintkey_ids::{Draft, Kind, Strategy, parse};

fuzz_target!(|input: ([u64; 4], u32, i64)| {
    let (words, time, ms) = input;
    let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
    let versioned = |version: u128| bits & !(0xf << 76 | 0x3 << 62) | version << 76 | 0x2 << 62;
    for kind in Kind::ALL {
        let draft = match kind {
            Kind::Uuid4 => Draft::Bits(versioned(4)),
            Kind::Uuid7 => Draft::Bits(versioned(7)),
            Kind::Ulid | Kind::Typeid => Draft::Bits(bits),
            Kind::Xid => Draft::Bits(bits >> 32),
            Kind::Ksuid => Draft::Ksuid(time, bits),
            Kind::Snowflake => Draft::Int((words[0] >> 1).cast_signed()),
            Kind::Nanoid | Kind::Cuid2 => Draft::Words(words),
            _ => Draft::Time(ms),
        };
        let strategy = Strategy::plain(kind);
        let text = strategy.text(&draft);
        let parsed = match parse(&strategy, &text) {
            Ok(parsed) => parsed,
            // Seconds beyond 64 bits of milliseconds are no date.
            Err(_) if kind == Kind::Epoch => continue,
            Err(error) => panic!("{kind} {text:?}: {error}"),
        };
        match draft {
            Draft::Bits(bits) => {
                let read = parsed
                    .bytes
                    .iter()
                    .fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
                assert_eq!(read, bits, "{kind}");
            }
            Draft::Ksuid(time, payload) => {
                assert_eq!(parsed.random, Some((payload, 128)));
                assert_eq!(parsed.bytes[..4], time.to_be_bytes());
            }
            Draft::Int(int) => assert_eq!(parsed.bytes, int.to_be_bytes()),
            Draft::Time(_) | Draft::Words(_) => {}
        }
    }
});
