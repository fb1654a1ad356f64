//! Scans of a whole table.

use crate::fixture::{Fixture, fresh, tests};
use crate::requests::{
    item, kind, order, orders, page, plain, put, request, run, scan, scan_of, texts,
};
use libtest_mimic::Trial;
use mintkey_store::{
    Comparison, Condition, ErrorKind, Interrupt, KeyKind, Number, Operation, Outcome, Path, Scan,
    Value,
};

fn segments_share_a_scan_without_overlap<F: Fixture>() {
    fresh::<F>(|store| {
        let table = plain("things", KeyKind::String);
        for number in 0..200 {
            put(store, &table, item(&[("id", format!("{number}").into())])).unwrap();
        }
        let mut seen = Vec::new();
        for segment in 0..4 {
            let part = scan(
                store,
                Scan {
                    segment: Some((segment, 4)),
                    limit: Some(7),
                    ..scan_of(&table)
                },
            );
            assert!(part.len() > 20, "{}", part.len());
            seen.extend(texts(&part, "id"));
        }
        seen.sort_unstable();
        let mut all = texts(&scan(store, scan_of(&table)), "id");
        all.sort_unstable();
        assert_eq!(seen, all);
        assert_eq!(
            page(run(
                store,
                Operation::Scan(Scan {
                    count: true,
                    ..scan_of(&table)
                })
            ))
            .count,
            200
        );
        let beyond = Scan {
            segment: Some((4, 4)),
            ..scan_of(&table)
        };
        assert_eq!(
            kind(run(store, Operation::Scan(beyond))),
            ErrorKind::InvalidValue
        );
    });
}

fn a_scan_comes_in_the_order_of_keys_and_in_reverse_page_by_page<F: Fixture>() {
    fresh::<F>(|store| {
        if !store.capabilities().ordered_scans {
            return;
        }
        let table = plain("things", KeyKind::String);
        for number in 0..20 {
            put(
                store,
                &table,
                item(&[("id", format!("{number:02}").into())]),
            )
            .unwrap();
        }
        let pages = |descending| {
            let asked = Scan {
                descending,
                limit: Some(6),
                ..scan_of(&table)
            };
            texts(&scan(store, asked), "id")
        };
        let forward = pages(false);
        let mut sorted = forward.clone();
        sorted.sort_unstable();
        assert_eq!((forward.len(), &forward), (20, &sorted));
        assert_eq!(pages(true), forward.into_iter().rev().collect::<Vec<_>>());
    });
}

/// A caller who is interrupted.
struct Interrupted;

impl Interrupt for Interrupted {
    fn raised(&self) -> bool {
        true
    }
}

fn an_interrupt_ends_a_long_evaluation<F: Fixture>() {
    fresh::<F>(|store| {
        let text = Value::String("a".repeat(300_000));
        put(store, &orders(), order("p", "a", &[("text", text)])).unwrap();
        // A row is read in far less time than this condition takes. It is too long for the server of any store.
        let is_empty = Condition::Size {
            path: Path::attribute("text"),
            op: Comparison::Eq,
            value: Number::ZERO,
        };
        let operation = Operation::Scan(Scan {
            filter: Some(Condition::Or(vec![is_empty; 4000])),
            ..scan_of(&orders())
        });
        let result = store.execute(&request(operation), &Interrupted);
        assert_eq!(
            result.unwrap_err().kind,
            ErrorKind::Interrupted(Outcome::NotApplied)
        );
    });
}

/// The tests of this file.
pub fn all<F: Fixture + 'static>() -> Vec<Trial> {
    tests!(F: segments_share_a_scan_without_overlap, a_scan_comes_in_the_order_of_keys_and_in_reverse_page_by_page, an_interrupt_ends_a_long_evaluation)
}
