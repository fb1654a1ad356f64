//! Unique values: which calls are sent.

mod faulty;
mod people;

use std::slice;
use std::sync::Arc;

use faulty::{
    Act, CONFLICT, Faulty, NO_ROW, NONE, THROTTLED, bodies, both, cancelled, open, refused,
    without_token,
};
use mintkey_store::{
    Action, BatchWrite, ErrorKind, GetUnique, Guard, Operation, Path, Remedy, Reply, Request,
    Returning, Row, Table, Update, Write,
};
use mintkey_store_testkit::requests::{self, NOW, key, order, put_of, string};
use people::{
    NOT_APPLIED, ROW_AND_MARKER, UNKNOWN, X, Y, catalog, change, delete, expired, failure, guard,
    insert, item, kinds, marker, nothing, parts, people, person, put, rename, sent, stored,
    with_email,
};

#[test]
fn an_insert_of_a_new_key_is_one_call() {
    let server = Faulty::new(&[catalog()]);
    let store = open(&server.endpoint, "");
    requests::run(&*store, insert("a", "x")).unwrap();
    assert_eq!(bodies(&server).len(), 2);
    let free = Guard {
        collision_free: true,
        ..Guard::default()
    };
    for operation in [
        insert("a", "x"),
        put_of(&people(), person("a", "x"), free),
        insert("b", "y"),
    ] {
        let before = bodies(&server).len();
        requests::run(&*store, operation).unwrap();
        assert_eq!(bodies(&server).len(), before + 1);
    }
    let body = &bodies(&server)[1];
    let expected = concat!(
        r##"{"TransactItems":[{"Put":{"TableName":"people","##,
        r##""Item":{"pk":{"S":"a"},"sk":{"S":"0"},"email":{"S":"x"}},"##,
        r##""ConditionExpression":"attribute_not_exists(#0) OR #1 <= :0","##,
        r##""ReturnValuesOnConditionCheckFailure":"ALL_OLD","##,
        r##""ExpressionAttributeNames":{"#0":"pk","#1":"expires"},"ExpressionAttributeValues":{":0":{"N":"4102444800"}}}},"##,
        r##"{"Put":{"TableName":"people.unique","##,
        r##""Item":{"key":{"B":"ZW1haWwAUwABeA=="},"partition":{"S":"a"},"sort":{"S":"0"}},"##,
        r##""ConditionExpression":"attribute_not_exists(#0) OR #1 = :0 AND #2 = :1","##,
        r##""ReturnValuesOnConditionCheckFailure":"ALL_OLD","##,
        r##""ExpressionAttributeNames":{"#0":"key","#1":"partition","#2":"sort"},"##,
        r##""ExpressionAttributeValues":{":0":{"S":"a"},":1":{"S":"0"}}}}]"##,
    );
    assert_eq!(without_token(body).0, expected);
}

#[test]
fn rows_without_the_value_have_no_marker() {
    let operation = put_of(&people(), order("a", "0", &[]), guard(Row::Absent));
    for (result, bodies) in sent(&[], "", &operation) {
        result.unwrap();
        assert_eq!(kinds(&bodies[0]), ["Put people"]);
    }
}

#[test]
fn updates_of_other_attributes_are_single_calls() {
    let add = Action::Add(Path::attribute("n"), 1_i64.into());
    let expire = Action::Set(Path::attribute("expires"), NOW.into());
    for update in [change("a", add), change("a", expire)] {
        for (result, bodies) in sent(&[], "", &Operation::Update(update)) {
            result.unwrap();
            assert_eq!(bodies.len(), 1);
            assert!(!bodies[0].contains("TransactItems"), "{bodies:?}");
        }
    }
}

#[test]
fn a_write_that_may_free_a_value_depends_on_the_row_that_it_read() {
    let found = item(&with_email("a", "x"));
    for (operation, expected) in [
        (
            rename("a", "y"),
            &["Update people", "Put people.unique", "Delete people.unique"][..],
        ),
        (rename("a", "x"), &["Update people"]),
        (
            Operation::Update(change("a", Action::Remove(Path::attribute("email")))),
            &["Update people", "Delete people.unique"],
        ),
        (delete("a"), &["Delete people", "Delete people.unique"]),
    ] {
        for (result, bodies) in sent(slice::from_ref(&found), "", &operation) {
            result.unwrap();
            let read = r#"{"TableName":"people","Key":{"pk":{"S":"a"},"sk":{"S":"0"}},"ConsistentRead":true}"#;
            assert_eq!(bodies[0], read);
            assert_eq!(bodies.len(), 2);
            assert_eq!(kinds(&bodies[1]), expected);
            let (_, _, row) = &parts(&bodies[1])[0];
            assert!(row.contains(r#"{"S":"x"}"#), "{row}");
        }
    }
    // The row has another value since: the next call depends on that. Nothing is read again.
    let script = [
        found.clone(),
        cancelled(&[&stored(&with_email("a", "z")), NONE, NONE]),
    ];
    for (result, bodies) in sent(&script, "", &rename("a", "y")) {
        result.unwrap();
        assert_eq!(bodies.len(), 3);
        let [first, second] = [1, 2].map(|index: usize| parts(&bodies[index]));
        assert!(first[0].2.contains(r#"{"S":"x"}"#), "{first:?}");
        assert!(second[0].2.contains(r#"{"S":"z"}"#), "{second:?}");
        assert!(!second[0].2.contains(r#"{"S":"x"}"#), "{second:?}");
        assert_ne!(without_token(&bodies[1]).1, without_token(&bodies[2]).1);
    }
    // It is gone since.
    let script = [found, cancelled(&[NO_ROW, NONE, NONE])];
    let error = failure(&script, "", &rename("a", "y"));
    assert_eq!(error.kind, ErrorKind::ItemGone, "{error}");
    // An update that copies an attribute depends on that, too.
    let copy = Action::SetFrom(Path::attribute("email"), Path::attribute("next"));
    let both = item(&(with_email("a", "x") + r#","next":{"S":"y"}"#));
    for (result, bodies) in sent(&[both], "", &Operation::Update(change("a", copy))) {
        result.unwrap();
        let parts = parts(&bodies[1]);
        assert!(parts[0].2.contains(r#""next""#), "{parts:?}");
        assert!(parts[1].2.contains(Y), "{parts:?}");
    }
}

#[test]
fn a_put_is_an_insert_until_a_row_refuses_it() {
    for (email, expected) in [
        (
            "y",
            &["Put people", "Put people.unique", "Delete people.unique"][..],
        ),
        ("x", &["Put people"]),
    ] {
        for (result, bodies) in sent(&[], "", &put("a", email)) {
            assert_eq!(result.unwrap(), Reply::Done);
            assert_eq!(bodies.len(), 1);
        }
        let refusal = cancelled(&[&stored(&with_email("a", "x")), NONE]);
        for (result, bodies) in sent(&[refusal], "", &put("a", email)) {
            assert_eq!(result.unwrap(), Reply::Done);
            assert_eq!(bodies.len(), 2);
            assert_eq!(kinds(&bodies[0]), ["Put people", "Put people.unique"]);
            assert_eq!(kinds(&bodies[1]), expected);
            let (_, _, row) = &parts(&bodies[1])[0];
            assert!(row.contains(r#"{"S":"x"}"#), "{row}");
        }
    }
}

#[test]
fn a_lost_reply_is_resolved_by_the_token() {
    for script in [
        vec![Act::Cut],
        vec![refused(500, "InternalServerError")],
        vec![Act::Cut, refused(400, "TransactionInProgressException")],
        vec![Act::Cut, cancelled(&[NONE, CONFLICT])],
    ] {
        for (result, bodies) in sent(&script, "", &insert("a", "x")) {
            assert_eq!(result.unwrap(), Reply::Done);
            assert_eq!(bodies.len(), script.len() + 1);
            assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:?}");
        }
    }
    for operation in [
        insert("a", "x"),
        put("a", "x"),
        delete("a"),
        rename("a", "x"),
    ] {
        let reads = usize::from(!matches!(&operation, Operation::Put(_)));
        let mut script = vec![item(&with_email("a", "y")); reads];
        script.push(Act::Vanish);
        let error = failure(&script, "", &operation);
        assert_eq!(error.kind, UNKNOWN, "{error}");
    }
    // After a conflict, a call that was not answered before is not planned again. A condition ends the doubt.
    let script = [
        Act::Cut,
        cancelled(&[NONE, &stored(&marker(X, "b"))]),
        item(&with_email("b", "x")),
        nothing(),
    ];
    let error = failure(&script, "", &insert("a", "x"));
    assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
}

#[test]
fn conflicts_and_throttling_are_repeated_within_the_time() {
    for reason in [CONFLICT, THROTTLED] {
        let script = vec![cancelled(&[NONE, reason]); 2];
        for (result, bodies) in sent(&script, "", &insert("a", "x")) {
            result.unwrap();
            assert_eq!(bodies.len(), 3);
            assert_ne!(without_token(&bodies[0]).1, without_token(&bodies[1]).1);
        }
    }
    let script = vec![cancelled(&[NONE, CONFLICT]); 200];
    let error = failure(&script, "&timeout=1", &insert("a", "x"));
    assert_eq!(error.kind, NOT_APPLIED, "{error}");
    assert_eq!(error.key.as_deref(), Some(&key("a", "0")));
    let script = vec![cancelled(&[NONE, THROTTLED]); 200];
    let error = failure(&script, "&timeout=1", &insert("a", "x"));
    assert_eq!(error.kind, ErrorKind::Throttled, "{error}");
    // A row that keeps changing.
    let changes =
        (0..200).map(|n| cancelled(&[&stored(&with_email("a", &n.to_string())), NONE, NONE]));
    let mut script: Vec<Act> = changes.collect();
    script.insert(0, item(&with_email("a", "z")));
    let error = failure(&script, "&timeout=1", &rename("a", "x"));
    assert_eq!(error.kind, NOT_APPLIED, "{error}");
}

#[test]
fn a_changed_row_is_read_after_the_update() {
    let Operation::Update(update) = rename("a", "y") else {
        unreachable!()
    };
    let update = Operation::Update(Update {
        returning: Returning::New,
        ..update
    });
    let before = item(&(with_email("a", "x") + r#","n":{"N":"1"}"#));
    let after = item(&(with_email("a", "y") + r#","n":{"N":"2"}"#));
    let row = |n: i64| {
        let others = [("email", "y".into()), ("n", n.into())];
        Reply::Item(Some(order("a", "0", &others)))
    };
    let script = [before.clone(), nothing(), after];
    for (result, _) in sent(&script, "", &update) {
        assert_eq!(result.unwrap(), row(2));
    }
    // It was written, whatever the read says.
    for last in [nothing(), refused(400, "AccessDeniedException")] {
        for (result, _) in sent(&[before.clone(), nothing(), last], "", &update) {
            assert_eq!(result.unwrap(), row(1));
        }
    }
}

fn batch(writes: Vec<Operation>) -> Operation {
    let write = |operation| match operation {
        Operation::Put(put) => Write::Put(put),
        Operation::Update(update) => Write::Update(update),
        Operation::Delete(delete) => Write::Delete(delete),
        other => panic!("{other:?}"),
    };
    Operation::BatchWrite(BatchWrite {
        table: people(),
        writes: writes.into_iter().map(write).collect(),
    })
}

#[test]
fn new_rows_of_a_batch_are_one_call_each() {
    let all = (0..10).map(|n| insert(&n.to_string(), &n.to_string()));
    for (result, bodies) in sent(&[], "", &batch(all.collect())) {
        let Reply::Written(outcomes) = result.unwrap() else {
            unreachable!()
        };
        assert!(outcomes.into_iter().all(|outcome| outcome.is_ok()));
        assert_eq!(bodies.len(), 10);
        assert!(bodies.iter().all(|body| kinds(body) == ROW_AND_MARKER));
    }
}

#[test]
fn the_rows_of_a_batch_are_read_at_once() {
    let found = format!(
        r#"{{"Responses":{{"people":[{{{}}},{{{}}}]}},"UnprocessedKeys":{{}}}}"#,
        with_email("a", "x"),
        with_email("b", "y")
    );
    let writes = vec![delete("a"), put("b", "y"), put("c", "x")];
    for (result, bodies) in sent(&[Act::Reply(200, found)], "", &batch(writes)) {
        result.unwrap();
        assert_eq!(bodies.len(), 4);
        // Who takes a value waits for the one that frees it.
        assert_eq!(kinds(&bodies[3]), ROW_AND_MARKER);
        assert!(parts(&bodies[3])[1].2.contains(X));
    }
}

#[test]
fn a_row_is_found_by_its_value_in_two_calls() {
    let get = Operation::GetUnique(GetUnique {
        table: people(),
        unique: "email".into(),
        values: vec![string("x")],
        attributes: Some(vec!["n".into()]),
    });
    let found = || Reply::Item(Some(order("a", "0", &[])));
    let script = [item(&marker(X, "a")), item(&with_email("a", "x"))];
    for (result, bodies) in sent(&script, "", &get) {
        assert_eq!(result.unwrap(), found());
        assert_eq!(bodies.len(), 2);
        assert!(
            bodies
                .iter()
                .all(|body| body.contains("\"ConsistentRead\":true"))
        );
        assert!(bodies[1].contains("\"email\""), "{bodies:?}");
    }
    for (result, bodies) in sent(&[nothing()], "", &get) {
        assert_eq!(result.unwrap(), Reply::Item(None));
        assert_eq!(bodies.len(), 1);
    }
    let snapshot = |marker: &str, row: &str| {
        let item = |attributes: &str| match attributes {
            "" => "{}".to_owned(),
            attributes => format!("{{\"Item\":{{{attributes}}}}}"),
        };
        Act::Reply(
            200,
            format!("{{\"Responses\":[{},{}]}}", item(marker), item(row)),
        )
    };
    // The holder does not have the value, at the same moment as its marker.
    for row in [String::new(), with_email("b", "y"), expired("b", "x")] {
        let read = if row.is_empty() {
            nothing()
        } else {
            item(&row)
        };
        let script = [item(&marker(X, "b")), read, snapshot(&marker(X, "b"), &row)];
        for (result, _) in sent(&script, "", &get) {
            assert_eq!(result.unwrap(), Reply::Item(None));
        }
    }
    // The value was passed on between the two reads.
    let script = [
        item(&marker(X, "b")),
        nothing(),
        snapshot(&marker(X, "a"), ""),
        item(&with_email("a", "x")),
    ];
    for (result, _) in sent(&script, "", &get) {
        assert_eq!(result.unwrap(), found());
    }
}

#[test]
fn values_that_are_not_built_cannot_be_read_by() {
    let missing = || refused(400, "ResourceNotFoundException");
    let nothing_built = item(r#""key":{"B":"AA=="},"edition":{"N":"2"}"#);
    let get = Operation::GetUnique(GetUnique {
        table: people(),
        unique: "email".into(),
        values: vec![string("x")],
        attributes: None,
    });
    for answer in [missing(), nothing(), nothing_built] {
        for (result, bodies) in both(slice::from_ref(&answer), "", &get) {
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::TableMissing, "{error}");
            assert_eq!(error.remedy.as_deref(), Some(&Remedy::CreateTable));
            assert_eq!(bodies.len(), 1);
        }
    }
}

#[test]
fn writes_keep_up_values_that_are_not_built() {
    let nothing_built = item(r#""key":{"B":"AA=="},"edition":{"N":"2"}"#);
    for answer in [nothing(), nothing_built] {
        for (result, bodies) in both(slice::from_ref(&answer), "", &insert("a", "x")) {
            result.unwrap();
            assert_eq!(bodies.len(), 2);
            assert_eq!(kinds(&bodies[1]), ["Put people", "Put people.unique"]);
        }
    }
}

#[test]
fn writes_without_a_table_of_markers_look_for_it_before_and_after() {
    let missing = || refused(400, "ResourceNotFoundException");
    let done = || Act::Reply(200, "{}".to_owned());
    for (operation, calls) in [
        (insert("a", "x"), 3),
        (put("a", "x"), 3),
        (rename("a", "x"), 3),
        (delete("a"), 2),
    ] {
        let script = [missing(), done(), missing()];
        for (result, bodies) in both(&script, "", &operation) {
            result.unwrap();
            assert_eq!(bodies.len(), calls);
            assert!(!bodies[1].contains("TransactItems"), "{bodies:?}");
        }
    }
    // It was created meanwhile: the writer puts the marker of its row.
    let row = item(&with_email("a", "x"));
    let script = [
        missing(),
        done(),
        nothing(),
        row.clone(),
        row.clone(),
        done(),
    ];
    for (result, bodies) in both(&script, "", &insert("a", "x")) {
        result.unwrap();
        assert_eq!(bodies.len(), 6);
        assert_eq!(
            kinds(&bodies[5]),
            ["ConditionCheck people", "Put people.unique"]
        );
    }
    // Another row has the value already: it is not built.
    let taken = cancelled(&[NONE, &stored(&marker(X, "b"))]);
    let other = item(&with_email("b", "x"));
    let script = [
        missing(),
        done(),
        catalog(),
        row.clone(),
        row.clone(),
        taken,
        other,
        row,
        catalog(),
        done(),
    ];
    for (result, bodies) in both(&script, "", &insert("a", "x")) {
        result.unwrap();
        assert_eq!(bodies.len(), 10);
        assert!(
            bodies[9].contains(r#""edition":{"N":"2"}"#),
            "{}",
            bodies[9]
        );
        assert!(bodies[9].contains(r#""unique":{"L":[]}"#), "{}", bodies[9]);
    }
}

#[test]
fn other_classes_do_not_look_at_the_catalog() {
    let plain = Arc::new(Table {
        unique: Vec::new(),
        ..(*people()).clone()
    });
    let operation = put_of(&plain, person("a", "x"), Guard::default());
    for (result, bodies) in both(&[], "", &operation) {
        result.unwrap();
        assert_eq!(bodies.len(), 1);
        assert!(!bodies[0].contains("TransactItems"));
    }
}

#[test]
fn the_name_of_the_table_leaves_room_for_the_markers() {
    let put = |length: usize| {
        let table = Arc::new(Table {
            name: "t".repeat(length - 2),
            ..(*people()).clone()
        });
        let operation = put_of(&table, person("a", "x"), guard(Row::Absent));
        let server = Faulty::new(&[catalog()]);
        let store = open(&server.endpoint, "&table_prefix=p-");
        requests::run(&*store, operation)
    };
    put(248).unwrap();
    let error = put(249).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Configuration, "{error}");
    assert!(error.message.contains("248"), "{error}");
}

#[test]
fn the_capacity_of_rows_and_markers_is_counted() {
    let capacity = r#"{"ConsumedCapacity":[{"TableName":"people","CapacityUnits":2.0},{"TableName":"people.unique","CapacityUnits":2.0}]}"#;
    let server = Faulty::new(&[catalog(), Act::Reply(200, capacity.to_owned())]);
    let request = Request::new(NOW, insert("a", "x"));
    request.metrics.meter();
    let store = open(&server.endpoint, "");
    store
        .execute(&request, &mintkey_store::store::Never)
        .unwrap();
    assert_eq!(request.metrics.consumed(), Some(4.0));
    assert!((request.operation.least_units() - 4.0).abs() < f64::EPSILON);
}
