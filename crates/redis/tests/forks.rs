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
    let use_it = |sort| {
        put(store, &orders(), order("a", sort, &[])).unwrap();
        let (_, answer) = submit(store, get_of(&orders(), key("a", sort)));
        answer.recv().unwrap().unwrap();
    };
    use_it("1");
    store.before_fork();
    store.in_parent();
    use_it("2");
    // What a child does: the thread of the parent, which lives on here, is not looked at any more.
    store.before_fork();
    store.in_child();
    use_it("3");
    assert_eq!(scan(store, scan_of(&orders())).len(), 3);
}
