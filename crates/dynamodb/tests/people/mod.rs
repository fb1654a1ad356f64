//! A table whose rows have a unique email, with what a server answers about its rows and markers.
#![allow(dead_code, reason = "each test file uses its part")]

use std::sync::Arc;

use mintkey_store::unique::Scope;
use mintkey_store::{
    Action, Delete, Error, ErrorKind, Guard, Item, Operation, Outcome, Path, Reply, Result,
    Returning, Row, Table, Unique, Update,
};
use mintkey_store_testkit::requests::{key, order, orders, put_of, update_of};

use crate::faulty::{Act, both};

pub const UNKNOWN: ErrorKind = ErrorKind::Unavailable(Outcome::Unknown);
pub const NOT_APPLIED: ErrorKind = ErrorKind::Unavailable(Outcome::NotApplied);

/// The marker of the email "x", in base64: `email`, a zero byte, and the type, the length and the bytes of the value.
pub const X: &str = "ZW1haWwAUwABeA==";
/// The marker of the email "y".
pub const Y: &str = "ZW1haWwAUwABeQ==";

pub fn people() -> Arc<Table> {
    Arc::new(Table {
        name: "people".into(),
        model: "Person".into(),
        indexes: Vec::new(),
        unique: vec![Unique {
            name: "email".into(),
            attributes: vec!["email".into()],
            scope: Scope::default(),
        }],
        ..(*orders()).clone()
    })
}

pub fn person(id: &str, email: &str) -> Item {
    order(id, "0", &[("email", email.into())])
}

/// The response to the read of the catalog.
pub fn catalog() -> Act {
    let part = |name: &str| format!(r#"{{"M":{{"name":{{"S":"{name}"}},"type":{{"S":"S"}}}}}}"#);
    let unique = r#"{"M":{"name":{"S":"email"},"attributes":{"L":[{"S":"email"}]}}}"#;
    let (partition, sort) = (part("pk"), part("sk"));
    item(&format!(
        r#""key":{{"B":"AA=="}},"edition":{{"N":"1"}},"table":{{"M":{{"partition":{partition},"sort":{sort},"ttl":{{"S":"expires"}},"indexes":{{"L":[]}},"unique":{{"L":[{unique}]}}}}}}"#
    ))
}

/// The response to a read that finds this item.
pub fn item(attributes: &str) -> Act {
    Act::Reply(200, format!("{{\"Item\":{{{attributes}}}}}"))
}

/// The response to a read that finds nothing.
pub fn nothing() -> Act {
    Act::Reply(200, "{}".to_owned())
}

/// The attributes of a row.
pub fn row(id: &str, others: &str) -> String {
    format!(r#""pk":{{"S":"{id}"}},"sk":{{"S":"0"}}{others}"#)
}

pub fn with_email(id: &str, email: &str) -> String {
    row(id, &format!(r#","email":{{"S":"{email}"}}"#))
}

pub fn expired(id: &str, email: &str) -> String {
    with_email(id, email) + r#","expires":{"N":"1"}"#
}

/// The attributes of a marker.
pub fn marker(key: &str, holder: &str) -> String {
    format!(r#""key":{{"B":"{key}"}},"partition":{{"S":"{holder}"}},"sort":{{"S":"0"}}"#)
}

/// The reason of an item whose condition was false for what is stored.
pub fn stored(attributes: &str) -> String {
    format!(r#"{{"Code":"ConditionalCheckFailed","Message":"no","Item":{{{attributes}}}}}"#)
}

pub fn guard(row: Row) -> Guard {
    Guard {
        row,
        ..Guard::default()
    }
}

pub fn insert(id: &str, email: &str) -> Operation {
    put_of(&people(), person(id, email), guard(Row::Absent))
}

pub fn put(id: &str, email: &str) -> Operation {
    put_of(&people(), person(id, email), Guard::default())
}

pub fn change(id: &str, action: Action) -> Update {
    Update {
        actions: vec![action],
        returning: Returning::Nothing,
        ..update_of(&people(), key(id, "0"))
    }
}

pub fn rename(id: &str, email: &str) -> Operation {
    let set = Action::Set(Path::attribute("email"), email.into());
    Operation::Update(change(id, set))
}

pub fn delete(id: &str) -> Operation {
    Operation::Delete(Delete {
        table: people(),
        key: key(id, "0"),
        guard: Guard::default(),
        returns_old: false,
    })
}

/// Carries out an operation with a known catalog, once blocking and once submitted. Returns each result with the bodies
/// that were sent after the read of the catalog.
pub fn sent(
    script: &[Act],
    parameters: &str,
    operation: &Operation,
) -> [(Result<Reply>, Vec<String>); 2] {
    let script = [&[catalog()], script].concat();
    both(&script, parameters, operation).map(|(result, mut bodies)| {
        let first = bodies.remove(0);
        let wanted =
            r#"{"TableName":"people.unique","Key":{"key":{"B":"AA=="}},"ConsistentRead":true}"#;
        assert_eq!(first, wanted);
        (result, bodies)
    })
}

pub fn failure(script: &[Act], parameters: &str, operation: &Operation) -> Error {
    let [blocking, submitted] = sent(script, parameters, operation)
        .map(|(result, _)| result.expect_err(&format!("{script:?} {operation:?}")));
    assert_eq!(blocking.kind, submitted.kind, "{blocking} | {submitted}");
    blocking
}

/// The parts of a transaction: kind, table, and the rest.
pub fn parts(body: &str) -> Vec<(String, String, String)> {
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let items = body["TransactItems"].as_array().unwrap();
    let part = |item: &serde_json::Value| {
        let (kind, part) = item.as_object().unwrap().iter().next().unwrap();
        let mut part = part.clone();
        let table = part["TableName"].take().as_str().unwrap().to_owned();
        (kind.clone(), table, part.to_string())
    };
    items.iter().map(part).collect()
}

/// Kind and table of each part of a transaction.
pub fn kinds(body: &str) -> Vec<String> {
    parts(body)
        .into_iter()
        .map(|(kind, table, _)| format!("{kind} {table}"))
        .collect()
}

pub const ROW_AND_MARKER: [&str; 2] = ["Put people", "Put people.unique"];
