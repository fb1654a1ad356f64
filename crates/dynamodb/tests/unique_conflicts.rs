//! Unique values: what follows when a marker names another row.

mod faulty;
mod people;

use faulty::{Act, NO_ROW, NONE, cancelled, without_token};
use mintkey_store::{
    Check, Condition, ErrorKind, Guard, Operation, Path, Transaction, TransactionWrite,
};
use mintkey_store_testkit::requests::key;
use people::{
    ROW_AND_MARKER, X, Y, delete, expired, failure, insert, item, kinds, marker, nothing, parts,
    people, person, rename, row, sent, stored, with_email,
};

#[test]
fn the_holder_of_a_value_is_named() {
    let script = [
        cancelled(&[NONE, &stored(&marker(X, "b"))]),
        item(&with_email("b", "x")),
        nothing(),
    ];
    for (result, bodies) in sent(&script, "", &insert("a", "x")) {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
        let violation = &error.violations.as_deref().unwrap()[0];
        assert_eq!(violation.holders, [key("b", "0")]);
        assert_eq!(error.key.as_deref(), Some(&key("a", "0")));
        assert!(error.item.is_none());
        // The row of the holder, and the own one for the guard.
        assert_eq!(bodies.len(), 3);
        assert!(
            bodies
                .iter()
                .skip(1)
                .all(|body| body.contains("\"ConsistentRead\":true"))
        );
    }
    // The guard comes first, also if the server does not say so.
    let script = [
        cancelled(&[NONE, &stored(&marker(X, "b"))]),
        item(&with_email("b", "x")),
        item(&with_email("a", "z")),
    ];
    let error = failure(&script, "", &insert("a", "x"));
    assert_eq!(error.kind, ErrorKind::KeyCollision, "{error}");
    assert_eq!(error.item.as_deref(), Some(&person("a", "z")));
}

#[test]
fn a_value_without_a_rightful_holder_is_taken_over() {
    let refused = cancelled(&[NONE, &stored(&marker(X, "b"))]);
    let [first, second] = ROW_AND_MARKER;
    for (holder, part, condition) in [
        (
            nothing(),
            "ConditionCheck people",
            "attribute_not_exists(#0)",
        ),
        (
            item(&expired("b", "x")),
            "Delete people",
            "attribute_not_exists(#0) OR #1 <= :0",
        ),
        (
            item(&with_email("b", "y")),
            "ConditionCheck people",
            "#0 = :0",
        ),
        (
            item(&row("b", "")),
            "ConditionCheck people",
            "attribute_not_exists(#0)",
        ),
    ] {
        for (result, bodies) in sent(&[refused.clone(), holder.clone()], "", &insert("a", "x")) {
            result.unwrap();
            assert_eq!(bodies.len(), 3);
            assert_eq!(kinds(&bodies[2]), [first, second, part]);
            let parts = parts(&bodies[2]);
            assert!(
                parts[2].2.contains(&format!("\"{condition}\"")),
                "{parts:?}"
            );
            assert!(parts[1].2.contains(r#":2":{"S":"b"}"#), "{parts:?}");
        }
        // The holder is a rightful one since: the take-over does not happen.
        let script = [
            refused.clone(),
            holder,
            cancelled(&[NONE, NONE, &stored(&with_email("b", "x"))]),
            refused.clone(),
            item(&with_email("b", "x")),
            nothing(),
        ];
        for (result, bodies) in sent(&script, "", &insert("a", "x")) {
            let error = result.unwrap_err();
            assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
            assert_eq!(kinds(&bodies[3]), ROW_AND_MARKER);
            assert_eq!(without_token(&bodies[3]).0, without_token(&bodies[0]).0);
        }
    }
    // The marker is gone, or belongs to another row since.
    for (reason, row, expected) in [
        (NO_ROW.to_owned(), None, 4),
        (stored(&marker(X, "c")), Some(nothing()), 5),
    ] {
        let mut script = vec![
            refused.clone(),
            nothing(),
            cancelled(&[NONE, &reason, NONE]),
        ];
        script.extend(row);
        for (result, bodies) in sent(&script, "", &insert("a", "x")) {
            result.unwrap();
            assert_eq!(bodies.len(), expected);
        }
    }
}

#[test]
fn a_marker_of_another_row_is_not_removed() {
    let script = [
        item(&with_email("a", "x")),
        cancelled(&[NONE, &stored(&marker(X, "b"))]),
    ];
    for (result, bodies) in sent(&script, "", &delete("a")) {
        result.unwrap();
        assert_eq!(kinds(&bodies[2]), ["Delete people"]);
    }
}

#[test]
fn rows_of_a_transaction_pass_a_value_on() {
    let (found, freed) = (with_email("a", "x"), with_email("b", "y"));
    let writes = [("a", "y"), ("b", "x")].map(|(id, email)| {
        let Operation::Update(update) = rename(id, email) else {
            unreachable!()
        };
        TransactionWrite::Update(update)
    });
    let operation = Operation::Transaction(Transaction {
        writes: writes.to_vec(),
    });
    let rows =
        format!(r#"{{"Responses":{{"people":[{{{found}}},{{{freed}}}]}},"UnprocessedKeys":{{}}}}"#);
    for (result, bodies) in sent(&[Act::Reply(200, rows)], "", &operation) {
        result.unwrap();
        assert_eq!(bodies.len(), 2);
        let expected = [
            "Update people",
            "Update people",
            "Put people.unique",
            "Put people.unique",
        ];
        assert_eq!(kinds(&bodies[1]), expected);
        let parts = parts(&bodies[1]);
        assert!(
            parts[2].2.contains(Y) && parts[2].2.contains(r#":2":{"S":"b"}"#),
            "{parts:?}"
        );
        assert!(
            parts[3].2.contains(X) && parts[3].2.contains(r#":2":{"S":"a"}"#),
            "{parts:?}"
        );
    }
}

#[test]
fn a_check_of_an_expired_holder_does_not_stop_its_successor() {
    let check = Check {
        table: people(),
        key: key("b", "0"),
        guard: Guard {
            condition: Some(Condition::Missing(Path::attribute("n"))),
            ..Guard::default()
        },
    };
    let Operation::Put(put) = insert("a", "x") else {
        unreachable!()
    };
    let operation = Operation::Transaction(Transaction {
        writes: vec![TransactionWrite::Put(put), TransactionWrite::Check(check)],
    });
    let refused = cancelled(&[NONE, NONE, &stored(&marker(X, "b"))]);
    let script = [refused.clone(), item(&expired("b", "x"))];
    for (result, bodies) in sent(&script, "", &operation) {
        result.unwrap();
        assert_eq!(
            kinds(&bodies[2]),
            ["Put people", "Delete people", "Put people.unique"]
        );
    }
    let script = [refused, item(&with_email("b", "x")), nothing()];
    for (result, _) in sent(&script, "", &operation) {
        let error = result.unwrap_err();
        let kinds: Vec<_> = error
            .reasons
            .iter()
            .map(|own| own.as_ref().map(|own| own.kind))
            .collect();
        assert_eq!(kinds, [Some(ErrorKind::UniqueViolation), None], "{error}");
    }
}
