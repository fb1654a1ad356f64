//! Transactions: what is sent again with which token, and what a cancelled transaction says of each item.

mod faulty;
use mintkey_store_testkit::requests;

use std::sync::Arc;

use faulty::{
    Act, CONFLICT, Faulty, INVALID, NO_ROW, NONE, THROTTLED, answered, bodies, both, cancelled,
    open, refused, without_token,
};
use mintkey_store::{
    Action, Check, Condition, Delete, Error, ErrorKind, Guard, Item, Key, Operation, Outcome, Path,
    Put, Reply, Request, Returning, Row, Table, Transaction, TransactionGet, TransactionWrite,
    Update,
};
use requests::{NOW, key, number, order, orders, update_of};

const UNKNOWN: ErrorKind = ErrorKind::Unavailable(Outcome::Unknown);
const NOT_APPLIED: ErrorKind = ErrorKind::Unavailable(Outcome::NotApplied);

fn failure(script: &[Act], parameters: &str, operation: &Operation) -> Error {
    let [blocking, submitted] = both(script, parameters, operation)
        .map(|(result, _)| result.expect_err(&format!("{script:?} {operation:?}")));
    assert_eq!(blocking.kind, submitted.kind, "{blocking} | {submitted}");
    blocking
}

/// A condition that was false for the row with this sort key.
fn row(sort: &str, others: &str) -> String {
    format!(
        r#"{{"Code":"ConditionalCheckFailed","Message":"no","Item":{{"pk":{{"S":"a"}},"sk":{{"S":"{sort}"}}{others}}}}}"#
    )
}

fn guard(row: Row) -> Guard {
    Guard {
        row,
        ..Guard::default()
    }
}

fn insert(table: &Arc<Table>, sort: &str) -> TransactionWrite {
    let item = Arc::new(order("a", sort, &[]));
    TransactionWrite::Put(Put::new(Arc::clone(table), item, guard(Row::Absent)).unwrap())
}

fn add(table: &Arc<Table>, sort: &str) -> TransactionWrite {
    TransactionWrite::Update(Update {
        actions: vec![Action::Add(Path::attribute("n"), number("1"))],
        ..update_of(table, key("a", sort))
    })
}

fn versioned() -> Guard {
    Guard {
        version: Some(("n".into(), Some(number("1")))),
        ..Guard::default()
    }
}

fn check(table: &Arc<Table>, sort: &str, guard: Guard) -> TransactionWrite {
    TransactionWrite::Check(Check {
        table: Arc::clone(table),
        key: key("a", sort),
        guard,
    })
}

fn delete(table: &Arc<Table>, sort: &str, guard: Guard) -> TransactionWrite {
    TransactionWrite::Delete(Delete {
        table: Arc::clone(table),
        key: key("a", sort),
        guard,
        returns_old: false,
    })
}

fn transaction(writes: Vec<TransactionWrite>) -> Operation {
    Operation::Transaction(Transaction { writes })
}

/// A transaction of an insert and an update.
fn two() -> Operation {
    let table = orders();
    transaction(vec![insert(&table, "1"), add(&table, "2")])
}

fn kinds(error: &Error) -> Vec<Option<ErrorKind>> {
    assert_eq!(error.kind, ErrorKind::TransactionCancelled, "{error}");
    let kind = |reason: &Option<Error>| reason.as_ref().map(|reason| reason.kind);
    error.reasons.iter().map(kind).collect()
}

#[test]
fn a_transaction_without_a_response_is_sent_again_with_its_token() {
    let conflict = cancelled(&[NONE, CONFLICT]);
    let in_progress = refused(400, "TransactionInProgressException");
    for script in [
        vec![Act::Cut],
        vec![Act::Cut, Act::Cut],
        vec![refused(500, "InternalServerError")],
        vec![Act::Cut, in_progress],
        // After an attempt without a response, only the token shows whether that was carried out.
        vec![Act::Cut, conflict.clone(), conflict],
    ] {
        for (result, bodies) in both(&script, "", &two()) {
            assert_eq!(result.unwrap(), Reply::Items(vec![None, None]));
            assert_eq!(bodies.len(), script.len() + 1);
            assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
        }
    }
}

#[test]
fn a_cancelled_transaction_is_sent_again_with_another_token() {
    for reason in [CONFLICT, THROTTLED] {
        let script = vec![cancelled(&[NONE, reason]); 2];
        for (result, bodies) in both(&script, "", &two()) {
            assert_eq!(result.unwrap(), Reply::Items(vec![None, None]));
            let [(first, a), (second, b), (third, c)] =
                [0, 1, 2].map(|n| without_token(&bodies[n]));
            assert!(first == second && second == third);
            assert!(a != b && b != c && a != c);
        }
    }
}

#[test]
fn a_retry_is_reported_with_its_reasons() {
    let server = Faulty::new(&[cancelled(&[THROTTLED, CONFLICT])]);
    let store = open(&server.endpoint, "");
    requests::run(&*store, two()).unwrap();
    let notices = std::iter::from_fn(|| store.notice());
    let texts: Vec<String> = notices.map(|notice| notice.text).collect();
    let expected = [
        format!("connected to {}", server.endpoint),
        format!(
            "{}: TransactWriteItems failed: ThrottlingError, TransactionConflict",
            server.endpoint
        ),
    ];
    assert_eq!(texts, expected);
}

#[test]
fn transactions_that_keep_failing_end_with_the_reason() {
    let script = vec![cancelled(&[NONE, CONFLICT]); 200];
    let error = failure(&script, "&timeout=1", &two());
    assert_eq!(kinds(&error), [None, Some(NOT_APPLIED)]);
    let script = vec![cancelled(&[THROTTLED, CONFLICT]); 200];
    let error = failure(&script, "&timeout=1", &two());
    assert_eq!(error.kind, ErrorKind::Throttled, "{error}");
    let mut script = vec![cancelled(&[NONE, CONFLICT]); 200];
    script.insert(0, Act::Cut);
    let error = failure(&script, "&timeout=1", &two());
    assert_eq!(error.kind.outcome(), Some(Outcome::Unknown), "{error}");
}

#[test]
fn each_refused_item_has_its_reason_and_the_stored_row() {
    let table = orders();
    let conditional = Guard {
        condition: Some(Condition::Exists(Path::attribute("t"))),
        ..Guard::default()
    };
    let operation = transaction(vec![
        insert(&table, "1"),
        add(&table, "2"),
        delete(&table, "3", versioned()),
        check(&table, "4", conditional),
        insert(&table, "5"),
        add(&table, "6"),
        check(&table, "7", guard(Row::Present)),
    ]);
    let reasons = [
        &row("1", ""),
        NO_ROW,
        &row("3", r#","n":{"N":"2"}"#),
        &row("4", ""),
        NONE,
        INVALID,
        // Expired: it counts as absent.
        &row("7", r#","expires":{"N":"1"}"#),
    ];
    for doubt in [&[][..], &[Act::Cut]] {
        let script = [doubt, &[cancelled(&reasons)]].concat();
        let error = failure(&script, "", &operation);
        assert_eq!(
            kinds(&error),
            [
                Some(ErrorKind::KeyCollision),
                Some(ErrorKind::ItemGone),
                Some(ErrorKind::VersionConflict),
                Some(ErrorKind::ConditionFailed),
                None,
                Some(ErrorKind::InvalidValue),
                Some(ErrorKind::ItemGone),
            ]
        );
        let item = |index: usize| -> Option<Item> {
            let reason: &Error = error.reasons[index].as_ref().unwrap();
            reason.item.as_deref().cloned()
        };
        assert_eq!(item(0), Some(order("a", "1", &[])));
        assert_eq!(item(1), None);
        assert_eq!(item(2), Some(order("a", "3", &[("n", 2.into())])));
        assert_eq!(item(6), None);
        let key_of = |index: usize| -> Option<Key> {
            error.reasons[index]
                .as_ref()
                .unwrap()
                .key
                .as_deref()
                .cloned()
        };
        assert_eq!(key_of(5), Some(key("a", "6")));
    }
}

#[test]
fn what_leaves_the_outcome_unknown() {
    for (script, kind) in [
        (vec![answered(404, "text/html", "<html>"); 4], UNKNOWN),
        (vec![Act::Vanish], UNKNOWN),
        (
            vec![answered(200, "application/json", "{\"Items\":[]}")],
            UNKNOWN,
        ),
        (vec![cancelled(&[NONE])], UNKNOWN),
        (vec![cancelled(&[NONE, &row("9", "")])], UNKNOWN),
        (
            vec![
                Act::Cut,
                refused(400, "IdempotentParameterMismatchException"),
            ],
            UNKNOWN,
        ),
        (
            vec![Act::Cut, refused(400, "AccessDeniedException")],
            UNKNOWN,
        ),
        (
            vec![refused(400, "IdempotentParameterMismatchException")],
            NOT_APPLIED,
        ),
        (
            vec![refused(400, "UnknownOperationException")],
            ErrorKind::Unsupported,
        ),
        (
            vec![refused(400, "ValidationException")],
            ErrorKind::InvalidValue,
        ),
        (
            vec![refused(400, "AccessDeniedException")],
            ErrorKind::Configuration,
        ),
    ] {
        let error = failure(&script, "", &two());
        assert_eq!(error.kind, kind, "{script:?}: {error}");
    }
}

#[test]
fn a_missing_table_is_named() {
    let other = Arc::new(Table {
        name: "lines".into(),
        ..(*orders()).clone()
    });
    let missing = || refused(400, "ResourceNotFoundException");
    let exists = r#"{"Table":{"TableStatus":"ACTIVE"}}"#;
    let script = [missing(), Act::Reply(200, exists.to_owned()), missing()];
    let keys = vec![
        (orders(), key("a", "1")),
        (Arc::clone(&other), key("a", "1")),
    ];
    for operation in [
        transaction(vec![insert(&orders(), "1"), insert(&other, "1")]),
        Operation::TransactionGet(TransactionGet { keys }),
    ] {
        let error = failure(&script, "", &operation);
        assert_eq!(error.kind, ErrorKind::TableMissing, "{error}");
        assert!(error.message.contains("\"lines\""), "{error}");
    }
}

fn read_two() -> Operation {
    let keys = ["1", "2"].map(|sort| (orders(), key("a", sort))).to_vec();
    Operation::TransactionGet(TransactionGet { keys })
}

#[test]
fn reads_that_conflict_are_sent_again() {
    let rows = r#"{"Responses":[{},{"Item":{"pk":{"S":"a"},"sk":{"S":"2"}}}]}"#;
    for reason in [CONFLICT, THROTTLED] {
        let script = [
            cancelled(&[NONE, reason]),
            Act::Cut,
            Act::Reply(200, rows.to_owned()),
        ];
        for (result, _) in both(&script, "", &read_two()) {
            let found = Reply::Items(vec![None, Some(order("a", "2", &[]))]);
            assert_eq!(result.unwrap(), found);
        }
    }
    let script = vec![cancelled(&[NONE, CONFLICT]); 200];
    let error = failure(&script, "&timeout=1", &read_two());
    assert_eq!(error.kind, NOT_APPLIED, "{error}");
}

#[test]
fn a_snapshot_has_the_rows_of_the_keys_and_no_expired_one() {
    for rows in [
        r#"{"Responses":[{}]}"#,
        r#"{"Responses":[{"Item":{"pk":{"S":"a"},"sk":{"S":"2"}}},{}]}"#,
        "{}",
    ] {
        let error = failure(&[Act::Reply(200, rows.to_owned())], "", &read_two());
        assert_eq!(error.kind, NOT_APPLIED, "{rows}: {error}");
    }
    let expired = NOW - 1;
    let rows = format!(
        r#"{{"Responses":[{{"Item":{{"pk":{{"S":"a"}},"sk":{{"S":"1"}},"expires":{{"N":"{expired}"}}}}}},{{}}]}}"#
    );
    for (result, _) in both(&[Act::Reply(200, rows)], "", &read_two()) {
        assert_eq!(result.unwrap(), Reply::Items(vec![None, None]));
    }
}

#[test]
fn the_capacity_of_transactions_is_counted() {
    let capacity = r#"{"ConsumedCapacity":[{"TableName":"orders","CapacityUnits":4.0},{"TableName":"lines","CapacityUnits":2.0}]}"#;
    let server = Faulty::new(&[Act::Reply(200, capacity.to_owned())]);
    let store = open(&server.endpoint, "");
    let request = Request::new(NOW, two());
    request.metrics.meter();
    store
        .execute(&request, &mintkey_store::store::Never)
        .unwrap();
    assert_eq!(request.metrics.consumed(), Some(6.0));
    assert!(bodies(&server)[0].contains("\"ReturnConsumedCapacity\":\"TOTAL\""));
    assert!(!request.metrics.was_throttled());
    let server = Faulty::new(&[cancelled(&[THROTTLED, NONE])]);
    let request = Request::new(NOW, two());
    request.metrics.meter();
    open(&server.endpoint, "")
        .execute(&request, &mintkey_store::store::Never)
        .unwrap();
    assert!(request.metrics.was_throttled());
}

#[test]
fn a_single_write_waits_for_a_transaction_of_its_item() {
    let conflict = refused(400, "TransactionConflictException");
    let update = Operation::Update(Update {
        actions: vec![Action::Add(Path::attribute("n"), number("1"))],
        returning: Returning::Nothing,
        ..update_of(&orders(), key("a", "1"))
    });
    // More often than other calls are repeated.
    let script = vec![conflict.clone(); 5];
    for (result, bodies) in both(&script, "&retries=1", &update) {
        assert_eq!(result.unwrap(), Reply::Done);
        assert_eq!(bodies.len(), 6);
    }
    let error = failure(&vec![conflict; 200], "&timeout=1", &update);
    assert_eq!(error.kind, NOT_APPLIED, "{error}");
}
