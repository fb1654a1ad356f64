//! Requests of many calls: the timeout ends them as a whole, unless they make progress.

mod faulty;
use mintkey_store_testkit::requests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use faulty::{Act, Faulty, bodies, both, open, refused};
use mintkey_store::{
    BatchWrite, Error, ErrorKind, Guard, Interrupt, KeyKind, Operation, Outcome, Reply, Row,
};
use requests::{batch_put, order, orders, plain, request};

fn create() -> Operation {
    Operation::CreateTable(plain("plain", KeyKind::String))
}

fn delete() -> Operation {
    Operation::DeleteTable(plain("plain", KeyKind::String))
}

fn missing() -> Act {
    refused(400, "ResourceNotFoundException")
}

fn changed() -> String {
    r#"{"TableDescription":{}}"#.to_owned()
}

fn described(status: &str) -> String {
    serde_json::json!({"Table": {
        "TableStatus": status,
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }})
    .to_string()
}

/// The error of an operation, which must be the same for a blocking and a submitted request.
fn failure(script: &[Act], operation: &Operation) -> Error {
    let [blocking, submitted] = both(script, "&timeout=1", operation)
        .map(|(result, _)| result.expect_err("the timeout ends it"));
    assert_eq!(blocking.kind, submitted.kind, "{blocking}; {submitted}");
    blocking
}

#[test]
fn slow_calls_have_one_timeout_together() {
    let names = ["a", "b", "c"]
        .map(|name| format!(r#"{{"TableNames":["{name}"],"LastEvaluatedTableName":"{name}"}}"#));
    for (operation, bodies) in [
        (delete(), [changed(), described("ACTIVE"), changed()]),
        (Operation::ListTables, names),
    ] {
        let script = bodies.map(|body| Act::Late(Duration::from_millis(400), body));
        let error = failure(&script, &operation);
        assert!(matches!(error.kind, ErrorKind::Timeout(_)), "{error}");
    }
}

#[test]
fn a_table_that_another_program_seems_to_change_is_not_waited_for_longer_than_the_timeout() {
    let busy = || refused(400, "ResourceInUseException");
    for (operation, round) in [
        (create(), [missing(), busy()]),
        (delete(), [busy(), Act::Reply(200, described("ACTIVE"))]),
    ] {
        let script = vec![round; 99].concat();
        let error = failure(&script, &operation);
        assert_eq!(
            error.kind,
            ErrorKind::Timeout(Outcome::NotApplied),
            "{error}"
        );
    }
}

#[test]
fn the_timeout_does_not_run_while_the_server_changes_the_table() {
    // The delays are longer together than the timeout.
    let changes = vec![Act::Reply(200, described("CREATING")); 4];
    let mut script = vec![missing(), Act::Reply(200, changed())];
    script.extend(changes);
    script.push(Act::Reply(200, described("ACTIVE")));
    for (result, seen) in both(&script, "&timeout=1", &create()) {
        result.unwrap();
        assert_eq!(seen.len(), script.len());
    }
}

/// Raised from the second look on.
struct Impatient(AtomicUsize);

impl Interrupt for Impatient {
    fn raised(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) > 0
    }
}

#[test]
fn an_interrupt_ends_the_wait_for_a_table() {
    static IMPATIENT: Impatient = Impatient(AtomicUsize::new(0));
    let faulty = Faulty::new(&vec![Act::Reply(200, described("CREATING")); 99]);
    let store = open(&faulty.endpoint, "");
    let error = store.execute(&request(create()), &IMPATIENT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
}

#[test]
fn a_batch_that_is_only_throttled_ends_with_its_first_calls() {
    let guard = Guard {
        row: Row::Absent,
        ..Guard::default()
    };
    let put = |number: u32| {
        batch_put(
            &orders(),
            order("p", &format!("<{number}>"), &[]),
            guard.clone(),
        )
    };
    let batch = Operation::BatchWrite(BatchWrite {
        table: orders(),
        writes: (0..40).map(put).collect(),
    });
    let script = vec![refused(400, "ThrottlingException"); 9999];
    let faulty = Faulty::new(&script);
    let store = open(&faulty.endpoint, "&timeout=1&retries=99");
    let Reply::Written(written) = requests::run(&*store, batch).unwrap() else {
        panic!("a batch of writes answers with their outcomes");
    };
    let kinds = written.iter().map(|own| own.as_ref().unwrap_err().kind);
    for (number, kind) in kinds.enumerate() {
        let is_sent = bodies(&faulty)
            .iter()
            .any(|body| body.contains(&format!("<{number}>")));
        assert_eq!(is_sent, number < 8, "{number}");
        assert!(
            matches!(
                kind,
                ErrorKind::Throttled | ErrorKind::Unavailable(_) | ErrorKind::Timeout(_)
            ),
            "{number}: {kind:?}"
        );
    }
}
