//! The database file read without the code under test: what the store refuses, and which plans SQLite uses.

mod common;
use mintkey_store_testkit::requests;

use std::sync::Arc;

use common::Fixture;
use mintkey_store::{BatchWrite, ErrorKind, Guard, Operation, Query};
use requests::*;

#[test]
fn building_an_index_may_take_longer_than_a_request() {
    let fixture = Fixture::with("?timeout=0.01");
    let patient = fixture.reopen();
    let mut without = (*orders()).clone();
    without.indexes.clear();
    let without = Arc::new(without);
    let writes = (0..10_000).map(|number| {
        batch_put(
            &without,
            order(
                "a",
                &format!("{number:05}"),
                &[("status", "new".into()), ("amount", number.into())],
            ),
            Guard::default(),
        )
    });
    let batch = BatchWrite {
        table: without.clone(),
        writes: writes.collect(),
    };
    run(&*patient, Operation::BatchWrite(batch)).unwrap();
    run(&*fixture.store, Operation::CreateTable(orders())).unwrap();
    let by_status = Query {
        index: Some("by_status".into()),
        ..query_of(&orders(), &[string("new")])
    };
    assert_eq!(query(&*patient, by_status).len(), 10_000);
}

#[test]
fn a_newer_layout_is_refused() {
    let fixture = Fixture::new();
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    fixture
        .inside()
        .execute("UPDATE \"mintkey:catalog\" SET layout = 4", [])
        .unwrap();
    let error = put(&*fixture.reopen(), &orders(), order("a", "2", &[])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(message(&error).contains("newer mintkey"), "{error}");
}

#[test]
fn a_foreign_table_is_left_alone() {
    let fixture = Fixture::new();
    fixture
        .inside()
        .execute_batch("CREATE TABLE Orders (x); INSERT INTO Orders VALUES (1)")
        .unwrap();
    let error = put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration);
    assert!(message(&error).contains("did not make"), "{error}");
    let kept: i64 = fixture
        .inside()
        .query_row("SELECT x FROM Orders", [], |row| row.get(0))
        .unwrap();
    assert_eq!(kept, 1);
}

#[test]
fn queries_use_the_indexes() {
    let fixture = Fixture::new();
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    let plan = |sql: &str| -> String {
        let inside = fixture.inside();
        let mut statement = inside
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let lines: Vec<String> = statement
            .query_map([], |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        lines.join("; ")
    };
    let by_index = "SELECT item FROM orders INDEXED BY \"orders:by_status\" WHERE \"@status\" = 'x' AND \"@amount\" IS NOT NULL \
                    AND (\"@amount\", pk, sk) > (x'80', 'a', 'b') ORDER BY \"@amount\", pk, sk";
    let plan_by_index = plan(by_index);
    assert!(
        plan_by_index.contains("SEARCH") && !plan_by_index.contains("TEMP B-TREE"),
        "{plan_by_index}"
    );
    let by_key = plan(
        "SELECT item FROM orders WHERE pk = 'a' AND (sk) > ('b') AND (\"@expires\" IS NULL OR \"@expires\" > x'80') ORDER BY sk",
    );
    assert!(
        by_key.contains("(pk=? AND sk>?)") && !by_key.contains("TEMP B-TREE"),
        "{by_key}"
    );
    let whole = plan("SELECT item FROM orders WHERE 1 AND (pk, sk) > ('a', 'b') ORDER BY pk, sk");
    assert!(
        whole.contains("SEARCH") && !whole.contains("TEMP B-TREE"),
        "{whole}"
    );
    let sweep = plan(
        "DELETE FROM orders WHERE rowid IN (SELECT rowid FROM orders WHERE \"@expires\" <= x'80' LIMIT 100)",
    );
    assert!(sweep.contains("orders::expiry"), "{sweep}");
}

#[test]
fn a_damaged_row_is_told_by_its_key() {
    let fixture = Fixture::new();
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    for (damage, part) in [("\'{\'", "at line 1, column 1"), ("x\'ff\'", "is not text")] {
        let sql = format!("UPDATE orders SET item = {damage}");
        fixture.inside().execute_batch(&sql).unwrap();
        let reads = [
            get_of(&orders(), key("a", "1")),
            Operation::Scan(scan_of(&orders())),
            Operation::Query(query_of(&orders(), &[string("a")])),
            Operation::Update(update_of(&orders(), key("a", "1"))),
        ];
        for read in reads {
            let error = run(&*fixture.store, read).unwrap_err();
            assert_eq!(error.kind, ErrorKind::InvalidValue);
            let start = "the row in table \"orders\": a stored item";
            assert!(message(&error).starts_with(start), "{error}");
            assert!(message(&error).contains(part), "{error}");
            assert_eq!(error.model.as_deref(), Some("Order"));
            assert_eq!(error.table.as_deref(), Some("orders"));
            assert_eq!(error.key.as_deref(), Some(&key("a", "1")));
        }
    }
}
