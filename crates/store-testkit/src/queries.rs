//! Queries and counts.

use std::ops::Bound;

use crate::fixture::{Fixture, fresh, tests};
use crate::requests::{
    attribute, by_status, delete_of, item, key, kind, number, order, orders, page, plain, put,
    query, query_of, run, scan_of, string, texts,
};
use libtest_mimic::Trial;
use mintkey_store::{
    Comparison, Condition, ErrorKind, Index, KeyKind, KeyValue, Operation, Path, Position,
    Projection, Query, Scan, SortCondition, Store, Table, Value,
};

fn with_sorts(store: &dyn Store, sorts: &[&str]) {
    for sort in sorts {
        put(store, &orders(), order("p", sort, &[])).unwrap();
    }
    // Neighbours that must not be seen.
    put(store, &orders(), order("o", "m", &[])).unwrap();
    put(store, &orders(), order("p\0", "m", &[])).unwrap();
}

fn sorted_by(store: &dyn Store, sort: SortCondition) -> Vec<String> {
    let query_by = Query {
        sort: Some(sort),
        ..query_of(&orders(), &[string("p")])
    };
    let forward = texts(&query(store, query_by.clone()), "sk");
    let mut backward = texts(
        &query(
            store,
            Query {
                descending: true,
                ..query_by
            },
        ),
        "sk",
    );
    backward.reverse();
    assert_eq!(forward, backward);
    forward
}

fn a_partition_is_read_in_order_by_range<F: Fixture>() {
    fresh::<F>(|store| {
        with_sorts(store, &["c", "a", "b", "d", "B"]);
        let all = query_of(&orders(), &[string("p")]);
        assert_eq!(texts(&query(store, all), "sk"), ["B", "a", "b", "c", "d"]);
        for (condition, expected) in [
            (SortCondition::Eq(string("b")), vec!["b"]),
            (SortCondition::Lt(string("b")), vec!["B", "a"]),
            (SortCondition::Le(string("b")), vec!["B", "a", "b"]),
            (SortCondition::Gt(string("c")), vec!["d"]),
            (SortCondition::Ge(string("c")), vec!["c", "d"]),
            (
                SortCondition::Between(string("b"), string("c")),
                vec!["b", "c"],
            ),
            (
                SortCondition::Range {
                    low: Bound::Excluded(string("a")),
                    high: Bound::Excluded(string("c")),
                },
                vec!["b"],
            ),
            (
                SortCondition::Range {
                    low: Bound::Unbounded,
                    high: Bound::Unbounded,
                },
                vec!["B", "a", "b", "c", "d"],
            ),
            (SortCondition::Eq(string("x")), vec![]),
        ] {
            assert_eq!(
                sorted_by(store, condition.clone()),
                expected,
                "{condition:?}"
            );
        }
        let downwards = SortCondition::Between(string("c"), string("b"));
        let query_by = Query {
            sort: Some(downwards),
            ..query_of(&orders(), &[string("p")])
        };
        assert_eq!(
            kind(run(store, Operation::Query(query_by))),
            ErrorKind::InvalidValue
        );
    });
}

fn prefixes_end_where_they_should<F: Fixture>() {
    fresh::<F>(|store| {
        let sorts = [
            "a",
            "a\0",
            "a\u{10FFFF}",
            "a\u{10FFFF}\u{10FFFF}x",
            "b",
            "a\u{D7FF}",
            "a\u{E000}",
            "\u{10FFFF}",
            "A",
            "%",
        ];
        with_sorts(store, &sorts);
        for prefix in [
            "a",
            "a\u{10FFFF}",
            "a\u{D7FF}",
            "\u{10FFFF}",
            "%",
            "_",
            "*",
            "",
            "c",
        ] {
            let mut expected: Vec<&str> = sorts
                .iter()
                .copied()
                .filter(|sort| sort.starts_with(prefix))
                .collect();
            expected.sort_unstable();
            assert_eq!(
                sorted_by(store, SortCondition::BeginsWith(string(prefix))),
                expected,
                "{prefix:?}"
            );
        }
    });
}

fn binary_prefixes_end_where_they_should<F: Fixture>() {
    fresh::<F>(|store| {
        let table = std::sync::Arc::new(Table {
            sort: Some(attribute("at", KeyKind::Binary)),
            ..(*plain("bytes", KeyKind::String)).clone()
        });
        let all: [&[u8]; 6] = [
            &[1],
            &[1, 0xFF],
            &[1, 0xFF, 3],
            &[2],
            &[0xFF],
            &[0xFF, 0xFF],
        ];
        for bytes in all {
            put(
                store,
                &table,
                item(&[("id", "p".into()), ("at", Value::Binary(bytes.to_vec()))]),
            )
            .unwrap();
        }
        for prefix in [&[1_u8][..], &[1, 0xFF], &[0xFF], &[0xFF, 0xFF], &[3]] {
            let sort = Some(SortCondition::BeginsWith(KeyValue::Binary(prefix.to_vec())));
            let found = query(
                store,
                Query {
                    sort,
                    ..query_of(&table, &[string("p")])
                },
            );
            let expected = all.iter().filter(|bytes| bytes.starts_with(prefix)).count();
            assert_eq!(found.len(), expected, "{prefix:?}");
        }
    });
}

fn pages_follow_each_other_without_gap_or_repetition<F: Fixture>() {
    fresh::<F>(|store| {
        let sorts: Vec<String> = (0..25).map(|number| format!("{number:02}")).collect();
        with_sorts(store, &sorts.iter().map(String::as_str).collect::<Vec<_>>());
        for descending in [false, true] {
            let mut expected = sorts.clone();
            if descending {
                expected.reverse();
            }
            let mut query_by = Query {
                descending,
                limit: Some(10),
                ..query_of(&orders(), &[string("p")])
            };
            let mut seen = Vec::new();
            let mut sizes = Vec::new();
            loop {
                let page = page(run(store, Operation::Query(query_by.clone())));
                sizes.push(page.items.len());
                seen.extend(texts(&page.items, "sk"));
                let Some(next) = page.next else { break };
                query_by.after = Some(Position::from_bytes(&next.to_bytes()).unwrap());
            }
            assert_eq!((seen, sizes), (expected, vec![10, 10, 5]));
        }
        // The last page knows that it is the last, even when it is full.
        let exact = Query {
            limit: Some(25),
            ..query_of(&orders(), &[string("p")])
        };
        assert_eq!(page(run(store, Operation::Query(exact))).next, None);
        let none = Query {
            limit: Some(0),
            ..query_of(&orders(), &[string("p")])
        };
        assert_eq!(
            kind(run(store, Operation::Query(none))),
            ErrorKind::InvalidValue
        );
    });
}

fn a_page_goes_on_although_its_last_item_is_gone<F: Fixture>() {
    fresh::<F>(|store| {
        with_sorts(store, &["a", "b", "c"]);
        let two = Query {
            limit: Some(2),
            ..query_of(&orders(), &[string("p")])
        };
        let first = page(run(store, Operation::Query(two.clone())));
        run(
            store,
            delete_of(&orders(), key("p", "b"), mintkey_store::Guard::default()),
        )
        .unwrap();
        let rest = query(
            store,
            Query {
                after: first.next,
                ..two
            },
        );
        assert_eq!(texts(&rest, "sk"), ["c"]);
    });
}

fn a_cursor_of_another_query_is_refused<F: Fixture>() {
    fresh::<F>(|store| {
        with_sorts(store, &["a", "b"]);
        for (status, amount) in [("new", 1), ("old", 2)] {
            for sort in ["x", "y"] {
                put(
                    store,
                    &orders(),
                    order(
                        "q",
                        &format!("{sort}{status}"),
                        &[("status", status.into()), ("amount", amount.into())],
                    ),
                )
                .unwrap();
            }
        }
        let own = Query {
            limit: Some(1),
            ..query_of(&orders(), &[string("p")])
        };
        let by_status = Query {
            index: Some("by_status".into()),
            ..Query {
                partition: vec![string("new")],
                ..own.clone()
            }
        };
        let of_own = page(run(store, Operation::Query(own.clone()))).next;
        let of_index = page(run(store, Operation::Query(by_status.clone()))).next;
        assert!(of_own.is_some() && of_index.is_some());
        let elsewhere = [
            Query {
                after: of_own.clone(),
                ..by_status.clone()
            },
            Query {
                after: of_index.clone(),
                ..own.clone()
            },
            Query {
                after: of_own,
                partition: vec![string("q")],
                ..own
            },
            Query {
                after: of_index,
                partition: vec![string("old")],
                ..by_status
            },
        ];
        for query in elsewhere {
            assert_eq!(
                kind(run(store, Operation::Query(query))),
                ErrorKind::InvalidCursor
            );
        }
    });
}

fn an_index_has_its_own_order_and_leaves_out_what_lacks_it<F: Fixture>() {
    fresh::<F>(|store| {
        let table = orders();
        for (sort, status, amount) in [
            ("1", "new", "10"),
            ("2", "new", "9.5"),
            ("3", "old", "1"),
            ("4", "new", "-3"),
            ("5", "new", "10"),
        ] {
            let others = [
                ("status", status.into()),
                ("amount", Value::Number(number(amount))),
            ];
            put(store, &table, order("p", sort, &others)).unwrap();
        }
        put(store, &table, order("p", "6", &[("status", "new".into())])).unwrap();
        put(store, &table, order("p", "7", &[("amount", 5.into())])).unwrap();
        let by_status = Query {
            index: Some("by_status".into()),
            ..query_of(&table, &[string("new")])
        };
        assert_eq!(
            texts(&query(store, by_status.clone()), "sk"),
            ["4", "2", "1", "5"]
        );
        let paged = Query {
            limit: Some(1),
            descending: true,
            ..by_status.clone()
        };
        assert_eq!(texts(&query(store, paged), "sk"), ["5", "1", "2", "4"]);
        let sort = Some(SortCondition::Ge(KeyValue::Number(number("9.5"))));
        let dear = Query {
            sort,
            ..by_status.clone()
        };
        assert_eq!(texts(&query(store, dear.clone()), "sk"), ["2", "1", "5"]);
        assert_eq!(
            page(run(
                store,
                Operation::Query(Query {
                    count: true,
                    ..dear
                })
            ))
            .count,
            3
        );
        // An index follows its row.
        put(
            store,
            &table,
            order("p", "4", &[("status", "old".into()), ("amount", 0.into())]),
        )
        .unwrap();
        assert_eq!(texts(&query(store, by_status), "sk"), ["2", "1", "5"]);
        let unknown = Query {
            index: Some("by_nothing".into()),
            ..query_of(&table, &[string("new")])
        };
        assert_eq!(
            kind(run(store, Operation::Query(unknown))),
            ErrorKind::Configuration
        );
        let wrong = Query {
            index: Some("by_status".into()),
            ..query_of(&table, &[KeyValue::Number(number("1"))])
        };
        assert_eq!(
            kind(run(store, Operation::Query(wrong))),
            ErrorKind::InvalidValue
        );
    });
}

fn an_index_may_order_the_whole_table_and_show_a_part<F: Fixture>() {
    fresh::<F>(|store| {
        let all = Index {
            name: "by_amount".into(),
            partition: Vec::new(),
            sort: Some(attribute("amount", KeyKind::Number)),
            projection: Projection::Attributes(vec!["note".into()]),
            local: false,
        };
        let keys = Index {
            name: "by_status".into(),
            projection: Projection::Keys,
            ..by_status()
        };
        let table = std::sync::Arc::new(Table {
            indexes: vec![all, keys],
            ..(*orders()).clone()
        });
        for (partition, amount) in [("a", 3), ("b", 1), ("c", 2)] {
            let others = [
                ("amount", amount.into()),
                ("status", "s".into()),
                ("note", "n".into()),
                ("more", 1.into()),
            ];
            put(store, &table, order(partition, "1", &others)).unwrap();
        }
        let whole = Query {
            index: Some("by_amount".into()),
            limit: Some(1),
            ..query_of(&table, &[])
        };
        let found = query(store, whole.clone());
        assert_eq!(texts(&found, "pk"), ["b", "c", "a"]);
        assert_eq!(
            found[0],
            order("b", "1", &[("amount", 1.into()), ("note", "n".into())])
        );
        let by_keys = Query {
            index: Some("by_status".into()),
            ..query_of(&table, &[string("s")])
        };
        assert_eq!(
            query(store, by_keys)[0],
            order("b", "1", &[("amount", 1.into()), ("status", "s".into())])
        );
        // What an index does not show cannot be asked of it.
        let filter = Some(Condition::Exists(Path::attribute("more")));
        assert_eq!(query(store, Query { filter, ..whole }), []);
    });
}

fn filters_are_evaluated_while_streaming<F: Fixture>() {
    fresh::<F>(|store| {
        let table = orders();
        for number in 0..20_i64 {
            put(
                store,
                &table,
                order("p", &format!("{number:02}"), &[("n", number.into())]),
            )
            .unwrap();
        }
        let above = |least: i64| Condition::Compare {
            path: Path::attribute("n"),
            op: Comparison::Ge,
            value: least.into(),
        };
        let query_by = Query {
            filter: Some(above(17)),
            limit: Some(2),
            ..query_of(&table, &[string("p")])
        };
        let first = page(run(store, Operation::Query(query_by.clone())));
        assert_eq!(
            (texts(&first.items, "sk"), first.count),
            (vec!["17".into(), "18".into()], 2)
        );
        assert_eq!(texts(&query(store, query_by), "sk"), ["17", "18", "19"]);
        let counted = Scan {
            filter: Some(above(5)),
            count: true,
            ..scan_of(&table)
        };
        let counted = page(run(store, Operation::Scan(counted)));
        assert_eq!((counted.count, counted.items.len()), (15, 0));
        let wrong = Condition::Compare {
            path: Path::attribute("n"),
            op: Comparison::Lt,
            value: true.into(),
        };
        let wrong = Query {
            filter: Some(wrong),
            ..query_of(&table, &[string("p")])
        };
        assert_eq!(
            kind(run(store, Operation::Query(wrong))),
            ErrorKind::InvalidValue
        );
    });
}

fn a_page_ends_before_it_fills_the_memory<F: Fixture>() {
    fresh::<F>(|store| {
        let table = orders();
        let text = "x".repeat(100_000);
        for number in 0..30_i64 {
            put(
                store,
                &table,
                order(
                    "p",
                    &format!("{number:02}"),
                    &[("text", text.as_str().into())],
                ),
            )
            .unwrap();
        }
        let first = page(run(
            store,
            Operation::Query(query_of(&table, &[string("p")])),
        ));
        assert!(first.items.len() < 15 && first.next.is_some());
        assert_eq!(query(store, query_of(&table, &[string("p")])).len(), 30);
        // A filter that lets nothing through looks at no more rows in one go.
        let filter = Some(Condition::Exists(Path::attribute("nothing")));
        let empty = page(run(
            store,
            Operation::Scan(Scan {
                filter,
                ..scan_of(&table)
            }),
        ));
        assert!(empty.items.is_empty() && empty.next.is_some());
    });
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F: a_partition_is_read_in_order_by_range, prefixes_end_where_they_should, binary_prefixes_end_where_they_should, pages_follow_each_other_without_gap_or_repetition, a_page_goes_on_although_its_last_item_is_gone, a_cursor_of_another_query_is_refused, an_index_has_its_own_order_and_leaves_out_what_lacks_it, an_index_may_order_the_whole_table_and_show_a_part, filters_are_evaluated_while_streaming, a_page_ends_before_it_fills_the_memory)
}
