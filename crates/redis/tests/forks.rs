//! Forks. They stop the requests in flight of the whole process, so nothing else is tested here.

use mintkey_store_testkit::requests;
mod server;

use requests::*;
use server::Fixture;

#[test]
fn the_store_works_in_parent_and_child_after_a_fork() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    let use_it = |sort| {
        put(store, &orders(), order("a", sort, &[])).unwrap();
        let (_, reply) = submit(store, get_of(&orders(), key("a", sort)));
        reply.recv().unwrap().unwrap();
    };
    use_it("1");
    store.before_fork();
    store.in_parent();
    use_it("2");
    // As in a child: the worker of the parent, which still runs here, is ignored.
    store.before_fork();
    store.in_child();
    use_it("3");
    assert_eq!(scan(store, scan_of(&orders())).len(), 3);
}
