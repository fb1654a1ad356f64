//! The worker panics: every submitted request is answered, and the store stays usable.

use mintkey_store_testkit::requests;
mod server;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mintkey_store::store::Never;
use mintkey_store::{Done, ErrorKind, Guard, Operation, Outcome, Reply, Request, Result, Store};
use requests::*;
use server::Fixture;

/// A request without an result fails the test after this time.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// A request that sends nothing, with a callback that panics: on the worker.
fn panicking() -> (Arc<Request>, Done) {
    let invalid = delete_of(&orders(), key("", "1"), Guard::default());
    (
        Arc::new(request(invalid)),
        Box::new(|result| {
            let lost = matches!(kind(result), ErrorKind::Unavailable(_));
            assert!(lost, "a panic on the worker");
        }),
    )
}

fn listening(operation: Operation) -> ((Arc<Request>, Done), Receiver<Result<Reply>>) {
    let (sender, results) = channel();
    let done: Done = Box::new(move |result| sender.send(result).unwrap());
    ((Arc::new(request(operation)), done), results)
}

/// Saves a row. A worker that is about to end may get the request, and then reports that.
fn save_until_done(store: &dyn Store) {
    loop {
        let (own, result) = listening(put_of(
            &orders(),
            order("before", "1", &[]),
            Guard::default(),
        ));
        drop(store.submit_all(vec![own]));
        match result.recv_timeout(TIME_LIMIT).unwrap() {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied)),
        }
    }
}

#[test]
fn every_request_is_answered_and_the_next_one_starts_a_worker() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for _ in 0..20 {
        // From now on the worker is connected, and the layout is known.
        save_until_done(store);
        let write =
            |partition: &str| put_of(&orders(), order(partition, "1", &[]), Guard::default());
        let (first, begun) = listening(write("begun"));
        let (last, waiting) = listening(write("waiting"));
        let tickets = store.submit_all(vec![first, panicking(), last]);
        let error = begun.recv_timeout(TIME_LIMIT).unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::Unknown));
        let error = waiting.recv_timeout(TIME_LIMIT).unwrap().unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Unavailable(_)), "{error}");
        assert!(error.message.contains("thread"), "{error}");
        assert!(!tickets[2].withdraw());
        assert!(get(store, &orders(), key("waiting", "1")).is_none());
    }
    store.close(&Never);
}

#[test]
fn requests_that_are_submitted_during_the_panic_are_answered() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let (own, result) = listening(get_of(&orders(), key("a", "1")));
                    drop(store.submit_all(vec![own]));
                    match result.recv_timeout(TIME_LIMIT).unwrap() {
                        Ok(reply) => assert_eq!(reply, Reply::Item(None)),
                        Err(error) => {
                            assert!(matches!(error.kind, ErrorKind::Unavailable(_)), "{error}");
                        }
                    }
                }
            });
        }
        for _ in 0..50 {
            let (own, result) = listening(get_of(&orders(), key("a", "1")));
            drop(store.submit_all(vec![panicking(), own]));
            drop(result.recv_timeout(TIME_LIMIT).unwrap());
        }
    });
    save_until_done(store);
    store.close(&Never);
}
