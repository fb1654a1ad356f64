//! The store's thread panics: every submitted request is answered, and the store stays usable.

#[path = "../../store/tests/suite/requests.rs"]
mod requests;
mod server;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use mintkey_store::store::Never;
use mintkey_store::{Done, ErrorKind, Guard, Operation, Outcome, Reply, Request, Result, Store};
use requests::*;
use server::Fixture;

/// A request that nobody answers fails the test instead of hanging it.
const HANG: Duration = Duration::from_secs(60);

/// A request that asks no server, and the caller of which panics when it gets the answer: on the store's thread.
fn panicking() -> (Arc<Request>, Done) {
    let without_key = put_of(&orders(), item(&[]), Guard::default());
    (
        Arc::new(request(without_key)),
        Box::new(|answer| {
            let lost = matches!(kind(answer), ErrorKind::Unavailable(_));
            assert!(lost, "as a defect would");
        }),
    )
}

fn listening(operation: Operation) -> ((Arc<Request>, Done), Receiver<Result<Reply>>) {
    let (sender, answers) = channel();
    let done: Done = Box::new(move |answer| sender.send(answer).unwrap());
    ((Arc::new(request(operation)), done), answers)
}

/// Saves a row. A thread that is about to end may be given the request, and then says so.
fn save_until_done(store: &dyn Store) {
    loop {
        let (own, answer) = listening(put_of(
            &orders(),
            order("before", "1", &[]),
            Guard::default(),
        ));
        drop(store.submit_all(vec![own]));
        match answer.recv_timeout(HANG).unwrap() {
            Ok(_) => return,
            Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::NotApplied)),
        }
    }
}

#[test]
fn every_request_is_answered_and_the_next_one_starts_the_thread_again() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    for _ in 0..20 {
        // The connection stands, and the layout is known.
        save_until_done(store);
        let write = |place: &str| put_of(&orders(), order(place, "1", &[]), Guard::default());
        let (first, begun) = listening(write("begun"));
        let (last, waiting) = listening(write("waiting"));
        let tickets = store.submit_all(vec![first, panicking(), last]);
        let error = begun.recv_timeout(HANG).unwrap().unwrap_err();
        assert_eq!(error.kind, ErrorKind::Unavailable(Outcome::Unknown));
        let error = waiting.recv_timeout(HANG).unwrap().unwrap_err();
        assert!(matches!(error.kind, ErrorKind::Unavailable(_)), "{error}");
        assert!(error.message.contains("thread"), "{error}");
        assert!(!tickets[2].withdraw());
        assert!(get(store, &orders(), key("waiting", "1")).is_none());
    }
    store.close(&Never);
}

#[test]
fn requests_that_come_while_the_thread_panics_are_answered() {
    let fixture = Fixture::new();
    let store = &*fixture.store;
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let (own, answer) = listening(get_of(&orders(), key("a", "1")));
                    drop(store.submit_all(vec![own]));
                    match answer.recv_timeout(HANG).unwrap() {
                        Ok(reply) => assert_eq!(reply, Reply::Item(None)),
                        Err(error) => {
                            assert!(matches!(error.kind, ErrorKind::Unavailable(_)), "{error}");
                        }
                    }
                }
            });
        }
        for _ in 0..50 {
            let (own, answer) = listening(get_of(&orders(), key("a", "1")));
            drop(store.submit_all(vec![panicking(), own]));
            drop(answer.recv_timeout(HANG).unwrap());
        }
    });
    save_until_done(store);
    store.close(&Never);
}
