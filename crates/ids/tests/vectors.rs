//! Published vectors, each named with its source.

use mintkey_ids::{Draft, Kind, Parameters, Parsed, Strategy, candidates, parse};

fn read(kind: Kind, text: &str) -> Parsed {
    parse(&Strategy::plain(kind), text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(kind: Kind, text: &str) {
    if let Ok(parsed) = parse(&Strategy::plain(kind), text) {
        panic!("{text:?} was read as {parsed:?}");
    }
}

fn bits(parsed: &Parsed) -> u128 {
    parsed
        .bytes
        .iter()
        .fold(0, |bits, byte| bits << 8 | u128::from(*byte))
}

fn hex(text: &str) -> u128 {
    u128::from_str_radix(&text.replace('-', ""), 16).unwrap()
}

/// ulid/spec, README: the example, its timestamp, and the overflow rule.
#[test]
fn ulid_specification() {
    let example = read(Kind::Ulid, "01ARZ3NDEKTSV4RRFFQ69G5FAV");
    assert_eq!(example.time_ms, Some(1_469_922_850_259));
    assert_eq!(bits(&example), hex("01563e3a-b5d3-d676-4c61-efb99302bd5b"));
    assert_eq!(
        read(Kind::Ulid, "01BX5ZZKBKACTAV9WEVGEMMVRZ").time_ms,
        Some(1_508_808_576_371)
    );
    let greatest = read(Kind::Ulid, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    assert_eq!(greatest.time_ms, Some(281_474_976_710_655));
    assert_eq!(bits(&greatest), u128::MAX);
    refused(Kind::Ulid, "80000000000000000000000000");
    refused(Kind::Ulid, "8ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    for letter in ['I', 'L', 'O', 'U'] {
        refused(Kind::Ulid, &format!("01ARZ3NDEKTSV4RRFFQ69G5FA{letter}"));
    }
}

/// ulid/javascript, test suite: `encodeTime(1469918176385)` is `01ARYZ6S41`; `decodeTime` takes it back.
/// oklog/ulid (Go), README: the id of its example, 1,000,000 s after 1970.
#[test]
fn ulid_javascript_and_go() {
    assert_eq!(
        read(Kind::Ulid, "01ARYZ6S41TSV4RRFFQ69G5FAV").time_ms,
        Some(1_469_918_176_385)
    );
    let strategy = Strategy::plain(Kind::Ulid);
    let written = strategy.text(&Draft::Bits(1_469_918_176_385 << 80));
    assert_eq!(&written[..10], "01ARYZ6S41");
    assert_eq!(strategy.text(&Draft::Bits(0)), "00000000000000000000000000");
    refused(Kind::Ulid, "01ARYZ6S41TSV4RRFFQ69G5FA");
    refused(Kind::Ulid, "01ARYZ6S41TSV4RRFFQ69G5FAVV");
    refused(Kind::Ulid, "");
    // oklog/ulid reads lower case; what is written is upper case.
    assert_eq!(
        read(Kind::Ulid, "0000xsnjg0mqjhbf4qx1efd6y3").time_ms,
        read(Kind::Ulid, "0000XSNJG0MQJHBF4QX1EFD6Y3").time_ms
    );
    assert_eq!(
        read(Kind::Ulid, "0000XSNJG0MQJHBF4QX1EFD6Y3").time_ms,
        Some(1_000_000_000)
    );
}

/// segmentio/ksuid, README: `ksuid -f inspect` of its example; its tests: the nil and the greatest one.
#[test]
fn ksuid_segmentio() {
    let example = read(Kind::Ksuid, "0ujtsYcgvSTl8PAuAdqWYSMnLOv");
    assert_eq!(example.time_ms, Some(1_507_608_047_000));
    assert_eq!(
        example.random,
        Some((hex("B5A1CD34B5F99D1154FB6853345C9735"), 128))
    );
    assert_eq!(example.bytes[..4], 107_608_047_u32.to_be_bytes());
    let another = read(Kind::Ksuid, "0ujzPyRiIAffKhBux4PvQdDqMHY");
    assert_eq!(another.time_ms, Some(1_507_610_780_000));
    assert_eq!(
        another.random,
        Some((hex("73FC1AA3B2446246D6E89FCD909E8FE8"), 128))
    );
    let nil = read(Kind::Ksuid, "000000000000000000000000000");
    assert_eq!(
        (nil.time_ms, nil.random),
        (Some(1_400_000_000_000), Some((0, 128)))
    );
    let greatest = read(Kind::Ksuid, "aWgEPTl1tmebfsQzFP4bxwgy80V");
    assert!(greatest.bytes.iter().all(|byte| *byte == 0xff));
    refused(Kind::Ksuid, "aWgEPTl1tmebfsQzFP4bxwgy80W");
    refused(Kind::Ksuid, "zzzzzzzzzzzzzzzzzzzzzzzzzzz");
    let strategy = Strategy::plain(Kind::Ksuid);
    assert_eq!(
        strategy.text(&Draft::Ksuid(
            107_608_047,
            hex("B5A1CD34B5F99D1154FB6853345C9735")
        )),
        "0ujtsYcgvSTl8PAuAdqWYSMnLOv"
    );
}

/// RFC 9562, appendix A.3 and A.6: a version 4 and a version 7 UUID.
#[test]
fn rfc_9562() {
    let v4 = read(Kind::Uuid4, "919108f7-52d1-4320-9bac-f847db4148a8");
    assert_eq!(bits(&v4), hex("919108f752d143209bacf847db4148a8"));
    assert_eq!(v4.time_ms, None);
    let v7 = read(Kind::Uuid7, "017F22E2-79B0-7CC3-98C4-DC0C0C07398F");
    assert_eq!(v7.time_ms, Some(1_645_557_742_000));
    assert_eq!(v7.random, Some((0xcc3 << 62 | hex("18C4DC0C0C07398F"), 74)));
    let strategy = Strategy::plain(Kind::Uuid7);
    assert_eq!(
        strategy.text(&Draft::Bits(bits(&v7))),
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"
    );
    // Appendix A.1, A.2, A.4 and A.5: versions that nobody mints here.
    for other in [
        "C232AB00-9414-11EC-B3C8-9F6BDECED846",
        "5df41881-3aed-3515-88a7-2f4a814cf09e",
        "2ed6657d-e927-568b-95e1-2665a8aea6a2",
        "1EC9414C-232A-6B00-B3C8-9F6BDECED846",
    ] {
        refused(Kind::Uuid4, other);
        refused(Kind::Uuid7, other);
        assert_eq!(candidates(other), []);
    }
    refused(Kind::Uuid4, "919108f7-52d1-4320-0bac-f847db4148a8");
}

/// jetify-com/typeid, spec/valid.yml (0.3.0), in both directions.
#[test]
fn typeid_valid() {
    for (text, prefix, uuid) in [
        (
            "00000000000000000000000000",
            "",
            "00000000-0000-0000-0000-000000000000",
        ),
        (
            "00000000000000000000000001",
            "",
            "00000000-0000-0000-0000-000000000001",
        ),
        (
            "0000000000000000000000000a",
            "",
            "00000000-0000-0000-0000-00000000000a",
        ),
        (
            "0000000000000000000000000g",
            "",
            "00000000-0000-0000-0000-000000000010",
        ),
        (
            "00000000000000000000000010",
            "",
            "00000000-0000-0000-0000-000000000020",
        ),
        (
            "7zzzzzzzzzzzzzzzzzzzzzzzzz",
            "",
            "ffffffff-ffff-ffff-ffff-ffffffffffff",
        ),
        (
            "prefix_0123456789abcdefghjkmnpqrs",
            "prefix",
            "0110c853-1d09-52d8-d73e-1194e95b5f19",
        ),
        (
            "prefix_01h455vb4pex5vsknk084sn02q",
            "prefix",
            "01890a5d-ac96-774b-bcce-b302099a8057",
        ),
        (
            "pre_fix_00000000000000000000000000",
            "pre_fix",
            "00000000-0000-0000-0000-000000000000",
        ),
    ] {
        let parsed = read(Kind::Typeid, text);
        assert_eq!(
            (parsed.prefix.as_str(), bits(&parsed)),
            (prefix, hex(uuid)),
            "{text}"
        );
        let parameters = Parameters {
            prefix: (!prefix.is_empty()).then_some(prefix),
            ..Parameters::default()
        };
        let strategy = Strategy::new(Kind::Typeid, &parameters).unwrap();
        assert_eq!(strategy.text(&Draft::Bits(hex(uuid))), text);
    }
}

/// jetify-com/typeid, spec/invalid.yml (0.3.0), and the empty text and suffix.
#[test]
fn typeid_invalid() {
    for text in [
        "PREFIX_00000000000000000000000000",
        "12345_00000000000000000000000000",
        "pre.fix_00000000000000000000000000",
        "préfix_00000000000000000000000000",
        "  prefix_00000000000000000000000000",
        "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghijkl_00000000000000000000000000",
        "_00000000000000000000000000",
        "_",
        "prefix_1234567890123456789012345",
        "prefix_123456789012345678901234567",
        "prefix_1234567890123456789012345 ",
        "prefix_0123456789ABCDEFGHJKMNPQRS",
        "prefix_123456789-123456789-123456",
        "prefix_ooooooiiiiiiuuuuuuulllllll",
        "prefix_i23456789ol23456789oi23456",
        "prefix_123456789-0123456789-0123456",
        "prefix_8zzzzzzzzzzzzzzzzzzzzzzzzz",
        "_prefix_00000000000000000000000000",
        "prefix__00000000000000000000000000",
        "",
        "prefix_",
    ] {
        refused(Kind::Typeid, text);
    }
}

/// rs/xid, `id_test.go`: the ids of its table, with their parts.
#[test]
fn xid_rs() {
    let example = read(Kind::Xid, "9m4e2mr0ui3e8a215n4g");
    let bytes = [
        0x4d, 0x88, 0xe1, 0x5b, 0x60, 0xf4, 0x86, 0xe4, 0x28, 0x41, 0x2d, 0xc9,
    ];
    assert_eq!(example.bytes, bytes);
    assert_eq!(example.time_ms, Some(1_300_816_219_000));
    assert_eq!(example.machine, Some(0x0060_f486));
    assert_eq!(example.process, Some(0xe428));
    assert_eq!(example.sequence, Some(4_271_561));
    assert_eq!(read(Kind::Xid, "00000000000000000000").bytes, [0; 12]);
    let strategy = Strategy::plain(Kind::Xid);
    let third = read(
        Kind::Xid,
        &strategy.text(&Draft::Bits(0xaabb_ccdd_ee00_0001)),
    );
    assert_eq!((third.time_ms, third.machine), (Some(0), Some(0x00aa_bbcc)));
    assert_eq!((third.process, third.sequence), (Some(0xddee), Some(1)));
    read(Kind::Xid, "c6e52g2mrqcjl44hf170");
    for text in [
        "invalid",
        "c6e52g2mrqcjl44hf179",
        "9M4E2MR0UI3E8A215N4G",
        "TYjhW2D0huQoQS",
        "TYjhW2D0huQoQS3kdk",
        "9m4e2mr0ui3e8a215n4",
    ] {
        refused(Kind::Xid, text);
    }
    assert_eq!(
        strategy.text(&Draft::Bits(bits(&example))),
        "9m4e2mr0ui3e8a215n4g"
    );
}

/// ai/nanoid, README: its examples; the alphabet has 64 characters, none of them twice.
#[test]
fn nanoid() {
    read(Kind::Nanoid, "V1StGXR8_Z5jdHi6B-myT");
    refused(Kind::Nanoid, "V1StGXR8_Z5jdHi6B-my");
    refused(Kind::Nanoid, "V1StGXR8_Z5jdHi6B+myT");
    let mut characters: Vec<u8> = mintkey_ids::NANOID_ALPHABET.bytes().collect();
    characters.sort_unstable();
    characters.dedup();
    assert_eq!(characters.len(), 64);
    let parameters = Parameters {
        size: Some(10),
        alphabet: Some("1234567890abcdef"),
        ..Parameters::default()
    };
    let strategy = Strategy::new(Kind::Nanoid, &parameters).unwrap();
    assert!(parse(&strategy, "4f90d13a42").is_ok());
    assert!(parse(&strategy, "4f90d13a4g").is_err());
}

/// paralleldrive/cuid2, README: its examples, of the default length and of length 10; `isCuid` refuses the rest.
#[test]
fn cuid2() {
    for text in [
        "tz4a98xxat96iws9zmbrgj3a",
        "pfh0haxfpzowht3oi213cqos",
        "nc6bzmkmd014706rfda898to",
    ] {
        read(Kind::Cuid2, text);
    }
    let parameters = Parameters {
        length: Some(10),
        ..Parameters::default()
    };
    let short = Strategy::new(Kind::Cuid2, &parameters).unwrap();
    assert!(parse(&short, "tz4a98xxat").is_ok());
    for text in [
        "42",
        "yi7rqj1trke",
        "-x!ha",
        "4z4a98xxat96iws9zmbrgj3a",
        "Tz4a98xxat96iws9zmbrgj3a",
    ] {
        refused(Kind::Cuid2, text);
    }
}

/// Twitter's snowflake as documented: 41 bits of ms since 1288834974657, 10 of machine, 12 of sequence.
#[test]
fn snowflake() {
    let example = read(Kind::Snowflake, "1541815603606036480");
    assert_eq!(example.time_ms, Some(1_656_432_460_105));
    assert_eq!((example.node, example.sequence), (Some(378), Some(0)));
    refused(Kind::Snowflake, "9223372036854775808");
    refused(Kind::Snowflake, "-1");
    refused(Kind::Snowflake, "");
    refused(Kind::Snowflake, "12a");
}

#[test]
fn forms_tell_their_kinds() {
    for (text, expected) in [
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", [Kind::Ulid].as_slice()),
        ("01h455vb4pex5vsknk084sn02q", &[Kind::Typeid, Kind::Ulid]),
        ("order_01h455vb4pex5vsknk084sn02q", &[Kind::Typeid]),
        ("0ujtsYcgvSTl8PAuAdqWYSMnLOv", &[Kind::Ksuid]),
        ("550e8400-e29b-41d4-a716-446655440000", &[Kind::Uuid4]),
        ("017f22e279b07cc398c4dc0c0c07398f", &[Kind::Uuid7]),
        ("9m4e2mr0ui3e8a215n4g", &[Kind::Xid]),
        ("V1StGXR8_Z5jdHi6B-myT", &[Kind::Nanoid]),
        ("tz4a98xxat96iws9zmbrgj3a", &[Kind::Cuid2]),
        ("1541815603606036480", &[Kind::Snowflake, Kind::EpochMs]),
        ("1704067200", &[Kind::Epoch, Kind::Snowflake, Kind::EpochMs]),
        (
            "1704067200000",
            &[Kind::EpochMs, Kind::Snowflake, Kind::Epoch],
        ),
        ("2024-01-01T00:00:00Z", &[Kind::Iso8601]),
        ("2024-01-01T00:00:00.123Z", &[Kind::Iso8601Ms]),
        ("nothing", &[]),
        ("", &[]),
    ] {
        assert_eq!(candidates(text), expected, "{text}");
    }
}
