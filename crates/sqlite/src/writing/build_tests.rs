//! Builds step by step, with writes of other programs between the steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use mintkey_store::store::Never;
use mintkey_store::unique::{Discriminator, Scope};
use mintkey_store::{
    Error, ErrorKind, GetUnique, Guard, Index, Item, Key, KeyKind, KeyValue, Operation, Query,
    Reply, Request, Store, Table, Unique, Value, Violation,
};
use mintkey_store_testkit::requests::{
    NOW, attribute, by_status, delete_of, get, key, order, orders, put, query, query_of, run, scan,
    scan_of, string,
};
use proptest::prelude::*;

use crate::config::Config;
use crate::store::SqliteStore;

/// A file, the store of a program that builds, and that of a program whose class has nothing new.
struct Programs {
    folder: tempfile::TempDir,
    new: SqliteStore,
    old: SqliteStore,
}

impl Programs {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            let url = format!("sqlite:///{}/test.db?sync=normal", folder.path().display());
            SqliteStore::new(Config::parse(&url).unwrap())
        };
        let (new, old) = (open(), open());
        Self { folder, new, old }
    }

    /// One transaction of a build. Whether nothing is left.
    fn step(&self, table: &Arc<Table>) -> Result<bool, Error> {
        let create = Request::new(NOW, Operation::CreateTable(Arc::clone(table)));
        let reply = self.new.operations().writer.write(&create, &Never)?;
        Ok(reply != Reply::Exists(false))
    }

    fn finish(&self, table: &Arc<Table>) -> Result<(), Error> {
        while !self.step(table)? {}
        Ok(())
    }

    fn inside(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("test.db")).unwrap()
    }

    fn one<T: rusqlite::types::FromSql>(&self, sql: &str) -> T {
        self.inside().query_row(sql, [], |row| row.get(0)).unwrap()
    }

    fn check_file(&self) {
        assert_eq!(self.one::<String>("PRAGMA integrity_check"), "ok");
    }

    fn layout(&self) -> i64 {
        self.one("SELECT layout FROM \"mintkey:catalog\" WHERE name = 'orders'")
    }
}

fn with(indexes: Vec<Index>, unique: Vec<Unique>) -> Arc<Table> {
    Arc::new(Table {
        indexes,
        unique,
        ..(*orders()).clone()
    })
}

fn bare() -> Arc<Table> {
    with(Vec::new(), Vec::new())
}

/// An index on the keys in the other order.
fn inverted() -> Index {
    Index {
        name: "inverted".into(),
        partition: vec![attribute("sk", KeyKind::String)],
        sort: Some(attribute("pk", KeyKind::String)),
        ..by_status()
    }
}

/// An index on attributes that another index has already.
fn by_amount() -> Index {
    Index {
        name: "by_amount".into(),
        partition: vec![attribute("amount", KeyKind::Number)],
        sort: Some(attribute("status", KeyKind::String)),
        ..by_status()
    }
}

fn email(kinds: &[&str]) -> Unique {
    Unique {
        name: "email".into(),
        attributes: vec!["email".into()],
        scope: Scope {
            prefixes: Vec::new(),
            discriminator: Some(Discriminator {
                attribute: "kind".into(),
                values: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
                or_absent: true,
            }),
        },
    }
}

fn row(id: usize, others: &[(&str, Value)]) -> Item {
    order(&format!("r{id:03}"), "0", others)
}

fn user(id: usize, kind: &str, email: &str) -> Item {
    row(id, &[("kind", kind.into()), ("email", email.into())])
}

fn by_email(store: &dyn Store, table: &Arc<Table>, email: &str) -> Option<Item> {
    let get = GetUnique {
        table: Arc::clone(table),
        unique: "email".into(),
        values: vec![string(email)],
        attributes: None,
    };
    match run(store, Operation::GetUnique(get)).unwrap() {
        Reply::Item(item) => item,
        other => panic!("{other:?}"),
    }
}

fn holders(error: &Error) -> Vec<Vec<String>> {
    assert_eq!(error.kind, ErrorKind::UniqueViolation, "{error}");
    let violations = error.violations.as_deref().unwrap();
    let id = |key: &Key| match &key.partition {
        KeyValue::String(id) => id.clone(),
        other => panic!("{other:?}"),
    };
    let ids = |own: &Violation| own.holders.iter().map(id).collect();
    violations.iter().map(ids).collect()
}

fn query_index(store: &dyn Store, table: &Arc<Table>, index: &str, partition: &str) -> Vec<Item> {
    let value = match index {
        "by_amount" => KeyValue::Number(partition.parse().unwrap()),
        _ => string(partition),
    };
    let by_index = Query {
        index: Some(index.into()),
        ..query_of(table, &[value])
    };
    query(store, by_index)
}

#[test]
fn writers_go_on_between_the_steps_and_their_rows_are_in_the_index() {
    let programs = Programs::new();
    let (old, bare) = (&programs.old, bare());
    for id in 0..20 {
        let others = [("status", "new".into()), ("amount", 1.into())];
        put(old, &bare, row(id, &others)).unwrap();
    }
    let table = with(vec![by_status(), inverted()], Vec::new());
    let mut steps = 0;
    while !programs.step(&table).unwrap() {
        // A row that is built already, one that is not, and a new one.
        for id in [0, 19, 100 + steps] {
            let others = [("status", "paid".into()), ("amount", 2.into())];
            put(old, &bare, row(id, &others)).unwrap();
        }
        let gone = delete_of(
            &bare,
            key(&format!("r{:03}", 18 - steps), "0"),
            Guard::default(),
        );
        run(old, gone).unwrap();
        steps += 1;
    }
    assert!(steps >= 5, "{steps}");
    programs.check_file();
    for store in [&programs.new, old] {
        assert_eq!(
            query_index(store, &table, "by_status", "paid").len(),
            2 + steps
        );
        let rows = scan(store, scan_of(&bare));
        let unpaid = rows.len() - 2 - steps;
        assert_eq!(query_index(store, &table, "by_status", "new").len(), unpaid);
        assert_eq!(query_index(store, &table, "inverted", "0"), rows);
    }
}

#[test]
fn a_read_by_an_index_builds_it_first_and_other_requests_do_not_wait() {
    let programs = Programs::new();
    let (new, old, bare) = (&programs.new, &programs.old, bare());
    for id in 0..10 {
        put(
            old,
            &bare,
            row(id, &[("status", "new".into()), ("amount", 1.into())]),
        )
        .unwrap();
    }
    let table = with(vec![by_status()], Vec::new());
    put(
        new,
        &table,
        row(10, &[("status", "new".into()), ("amount", 1.into())]),
    )
    .unwrap();
    assert_eq!(scan(new, scan_of(&table)).len(), 11);
    assert_eq!(
        programs.layout(),
        3,
        "an older mintkey must not read the index"
    );
    assert_eq!(query_index(new, &table, "by_status", "new").len(), 11);
    assert_eq!(
        programs.layout(),
        1,
        "the built table is one that an older mintkey knows"
    );
}

#[test]
fn an_index_on_columns_that_exist_has_all_rows_and_those_alone() {
    let programs = Programs::new();
    let new = &programs.new;
    let first = with(vec![by_status()], Vec::new());
    let values = |status: &str, amount: i64| [("status", status.into()), ("amount", amount.into())];
    for id in 0..9 {
        put(new, &first, row(id, &values("new", 7))).unwrap();
    }
    // A value that no index can hold.
    put(new, &first, row(9, &values("", 7))).unwrap();
    let table = with(vec![by_status(), by_amount()], Vec::new());
    programs.finish(&table).unwrap();
    assert_eq!(query_index(new, &table, "by_amount", "7").len(), 9);
    put(new, &table, row(0, &values("", 7))).unwrap();
    put(&programs.old, &first, row(9, &values("new", 7))).unwrap();
    run(new, delete_of(&table, key("r001", "0"), Guard::default())).unwrap();
    put(&programs.old, &first, row(2, &values("new", 8))).unwrap();
    let ids: Vec<Item> = query_index(&programs.old, &table, "by_amount", "7");
    let expected = [3, 4, 5, 6, 7, 8, 9].map(|id| row(id, &values("new", 7)));
    assert_eq!(ids, expected);
    assert_eq!(query_index(new, &table, "by_amount", "8").len(), 1);
    programs.check_file();
}

#[test]
fn an_expiry_that_is_added_hides_the_rows_that_have_expired() {
    let programs = Programs::new();
    let bare = Arc::new(Table {
        ttl: None,
        ..(*bare()).clone()
    });
    for id in 0..10 {
        let expires = if id % 2 == 0 { NOW - 1 } else { NOW + 1 };
        put(
            &programs.old,
            &bare,
            row(id, &[("expires", expires.into())]),
        )
        .unwrap();
    }
    let table = with(Vec::new(), Vec::new());
    put(&programs.new, &table, row(10, &[])).unwrap();
    assert_eq!(scan(&programs.new, scan_of(&table)).len(), 6);
    programs.check_file();
}

#[test]
fn duplicates_of_rows_that_writers_add_meanwhile_are_reported() {
    let programs = Programs::new();
    let (new, old, bare) = (&programs.new, &programs.old, bare());
    for id in 0..12 {
        put(old, &bare, user(id, "user", &format!("e{id}"))).unwrap();
    }
    let table = with(Vec::new(), vec![email(&["user"])]);
    assert!(!programs.step(&table).unwrap());
    assert!(!programs.step(&table).unwrap());
    // The table has no unique values before they are built: the writes are accepted.
    put(old, &bare, user(20, "user", "e1")).unwrap();
    put(old, &bare, user(21, "user", "e11")).unwrap();
    put(old, &bare, user(0, "user", "e10")).unwrap();
    put(old, &bare, user(22, "guest", "e2")).unwrap();
    put(old, &bare, row(23, &[("email", Value::List(Vec::new()))])).unwrap();
    put(old, &bare, row(23, &[])).unwrap();
    let error = programs.finish(&table).unwrap_err();
    let found: Vec<Vec<String>> = holders(&error)
        .into_iter()
        .map(|mut ids| {
            ids.sort();
            ids
        })
        .collect();
    assert_eq!(
        found,
        [["r001", "r020"], ["r000", "r010"], ["r011", "r021"]]
            .map(|ids| ids.map(str::to_owned).to_vec())
    );
    // Nothing is unique, as before.
    put(old, &bare, user(24, "user", "e2")).unwrap();
    programs.check_file();
    for id in ["r020", "r000", "r021", "r024"] {
        run(old, delete_of(&bare, key(id, "0"), Guard::default())).unwrap();
    }
    programs.finish(&table).unwrap();
    assert_eq!(by_email(new, &table, "e10"), Some(user(10, "user", "e10")));
    let error = put(old, &bare, user(30, "user", "e3")).unwrap_err();
    assert_eq!(holders(&error), [["r003"]]);
    assert_eq!(
        programs.one::<i64>("SELECT count(*) FROM orders WHERE \"=email\" >= x'fe'"),
        0
    );
    programs.check_file();
}

#[test]
fn names_of_any_text_are_built() {
    let programs = Programs::new();
    let (new, bare) = (&programs.new, bare());
    let name = "{table}\"' ?1";
    for (id, value) in ["v0", "v1", "v2"].into_iter().enumerate() {
        put(new, &bare, row(id, &[(name, value.into())])).unwrap();
    }
    let unique = Unique {
        name: name.into(),
        attributes: vec![name.into()],
        scope: Scope::default(),
    };
    let table = with(Vec::new(), vec![unique]);
    programs.finish(&table).unwrap();
    let error = put(new, &bare, row(9, &[(name, "v1".into())])).unwrap_err();
    assert_eq!(holders(&error), [["r001"]]);
    programs.check_file();
}

#[test]
fn a_duplicate_that_is_gone_before_the_end_is_none() {
    let programs = Programs::new();
    let (old, bare) = (&programs.old, bare());
    for id in 0..8 {
        put(old, &bare, user(id, "user", &format!("e{}", id % 7))).unwrap();
    }
    let table = with(Vec::new(), vec![email(&["user"])]);
    for _ in 0..2 {
        assert!(!programs.step(&table).unwrap());
    }
    run(old, delete_of(&bare, key("r000", "0"), Guard::default())).unwrap();
    programs.finish(&table).unwrap();
    assert_eq!(by_email(old, &table, "e0"), Some(user(7, "user", "e0")));
}

#[test]
fn a_class_that_does_not_declare_the_values_builds_its_index_and_leaves_them() {
    let programs = Programs::new();
    let (old, bare) = (&programs.old, bare());
    for id in 0..8 {
        let pairs = [
            ("email", "same".into()),
            ("status", "new".into()),
            ("amount", 1.into()),
        ];
        put(old, &bare, row(id, &pairs)).unwrap();
    }
    let both = with(vec![by_status()], vec![email(&[])]);
    assert!(!programs.step(&both).unwrap());
    let indexed = with(vec![by_status()], Vec::new());
    assert_eq!(query_index(old, &indexed, "by_status", "new").len(), 8);
    put(old, &indexed, row(8, &[("email", "same".into())])).unwrap();
    let error = put(&programs.new, &both, row(9, &[])).unwrap_err();
    assert_eq!(holders(&error).concat().len(), 9);
    assert_eq!(get(&programs.new, &bare, key("r009", "0")), None);
    assert_eq!(programs.layout(), 1);
    programs.check_file();
}

#[test]
fn the_conflicts_of_one_class_do_not_concern_another() {
    let programs = Programs::new();
    let (new, old, bare) = (&programs.new, &programs.old, bare());
    for id in 0..6 {
        let phone = format!("p{id}");
        let pairs = [("email", "same".into()), ("phone", phone.as_str().into())];
        put(old, &bare, row(id, &pairs)).unwrap();
    }
    let phone = Unique {
        name: "phone".into(),
        attributes: vec!["phone".into()],
        scope: Scope::default(),
    };
    assert!(!programs.step(&with(Vec::new(), vec![email(&[])])).unwrap());
    let phones = with(Vec::new(), vec![phone]);
    programs.finish(&phones).unwrap();
    let error = put(new, &phones, row(9, &[("phone", "p1".into())])).unwrap_err();
    assert_eq!(holders(&error), [["r001"]]);
    // A value that cannot be unique is found by the class that declares it.
    put(old, &bare, row(10, &[("email", Value::Bool(true))])).unwrap();
    let error = programs
        .finish(&with(Vec::new(), vec![email(&[])]))
        .unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidValue, "{error}");
    assert_eq!(error.key.as_deref(), Some(&key("r010", "0")));
    let error = put(old, &bare, row(9, &[("phone", "p1".into())])).unwrap_err();
    assert_eq!(holders(&error), [["r001"]]);
    programs.check_file();
}

#[test]
fn a_scope_that_grows_and_is_refused_stays_as_it_was() {
    let programs = Programs::new();
    let (new, old) = (&programs.new, &programs.old);
    let users = with(Vec::new(), vec![email(&["user"])]);
    for id in 0..6 {
        put(old, &users, user(id, "user", &format!("e{id}"))).unwrap();
        put(old, &users, user(10 + id, "admin", &format!("a{id}"))).unwrap();
    }
    put(old, &users, user(20, "admin", "e5")).unwrap();
    let all = with(Vec::new(), vec![email(&["user", "admin"])]);
    // Meanwhile, a value that was unique before stays so.
    assert!(!programs.step(&all).unwrap());
    let error = put(new, &bare(), user(30, "user", "e0")).unwrap_err();
    assert_eq!(holders(&error), [["r000"]]);
    let error = programs.finish(&all).unwrap_err();
    assert_eq!(holders(&error), [["r005", "r020"]]);
    let error = put(old, &users, user(30, "user", "e1")).unwrap_err();
    assert_eq!(holders(&error), [["r001"]]);
    put(old, &users, user(31, "user", "a1")).unwrap();
    assert_eq!(by_email(old, &users, "a1"), Some(user(31, "user", "a1")));
    for id in ["r031", "r020"] {
        run(old, delete_of(&users, key(id, "0"), Guard::default())).unwrap();
    }
    programs.finish(&all).unwrap();
    let error = put(old, &users, user(30, "user", "a1")).unwrap_err();
    assert_eq!(holders(&error), [["r011"]]);
    assert_eq!(programs.layout(), 2);
    programs.check_file();
}

#[test]
fn values_that_were_dropped_can_be_declared_again() {
    let programs = Programs::new();
    let (new, bare) = (&programs.new, bare());
    let table = with(Vec::new(), vec![email(&[])]);
    for id in 0..10 {
        put(
            new,
            &table,
            row(id, &[("email", format!("e{id}").as_str().into())]),
        )
        .unwrap();
    }
    let drop = || Operation::DropUnique(Arc::clone(&table), vec!["email".into()]);
    let first = Request::new(NOW, drop());
    let reply = programs
        .new
        .operations()
        .writer
        .write(&first, &Never)
        .unwrap();
    assert_eq!(
        reply,
        Reply::Exists(false),
        "the values are removed in steps"
    );
    // A class declares them again in the middle of it.
    put(&programs.old, &table, row(11, &[("email", "e11".into())])).unwrap();
    let error = put(new, &bare, row(12, &[("email", "e1".into())])).unwrap_err();
    assert_eq!(holders(&error), [["r001"]]);
    run(new, drop()).unwrap();
    put(new, &bare, row(12, &[("email", "e1".into())])).unwrap();
    assert_eq!(
        programs.one::<i64>("SELECT count(*) FROM orders WHERE \"=email\" IS NOT NULL"),
        0
    );
    assert_eq!(programs.layout(), 1);
    programs.check_file();
}

#[test]
fn a_table_in_memory_is_built_too() {
    let store = SqliteStore::new(Config::parse("sqlite://").unwrap());
    for id in 0..10 {
        put(
            &store,
            &bare(),
            row(id, &[("status", "new".into()), ("amount", 1.into())]),
        )
        .unwrap();
    }
    let table = with(vec![by_status(), inverted()], Vec::new());
    assert_eq!(query_index(&store, &table, "by_status", "new").len(), 10);
    assert_eq!(query_index(&store, &table, "inverted", "0").len(), 10);
}

/// What the programs do between two steps.
#[derive(Clone, Debug)]
enum Act {
    Put(usize, u8, u8),
    Delete(usize),
    Step,
    /// The builder ends, and another continues.
    OtherStep,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        3 => (0..40_usize, 0..4_u8, 0..30_u8).prop_map(|(id, status, email)| Act::Put(id, status, email)),
        1 => (0..40_usize).prop_map(Act::Delete),
        3 => Just(Act::Step),
        1 => Just(Act::OtherStep),
    ]
}

fn full_row(id: usize, status: u8, email: u8) -> Item {
    let mut pairs = vec![("amount", Value::from(i64::from(status)))];
    if status > 0 {
        pairs.push(("status", format!("s{status}").as_str().into()));
    }
    let email = format!("e{email}");
    pairs.push(("email", email.as_str().into()));
    row(id, &pairs)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever writers do meanwhile, an index has the rows that a scan finds, and unique values are built exactly if no
    /// two rows have the same.
    #[test]
    fn a_build_ends_with_what_the_rows_say(
        first in prop::collection::btree_map(0..40_usize, (0..4_u8, 0..200_u8), 0..30),
        acts in prop::collection::vec(act(), 0..40),
    ) {
        let programs = Programs::new();
        let old_class = with(vec![by_status()], Vec::new());
        let mut rows: BTreeMap<usize, Item> = BTreeMap::new();
        for (id, (status, email)) in first {
            let item = full_row(id, status, email);
            put(&programs.old, &old_class, item.clone()).unwrap();
            rows.insert(id, item);
        }
        let new_class = with(vec![by_status(), by_amount(), inverted()], vec![email(&[])]);
        let create = Request::new(NOW, Operation::CreateTable(Arc::clone(&new_class)));
        let mut result = Ok(false);
        for act in acts {
            match act {
                Act::Put(id, status, email) => {
                    let item = full_row(id, status, email);
                    // Refused if the values are built, and another row has them.
                    if put(&programs.old, &old_class, item.clone()).is_ok() {
                        rows.insert(id, item);
                    }
                }
                Act::Delete(id) => {
                    run(&programs.old, delete_of(&old_class, key(&format!("r{id:03}"), "0"), Guard::default())).unwrap();
                    rows.remove(&id);
                }
                Act::Step => result = programs.step(&new_class),
                Act::OtherStep => {
                    let reply = programs.old.operations().writer.write(&create, &Never);
                    result = reply.map(|reply| reply != Reply::Exists(false));
                }
            }
            if let Err(error) = &result {
                prop_assert_eq!(error.kind, ErrorKind::UniqueViolation);
            }
        }
        let result = programs.new.execute(&create, &Never);
        let mut by_value: BTreeMap<String, usize> = BTreeMap::new();
        for item in rows.values() {
            *by_value.entry(format!("{:?}", item.get("email"))).or_default() += 1;
        }
        let duplicates = by_value.values().filter(|count| **count > 1);
        let most = duplicates.clone().count();
        match result {
            Ok(_) => prop_assert_eq!(most, 0),
            Err(error) => prop_assert_eq!(holders(&error).len(), most),
        }
        programs.check_file();
        let class = if most == 0 { new_class } else { with(vec![by_status(), by_amount(), inverted()], Vec::new()) };
        for store in [&programs.new, &programs.old] {
            prop_assert_eq!(&scan(store, scan_of(&class)), &rows.values().cloned().collect::<Vec<_>>());
            prop_assert_eq!(query_index(store, &class, "inverted", "0").len(), rows.len());
            for status in 0..4_u8 {
                let has = |item: &&Item| item.get("amount") == Some(&Value::from(i64::from(status)));
                let expected = if status == 0 { 0 } else { rows.values().filter(has).count() };
                prop_assert_eq!(query_index(store, &class, "by_amount", &status.to_string()).len(), expected);
                prop_assert_eq!(query_index(store, &class, "by_status", &format!("s{status}")).len(), expected);
            }
        }
    }
}
