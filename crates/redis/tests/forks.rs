//! Forks. They stop the requests in flight of the whole process, so nothing else is tested here, and one test at a time.

use mintkey_store_testkit::requests;
mod server;

use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use mintkey_store::store::Never;
use mintkey_store::{ErrorKind, Interrupt, Outcome, Store};
use requests::*;
use server::Fixture;

fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A fork, after which this process is the child.
fn fork(store: &dyn Store) {
    store.before_fork();
    store.in_child();
}

#[test]
fn the_store_works_in_parent_and_child_after_a_fork() {
    let _alone = alone();
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
    // The worker of the parent, which still runs here, is ignored.
    fork(store);
    use_it("3");
    assert_eq!(scan(store, scan_of(&orders())).len(), 3);
    store.close(&Never);
    fork(store);
    let closed = run(store, get_of(&orders(), key("a", "1"))).unwrap_err();
    assert!(closed.message.contains("closed"), "{closed}");
}

/// A signal handler that forks once.
#[derive(Default)]
struct Forking {
    store: OnceLock<Arc<dyn Store>>,
    forked: AtomicBool,
}

impl Interrupt for Forking {
    fn raised(&self) -> bool {
        if !self.forked.swap(true, Ordering::SeqCst) {
            fork(&**self.store.get().unwrap());
        }
        false
    }
}

#[test]
fn a_fork_during_a_request_ends_it_in_the_child() {
    let _alone = alone();
    let silent = [0; 2].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let [one, other] = silent.each_ref().map(|server| server.local_addr().unwrap());
    for url in [
        format!("redis://{one}?timeout=60"),
        format!("redis-cluster://{one},{other}?timeout=60"),
    ] {
        let handler: &'static Forking = Box::leak(Box::default());
        let store = handler
            .store
            .get_or_init(|| mintkey_redis::open(&url).unwrap());
        let get = request(get_of(&orders(), key("a", "1")));
        let error = store.execute(&get, handler).unwrap_err();
        assert_eq!(
            error.kind,
            ErrorKind::Unavailable(Outcome::Unknown),
            "{error}"
        );
        assert!(error.message.contains("forked"), "{error}");
    }
}
