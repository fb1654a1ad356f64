//! Numbers: their text, their order and the bytes that keep it.

use mintkey_store::{InvalidNumber, KeyKind, KeyValue, Number};
use proptest::prelude::*;

fn number(text: &str) -> Number {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn reads_what_python_prints() {
    for (text, canonical) in [
        ("0", "0"),
        ("-0.0", "0"),
        ("1E+5", "100000"),
        ("1e-07", "0.0000001"),
        ("1e-08", "1E-8"),
        ("99.99", "99.99"),
        ("100", "100"),
        ("0.10", "0.1"),
        ("-12.50", "-12.5"),
        ("1e+23", "100000000000000000000000"),
        (
            "123456789012345678901234567890.12345678",
            "123456789012345678901234567890.12345678",
        ),
        (
            "9.9999999999999999999999999999999999999E+125",
            "9.9999999999999999999999999999999999999E+125",
        ),
        ("1E-130", "1E-130"),
        (".5", "0.5"),
        ("5.", "5"),
    ] {
        assert_eq!(number(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn refuses_what_cannot_be_stored() {
    for (text, reason) in [
        ("", InvalidNumber::Syntax),
        ("-", InvalidNumber::Syntax),
        (".", InvalidNumber::Syntax),
        ("1e", InvalidNumber::Syntax),
        ("1_000", InvalidNumber::Syntax),
        ("1.2.3", InvalidNumber::Syntax),
        ("0x10", InvalidNumber::Syntax),
        ("١", InvalidNumber::Syntax),
        ("NaN", InvalidNumber::NotFinite),
        ("-Infinity", InvalidNumber::NotFinite),
        ("inf", InvalidNumber::NotFinite),
        (
            "123456789012345678901234567890123456789",
            InvalidNumber::TooManyDigits,
        ),
        ("1e126", InvalidNumber::TooLarge),
        ("1e-131", InvalidNumber::TooSmall),
        ("1e99999999999", InvalidNumber::TooLarge),
        ("1e-99999999999", InvalidNumber::TooSmall),
    ] {
        assert_eq!(text.parse::<Number>(), Err(reason), "{text}");
    }
    assert_eq!(Number::from_f64(f64::NAN), Err(InvalidNumber::NotFinite));
    assert_eq!(
        Number::from_f64(f64::MIN_POSITIVE),
        Err(InvalidNumber::TooSmall)
    );
    assert_eq!(Number::from_f64(1e300), Err(InvalidNumber::TooLarge));
}

#[test]
fn floats_keep_their_shortest_text() {
    for (float, text) in [
        (0.1, "0.1"),
        (99.99, "99.99"),
        (-0.0, "0"),
        (1e23, "1E+23"),
        (5e-7, "5E-7"),
    ] {
        assert_eq!(Number::from_f64(float), Ok(number(text)));
    }
    assert_eq!(number("0.1").to_f64_exact(), Some(0.1));
    // The float nearest to it prints as 1e+22.
    assert_eq!(number("10000000000000000000001").to_f64_exact(), None);
    assert_eq!(number("0.10000000000000001").to_f64_exact(), None);
    assert_eq!(
        number("0.30000000000000004").to_f64_exact(),
        Some(0.1 + 0.2)
    );
}

#[test]
fn sums_are_exact_or_refused() {
    let sum = |left: &str, right: &str| number(left).add(&number(right));
    assert_eq!(sum("0.1", "0.2"), Ok(number("0.3")));
    assert_eq!(sum("1", "-1"), Ok(Number::ZERO));
    assert_eq!(
        sum("1e38", "-1"),
        Ok(number("99999999999999999999999999999999999999"))
    );
    assert_eq!(sum("1e38", "1"), Err(InvalidNumber::TooManyDigits));
    assert_eq!(sum("1e125", "1e-130"), Err(InvalidNumber::TooManyDigits));
    assert_eq!(sum("9e125", "9e125"), Err(InvalidNumber::TooLarge));
    assert_eq!(number("5").sub(&number("7")), Ok(number("-2")));
}

#[test]
fn integers_are_distinguished_from_fractions() {
    assert_eq!(number("9223372036854775807").to_i64(), Some(i64::MAX));
    assert_eq!(number("-9223372036854775808").to_i64(), Some(i64::MIN));
    assert_eq!(number("9223372036854775808").to_i64(), None);
    assert_eq!(number("1.5").to_i64(), None);
    assert!(number("1E+125").is_integer() && !number("0.1").is_integer());
}

fn any_number() -> impl Strategy<Value = Number> {
    let coefficient = prop_oneof![0_u128..1000, 0_u128..10_u128.pow(38)];
    let exponent = prop_oneof![-3_i32..3, -130_i32..88];
    (any::<bool>(), coefficient, exponent).prop_filter_map(
        "in range",
        |(negative, digits, power)| {
            format!("{}{digits}e{power}", if negative { "-" } else { "" })
                .parse()
                .ok()
        },
    )
}

/// The digits of a number without an exponent.
fn written_out(number: &Number) -> String {
    let sign = if number.is_negative() { "-" } else { "" };
    let digits = number.coefficient().to_string();
    if let Ok(zeros) = usize::try_from(number.exponent()) {
        return format!("{sign}{digits}{}", "0".repeat(zeros));
    }
    let behind = usize::from(number.exponent().unsigned_abs());
    let padded = format!("{digits:0>width$}", width = behind + 1);
    let (ahead, behind) = padded.split_at(padded.len() - behind);
    format!("{sign}{ahead}.{behind}")
}

/// The order as two rows of digits around the point, written out.
fn order_by_text(left: &Number, right: &Number) -> std::cmp::Ordering {
    let padded = |number: &Number| {
        let text = written_out(number);
        let text = text.trim_start_matches('-');
        let (ahead, behind) = text.split_once('.').unwrap_or((text, ""));
        format!("{ahead:0>130}{behind:0<200}")
    };
    match (left.is_negative(), right.is_negative()) {
        (false, true) => std::cmp::Ordering::Greater,
        (true, false) => std::cmp::Ordering::Less,
        (false, false) => padded(left).cmp(&padded(right)),
        (true, true) => padded(right).cmp(&padded(left)),
    }
}

proptest! {
    #[test]
    fn text_reads_back(number in any_number()) {
        prop_assert_eq!(number.to_string().parse::<Number>(), Ok(number));
        prop_assert_eq!(written_out(&number).parse::<Number>(), Ok(number));
    }

    #[test]
    fn order_is_the_order_of_the_digits(left in any_number(), right in any_number()) {
        prop_assert_eq!(left.cmp(&right), order_by_text(&left, &right));
    }

    #[test]
    fn key_bytes_keep_the_order_and_the_number(left in any_number(), right in any_number()) {
        let (a, b) = (KeyValue::Number(left), KeyValue::Number(right));
        prop_assert_eq!(a.encode().cmp(&b.encode()), left.cmp(&right));
        prop_assert_eq!(KeyValue::decode(KeyKind::Number, &a.encode()).ok(), Some(a));
    }

    #[test]
    fn damaged_key_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
        if let Ok(key) = KeyValue::decode(KeyKind::Number, &bytes) {
            prop_assert_eq!(key.encode().into_owned(), bytes);
        }
    }

    #[test]
    fn every_float_comes_back(float in any::<f64>()) {
        if let Ok(number) = Number::from_f64(float) {
            prop_assert_eq!(number.to_f64_exact(), Some(float + 0.0));
            prop_assert_eq!(Number::from_f64(float), format!("{float:e}").parse());
        }
    }

    #[test]
    fn addition_agrees_with_integers(left in any::<i64>(), right in any::<i64>()) {
        let sum = i128::from(left) + i128::from(right);
        prop_assert_eq!(Number::from(left).add(&Number::from(right)).ok().and_then(|sum| sum.to_i128()), Some(sum));
    }
}
