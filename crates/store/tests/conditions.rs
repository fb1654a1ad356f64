//! What conditions mean, against a second, slower reading of the same rules.

mod common;

use common::{any_item, any_value, holds, item, list, map, number, numbers, strings};
use mintkey_store::value::ValueType;
use mintkey_store::{
    Comparison, Condition, ErrorKind, Item, JsonText, Map, Number, Path, Step, Value,
};
use proptest::prelude::*;

fn path(name: &str) -> Path {
    Path::attribute(name)
}

fn compare(name: &str, op: Comparison, value: impl Into<Value>) -> Condition {
    Condition::Compare {
        path: path(name),
        op,
        value: value.into(),
    }
}

#[test]
fn absent_attributes_and_other_types_compare_as_on_dynamodb() {
    let stored = item(&[("n", 5.into()), ("s", "5".into())]);
    for (condition, expected) in [
        (compare("n", Comparison::Eq, 5), true),
        (compare("n", Comparison::Eq, "5"), false),
        (compare("n", Comparison::Ne, "5"), true),
        (compare("n", Comparison::Lt, "6"), false),
        (compare("n", Comparison::Ge, "4"), false),
        (compare("absent", Comparison::Eq, 5), false),
        (compare("absent", Comparison::Ne, 5), true),
        (compare("absent", Comparison::Lt, 5), false),
        (compare("s", Comparison::Gt, "10"), true),
        (
            Condition::Not(Box::new(compare("absent", Comparison::Lt, 5))),
            true,
        ),
        (Condition::Exists(path("n")), true),
        (Condition::Missing(path("n")), false),
        (Condition::Missing(path("absent")), true),
        (Condition::IsType(path("n"), ValueType::Number), true),
        (Condition::IsType(path("absent"), ValueType::Number), false),
        (Condition::And(vec![]), true),
        (Condition::Or(vec![]), false),
    ] {
        assert_eq!(holds(&condition, &stored), expected, "{condition:?}");
    }
}

#[test]
fn parts_and_members_are_found() {
    let stored = item(&[
        ("s", "hello".into()),
        ("b", Value::Binary(vec![1, 2, 3])),
        ("l", list(&[1.into(), "x".into(), list(&[2.into()])])),
        ("ss", strings(&["a", "b"])),
        ("ns", numbers(&["1", "2.50"])),
        ("m", map(&[("inner", list(&["deep".into()]))])),
    ]);
    let contains = |name: &str, value: Value| Condition::Contains {
        path: path(name),
        value,
    };
    for (condition, expected) in [
        (contains("s", "ell".into()), true),
        (contains("s", "ELL".into()), false),
        (contains("s", 1.into()), false),
        (contains("b", Value::Binary(vec![2, 3])), true),
        (contains("b", Value::Binary(vec![3, 2])), false),
        (contains("l", "x".into()), true),
        (contains("l", 2.into()), false),
        (contains("l", list(&[2.into()])), true),
        (contains("ss", "a".into()), true),
        (contains("ss", "ab".into()), false),
        (contains("ns", Value::Number(number("2.5"))), true),
        (contains("m", "inner".into()), false),
        (contains("absent", "a".into()), false),
        (
            Condition::BeginsWith {
                path: path("s"),
                prefix: "he".into(),
            },
            true,
        ),
        (
            Condition::BeginsWith {
                path: path("b"),
                prefix: Value::Binary(vec![1]),
            },
            true,
        ),
        (
            Condition::BeginsWith {
                path: path("ns"),
                prefix: "1".into(),
            },
            false,
        ),
    ] {
        assert_eq!(holds(&condition, &stored), expected, "{condition:?}");
    }
    let deep = Path(vec![
        Step::Name("m".into()),
        Step::Name("inner".into()),
        Step::Index(0),
    ]);
    assert_eq!(deep.find(&stored), Some(&"deep".into()));
    assert_eq!(deep.to_string(), "m.inner[0]");
    let beyond = Path(vec![Step::Name("l".into()), Step::Index(9)]);
    assert_eq!(beyond.find(&stored), None);
}

#[test]
fn sizes_count_characters_bytes_and_members() {
    let stored = item(&[
        ("s", "é\u{1f600}".into()),
        ("b", Value::Binary(vec![0; 5])),
        ("l", list(&[const { Value::Null }; 3])),
        ("m", map(&[("a", 1.into())])),
        ("ss", strings(&["a", "b"])),
        ("n", 100.into()),
    ]);
    let size = |name: &str, expected: i64| Condition::Size {
        path: path(name),
        op: Comparison::Eq,
        value: Number::from(expected),
    };
    for (name, expected) in [("s", 3), ("b", 5), ("l", 3), ("m", 1), ("ss", 2)] {
        assert!(holds(&size(name, expected), &stored), "{name}");
        assert!(!holds(&size(name, expected + 1), &stored), "{name}");
    }
    let any = Condition::Size {
        path: path("n"),
        op: Comparison::Ge,
        value: Number::ZERO,
    };
    assert!(!holds(&any, &stored));
    let other = |name: &str| Condition::Size {
        path: path(name),
        op: Comparison::Ne,
        value: Number::from(1_i64),
    };
    assert!(holds(&other("n"), &stored) && holds(&other("none"), &stored));
    assert!(!holds(&other("m"), &stored));
}

#[test]
fn conditions_without_meaning_are_refused() {
    let between = |low: Value, high: Value| Condition::Between {
        path: path("a"),
        low,
        high,
    };
    for bad in [
        compare("a", Comparison::Lt, true),
        compare("a", Comparison::Ge, list(&[])),
        compare("", Comparison::Eq, 1),
        between(2.into(), 1.into()),
        between(1.into(), "2".into()),
        between(Value::Null, Value::Null),
        Condition::BeginsWith {
            path: path("a"),
            prefix: 1.into(),
        },
        Condition::Exists(Path(vec![])),
        Condition::Exists(Path(vec![Step::Index(0)])),
        Condition::Not(Box::new(Condition::And(vec![between(2.into(), 1.into())]))),
    ] {
        assert_eq!(
            bad.check().unwrap_err().kind,
            ErrorKind::InvalidValue,
            "{bad:?}"
        );
    }
    compare("a", Comparison::Eq, list(&[])).check().unwrap();
}

#[test]
fn a_list_of_values_may_be_empty_or_long() {
    let stored = item(&[("a", 5.into())]);
    let listed = |count: i64| Condition::IsIn {
        path: path("a"),
        values: (0..count).map(Value::from).collect(),
    };
    for (count, expected) in [(0, false), (5, false), (6, true), (1000, true)] {
        listed(count).check().unwrap();
        assert_eq!(holds(&listed(count), &stored), expected, "{count}");
    }
    assert_eq!(listed(0).constant(), Some(false));
    assert!(!listed(100).is_local() && listed(101).is_local());
    assert!(Condition::Not(Box::new(Condition::And(vec![listed(101)]))).is_local());
}

#[test]
fn json_is_compared_by_value() {
    let stored = item(&[("a", r#"{"y": 1, "x": [2]}"#.into())]);
    let json = |texts: &[&str]| Condition::IsJson {
        path: path("a"),
        texts: texts.iter().map(|text| JsonText::new(text)).collect(),
    };
    assert!(holds(&json(&["[]", r#"{"x":[2.0],"y":1}"#]), &stored));
    assert!(!holds(&json(&["[]"]), &stored) && !holds(&json(&[]), &stored));
    assert!(json(&["[]"]).is_local());
    let elsewhere = Condition::Not(Box::new(Condition::IsJson {
        path: path("b"),
        texts: vec![JsonText::new("[]")],
    }));
    assert!(holds(&elsewhere, &stored));
}

/// The order of two values of one ordered type, by another route: as bytes, or as written numbers.
fn rank(left: &Value, right: &Value) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Value::String(left), Value::String(right)) => Some(left.as_bytes().cmp(right.as_bytes())),
        (Value::Binary(left), Value::Binary(right)) => Some(left.iter().cmp(right.iter())),
        (Value::Number(left), Value::Number(right)) => {
            let difference = left
                .to_f64_exact()
                .zip(right.to_f64_exact())
                .map(|(left, right)| left - right);
            match difference {
                Some(difference) if difference != 0.0 => Some(difference.total_cmp(&0.0)),
                _ => Some(left.cmp(right)),
            }
        }
        _ => None,
    }
}

fn naive(op: Comparison, found: Option<&Value>, value: &Value) -> bool {
    let order = found.and_then(|found| rank(found, value));
    match op {
        Comparison::Eq => found.is_some_and(|found| found == value),
        Comparison::Ne => found.is_none_or(|found| found != value),
        Comparison::Lt => order.is_some_and(std::cmp::Ordering::is_lt),
        Comparison::Le => order.is_some_and(std::cmp::Ordering::is_le),
        Comparison::Gt => order.is_some_and(std::cmp::Ordering::is_gt),
        Comparison::Ge => order.is_some_and(std::cmp::Ordering::is_ge),
    }
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    prop::sample::select(vec![
        Comparison::Eq,
        Comparison::Ne,
        Comparison::Lt,
        Comparison::Le,
        Comparison::Gt,
        Comparison::Ge,
    ])
}

/// A map of so many entries, from the last to the first if it is reversed.
fn large_map(entries: i64, reversed: bool) -> Map {
    let entry = |number: i64| (format!("name {number}").into(), Value::from(number));
    if reversed {
        (0..entries).rev().map(entry).collect()
    } else {
        (0..entries).map(entry).collect()
    }
}

#[test]
fn large_maps_are_compared_in_one_pass() {
    // Each entry with each other would be many minutes of work.
    const ENTRIES: i64 = 400_000;
    let map = large_map(ENTRIES, false);
    let mut reversed = large_map(ENTRIES, true);
    assert_eq!(map, reversed);
    assert_eq!(
        Value::List(vec![Value::Map(map.clone())]),
        list(&[Value::Map(reversed.clone())])
    );
    reversed.insert("name 5".into(), Value::Null);
    assert_ne!(map, reversed);
    reversed.remove("name 5");
    assert_ne!(map, reversed);
    reversed.insert("another".into(), Value::from(5));
    assert_ne!(map, reversed);
}

#[test]
fn parts_of_long_values_are_found_in_one_pass() {
    // The part, tried at each position, would be hours of work.
    let whole = vec![b'a'; 8_000_000];
    let mut part = vec![b'a'; 4_000_000];
    let text = |bytes: &[u8]| Value::String(String::from_utf8(bytes.to_vec()).unwrap());
    let stored = item(&[("text", text(&whole)), ("raw", Value::Binary(whole))]);
    let contains = |name: &str, value: Value| Condition::Contains {
        path: path(name),
        value,
    };
    assert!(holds(&contains("text", text(&part)), &stored));
    assert!(holds(
        &contains("raw", Value::Binary(part.clone())),
        &stored
    ));
    part.push(b'b');
    assert!(!holds(&contains("text", text(&part)), &stored));
    assert!(!holds(&contains("raw", Value::Binary(part)), &stored));
}

proptest! {
    #[test]
    fn comparisons_agree_with_the_slow_reading(
        stored in proptest::option::of(any_value()),
        other in any_value(),
        same in any::<bool>(),
        op in any_comparison(),
    ) {
        let value = match &stored {
            Some(stored) if same => stored.clone(),
            _ => other,
        };
        let holder: Item = stored.iter().map(|value| ("a".into(), value.clone())).collect();
        let condition = Condition::Compare { path: path("a"), op, value: value.clone() };
        prop_assert_eq!(holds(&condition, &holder), naive(op, stored.as_ref(), &value));
        let within = Condition::Between { path: path("a"), low: value.clone(), high: value.clone() };
        let both = naive(Comparison::Ge, stored.as_ref(), &value) && naive(Comparison::Le, stored.as_ref(), &value);
        prop_assert_eq!(holds(&within, &holder), both);
        let listed = Condition::IsIn { path: path("a"), values: vec![Value::Null, value.clone()] };
        let expected = stored == Some(value) || stored == Some(Value::Null);
        prop_assert_eq!(holds(&listed, &holder), expected);
    }

    #[test]
    fn logic_is_logic(stored in any_item(), left in any_value(), right in any_value(), name in common::any_text()) {
        let question = |value: Value| Condition::Compare { path: path(&name), op: Comparison::Eq, value };
        let (a, b) = (question(left), question(right));
        let (is_a, is_b) = (holds(&a, &stored), holds(&b, &stored));
        prop_assert_eq!(holds(&Condition::And(vec![a.clone(), b.clone()]), &stored), is_a && is_b);
        prop_assert_eq!(holds(&Condition::Or(vec![a.clone(), b]), &stored), is_a || is_b);
        prop_assert_eq!(holds(&Condition::Not(Box::new(a)), &stored), !is_a);
        let (exists, missing) = (Condition::Exists(path(&name)), Condition::Missing(path(&name)));
        prop_assert_ne!(holds(&exists, &stored), holds(&missing, &stored));
    }

    #[test]
    fn parts_are_found_as_by_trying_each_position(
        whole in proptest::collection::vec(b'a'..=b'c', 0..60),
        part in proptest::collection::vec(b'a'..=b'c', 0..5),
    ) {
        let expected = (0..=whole.len()).any(|start| whole[start..].starts_with(&part));
        let text = |bytes: &[u8]| Value::String(String::from_utf8(bytes.to_vec()).unwrap());
        let stored = item(&[("raw", Value::Binary(whole.clone())), ("text", text(&whole))]);
        let contains = |name: &str, value: Value| Condition::Contains { path: path(name), value };
        prop_assert_eq!(holds(&contains("text", text(&part)), &stored), expected);
        prop_assert_eq!(holds(&contains("raw", Value::Binary(part)), &stored), expected);
    }

    #[test]
    fn maps_are_equal_whatever_their_order(
        values in proptest::collection::vec(any_value(), 1..60),
        rotation in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
    ) {
        let named = values.into_iter().enumerate();
        let pairs: Vec<_> = named.map(|(place, value)| (place.to_string().into(), value)).collect();
        let map = Map::from_pairs(pairs.clone());
        let mut rotated = pairs;
        let places = rotation.index(rotated.len());
        rotated.rotate_left(places);
        prop_assert_eq!(&Map::from_pairs(rotated.clone()), &map);
        let place = place.index(rotated.len());
        let mut renamed = rotated.clone();
        renamed[place].0 = "another".into();
        prop_assert_ne!(&Map::from_pairs(renamed), &map);
        rotated[place].1 = list(&[rotated[place].1.clone()]);
        prop_assert_ne!(&Map::from_pairs(rotated.clone()), &map);
        rotated.pop();
        prop_assert_ne!(&Map::from_pairs(rotated), &map);
    }
}
