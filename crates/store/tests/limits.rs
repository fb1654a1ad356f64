//! Keys, positions, guards and the limits on items.

mod common;

use common::{any_item, item, list, map, number, strings, table};
use mintkey_store::size::{MAX_ITEM, check_item, item_size};
use mintkey_store::{
    Error, ErrorKind, Guard, Index, Item, Key, KeyAttribute, KeyKind, KeyValue, Position,
    Projection, Row, Table, Value, Work,
};
use proptest::prelude::*;

fn key(partition: &str, sort: &str) -> Key {
    Key {
        partition: KeyValue::String(partition.into()),
        sort: Some(KeyValue::Number(number(sort))),
    }
}

#[test]
fn keys_are_taken_from_items_and_checked() {
    let good = item(&[("pk", "a".into()), ("sk", 1.into()), ("x", 2.into())]);
    assert_eq!(table().key_of(&good).unwrap(), key("a", "1"));
    for (bad, attribute) in [
        (item(&[("sk", 1.into())]), "pk"),
        (item(&[("pk", "a".into())]), "sk"),
        (item(&[("pk", 1.into()), ("sk", 1.into())]), "pk"),
        (item(&[("pk", "".into()), ("sk", 1.into())]), "pk"),
        (item(&[("pk", "a".into()), ("sk", "1".into())]), "sk"),
    ] {
        let error = table().key_of(&bad).unwrap_err();
        assert_eq!(
            (error.kind, error.attribute.as_deref()),
            (ErrorKind::InvalidValue, Some(attribute))
        );
        assert_eq!(error.model.as_deref(), Some("Order"));
    }
    let unsorted = Table {
        sort: None,
        ..table()
    };
    assert_eq!(
        unsorted.check_key(&key("a", "1")).unwrap_err().kind,
        ErrorKind::InvalidValue
    );
}

#[test]
fn key_lengths_are_counted_in_bytes() {
    let text = |length: usize| KeyValue::String("é".repeat(length / 2));
    text(2048).check_partition().unwrap();
    text(1024).check_sort().unwrap();
    assert!(text(2050).check_partition().is_err() && text(1026).check_sort().is_err());
    assert!(KeyValue::Binary(vec![]).check_sort().is_err());
    KeyValue::Binary(vec![0]).check_sort().unwrap();
}

#[test]
fn sizes_are_dynamodbs() {
    // Names and texts by their bytes, a number by half its digits and one, its sign one more.
    for (pairs, size) in [
        (vec![("abc", "é".into())], 5),
        (vec![("n", Value::Number(number("12345")))], 1 + 4),
        (vec![("n", Value::Number(number("-100")))], 1 + 3),
        (vec![("b", Value::Binary(vec![0; 10]))], 11),
        (vec![("t", true.into()), ("z", Value::Null)], 4),
        (vec![("s", strings(&["ab", "c"]))], 4),
        (
            vec![("l", list(&["ab".into(), true.into()]))],
            1 + 3 + (1 + 2) + (1 + 1),
        ),
        (vec![("m", map(&[("k", "v".into())]))], 1 + 3 + (1 + 1 + 1)),
    ] {
        assert_eq!(item_size(&item(&pairs)), size, "{pairs:?}");
    }
}

#[test]
fn items_over_a_limit_are_refused_and_say_why() {
    let large = item(&[("small", 1.into()), ("text", "x".repeat(100).into())]);
    let error = check_item(&large, &table(), 100).unwrap_err();
    assert_eq!(
        (error.kind, error.attribute.as_deref()),
        (ErrorKind::ItemTooLarge, Some("text"))
    );
    assert!(error.message.contains("text (104 bytes)"), "{error}");
    check_item(&large, &table(), item_size(&large)).unwrap();
    let nested = |levels: usize| (0..levels).fold(Value::Null, |value, _| list(&[value]));
    check_item(&item(&[("a", nested(31))]), &table(), 1000).unwrap();
    for bad in [
        item(&[("a", nested(32))]),
        item(&[("", 1.into())]),
        item(&[("a", Value::Map(item(&[("", 1.into())])))]),
        item(&[("a", list(&[strings(&[])]))]),
    ] {
        assert_eq!(
            check_item(&bad, &table(), 1000).unwrap_err().kind,
            ErrorKind::InvalidValue
        );
    }
    // What may be stored can be read.
    let deepest = item(&[("a", nested(31))]);
    assert_eq!(
        mintkey_store::json::decode(&mintkey_store::json::encode(&deepest)).unwrap(),
        deepest
    );
}

#[test]
fn indexed_attributes_must_fit_a_key() {
    let index = Index {
        name: "by_status".into(),
        partition: vec![KeyAttribute {
            name: "status".into(),
            kind: KeyKind::String,
        }],
        sort: Some(KeyAttribute {
            name: "code".into(),
            kind: KeyKind::Binary,
        }),
        projection: Projection::All,
        local: false,
    };
    let table = Table {
        indexes: vec![index],
        ..table()
    };
    let index = &table.indexes[0];
    table.check_indexed(&item(&[])).unwrap();
    let longest = item(&[
        ("status", "s".repeat(2048).into()),
        ("code", Value::Binary(vec![0; 1024])),
    ]);
    table.check_indexed(&longest).unwrap();
    assert_eq!(
        index.values_of(&longest).map(|values| values.len()),
        Some(2)
    );
    for (name, value) in [
        ("status", 1.into()),
        ("status", "".into()),
        ("status", "s".repeat(2049).into()),
        ("code", Value::Binary(vec![0; 1025])),
    ] {
        let mut bad = longest.clone();
        bad.insert(name.into(), value);
        let error = table.check_indexed(&bad).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidValue);
        assert!(error.message.contains("by_status"), "{}", error.message);
        assert_eq!(index.values_of(&bad), None);
        check_item(&bad, &table, MAX_ITEM).unwrap();
    }
}

#[test]
fn guards_refuse_in_a_fixed_order() {
    let version = |expected: Option<i64>| Some(("v".into(), expected.map(Into::into)));
    let stored: Item = item(&[("v", 1.into())]);
    for (row, expected, found, outcome) in [
        (Row::Any, None, None, None),
        (
            Row::Absent,
            None,
            Some(&stored),
            Some(ErrorKind::KeyCollision),
        ),
        (
            Row::Absent,
            version(Some(2)),
            Some(&stored),
            Some(ErrorKind::KeyCollision),
        ),
        (
            Row::Present,
            version(Some(1)),
            None,
            Some(ErrorKind::ItemGone),
        ),
        (
            Row::Any,
            version(Some(1)),
            None,
            Some(ErrorKind::VersionConflict),
        ),
        (Row::Any, version(None), None, None),
        (
            Row::Any,
            version(None),
            Some(&stored),
            Some(ErrorKind::VersionConflict),
        ),
        (Row::Present, version(Some(1)), Some(&stored), None),
        (
            Row::Present,
            version(Some(2)),
            Some(&stored),
            Some(ErrorKind::VersionConflict),
        ),
    ] {
        let guard = Guard {
            row,
            version: expected,
            ..Guard::default()
        };
        let answer: Result<(), Error> = guard.check(
            &table(),
            &key("a", "1"),
            found,
            &mut Work::new(&mut || Ok(())),
        );
        let kind = answer.as_ref().err().map(|error| error.kind);
        assert_eq!(kind, outcome, "{guard:?}");
        if let Err(error) = answer {
            assert_eq!(error.item.as_deref(), found);
            assert_eq!(error.key.as_deref(), Some(&key("a", "1")));
        }
    }
}

#[test]
fn expiry_is_up_to_and_with_now() {
    for (value, expired) in [
        (Value::from(99), true),
        (100.into(), true),
        (Value::Number(number("100.5")), false),
        (101.into(), false),
        ("99".into(), false),
    ] {
        assert_eq!(
            table().is_expired(&item(&[("expires", value.clone())]), 100),
            expired,
            "{value:?}"
        );
    }
    assert!(!table().is_expired(&item(&[]), 100));
    let without = Table {
        ttl: None,
        ..table()
    };
    assert!(!without.is_expired(&item(&[("expires", 1.into())]), 100));
}

fn any_key_value() -> impl Strategy<Value = KeyValue> {
    prop_oneof![
        common::any_text().prop_map(KeyValue::String),
        common::any_number().prop_map(KeyValue::Number),
        proptest::collection::vec(any::<u8>(), 0..6).prop_map(KeyValue::Binary),
    ]
}

#[test]
fn a_position_elsewhere_is_no_start() {
    let text = |text: &str| KeyValue::String(text.into());
    let index = Index {
        name: "by_x".into(),
        partition: vec![KeyAttribute {
            name: "x".into(),
            kind: KeyKind::String,
        }],
        sort: table().sort,
        projection: Projection::All,
        local: false,
    };
    let one = KeyValue::Number(number("1"));
    let in_index = Position {
        key: key("p", "1"),
        index: vec![text("v"), one.clone()],
    };
    in_index
        .check(&table(), Some(&index), &[text("v")])
        .unwrap();
    let in_table = Position {
        key: key("p", "1"),
        index: vec![],
    };
    in_table.check(&table(), None, &[text("p")]).unwrap();
    in_table.check(&table(), None, &[]).unwrap();
    let with = |index: &[KeyValue]| Position {
        index: index.to_vec(),
        ..in_index.clone()
    };
    let two = KeyValue::Number(number("2"));
    let long = KeyValue::String("v".repeat(2049));
    for (position, index, partition) in [
        (&in_table, None, text("q")),
        (&in_table, Some(&index), text("v")),
        (&in_index, None, text("p")),
        (&in_index, Some(&index), text("w")),
        (&with(&[text("v")]), Some(&index), text("v")),
        (&with(&[text("v"), text("1")]), Some(&index), text("v")),
        // The index's sort value is the key's as well.
        (&with(&[text("v"), two]), Some(&index), text("v")),
        (&with(&[long.clone(), one]), Some(&index), long),
    ] {
        let error = position.check(&table(), index, &[partition]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidCursor, "{position:?}");
    }
}

proptest! {
    #[test]
    fn positions_come_back(
        partition in any_key_value(),
        sort in proptest::option::of(any_key_value()),
        index in proptest::collection::vec(any_key_value(), 0..3),
    ) {
        let position = Position { key: Key { partition, sort }, index };
        prop_assert_eq!(Position::from_bytes(&position.to_bytes()).unwrap(), position);
    }

    #[test]
    fn foreign_bytes_are_no_position(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(position) = Position::from_bytes(&bytes) {
            prop_assert_eq!(position.to_bytes(), bytes);
        }
    }

    #[test]
    fn equality_ignores_the_order_of_attributes(item in any_item()) {
        let turned: Item = item.clone().into_iter().collect::<Vec<_>>().into_iter().rev().collect();
        prop_assert_eq!(&turned, &item);
        prop_assert_eq!(item_size(&turned), item_size(&item));
    }
}
