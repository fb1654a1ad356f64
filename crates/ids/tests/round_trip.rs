//! Whatever is written is read back, and no text makes a reader panic.

use mintkey_ids::{
    Draft, Kind, Parameters, Strategy as Format, bounds, candidates, likeliest, parse, parse_int,
    prefixed,
};
use proptest::prelude::*;

fn draft(kind: Kind, words: [u64; 4], ms: i64) -> Draft {
    let bits = u128::from(words[0]) << 64 | u128::from(words[1]);
    match kind {
        Kind::Uuid4 | Kind::Uuid7 => {
            let version = if kind == Kind::Uuid4 { 4 } else { 7 };
            Draft::Bits(bits & !(0xf << 76 | 0x3 << 62) | version << 76 | 0x2 << 62)
        }
        Kind::Ulid | Kind::Typeid => Draft::Bits(bits),
        Kind::Xid => Draft::Bits(bits >> 32),
        Kind::Ksuid => Draft::Ksuid(u32::try_from(words[2] >> 32).unwrap(), bits),
        Kind::Snowflake => Draft::Int((words[0] >> 1).cast_signed()),
        Kind::Nanoid | Kind::Cuid2 => Draft::Words(words),
        Kind::Epoch | Kind::EpochMs | Kind::Iso8601 | Kind::Iso8601Ms => Draft::Time(ms),
        Kind::EpochUs => Draft::Int(ms),
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop::sample::select(Kind::ALL.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read_back(
        kind in kinds(),
        words in any::<[u64; 4]>(),
        ms in -62_135_596_800_000_i64..253_402_300_799_999,
        prefix in "[a-z]{1,12}",
        prefixed: bool,
    ) {
        let parameters = Parameters { prefix: prefixed.then_some(&prefix), ..Parameters::default() };
        let taken = Format::parameter_names(kind).contains(&"prefix");
        let format = if taken { Format::new(kind, &parameters).unwrap() } else { Format::plain(kind) };
        let draft = draft(kind, words, ms);
        let text = format.text(&draft);
        let parsed = parse(&format, &text).unwrap();
        prop_assert_eq!(parsed.kind, kind);
        if !kind.is_int() {
            prop_assert_eq!(format.text_len(), Some(text.chars().count()));
        }
        match draft {
            Draft::Bits(bits) => {
                let read = parsed.bytes.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
                prop_assert_eq!(read, bits);
            }
            Draft::Ksuid(time, payload) => {
                prop_assert_eq!(parsed.random, Some((payload, 128)));
                prop_assert_eq!(&parsed.bytes[..4], &time.to_be_bytes());
            }
            Draft::Int(value) => {
                prop_assert_eq!(&parsed.bytes, &value.to_be_bytes());
                prop_assert_eq!(parse_int(&format, value).unwrap(), parsed);
            }
            Draft::Time(ms) => {
                let tick = if matches!(kind, Kind::Epoch | Kind::Iso8601) { 1000 } else { 1 };
                prop_assert_eq!(parsed.time_ms, Some(ms.div_euclid(tick) * tick));
            }
            Draft::Words(_) => {}
        }
        if !prefixed || !taken {
            prop_assert!(candidates(&text).contains(&kind));
        }
    }

    #[test]
    fn shapes_are_kept(
        words in any::<[u64; 4]>(),
        size in 1_i64..=255,
        length in 1_i64..=32,
        alphabet in prop::sample::subsequence(('!'..='~').collect::<Vec<_>>(), 2..94),
    ) {
        let alphabet: String = alphabet.into_iter().collect();
        let nanoid = Parameters { size: Some(size), alphabet: Some(&alphabet), ..Parameters::default() };
        let nanoid = Format::new(Kind::Nanoid, &nanoid).unwrap();
        let text = nanoid.text(&Draft::Words(words));
        prop_assert!(parse(&nanoid, &text).is_ok(), "{}", text);
        let cut = Parameters { length: Some(length), ..Parameters::default() };
        let hex = Format::new(Kind::Uuid4, &cut).unwrap();
        let Draft::Bits(bits) = draft(Kind::Uuid4, words, 0) else { unreachable!() };
        let text = hex.text(&Draft::Bits(bits));
        prop_assert!(parse(&hex, &text).is_ok());
        prop_assert_eq!(&text, &format!("{bits:032x}")[..text.len()]);
        if let Ok(cuid2) = Format::new(Kind::Cuid2, &cut) {
            let text = cuid2.text(&Draft::Words(words));
            prop_assert!(parse(&cuid2, &text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(kind in kinds(), text in "\\PC{0,40}|[0-9a-zA-Z_:TZ.-]{18,38}") {
        let _ = parse(&Format::plain(kind), &text);
        let _ = candidates(&text);
        let _ = likeliest(&text);
        let _ = prefixed(&text);
    }

    #[test]
    fn no_span_makes_bounds_panic(kind in kinds(), start: i64, end: i64) {
        let _ = bounds(&Format::plain(kind), start, end);
    }
}

#[test]
fn a_text_that_is_none_is_told_what_it_was_meant_to_be() {
    for (text, kind) in [
        ("9223372036854775808", Some(Kind::Snowflake)),
        ("-9223372036854775809", Some(Kind::Snowflake)),
        ("80000000000000000000000000", Some(Kind::Ulid)),
        ("2024-01-01", Some(Kind::Iso8601)),
        ("2024-02-30T00:00:00.000Z", Some(Kind::Iso8601Ms)),
        ("550e8400-e29b-11d4-a716-446655440000", Some(Kind::Uuid4)),
        ("user_01h455vb4pex5vsknk084sn02U", Some(Kind::Typeid)),
        ("-", None),
        ("", None),
    ] {
        assert_eq!(likeliest(text), kind, "{text}");
    }
}

#[test]
fn an_id_behind_a_prefix_is_found_where_a_mark_parts_them() {
    for (text, found) in [
        (
            "ORDER#01ARZ3NDEKTSV4RRFFQ69G5FAV",
            Some(("ORDER#", Kind::Ulid)),
        ),
        ("é/01ARZ3NDEKTSV4RRFFQ69G5FAV", Some(("é/", Kind::Ulid))),
        (
            "u-550e8400-e29b-41d4-a716-446655440000",
            Some(("u-", Kind::Uuid4)),
        ),
        ("LOG#2024-01-01T00:00:00Z", Some(("LOG#", Kind::Iso8601))),
        (
            "ORDER_01ARZ3NDEKTSV4RRFFQ69G5FAV",
            Some(("ORDER_", Kind::Ulid)),
        ),
        ("Order_01h455vb4pex5vsknk084sn02q", None),
        ("ORDER01ARZ3NDEKTSV4RRFFQ69G5FAV", None),
        ("ORDER#81ARZ3NDEKTSV4RRFFQ69G5FAV", None),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", None),
        ("", None),
    ] {
        assert_eq!(prefixed(text), found, "{text}");
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    let refused = |kind, parameters: Parameters<'_>| {
        assert!(
            Format::new(kind, &parameters).is_err(),
            "{kind}: {parameters:?}"
        );
    };
    let none = Parameters::default;
    for size in [0, -1, 256, i64::MAX] {
        refused(
            Kind::Nanoid,
            Parameters {
                size: Some(size),
                ..none()
            },
        );
    }
    for length in [0, -1, 33] {
        refused(
            Kind::Uuid4,
            Parameters {
                length: Some(length),
                ..none()
            },
        );
        refused(
            Kind::Cuid2,
            Parameters {
                length: Some(length),
                ..none()
            },
        );
    }
    refused(
        Kind::Cuid2,
        Parameters {
            length: Some(1),
            ..none()
        },
    );
    for alphabet in ["", "a", "aba", "a b", "añ", "a\n"] {
        refused(
            Kind::Nanoid,
            Parameters {
                alphabet: Some(alphabet),
                ..none()
            },
        );
    }
    refused(
        Kind::Snowflake,
        Parameters {
            epoch: Some(i64::MAX),
            ..none()
        },
    );
    for prefix in ["Order", "_a", "a_", "a-b", "1"] {
        refused(
            Kind::Typeid,
            Parameters {
                prefix: Some(prefix),
                ..none()
            },
        );
    }
    refused(
        Kind::Ulid,
        Parameters {
            prefix: Some(&"x".repeat(256)),
            ..none()
        },
    );
}

#[test]
fn parameters_that_a_format_does_not_take_are_ignored() {
    let parameters = Parameters {
        prefix: Some("a#"),
        plus_ms: Some(5),
        size: Some(3),
        ..Parameters::default()
    };
    assert_eq!(
        Format::new(Kind::Snowflake, &parameters),
        Ok(Format::plain(Kind::Snowflake))
    );
    let ulid = Format::new(Kind::Ulid, &parameters).unwrap();
    assert_eq!(
        (ulid.prefix(), ulid.plus_ms(), ulid.text_len()),
        ("a#", 0, Some(28))
    );
}

#[test]
fn random_bits_are_counted_right() {
    let of =
        |kind, parameters: Parameters<'_>| Format::new(kind, &parameters).unwrap().random_bits();
    let cut = |length| Parameters {
        length: Some(length),
        ..Parameters::default()
    };
    let sized = |size| Parameters {
        size: Some(size),
        ..Parameters::default()
    };
    assert_eq!(of(Kind::Uuid4, Parameters::default()), 122);
    assert_eq!(of(Kind::Uuid4, cut(32)), 122);
    assert_eq!(of(Kind::Uuid4, cut(16)), 60);
    assert_eq!(of(Kind::Uuid4, cut(12)), 48);
    assert_eq!(of(Kind::Uuid4, cut(8)), 32);
    assert_eq!(of(Kind::Nanoid, Parameters::default()), 126);
    assert_eq!(of(Kind::Nanoid, sized(8)), 48);
    assert_eq!(of(Kind::Nanoid, sized(255)), 256, "no more than were drawn");
    assert_eq!(of(Kind::Cuid2, Parameters::default()), 123);
    assert_eq!(of(Kind::Epoch, Parameters::default()), 0);
}
