//! No parameters make a strategy, its text or its bounds panic; what a strategy writes it reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintkey_ids::{Draft, Kind, NodeChoice, Parameters, Strategy, bounds, parse};

type Input<'a> = (u8, &'a str, &'a str, [Option<i64>; 4], [u64; 4], (i64, i64));

fuzz_target!(|input: Input<'_>| {
    let (kind, prefix, alphabet, [size, length, epoch, plus_ms], words, (start, end)) = input;
    let kind = Kind::ALL[usize::from(kind) % Kind::ALL.len()];
    let given = |text| (!str::is_empty(text)).then_some(text);
    let parameters = Parameters {
        prefix: given(prefix),
        size,
        alphabet: given(alphabet),
        length,
        node: NodeChoice::parse(prefix).ok(),
        epoch,
        plus_ms,
    };
    let Ok(strategy) = Strategy::new(kind, &parameters) else {
        return;
    };
    let _ = strategy.random_bits();
    let _ = bounds(&strategy, start, end);
    let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
    let draft = match kind {
        Kind::Nanoid | Kind::Cuid2 => Draft::Words(words),
        Kind::Uuid4 => Draft::Bits(bits & !(0xf << 76 | 0x3 << 62) | 0x4 << 76 | 0x2 << 62),
        Kind::Uuid7 => Draft::Bits(bits & !(0xf << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62),
        Kind::Ksuid => Draft::Ksuid(0, bits),
        Kind::Xid => Draft::Bits(bits >> 32),
        Kind::Snowflake => Draft::Int((words[0] >> 1).cast_signed()),
        Kind::Ulid | Kind::Typeid => Draft::Bits(bits),
        _ => Draft::Time(start),
    };
    let text = strategy.text(&draft);
    if kind != Kind::Epoch {
        assert!(
            parse(&strategy, &text).is_ok(),
            "{strategy:?} does not read its own {text:?}"
        );
    }
});
