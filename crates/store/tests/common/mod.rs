//! Random values, and tables to check them with.
#![allow(dead_code, reason = "each test file uses its part")]

use std::convert::Infallible;

use mintkey_store::{
    Condition, Item, KeyAttribute, KeyKind, Labels, Map, Number, Table, Value, Work,
};
use proptest::prelude::*;

pub fn number(text: &str) -> Number {
    text.parse().unwrap()
}

pub fn item(pairs: &[(&str, Value)]) -> Item {
    pairs
        .iter()
        .map(|(name, value)| ((*name).into(), value.clone()))
        .collect()
}

/// Evaluates a condition to the end.
pub fn holds(condition: &Condition, item: &Item) -> bool {
    let Ok(holds) = condition.evaluate(item, &mut Work::<Infallible>::new(&mut || Ok(())));
    holds
}

pub fn list(values: &[Value]) -> Value {
    Value::List(values.to_vec())
}

pub fn map(pairs: &[(&str, Value)]) -> Value {
    Value::Map(item(pairs))
}

pub fn strings(members: &[&str]) -> Value {
    Value::StringSet(members.iter().map(|member| (*member).to_owned()).collect())
}

pub fn numbers(members: &[&str]) -> Value {
    Value::NumberSet(members.iter().map(|member| number(member)).collect())
}

pub fn table() -> Table {
    Table {
        name: "orders".into(),
        model: "Order".into(),
        labels: Labels::default(),
        partition: KeyAttribute {
            name: "pk".into(),
            kind: KeyKind::String,
        },
        sort: Some(KeyAttribute {
            name: "sk".into(),
            kind: KeyKind::Number,
        }),
        ttl: Some("expires".into()),
        indexes: Vec::new(),
        unique: Vec::new(),
        colocate: None,
    }
}

pub fn any_number() -> impl Strategy<Value = Number> {
    prop_oneof![
        (-20_i64..20).prop_map(Number::from),
        any::<i64>().prop_map(Number::from),
        (0_u128..10_u128.pow(38), -130_i32..88).prop_filter_map("in range", |(digits, power)| {
            format!("{digits}e{power}").parse().ok()
        }),
    ]
}

pub fn any_text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        Just('$'),
        Just('"'),
        Just('\\'),
        Just('\0'),
        Just('\u{10FFFF}'),
        Just('a'),
        any::<char>(),
    ];
    proptest::collection::vec(character, 0..6).prop_map(String::from_iter)
}

pub fn any_value() -> impl Strategy<Value = Value> {
    let bytes = || proptest::collection::vec(any::<u8>(), 0..5);
    let leaf = prop_oneof![
        any_text().prop_map(Value::String),
        any_number().prop_map(Value::Number),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Null),
        bytes().prop_map(Value::Binary),
        proptest::collection::btree_set(any_text(), 1..4).prop_map(Value::StringSet),
        proptest::collection::btree_set(any_number(), 1..4).prop_map(Value::NumberSet),
        proptest::collection::btree_set(bytes(), 1..4).prop_map(Value::BinarySet),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
            proptest::collection::btree_map(any_text(), inner, 0..4).prop_map(|entries| {
                Value::Map(
                    entries
                        .into_iter()
                        .map(|(name, value)| (name.into(), value))
                        .collect::<Map>(),
                )
            }),
        ]
    })
}

pub fn any_item() -> impl Strategy<Value = Item> {
    proptest::collection::btree_map(any_text(), any_value(), 0..5).prop_map(|entries| {
        entries
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect()
    })
}
