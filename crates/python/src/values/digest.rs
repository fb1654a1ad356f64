//! Hashes of items, by which tables of two stores are compared.

#![allow(
    clippy::needless_pass_by_value,
    reason = "pyo3 hands extracted arguments over by value"
)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use mintkey_store::{Item, Map, Value};
use pyo3::prelude::*;

use crate::values::item::PyItem;

/// The sum of the hashes of items. It depends neither on their order nor on that of their attributes. Valid in this process.
#[pyfunction]
#[pyo3(signature = (items, /))]
pub fn digest(py: Python<'_>, items: Vec<Bound<'_, PyItem>>) -> u128 {
    let items: Vec<Arc<Item>> = items.iter().map(|item| item.get().0.clone()).collect();
    py.detach(|| {
        let hashes = items.iter().map(|item| hash_of(item));
        hashes.fold(0, u128::wrapping_add)
    })
}

fn hash_of(item: &Item) -> u128 {
    let mut hasher = Hasher128::default();
    hasher.low.write_u8(1);
    write_map(item, &mut hasher);
    (u128::from(hasher.high.finish()) << 64) | u128::from(hasher.low.finish())
}

/// Two hashes of the same bytes with different beginnings.
#[derive(Default)]
struct Hasher128 {
    high: DefaultHasher,
    low: DefaultHasher,
}

impl Hasher for Hasher128 {
    fn write(&mut self, bytes: &[u8]) {
        self.high.write(bytes);
        self.low.write(bytes);
    }

    fn finish(&self) -> u64 {
        self.high.finish()
    }
}

fn write_map(map: &Map, to: &mut Hasher128) {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    entries.len().hash(to);
    for (name, value) in entries {
        name.hash(to);
        write_value(value, to);
    }
}

fn write_value(value: &Value, to: &mut Hasher128) {
    value.value_type().code().hash(to);
    match value {
        Value::String(text) => text.hash(to),
        Value::Number(number) => number.hash(to),
        Value::Bool(truth) => truth.hash(to),
        Value::Null => {}
        Value::Binary(bytes) => bytes.hash(to),
        Value::List(values) => {
            values.len().hash(to);
            for value in values {
                write_value(value, to);
            }
        }
        Value::Map(map) => write_map(map, to),
        Value::StringSet(set) => set.hash(to),
        Value::NumberSet(set) => set.hash(to),
        Value::BinarySet(set) => set.hash(to),
    }
}
