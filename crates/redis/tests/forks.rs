//! Forks of the store's locks. They end what is on its way in the whole process, so that nothing else is tested here.

#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod server;

use requests::*;
use server::Fixture;

#[test]
fn both_sides_of_a_fork_go_on() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    put(store, &orders(), order("a", "1", &[])).unwrap();
    submit(store, get_of(&orders(), key("a", "1")))
        .1
        .recv()
        .unwrap()
        .unwrap();
    store.before_fork();
    store.in_parent();
    put(store, &orders(), order("a", "2", &[])).unwrap();
    submit(store, get_of(&orders(), key("a", "2")))
        .1
        .recv()
        .unwrap()
        .unwrap();
    // What a child does: the thread of the parent, which lives on here, is not looked at any more.
    store.before_fork();
    store.in_child();
    put(store, &orders(), order("a", "3", &[])).unwrap();
    submit(store, get_of(&orders(), key("a", "3")))
        .1
        .recv()
        .unwrap()
        .unwrap();
    assert_eq!(scan(store, scan_of(&orders())).len(), 3);
}
