//! Unique values in a file: large tables, layout versions, group commits, damaged rows.

mod common;
use mintkey_store_testkit::requests;

use std::sync::Arc;

use common::Fixture;
use mintkey_store::store::Never;
use mintkey_store::unique::Scope;
use mintkey_store::{
    BatchWrite, Error, ErrorKind, GetUnique, Guard, Item, Operation, Request, Row, Store, Table,
    Unique,
};
use requests::*;

fn people() -> Arc<Table> {
    Arc::new(Table {
        name: "people".into(),
        unique: vec![Unique {
            name: "email".into(),
            attributes: vec!["email".into()],
            scope: Scope::default(),
        }],
        ..(*orders()).clone()
    })
}

fn without_unique() -> Arc<Table> {
    Arc::new(Table {
        unique: Vec::new(),
        ..(*people()).clone()
    })
}

fn person(id: &str, email: &str) -> Item {
    order(id, "0", &[("email", email.into())])
}

fn new(id: &str, email: &str) -> Arc<Request> {
    let guard = Guard {
        row: Row::Absent,
        ..Guard::default()
    };
    Arc::new(request(put_of(&people(), person(id, email), guard)))
}

fn by_email(email: &str) -> Operation {
    Operation::GetUnique(GetUnique {
        table: people(),
        unique: "email".into(),
        values: vec![string(email)],
        attributes: None,
    })
}

fn create(store: &dyn Store) -> Result<(), Error> {
    run(store, Operation::CreateTable(people())).map(drop)
}

/// Everything in the file: the statements of the schema, the catalog, and the number of rows with their ids. A column
/// without a value that a refused unique value has left is not counted.
fn contents(fixture: &Fixture) -> (Vec<String>, String, i64, i64) {
    let inside = fixture.inside();
    let mut statement = inside
        .prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name")
        .unwrap();
    let schema = statement.query_map([], |row| row.get(0)).unwrap();
    let schema = schema.map(|sql: Result<String, _>| sql.unwrap().replace(", \"=email\" BLOB", ""));
    let schema = schema.collect();
    let one = |sql: &str| inside.query_row(sql, [], |row| row.get(0)).unwrap();
    let catalog: String = inside
        .query_row(
            "SELECT layout || description FROM \"mintkey:catalog\"",
            [],
            |row| row.get(0),
        )
        .unwrap();
    (
        schema,
        catalog,
        one("SELECT count(*) FROM people"),
        one("SELECT sum(rowid) FROM people"),
    )
}

#[test]
fn duplicates_of_a_large_table_are_all_reported_and_nothing_changes() {
    const ROWS: usize = 100_000;
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let plain = without_unique();
    let email = |number: usize| match number {
        // The first and the last row, and two rows of one step.
        99_999 => "e0".to_owned(),
        50_001 => "e50000".to_owned(),
        other => format!("e{other}"),
    };
    for start in (0..ROWS).step_by(10_000) {
        let writes = (start..start + 10_000).map(|number| {
            let row = person(&format!("r{number}"), &email(number));
            batch_put(&plain, row, Guard::default())
        });
        let batch = BatchWrite {
            table: Arc::clone(&plain),
            writes: writes.collect(),
        };
        run(store, Operation::BatchWrite(batch)).unwrap();
    }
    let before = contents(&fixture);
    let error = create(store).unwrap_err();
    assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
    let violations = error.violations.as_deref().unwrap();
    let found: Vec<_> = violations
        .iter()
        .map(|violation| (violation.values.clone(), violation.holders.clone()))
        .collect();
    let expected = [("e0", "r0", "r99999"), ("e50000", "r50000", "r50001")]
        .map(|(email, one, other)| (vec![string(email)], vec![key(one, "0"), key(other, "0")]));
    assert_eq!(found, expected);
    assert_eq!(contents(&fixture), before);
    for id in ["r0", "r50001"] {
        run(store, delete_of(&plain, key(id, "0"), Guard::default())).unwrap();
    }
    create(store).unwrap();
    let held = store.execute(&new("new", "e77777"), &Never).unwrap_err();
    let violation = &held.violations.as_deref().unwrap()[0];
    assert_eq!(violation.holders, [key("r77777", "0")]);
}

#[test]
fn only_tables_with_unique_values_have_the_newer_layout() {
    let fixture = Fixture::new();
    put(&*fixture.store, &orders(), order("a", "1", &[])).unwrap();
    put(&*fixture.store, &without_unique(), person("a", "x")).unwrap();
    let layout = |table: &str| -> i64 {
        let select = "SELECT layout FROM \"mintkey:catalog\" WHERE name = ?1";
        let inside = fixture.inside();
        inside.query_row(select, [table], |row| row.get(0)).unwrap()
    };
    assert_eq!((layout("orders"), layout("people")), (1, 1));
    create(&*fixture.store).unwrap();
    assert_eq!((layout("orders"), layout("people")), (1, 2));
    // A class that does not declare them writes the table as before.
    put(&*fixture.reopen(), &without_unique(), person("b", "y")).unwrap();
    assert_eq!((layout("orders"), layout("people")), (1, 2));
}

#[test]
fn a_violation_does_not_disturb_the_other_writes_of_its_commit() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    create(store).unwrap();
    // Consecutive writes share a commit.
    let results = store.execute_all(
        &[new("a", "x"), new("b", "x"), new("c", "y"), new("d", "x")],
        &Never,
    );
    let kinds: Vec<_> = results
        .iter()
        .map(|result| result.as_ref().err().map(|error| error.kind))
        .collect();
    let violation = Some(ErrorKind::UniqueViolation);
    assert_eq!(kinds, [None, violation, None, violation]);
    let submitted: Vec<_> = ["z", "y", "w"]
        .iter()
        .map(|email| submit(store, new(email, email).operation.clone()))
        .collect();
    let kinds: Vec<_> = submitted
        .iter()
        .map(|(_, answer)| answer.recv().unwrap().err().map(|error| error.kind))
        .collect();
    assert_eq!(kinds, [None, violation, None]);
    assert_eq!(scan(&*fixture.reopen(), scan_of(&people())).len(), 4);
}

#[test]
fn a_row_is_found_by_the_index() {
    let fixture = Fixture::new();
    create(&*fixture.store).unwrap();
    let inside = fixture.inside();
    let plan: String = inside
        .query_row(
            "EXPLAIN QUERY PLAN SELECT item FROM people INDEXED BY \"people::unique:email\" WHERE \"=email\" = ?1",
            ["x"],
            |row| row.get(3),
        )
        .unwrap();
    assert!(plan.contains("SEARCH"), "{plan}");
}

#[test]
fn a_row_that_another_program_changed_is_not_returned() {
    let fixture = Fixture::new();
    put(&*fixture.store, &people(), person("a", "x")).unwrap();
    fixture
        .inside()
        .execute(
            "UPDATE people SET item = replace(item, '\"x\"', '\"y\"')",
            [],
        )
        .unwrap();
    let error = run(&*fixture.store, by_email("x")).unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue);
    assert!(message(&error).contains("its unique values"), "{error}");
}
