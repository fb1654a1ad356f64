//! The stored text of items.

mod common;

use common::{any_item, item, list, map, number, numbers, strings, table};
use mintkey_store::size::{MAX_DEPTH, check_item};
use mintkey_store::{ErrorKind, Value, json};
use proptest::prelude::*;

#[test]
fn the_form_is_plain_json_with_tags_for_what_json_lacks() {
    let stored = item(&[
        ("text", "a\"b\\c\n\u{1}é".into()),
        ("n", Value::Number(number("99.990"))),
        (
            "big",
            Value::Number(number("12345678901234567890123456789012345678")),
        ),
        ("yes", true.into()),
        ("list", list(&[Value::Null, 1.into(), map(&[])])),
        (
            "map",
            map(&[
                ("a", "b".into()),
                ("$B", "not binary".into()),
                ("$$x", 1.into()),
            ]),
        ),
        ("bin", Value::Binary(vec![0, 255])),
        ("ss", strings(&["b", "a"])),
        ("ns", numbers(&["2", "-1"])),
        ("bs", Value::BinarySet([vec![1], vec![]].into())),
        ("$SS", "own name".into()),
    ]);
    let text = r#"{"text":"a\"b\\c\n\u0001é","n":99.99,"big":12345678901234567890123456789012345678,"yes":true,"list":[null,1,{}],"map":{"a":"b","$$B":"not binary","$$$x":1},"bin":{"$B":"AP8="},"ss":{"$SS":["a","b"]},"ns":{"$NS":[-1,2]},"bs":{"$BS":["","AQ=="]},"$$SS":"own name"}"#;
    assert_eq!(json::encode(&stored), text);
    assert_eq!(json::decode(text).unwrap(), stored);
}

#[test]
fn what_other_writers_of_json_do_is_read_too() {
    let text = " { \"a\" : [ 1.50 , -0 , 1e3 ] ,\n\t\"b\":\"\\u00e9\\ud83d\\ude00\\/\" , \"c\" : { \"$SS\" : [ \"x\" ] } } ";
    let stored = item(&[
        (
            "a",
            list(&[Value::Number(number("1.5")), 0.into(), 1000.into()]),
        ),
        ("b", "é😀/".into()),
        ("c", strings(&["x"])),
    ]);
    assert_eq!(json::decode(text).unwrap(), stored);
}

#[test]
fn what_lies_in_the_deepest_list_is_read() {
    for value in [
        Value::Binary(vec![7]),
        strings(&["x"]),
        numbers(&["1.5"]),
        Value::Number(number("2")),
        Value::Null,
    ] {
        let deepest = (0..MAX_DEPTH).fold(value, |value, _| list(&[value]));
        let stored = item(&[("a", deepest)]);
        check_item(&stored, &table(), 1000).unwrap();
        assert_eq!(json::decode(&json::encode(&stored)).unwrap(), stored);
    }
}

#[test]
fn a_key_like_the_librarys_mark_of_a_number_stays_a_key() {
    let stored = item(&[("a", map(&[("$serde_json::private::Number", "1".into())]))]);
    assert_eq!(json::decode(&json::encode(&stored)).unwrap(), stored);
}

#[test]
fn damage_is_an_error() {
    // More names than are shared between items, the last of them twice.
    let many: Vec<String> = (0..100)
        .chain([99])
        .map(|n| format!("\"n{n}\":0"))
        .collect();
    let many = format!("{{{}}}", many.join(","));
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    for text in [
        "",
        "1",
        "[]",
        "{",
        "{}x",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{\"a\":[1,]}",
        "{\"a\":nul}",
        "{\"a\":\"x}",
        "{\"a\":\"\\",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\ud800\\u0041\"}",
        "{\"a\":\"\\u+123\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":NaN}",
        "{\"a\":1e999}",
        "{\"a\":{\"$X\":1}}",
        "{\"a\":{\"$B\":\"?\"}}",
        "{\"a\":{\"$B\":\"\",\"b\":1}}",
        "{\"a\":{\"b\":1,\"$B\":\"\"}}",
        "{\"$B\":\"\"}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1,\"b\":2,\"\\u0061\":3}",
        "{\"a\":{\"$$b\":1,\"c\":{},\"$$b\":1}}",
        &many,
        &deep,
    ] {
        let error = json::decode(text).unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::InvalidValue,
            "{}",
            &text[..text.len().min(40)]
        );
    }
}

#[test]
fn names_are_shared_between_items() {
    let mut decoder = json::Decoder::default();
    let one = decoder.decode("{\"a\":1,\"b\":2}").unwrap();
    let other = decoder.decode("{\"b\":3,\"a\":4}").unwrap();
    let name = |item: &mintkey_store::Item, wanted: &str| {
        item.iter()
            .find(|(name, _)| &**name == wanted)
            .unwrap()
            .0
            .as_ptr()
    };
    assert_eq!(name(&one, "a"), name(&other, "a"));
    assert_eq!(name(&one, "b"), name(&other, "b"));
    assert_eq!(other, item(&[("a", 4.into()), ("b", 3.into())]));
}

proptest! {
    #[test]
    fn every_item_comes_back(item in any_item()) {
        let text = json::encode(&item);
        prop_assert_eq!(json::decode(&text).unwrap(), item.clone());
        // In the same order too: a file reads as it was written.
        let names = |item: &mintkey_store::Item| item.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
        prop_assert_eq!(names(&json::decode(&text).unwrap()), names(&item));
    }

    #[test]
    fn cut_text_never_panics(item in any_item(), cut in any::<prop::sample::Index>()) {
        let text = json::encode(&item);
        let end = (0..=text.len()).rev().find(|end| text.is_char_boundary(*end) && *end <= cut.index(text.len() + 1));
        let cut = &text[..end.unwrap_or(0)];
        prop_assert_eq!(json::decode(cut).is_ok(), cut == text);
    }
}

#[test]
fn an_error_of_a_line_that_was_given_has_the_reason_and_that_of_a_stored_text_only_the_position() {
    let text = r#"{"id":"hush","id":"hush"}"#;
    let reason = json::decode_line(text).unwrap_err().message;
    assert_eq!(reason, "a name comes twice, at column 25");
    let stored = json::decode(text).unwrap_err().message;
    assert!(stored.contains("at line 1, column 25") && !stored.contains("twice"));
}
