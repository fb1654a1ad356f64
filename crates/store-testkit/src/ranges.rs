//! Ranges of sort keys against a plain sorted list, with whatever characters.

use std::collections::BTreeSet;
use std::ops::Bound;

use crate::fixture::{Fixture, tests};
use crate::requests::{order, orders, put, query, query_of, string, texts};
use libtest_mimic::Trial;
use mintkey_store::{Item, Query, SortCondition};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn any_sort_key() -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![
            Just('a'),
            Just('b'),
            Just('\0'),
            Just('\u{10FFFF}'),
            Just('é'),
            any::<char>()
        ],
        1..4,
    )
    .prop_map(String::from_iter)
}

fn ranges_agree_with_a_plain_list<F: Fixture>() {
    let sorts = proptest::collection::btree_set(any_sort_key(), 0..12);
    let inputs = (
        sorts,
        any_sort_key(),
        any_sort_key(),
        any::<bool>(),
        1_usize..5,
    );
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let test =
        |(sorts, low, high, descending, limit): (BTreeSet<String>, String, String, bool, usize)| {
            let fixture = F::new();
            let store = fixture.store();
            for sort in &sorts {
                put(store, &orders(), order("p", sort, &[])).unwrap();
            }
            let conditions = [
                (
                    SortCondition::BeginsWith(string(&low)),
                    sorts
                        .iter()
                        .filter(|sort| sort.starts_with(&low))
                        .collect::<Vec<_>>(),
                ),
                (
                    SortCondition::Gt(string(&low)),
                    sorts.iter().filter(|sort| **sort > low).collect(),
                ),
                (
                    SortCondition::Range {
                        low: Bound::Excluded(string(&low)),
                        high: Bound::Included(string(&high)),
                    },
                    sorts
                        .iter()
                        .filter(|sort| **sort > low && **sort <= high)
                        .collect(),
                ),
            ];
            for (sort, mut expected) in conditions {
                if descending {
                    expected.reverse();
                }
                let query_by = Query {
                    sort: Some(sort),
                    descending,
                    limit: Some(limit),
                    ..query_of(&orders(), &[string("p")])
                };
                let found: Vec<Item> = query(store, query_by);
                let found = texts(&found, "sk");
                prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected);
            }
            Ok(())
        };
    runner.run(&inputs, test).unwrap();
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F: ranges_agree_with_a_plain_list)
}
