//! What a failed write says of its effect: "not applied" only where DynamoDB itself says so and no attempt may have been
//! carried out before.

mod faulty;
use mintkey_store_testkit::requests;

use faulty::{Act, answered, refused};
use mintkey_store::{
    Action, BatchGet, BatchWrite, Condition, Delete, Error, ErrorKind, Guard, Operation, Outcome,
    Path, Reply, Result, Returning, Row, Scan, Write,
};
use requests::{
    batch_put, condition, delete_of, get_of, key, number, order, orders, put_of, scan_of, update_of,
};

const UNKNOWN: ErrorKind = ErrorKind::Unavailable(Outcome::Unknown);
const NOT_APPLIED: ErrorKind = ErrorKind::Unavailable(Outcome::NotApplied);

/// The answers to a request, once blocking and once submitted.
fn both(script: &[Act], parameters: &str, operation: &Operation) -> [Result<Reply>; 2] {
    faulty::both(script, parameters, operation).map(|(answer, _)| answer)
}

/// The failure of a request, the same both ways.
fn failure(script: &[Act], parameters: &str, operation: &Operation) -> Error {
    let [blocking, submitted] = both(script, parameters, operation)
        .map(|answer| answer.expect_err(&format!("{script:?} {operation:?}")));
    assert_eq!(blocking.kind, submitted.kind, "{blocking} | {submitted}");
    blocking
}

/// What became of the writes of a batch.
fn kinds(answer: Result<Reply>) -> Vec<Option<ErrorKind>> {
    let Ok(Reply::Written(written)) = answer else {
        panic!("a batch of writes answers with their outcomes, not {answer:?}");
    };
    let kind = |one: Result<()>| one.err().map(|error| error.kind);
    written.into_iter().map(kind).collect()
}

/// What became of the writes of a batch, the same both ways.
fn outcomes(script: &[Act], parameters: &str, batch: &Operation) -> Vec<Option<ErrorKind>> {
    let [blocking, submitted] = both(script, parameters, batch).map(kinds);
    assert_eq!(blocking, submitted);
    blocking
}

fn guarded(guard: Guard) -> Operation {
    put_of(&orders(), order("a", "1", &[("n", 1.into())]), guard)
}

fn absent() -> Guard {
    Guard {
        row: Row::Absent,
        ..Guard::default()
    }
}

fn versioned() -> Guard {
    Guard {
        version: Some(("n".into(), Some(number("1")))),
        ..Guard::default()
    }
}

fn update(action: Action, guard: Guard) -> Operation {
    Operation::Update(mintkey_store::Update {
        actions: vec![action],
        guard,
        ..update_of(&orders(), key("a", "1"))
    })
}

fn set() -> Operation {
    update(
        Action::Set(Path::attribute("t"), "x".into()),
        Guard::default(),
    )
}

fn add() -> Operation {
    update(
        Action::Add(Path::attribute("n"), number("1")),
        Guard::default(),
    )
}

/// An update that returns no row.
fn add_nothing() -> Operation {
    match add() {
        Operation::Update(update) => Operation::Update(mintkey_store::Update {
            returning: Returning::Nothing,
            ..update
        }),
        other => other,
    }
}

fn delete(guard: Guard) -> Operation {
    delete_of(&orders(), key("a", "1"), guard)
}

fn read() -> Operation {
    get_of(&orders(), key("a", "1"))
}

fn batch(guard: &Guard) -> Operation {
    let put = |sort: &&str| batch_put(&orders(), order("p", sort, &[]), guard.clone());
    let mut writes: Vec<Write> = ["1", "2"].iter().map(put).collect();
    writes.push(Write::Delete(Delete {
        table: orders(),
        key: key("p", "3"),
        guard: Guard::default(),
        returns_old: false,
    }));
    Operation::BatchWrite(BatchWrite {
        table: orders(),
        writes,
    })
}

/// Every single write there is.
fn writes() -> Vec<Operation> {
    let conditional = condition(Condition::Exists(Path::attribute("t")));
    vec![
        guarded(Guard::default()),
        guarded(absent()),
        guarded(versioned()),
        guarded(conditional.clone()),
        set(),
        add(),
        update(Action::Set(Path::attribute("n"), 2.into()), versioned()),
        delete(Guard::default()),
        delete(versioned()),
        delete(conditional),
        Operation::DeleteTable(orders()),
    ]
}

const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const PAGE: &str = "<html>\n <title>404 page of the gateway</title>";

/// Answers that DynamoDB does not give.
fn foreign() -> Vec<Act> {
    let exception = "{\"__type\":\"x#ValidationException\",\"message\":\"b";
    vec![
        answered(404, HTML, PAGE),
        answered(403, HTML, PAGE),
        answered(400, HTML, PAGE),
        answered(413, HTML, PAGE),
        answered(429, HTML, PAGE),
        answered(400, "text/plain", ""),
        answered(404, JSON, "{}"),
        answered(403, JSON, "{\"message\":\"Forbidden\"}"),
        answered(429, JSON, "{\"message\":\"Too Many Requests\"}"),
        answered(413, JSON, "{\"message\":\"Request Too Long\"}"),
        answered(
            400,
            JSON,
            "{\"__type\":\"GatewayRefusal\",\"message\":\"no\"}",
        ),
        answered(400, JSON, "{\"__type\":\"\"}"),
        answered(400, JSON, "[{\"__type\":\"x#ValidationException\"}]"),
        // Cut short: the connection's end is the body's.
        Act::Raw(format!("HTTP/1.1 400 No\r\n\r\n{exception}")),
        // More than there is to come.
        Act::Raw(format!(
            "HTTP/1.1 400 No\r\ncontent-length: 999\r\n\r\n{exception}"
        )),
        answered(301, HTML, PAGE),
        answered(302, HTML, ""),
        answered(307, JSON, "{\"__type\":\"x#ValidationException\"}"),
        Act::Raw("HTTP/1.1 204 No Content\r\n\r\n".to_owned()),
        Act::Raw("HTTP/1.1 304 Not Modified\r\n\r\n".to_owned()),
        answered(201, JSON, "{}"),
        answered(200, HTML, PAGE),
        answered(200, HTML, "{}"),
        answered(200, JSON, ""),
        answered(200, JSON, "{\"ok\":true}"),
        answered(200, JSON, "[]"),
        answered(200, "application/x-amz-json-1.0", "{\"Attributes\":{"),
        answered(500, HTML, PAGE),
        answered(502, HTML, PAGE),
        answered(503, JSON, ""),
        answered(504, JSON, "{\"message\":\"timed out\"}"),
        answered(500, JSON, "{\"__type\":\"x#ValidationException\"}"),
    ]
}

#[test]
fn an_answer_that_is_not_dynamodbs_leaves_a_write_unknown() {
    for answer in foreign() {
        let script = vec![answer; 8];
        for write in writes() {
            let error = failure(&script, "&retries=0", &write);
            assert_eq!(error.kind, UNKNOWN, "{script:?} {write:?}: {error}");
            assert!(error.to_string().contains("is unknown"), "{error}");
        }
        let unknown = [Some(UNKNOWN); 3];
        assert_eq!(
            outcomes(&script, "&retries=0", &batch(&Guard::default())),
            unknown
        );
        // Single calls: those that are not in flight when one fails are not sent.
        for answer in both(&script, "&retries=0", &batch(&absent())) {
            let kinds = kinds(answer);
            let possible = [Some(UNKNOWN), Some(NOT_APPLIED)];
            assert!(kinds.contains(&Some(UNKNOWN)), "{script:?}");
            assert!(kinds.iter().all(|kind| possible.contains(kind)));
        }
        let error = failure(&script, "&retries=0", &read());
        assert_eq!(error.kind, NOT_APPLIED, "{script:?}: {error}");
    }
}

/// A response with the checksum of `{}`.
fn with_checksum(status: u16, body: &str) -> Act {
    Act::Raw(format!(
        "HTTP/1.1 {status} Said\r\nx-amzn-requestid: 1\r\nx-amz-crc32: 2745614147\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

#[test]
fn a_damaged_response_leaves_a_write_unknown_and_a_read_is_sent_again() {
    for answer in both(&[with_checksum(200, "{}")], "", &add_nothing()) {
        assert_eq!(answer.unwrap(), Reply::Done);
    }
    let exception = "{\"__type\":\"x#ValidationException\"}";
    for damaged in [
        with_checksum(200, "{ }"),
        with_checksum(400, exception),
        with_checksum(500, exception),
    ] {
        for write in writes() {
            let script = vec![damaged.clone(); 8];
            let error = failure(&script, "&retries=0", &write);
            assert_eq!(error.kind, UNKNOWN, "{write:?}: {error}");
            assert!(error.message.contains("checksum"), "{error}");
        }
        for answer in both(&[damaged.clone(), damaged.clone()], "", &read()) {
            assert_eq!(answer.unwrap(), Reply::Item(None));
        }
        let error = failure(&vec![damaged; 8], "&retries=1", &read());
        assert_eq!(error.kind, NOT_APPLIED, "{error}");
    }
}

#[test]
fn an_object_without_the_entries_of_the_call_is_no_response() {
    let rows = "{\"Items\":[],\"Count\":0,\"ScannedCount\":0}";
    let row = "{\"Item\":{\"pk\":{\"S\":\"a\"},\"sk\":{\"S\":\"1\"}}}";
    let changed = "{\"Attributes\":{\"pk\":{\"S\":\"a\"},\"sk\":{\"S\":\"1\"}}}";
    let table = "{\"TableDescription\":{}}";
    let batch_get = Operation::BatchGet(BatchGet {
        table: orders(),
        keys: vec![key("a", "1")],
        consistent: false,
        attributes: None,
    });
    let count = Operation::Scan(Scan {
        count: true,
        ..scan_of(&orders())
    });
    for (operation, bodies) in [
        (read(), &[rows, changed, table, "{\"Responses\":{}}"][..]),
        (batch_get, &["{}", rows, row]),
        (
            Operation::Scan(scan_of(&orders())),
            &["{}", row, "{\"Count\":0,\"ScannedCount\":0}"],
        ),
        (count, &["{}", row, "{\"Items\":[]}"]),
        (Operation::TableExists(orders()), &["{}", row, table]),
    ] {
        for body in bodies {
            let error = failure(&[Act::Reply(200, (*body).to_owned())], "", &operation);
            assert_eq!(error.kind, NOT_APPLIED, "{operation:?} {body}: {error}");
        }
    }
    for (operation, bodies) in [
        (guarded(absent()), &[rows, row, changed, table][..]),
        (delete(Guard::default()), &[rows, row, changed, table]),
        (add(), &["{}", rows, row, table]),
        (add_nothing(), &[rows, row, changed, table]),
        (Operation::DeleteTable(orders()), &["{}", rows, row]),
    ] {
        for body in bodies {
            let error = failure(&[Act::Reply(200, (*body).to_owned())], "", &operation);
            assert_eq!(error.kind, UNKNOWN, "{operation:?} {body}: {error}");
        }
    }
    for body in ["{}", rows, row] {
        let script = [Act::Reply(200, body.to_owned())];
        let kinds = outcomes(&script, "", &batch(&Guard::default()));
        assert_eq!(kinds, [Some(UNKNOWN); 3], "{body}");
    }
}

#[test]
fn a_foreign_answer_is_shown_shortened_and_without_secrets() {
    let long = format!("{PAGE} {}", "and so on ".repeat(1000));
    let error = failure(&[answered(404, HTML, &long)], "", &add());
    assert!(error.message.contains("status 404"), "{error}");
    assert!(
        error
            .message
            .contains("<html> <title>404 page of the gateway"),
        "{error}"
    );
    assert!(error.message.len() < 500, "{error}");
    let error = failure(&[answered(403, JSON, "")], "", &add());
    assert!(error.message.contains("status 403, no body"), "{error}");
    let echo =
        "POST / authorization: AWS4-HMAC-SHA256 Credential=local/20240101/us-east-1/dynamodb";
    let error = failure(&[answered(400, HTML, echo)], "", &add());
    assert!(!error.message.contains("Credential="), "{error}");
}

#[test]
fn a_refusal_of_dynamodbs_says_that_nothing_was_written() {
    // With any head: ScyllaDB Alternator can leave the content type out.
    for kind in ["application/x-amz-json-1.0", JSON, HTML] {
        let body = "{\"__type\":\"com.amazonaws.dynamodb.v20120810#ValidationException\",\"message\":\"no\"}";
        let error = failure(&[answered(400, kind, body)], "", &add());
        assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
    }
    let aws = "HTTP/1.1 200 OK\r\nx-amzn-RequestId: 1\r\ncontent-type: text/html\r\ncontent-length: 2\r\n\r\n{}";
    for act in [
        Act::Raw(aws.to_owned()),
        Act::Raw("HTTP/1.1 200 OK\r\n\r\n{}".to_owned()),
    ] {
        for answer in both(&[act], "", &guarded(absent())) {
            assert_eq!(answer.unwrap(), Reply::Done);
        }
    }
}

/// A refusal by the condition, with the stored row.
fn found(n: u8) -> Act {
    Act::Reply(
        400,
        format!(
            "{{\"__type\":\"x#ConditionalCheckFailedException\",\"message\":\"no\",\"Item\":{{\"pk\":{{\"S\":\"a\"}},\
             \"sk\":{{\"S\":\"1\"}},\"n\":{{\"N\":\"{n}\"}}}}}}"
        ),
    )
}

fn condition_failed() -> Act {
    refused(400, "ConditionalCheckFailedException")
}

#[test]
fn doubt_outlives_every_later_refusal() {
    let idempotent = [
        guarded(Guard::default()),
        guarded(absent()),
        guarded(versioned()),
        set(),
        delete(Guard::default()),
        delete(versioned()),
    ];
    let codes = [
        "ValidationException",
        "ResourceNotFoundException",
        "AccessDeniedException",
        "UnrecognizedClientException",
        "ExpiredTokenException",
        "InvalidSignatureException",
        "ItemCollectionSizeLimitExceededException",
        "ThrottlingException",
        "ProvisionedThroughputExceededException",
        "UnknownOperationException",
        "NeverHeardOfException",
    ];
    let refusals = codes.map(|code| refused(400, code));
    for (doubt, refusals) in [
        (Act::Cut, &refusals[..]),
        (refused(500, "InternalServerError"), &refusals[..1]),
        (answered(502, HTML, PAGE), &refusals[..1]),
        (answered(429, HTML, PAGE), &refusals[..1]),
    ] {
        for refusal in refusals {
            let mut script = vec![refusal.clone(); 9];
            script.insert(0, doubt.clone());
            for operation in &idempotent {
                let error = failure(&script, "&retries=1", operation);
                assert_eq!(error.kind, UNKNOWN, "{script:?} {operation:?}: {error}");
                assert!(error.to_string().contains("is unknown"), "{error}");
            }
        }
        for operation in &idempotent {
            let error = failure(&[doubt.clone(), Act::Vanish], "&retries=1", operation);
            assert_eq!(error.kind, UNKNOWN, "{operation:?}: {error}");
        }
    }
    for operation in &idempotent {
        let error = failure(&[Act::Vanish], "", operation);
        assert_eq!(
            error.kind, UNKNOWN,
            "connection refused, {operation:?}: {error}"
        );
    }
}

#[test]
fn doubt_outlives_a_read_that_fails() {
    // The refusal does not say what is stored, so the row is read, and that fails.
    for (operation, after) in [
        (guarded(absent()), refused(400, "AccessDeniedException")),
        (guarded(absent()), Act::Vanish),
        (guarded(absent()), answered(404, HTML, PAGE)),
        (guarded(absent()), answered(200, JSON, "{\"ok\":true}")),
        (
            update(Action::Set(Path::attribute("t"), "x".into()), absent()),
            Act::Vanish,
        ),
    ] {
        let script = [Act::Cut, condition_failed(), after];
        let error = failure(&script, "", &operation);
        assert_eq!(error.kind, UNKNOWN, "{script:?} {operation:?}: {error}");
        let error = failure(&script[1..], "&retries=0", &operation);
        assert_ne!(error.kind, UNKNOWN, "{script:?} {operation:?}: {error}");
    }
}

#[test]
fn what_a_refused_condition_says_after_doubt() {
    // The row that refuses may be there because of the first attempt, or another in the place of the one it changed.
    for (operation, refusal) in [
        (guarded(absent()), found(2)),
        (guarded(versioned()), found(2)),
        (
            update(Action::Set(Path::attribute("n"), 2.into()), versioned()),
            found(3),
        ),
        (delete(versioned()), found(2)),
        (delete(versioned()), found(1)),
        (set(), condition_failed()),
    ] {
        let error = failure(&[Act::Cut, refusal.clone()], "", &operation);
        assert_eq!(error.kind, UNKNOWN, "{operation:?}: {error}");
        let error = failure(&[refusal], "", &operation);
        assert_ne!(error.kind, UNKNOWN, "{operation:?}: {error}");
    }
    for answer in both(&[Act::Cut, condition_failed()], "", &delete(versioned())) {
        assert_eq!(answer.unwrap(), Reply::Done);
    }
    // A server that does not send the row that refuses. It is another writer's.
    let row = "{\"Item\":{\"pk\":{\"S\":\"a\"},\"sk\":{\"S\":\"1\"},\"n\":{\"N\":\"7\"}}}";
    let script = [
        Act::Cut,
        condition_failed(),
        Act::Reply(200, row.to_owned()),
    ];
    let error = failure(&script, "", &delete(versioned()));
    assert_eq!(error.kind, UNKNOWN, "{error}");
}

#[test]
fn an_equal_result_of_another_writer_is_not_taken_for_a_counted_write() {
    let actions = vec![
        Action::Set(Path::attribute("n"), 2.into()),
        Action::Add(Path::attribute("sum"), number("1")),
    ];
    let counting = Operation::Update(mintkey_store::Update {
        actions,
        guard: versioned(),
        ..update_of(&orders(), key("a", "1"))
    });
    let error = failure(&[Act::Cut, found(2)], "", &counting);
    assert_eq!(error.kind, UNKNOWN, "{error}");
    let error = failure(&[found(2)], "", &counting);
    assert_eq!(error.kind, ErrorKind::VersionConflict, "{error}");
}

#[test]
fn an_error_of_the_server_is_no_refusal_whatever_its_name() {
    for code in ["ThrottlingException", "RequestLimitExceeded"] {
        for retries in ["&retries=0", "&retries=3"] {
            // It is not sent again: a second response would be one of success.
            let error = failure(&[refused(503, code)], retries, &add());
            assert_eq!(error.kind, UNKNOWN, "{code} {retries}: {error}");
        }
    }
}

#[test]
fn a_server_that_hangs_after_an_invalid_write_is_sent_no_more_of_the_batch() {
    let script = [refused(400, "ValidationException"), Act::Stall];
    let kinds = outcomes(&script, "&timeout=1&retries=0", &batch(&Guard::default()));
    let late = ErrorKind::Timeout(Outcome::Unknown);
    assert_eq!(kinds, [Some(late), Some(NOT_APPLIED), Some(NOT_APPLIED)]);
}

/// One write of a batch that comes back.
fn second_comes_back() -> Act {
    let back = "{\"UnprocessedItems\":{\"orders\":[{\"PutRequest\":{\"Item\":{\"pk\":{\"S\":\"p\"},\"sk\":{\"S\":\"2\"}}}}]}}";
    Act::Reply(200, back.to_owned())
}

#[test]
fn doubt_of_a_batch_stays_with_what_comes_back() {
    let writes = batch(&Guard::default());
    for doubt in [Act::Cut, answered(502, HTML, PAGE)] {
        for code in ["ResourceNotFoundException", "ValidationException"] {
            let mut script = vec![refused(400, code); 9];
            script.splice(0..0, [doubt.clone(), second_comes_back()]);
            let kinds = outcomes(&script, "&retries=1", &writes);
            assert_eq!(kinds, [None, Some(UNKNOWN), None], "{doubt:?} {code}");
            let kinds = outcomes(&script[1..], "&retries=1", &writes);
            assert!(
                ![None, Some(UNKNOWN)].contains(&kinds[1]),
                "{code}: {kinds:?}"
            );
        }
    }
    let mut script = vec![second_comes_back(); 99];
    script.insert(0, Act::Cut);
    let late = ErrorKind::Timeout(Outcome::Unknown);
    assert_eq!(
        outcomes(&script, "&timeout=1", &writes),
        [None, Some(late), None]
    );
    let throttled = Some(ErrorKind::Throttled);
    assert_eq!(
        outcomes(&script[1..], "&timeout=1", &writes),
        [None, throttled, None]
    );
}

#[test]
fn a_write_that_was_not_sent_does_not_come_back() {
    let other = "{\"UnprocessedItems\":{\"orders\":[{\"PutRequest\":{\"Item\":{\"pk\":{\"S\":\"p\"},\"sk\":{\"S\":\"9\"}}}}]}}";
    let kinds = outcomes(
        &[Act::Reply(200, other.to_owned())],
        "",
        &batch(&Guard::default()),
    );
    assert_eq!(kinds, [Some(UNKNOWN); 3]);
}

fn described(status: &str) -> Act {
    let keys = "[{\"AttributeName\":\"pk\",\"KeyType\":\"HASH\"},{\"AttributeName\":\"sk\",\"KeyType\":\"RANGE\"}]";
    Act::Reply(
        200,
        format!("{{\"Table\":{{\"TableStatus\":\"{status}\",\"KeySchema\":{keys}}}}}"),
    )
}

#[test]
fn a_table_that_is_partly_made_is_not_called_unmade() {
    let missing = refused(400, "ResourceNotFoundException");
    let done = Act::Reply(200, "{\"TableDescription\":{}}".to_owned());
    let create = Operation::CreateTable(orders());
    let drop = Operation::DeleteTable(orders());
    for (operation, before) in [
        (&create, vec![missing.clone(), done.clone()]),
        (
            &create,
            vec![missing.clone(), done.clone(), described("CREATING")],
        ),
        (&create, vec![missing.clone(), Act::Cut, missing.clone()]),
        (&drop, vec![done.clone()]),
        (&drop, vec![done.clone(), described("DELETING")]),
        (&drop, vec![Act::Cut]),
    ] {
        for after in [Act::Vanish, answered(404, HTML, PAGE)] {
            let mut script = before.clone();
            script.extend(vec![after; 5]);
            let error = failure(&script, "&retries=1", operation);
            assert_eq!(error.kind, UNKNOWN, "{script:?}: {error}");
        }
    }
    // Nothing was changed yet.
    let throttled = [refused(400, "ThrottlingException")];
    let error = failure(&throttled, "&retries=0", &create);
    assert_eq!(error.kind, ErrorKind::Throttled, "{error}");
    let error = failure(&[answered(404, HTML, PAGE)], "&retries=0", &create);
    assert_eq!(error.kind, NOT_APPLIED, "{error}");
    let mut limited = vec![refused(400, "LimitExceededException"); 999];
    limited[0] = missing.clone();
    assert_eq!(failure(&limited, "&timeout=2", &create).kind, NOT_APPLIED);
    // A step that is refused for a reason keeps it.
    let script = [missing, done, refused(400, "AccessDeniedException")];
    let error = failure(&script, "&retries=0", &create);
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
}
