//! Servers that fail, networks that break: what is sent again and what is reported, for blocking and submitted requests.

mod faulty;
use mintkey_store_testkit::requests;
use mintkey_store_testkit::server::free_port;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use faulty::{Act, Faulty, refused};
use mintkey_store::{
    Action, BatchGet, BatchWrite, Condition, Error, ErrorKind, Guard, Interrupt, KeyKind,
    Operation, Outcome, Path, Query, Remedy, Reply, Result, Returning, Row, Store,
};
use requests::{
    batch_put, get_of, key, number, order, orders, plain, put_of, query_of, request, string,
    submit, update_of,
};

const UNKNOWN: ErrorKind = ErrorKind::Unavailable(Outcome::Unknown);
const NOT_APPLIED: ErrorKind = ErrorKind::Unavailable(Outcome::NotApplied);

fn open(endpoint: &str, parameters: &str) -> Arc<dyn Store> {
    let url = format!("dynamodb://us-east-1?endpoint={endpoint}&timeout=20{parameters}");
    mintkey_dynamodb::open(&url).unwrap()
}

/// The answer to a request and the requests the server saw, once blocking and once submitted.
fn ask(script: &[Act], parameters: &str, operation: &Operation) -> (Result<Reply>, Vec<String>) {
    let faulty = Faulty::new(script);
    let store = open(&faulty.endpoint, parameters);
    let blocking = requests::run(&*store, operation.clone());
    let other = Faulty::new(script);
    let store = open(&other.endpoint, parameters);
    let (_, answer) = submit(&*store, operation.clone());
    let submitted = answer.recv().unwrap();
    assert_eq!(
        blocking.as_ref().map_err(|error| error.kind),
        submitted.as_ref().map_err(|error| error.kind)
    );
    assert_eq!(faulty.seen().len(), other.seen().len());
    (blocking, faulty.seen())
}

fn kind(result: &Result<Reply>) -> ErrorKind {
    result.as_ref().unwrap_err().kind
}

fn plain_put() -> Operation {
    put_of(
        &orders(),
        order("a", "1", &[("n", 1.into())]),
        Guard::default(),
    )
}

fn insert() -> Operation {
    let guard = Guard {
        row: Row::Absent,
        ..Guard::default()
    };
    put_of(&orders(), order("a", "1", &[("n", 1.into())]), guard)
}

fn add() -> Operation {
    Operation::Update(mintkey_store::Update {
        actions: vec![Action::Add(Path::attribute("n"), number("1"))],
        ..update_of(&orders(), key("a", "1"))
    })
}

fn read() -> Operation {
    get_of(&orders(), key("a", "1"))
}

fn found(n: u8) -> Act {
    Act::Reply(
        400,
        format!(
            "{{\"__type\":\"x#ConditionalCheckFailedException\",\"message\":\"no\",\"Item\":{{\"pk\":{{\"S\":\"a\"}},\
             \"sk\":{{\"S\":\"1\"}},\"n\":{{\"N\":\"{n}\"}}}}}}"
        ),
    )
}

#[test]
fn what_may_be_done_twice_is_sent_again() {
    let half = Act::Raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"It".to_owned());
    for trouble in [
        Act::Cut,
        half,
        refused(500, "InternalServerError"),
        refused(503, "ServiceUnavailable"),
    ] {
        for operation in [read(), plain_put(), insert()] {
            let (answer, seen) = ask(&[trouble.clone(), trouble.clone()], "", &operation);
            assert!(answer.is_ok(), "{trouble:?}: {answer:?}");
            assert_eq!(seen.len(), 3);
        }
    }
}

#[test]
fn what_may_not_be_done_twice_is_told_to_be_unknown() {
    let wrong = Act::Raw("220 mail.example ESMTP\r\n".to_owned());
    for trouble in [Act::Cut, wrong, refused(500, "InternalServerError")] {
        let (answer, seen) = ask(&[trouble], "", &add());
        assert_eq!(kind(&answer), UNKNOWN);
        assert_eq!(seen.len(), 1);
    }
}

#[test]
fn an_insert_that_collides_with_itself_is_done() {
    let (answer, _) = ask(&[Act::Cut, found(1)], "", &insert());
    assert_eq!(answer.unwrap(), Reply::Done);
    // Another row may be another's, or the own one as somebody changed it since.
    let (answer, _) = ask(&[Act::Cut, found(2)], "", &insert());
    assert_eq!(kind(&answer), UNKNOWN);
    let (answer, _) = ask(&[found(2)], "", &insert());
    assert_eq!(kind(&answer), ErrorKind::KeyCollision);
}

#[test]
fn a_version_tells_whose_write_it_was() {
    let versioned = |actions| {
        let guard = Guard {
            version: Some(("n".into(), Some(number("1")))),
            ..Guard::default()
        };
        Operation::Update(mintkey_store::Update {
            actions,
            guard,
            returning: Returning::Nothing,
            ..update_of(&orders(), key("a", "1"))
        })
    };
    let next = Action::Set(Path::attribute("n"), 2.into());
    let other = Action::Set(Path::attribute("text"), "mine".into());
    let (answer, _) = ask(&[Act::Cut, found(2)], "", &versioned(vec![next.clone()]));
    assert_eq!(answer.unwrap(), Reply::Done);
    let (answer, _) = ask(
        &[Act::Cut, found(2)],
        "",
        &versioned(vec![next.clone(), other]),
    );
    assert_eq!(kind(&answer), ErrorKind::VersionConflict);
    let (answer, _) = ask(&[Act::Cut, found(3)], "", &versioned(vec![next]));
    assert_eq!(kind(&answer), UNKNOWN);
}

#[test]
fn throttling_is_waited_out_and_then_told() {
    let throttled = refused(400, "ProvisionedThroughputExceededException");
    let (answer, seen) = ask(&[throttled.clone(), throttled.clone()], "", &add());
    assert!(answer.is_ok() && seen.len() == 3);
    let (answer, seen) = ask(&vec![throttled; 9], "&retries=2", &add());
    assert_eq!(kind(&answer), ErrorKind::Throttled);
    assert_eq!(seen.len(), 3);
}

#[test]
fn nobody_there_is_told() {
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    let store = open(&endpoint, "&retries=1");
    for operation in [read(), add()] {
        let error = requests::run(&*store, operation).unwrap_err();
        assert_eq!(error.kind, NOT_APPLIED, "{error}");
        assert!(error.to_string().contains("nothing was written"), "{error}");
    }
}

#[test]
fn what_is_no_dynamodb_is_told() {
    for act in [
        Act::Reply(200, "<html>welcome</html>".to_owned()),
        Act::Reply(404, "not here".to_owned()),
        Act::Reply(200, "{\"Item\":{\"a\":{\"N\":\"x\"}}}".to_owned()),
    ] {
        let (answer, _) = ask(&[act], "", &read());
        assert_eq!(kind(&answer), NOT_APPLIED);
    }
    let (answer, _) = ask(&[Act::Reply(200, "<html>".to_owned())], "", &plain_put());
    assert_eq!(kind(&answer), UNKNOWN);
}

/// A row of the table with this key.
fn row(partition: &str, sort: &str) -> String {
    format!("{{\"pk\":{{\"S\":\"{partition}\"}},\"sk\":{{\"S\":\"{sort}\"}}}}")
}

#[test]
fn a_row_of_another_key_is_an_error() {
    let own = format!("{{\"Item\":{}}}", row("a", "1"));
    let (answer, _) = ask(&[Act::Reply(200, own)], "", &read());
    assert!(matches!(answer.unwrap(), Reply::Item(Some(_))));
    for other in [
        row("b", "1"),
        row("a", "2"),
        "{\"n\":{\"N\":\"1\"}}".to_owned(),
    ] {
        let found = Act::Reply(200, format!("{{\"Item\":{other}}}"));
        let (answer, seen) = ask(&[found], "", &read());
        let error = answer.unwrap_err();
        assert_eq!(error.kind, NOT_APPLIED, "{error}");
        assert!(error.message.contains("another key"), "{error}");
        assert_eq!(error.key.as_deref(), Some(&key("a", "1")));
        assert_eq!(seen.len(), 1);

        let both = format!(
            "{{\"Responses\":{{\"orders\":[{},{other}]}}}}",
            row("a", "1")
        );
        let keys = ["1", "3"].map(|sort| key("a", sort));
        let batch = Operation::BatchGet(BatchGet {
            table: orders(),
            keys: keys.to_vec(),
            consistent: false,
            attributes: None,
        });
        let (answer, _) = ask(&[Act::Reply(200, both)], "", &batch);
        assert_eq!(kind(&answer), NOT_APPLIED);

        let changed = Act::Reply(200, format!("{{\"Attributes\":{other}}}"));
        let returning = Operation::Update(mintkey_store::Update {
            actions: vec![Action::Add(Path::attribute("n"), number("1"))],
            returning: Returning::New,
            ..update_of(&orders(), key("a", "1"))
        });
        let (answer, _) = ask(&[changed], "", &returning);
        assert_eq!(kind(&answer), UNKNOWN);

        let refused = format!(
            "{{\"__type\":\"x#ConditionalCheckFailedException\",\"message\":\"no\",\"Item\":{other}}}"
        );
        let (answer, _) = ask(&[Act::Reply(400, refused)], "", &insert());
        assert_eq!(kind(&answer), UNKNOWN);
    }
}

#[test]
fn a_row_of_another_partition_is_an_error() {
    let query = |index: Option<&str>, partition: &str| {
        Operation::Query(Query {
            index: index.map(Into::into),
            ..query_of(&orders(), &[string(partition)])
        })
    };
    let own = "{\"pk\":{\"S\":\"a\"},\"sk\":{\"S\":\"1\"},\"status\":{\"S\":\"new\"}}";
    let found = |item: &str| {
        let body = format!("{{\"Items\":[{own},{item}],\"Count\":2,\"ScannedCount\":2}}");
        Act::Reply(200, body)
    };
    let other_partition = own.replace("\"a\"", "\"b\"");
    let other_status = own.replace("new", "paid");
    for (operation, valid, other) in [
        (query(None, "a"), &other_status, &other_partition),
        (
            query(Some("by_status"), "new"),
            &other_partition,
            &other_status,
        ),
    ] {
        let (answer, _) = ask(&[found(valid)], "", &operation);
        assert!(answer.is_ok(), "{answer:?}");
        let (answer, _) = ask(&[found(other)], "", &operation);
        let error = answer.unwrap_err();
        assert_eq!(error.kind, NOT_APPLIED, "{error}");
        assert!(error.message.contains("another key"), "{error}");
        let (answer, _) = ask(&[found("{\"n\":{\"N\":\"1\"}}")], "", &operation);
        assert_eq!(kind(&answer), NOT_APPLIED);
    }
}

#[test]
fn a_connection_whose_responses_are_mixed_up_is_not_used_again() {
    let faulty = Faulty::new(&[Act::Reply(200, format!("{{\"Item\":{}}}", row("b", "1")))]);
    let store = open(&faulty.endpoint, "");
    assert_eq!(kind(&requests::run(&*store, read())), NOT_APPLIED);
    let next = requests::run(&*store, read()).unwrap();
    assert_eq!(next, Reply::Item(None));
    assert_eq!(faulty.connections(), 2);
}

#[test]
fn wrong_credentials_are_told_without_them() {
    for code in [
        "UnrecognizedClientException",
        "InvalidSignatureException",
        "AccessDeniedException",
        "ExpiredTokenException",
    ] {
        let refusals = vec![refused(400, code); 3];
        let (answer, _) = ask(&refusals, "", &read());
        let error = answer.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
        assert!(!error.message.contains("Credential="), "{error}");
    }
}

#[test]
fn a_wrong_clock_is_corrected_by_the_servers() {
    let body = "{\"__type\":\"x#InvalidSignatureException\",\"message\":\"Signature expired\"}";
    let late = format!(
        "HTTP/1.1 403 No\r\nconnection: close\r\ndate: Tue, 01 Jan 2030 00:00:00 GMT\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (answer, seen) = ask(&[Act::Raw(late)], "", &add());
    assert!(answer.is_ok(), "{answer:?}");
    assert!(seen[1].contains("x-amz-date: 20300101T00"), "{}", seen[1]);
}

#[test]
fn a_table_that_is_not_there_names_the_way_out() {
    let (answer, _) = ask(&[refused(400, "ResourceNotFoundException")], "", &read());
    let error = answer.unwrap_err();
    assert_eq!(error.kind, ErrorKind::TableMissing);
    assert_eq!(error.remedy.as_deref(), Some(&Remedy::CreateTable));
}

#[test]
fn what_a_batch_had_no_room_for_is_sent_again() {
    let back = "{\"UnprocessedItems\":{\"orders\":[{\"PutRequest\":{\"Item\":{\"pk\":{\"S\":\"p\"},\"sk\":{\"S\":\"2\"}}}}]}}";
    let writes =
        ["1", "2", "3"].map(|sort| batch_put(&orders(), order("p", sort, &[]), Guard::default()));
    let batch = Operation::BatchWrite(BatchWrite {
        table: orders(),
        writes: writes.to_vec(),
    });
    let (answer, seen) = ask(&[Act::Reply(200, back.to_owned())], "", &batch);
    let Reply::Written(written) = answer.unwrap() else {
        panic!("a batch of writes answers with their outcomes");
    };
    assert!(written.iter().all(Result::is_ok) && seen.len() == 2);
    assert!(seen[1].contains("\"S\":\"2\"") && !seen[1].contains("\"S\":\"3\""));
    // One item that the service refuses is no reason for the others.
    let refusals = [
        refused(400, "ValidationException"),
        refused(400, "ValidationException"),
    ];
    let (answer, seen) = ask(&refusals, "", &batch);
    let Reply::Written(written) = answer.unwrap() else {
        panic!("a batch of writes answers with their outcomes");
    };
    let kinds: Vec<_> = written
        .iter()
        .map(|one| one.as_ref().err().map(|error: &Error| error.kind))
        .collect();
    assert_eq!(kinds, [Some(ErrorKind::InvalidValue), None, None]);
    assert_eq!(seen.len(), 4);
}

#[test]
fn a_connection_that_the_server_left_is_not_used_again() {
    let faulty = Faulty::new(&[Act::Leave("{}".to_owned())]);
    let store = open(&faulty.endpoint, "");
    requests::run(&*store, read()).unwrap();
    faulty.wait_for_leaving();
    // This one may not be sent twice, so it had better be sent where somebody listens.
    requests::run(&*store, add()).unwrap();
    assert_eq!(faulty.seen().len(), 2);
}

/// Raised from the second look on.
struct Impatient(AtomicUsize);

impl Interrupt for Impatient {
    fn raised(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) > 0
    }
}

#[test]
fn an_interrupt_ends_a_wait() {
    static IMPATIENT: Impatient = Impatient(AtomicUsize::new(0));
    let faulty = Faulty::new(&[Act::Stall, Act::Stall]);
    let store = open(&faulty.endpoint, "");
    let error = store.execute(&request(add()), &IMPATIENT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::Unknown));
    let error = store.execute(&request(read()), &IMPATIENT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::NotApplied));
    requests::run(&*store, read()).unwrap();
}

#[test]
fn a_stalled_server_ends_in_a_timeout() {
    for (operation, outcome) in [(read(), Outcome::NotApplied), (add(), Outcome::Unknown)] {
        let faulty = Faulty::new(&[Act::Stall, Act::Stall]);
        let url = format!(
            "dynamodb://us-east-1?endpoint={}&timeout=1",
            faulty.endpoint
        );
        let store = mintkey_dynamodb::open(&url).unwrap();
        let error = requests::run(&*store, operation.clone()).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout(outcome), "{error}");
        let (_, answer) = submit(&*store, operation);
        let error = answer.recv().unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Timeout(outcome), "{error}");
    }
}

#[test]
fn closing_finishes_what_was_submitted_and_refuses_the_rest() {
    let faulty = Faulty::new(&[]);
    let store = open(&faulty.endpoint, "");
    let answers: Vec<_> = (0..100).map(|_| submit(&*store, plain_put()).1).collect();
    store.close(&mintkey_store::store::Never);
    for answer in answers {
        assert_eq!(answer.try_recv().unwrap().unwrap(), Reply::Done);
    }
    store.close(&mintkey_store::store::Never);
    let refused = requests::run(&*store, read());
    assert_eq!(kind(&refused), ErrorKind::Configuration);
    let (ticket, answer) = submit(&*store, read());
    assert_eq!(kind(&answer.recv().unwrap()), ErrorKind::Configuration);
    assert!(!ticket.withdraw());
}

#[test]
fn only_what_is_not_begun_can_be_withdrawn() {
    let faulty = Faulty::new(&vec![Act::Stall; 64]);
    let url = format!(
        "dynamodb://us-east-1?endpoint={}&timeout=3&retries=0",
        faulty.endpoint
    );
    let store = mintkey_dynamodb::open(&url).unwrap();
    let submitted: Vec<_> = (0..65).map(|_| submit(&*store, read())).collect();
    let (last, _) = &submitted[64];
    assert!(last.withdraw());
    assert!(!last.withdraw());
    for (ticket, answer) in &submitted[..64] {
        assert!(answer.recv().unwrap().is_err());
        assert!(!ticket.withdraw());
    }
    store.close(&mintkey_store::store::Never);
    assert!(submitted[64].1.try_recv().is_err());
    assert_eq!(faulty.seen().len(), 64);
}

#[test]
fn a_limit_on_changes_of_tables_passes() {
    let active = serde_json::json!({"Table": {
        "TableStatus": "ACTIVE",
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
    }});
    let script = [
        refused(400, "ResourceNotFoundException"),
        refused(400, "LimitExceededException"),
        refused(400, "LimitExceededException"),
        Act::Reply(200, "{\"TableDescription\":{}}".to_owned()),
        Act::Reply(200, active.to_string()),
    ];
    let table = plain("plain", KeyKind::String);
    let (created, seen) = ask(&script, "&retries=0", &Operation::CreateTable(table));
    created.unwrap();
    let creations = seen
        .iter()
        .filter(|request| request.contains("CreateTable"));
    assert_eq!(creations.count(), 3);
}

/// The row with this value of `n`.
fn row_with(n: &str) -> String {
    format!("{{\"pk\":{{\"S\":\"a\"}},\"sk\":{{\"S\":\"1\"}},\"n\":{n}}}")
}

#[test]
fn an_update_that_the_server_finds_invalid_names_the_path() {
    let update = Operation::Update(mintkey_store::Update {
        actions: vec![
            Action::Set(Path::attribute("t"), "x".into()),
            Action::Add(Path::attribute("n"), number("1")),
        ],
        ..update_of(&orders(), key("a", "1"))
    });
    let invalid = refused(400, "ValidationException");
    let found = Act::Reply(200, format!("{{\"Item\":{}}}", row_with("{\"S\":\"x\"}")));
    let (answer, seen) = ask(&[invalid.clone(), found], "", &update);
    let error = answer.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
    assert_eq!(error.attribute.as_deref(), Some("n"), "{error}");
    assert_eq!(seen.len(), 2);
    // Credentials that must not read.
    let denied = refused(400, "AccessDeniedException");
    let (answer, _) = ask(&[invalid, denied], "", &update);
    let error = answer.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
    assert!(error.to_string().contains("(of t, n)"), "{error}");
}

#[test]
fn a_null_in_the_way_of_a_value_is_seen_in_the_refusal() {
    let update = |condition: Option<Condition>| {
        Operation::Update(mintkey_store::Update {
            actions: vec![Action::SetIfAbsent(Path::attribute("n"), 1.into())],
            guard: Guard {
                condition,
                ..Guard::default()
            },
            ..update_of(&orders(), key("a", "1"))
        })
    };
    let refusal = format!(
        "{{\"__type\":\"x#ConditionalCheckFailedException\",\"message\":\"no\",\"Item\":{}}}",
        row_with("{\"NULL\":true}")
    );
    let script = [Act::Reply(400, refusal)];
    let own = Condition::Exists(Path::attribute("t"));
    let (answer, seen) = ask(&script, "", &update(Some(own)));
    assert_eq!(kind(&answer), ErrorKind::ConditionFailed);
    assert_eq!(seen.len(), 1);
    let (answer, seen) = ask(&script, "", &update(None));
    answer.unwrap();
    assert_eq!(seen.len(), 2);
}
