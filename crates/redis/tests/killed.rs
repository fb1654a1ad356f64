//! Connections that a server closes. They are every test's, so this one has a process for itself.

#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod server;

use mintkey_store::{Action, KeyKind, Operation, Path, Reply};
use requests::*;
use server::{Fixture, command};

#[test]
fn a_killed_connection_is_replaced() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let table = plain("counters", KeyKind::String);
    put(store, &table, item(&[("id", "c".into()), ("n", 0.into())])).unwrap();
    let add = || {
        Operation::Update(mintkey_store::Update {
            actions: vec![Action::Add(Path::attribute("n"), number("1"))],
            ..update_of(
                &table,
                mintkey_store::Key {
                    partition: string("c"),
                    sort: None,
                },
            )
        })
    };
    for _ in 0..20 {
        command(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        run(store, add()).unwrap();
        submit(store, add()).1.recv().unwrap().unwrap();
    }
    let Reply::Item(Some(found)) = run(store, add()).unwrap() else {
        panic!("an update answers with the item");
    };
    assert_eq!(found.get("n"), Some(&41.into()));
}
