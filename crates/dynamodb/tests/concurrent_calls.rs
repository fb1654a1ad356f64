//! Several calls at once: on the calling thread as on the store's own.

mod faulty;
use mintkey_store_testkit::requests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use faulty::{Act, Faulty};
use mintkey_store::store::Never;
use mintkey_store::{
    BatchGet, BatchWrite, ErrorKind, Guard, Interrupt, Operation, Outcome, Reply, Result, Row,
    Scan, Store,
};
use requests::{batch_put, order, orders, request, scan_of, submit};

fn open(endpoint: &str, parameters: &str) -> Arc<dyn Store> {
    let url = format!("dynamodb://us-east-1?endpoint={endpoint}&timeout=20{parameters}");
    mintkey_dynamodb::open(&url).unwrap()
}

/// So many inserts, each a call of its own.
fn inserts(count: usize) -> Operation {
    let guard = Guard {
        row: Row::Absent,
        ..Guard::default()
    };
    let insert = |number: usize| {
        batch_put(
            &orders(),
            order("p", &number.to_string(), &[]),
            guard.clone(),
        )
    };
    Operation::BatchWrite(BatchWrite {
        table: orders(),
        writes: (0..count).map(insert).collect(),
    })
}

fn meeting(count: usize, body: &str) -> Vec<Act> {
    let place = Arc::new(Barrier::new(count));
    vec![Act::Meet(place, body.to_owned()); count]
}

fn written(reply: Result<Reply>) -> Vec<Result<()>> {
    let Reply::Written(written) = reply.unwrap() else {
        panic!("a batch of writes answers with their outcomes");
    };
    written
}

#[test]
fn guarded_writes_of_a_batch_are_under_way_together() {
    let faulty = Faulty::new(&meeting(4, "{}"));
    let store = open(&faulty.endpoint, "");
    let outcomes = written(requests::run(&*store, inserts(4)));
    assert!(outcomes.iter().all(Result::is_ok) && outcomes.len() == 4);
    let faulty = Faulty::new(&meeting(4, "{}"));
    let store = open(&faulty.endpoint, "");
    let (_, answer) = submit(&*store, inserts(4));
    assert!(written(answer.recv().unwrap()).iter().all(Result::is_ok));
}

#[test]
fn keys_of_a_batch_are_asked_for_together() {
    let faulty = Faulty::new(&meeting(3, "{\"Responses\":{\"orders\":[]}}"));
    let store = open(&faulty.endpoint, "");
    let batch = Operation::BatchGet(BatchGet {
        table: orders(),
        keys: (0..250)
            .map(|number: u32| requests::key("p", &number.to_string()))
            .collect(),
        consistent: false,
        attributes: None,
    });
    let Reply::Items(items) = requests::run(&*store, batch).unwrap() else {
        panic!("a batch of reads answers with items");
    };
    assert_eq!(items, vec![None; 250]);
}

fn segments(count: u32) -> Vec<Arc<mintkey_store::Request>> {
    let scan = |segment| {
        Arc::new(request(Operation::Scan(Scan {
            segment: Some((segment, count)),
            ..scan_of(&orders())
        })))
    };
    (0..count).map(scan).collect()
}

#[test]
fn segments_are_read_together_and_answered_in_order() {
    let faulty = Faulty::new(&meeting(4, "{\"Items\":[],\"Count\":0,\"ScannedCount\":0}"));
    let store = open(&faulty.endpoint, "");
    let replies: Result<Vec<Reply>> = store
        .execute_all(&segments(4), &Never)
        .into_iter()
        .collect();
    let replies = replies.unwrap();
    assert_eq!(replies.len(), 4);
    let mut asked: Vec<bool> = Vec::new();
    for segment in 0..4 {
        let wanted = format!("\"Segment\":{segment},");
        asked.push(faulty.seen().iter().any(|seen| seen.contains(&wanted)));
    }
    assert_eq!(asked, [true; 4]);
}

/// Raised at the second look, and never again.
struct Once(AtomicUsize);

impl Interrupt for Once {
    fn raised(&self) -> bool {
        self.0.fetch_add(1, Ordering::SeqCst) == 1
    }
}

#[test]
fn an_interrupt_ends_all_and_begins_nothing() {
    static ONCE: Once = Once(AtomicUsize::new(0));
    let faulty = Faulty::new(&vec![Act::Stall; 20]);
    let store = open(&faulty.endpoint, "");
    let error = store.execute(&request(inserts(20)), &ONCE).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Interrupted(Outcome::Unknown));
    assert_eq!(faulty.seen().len(), 8);
}

#[test]
fn nothing_more_is_sent_once_nobody_answers() {
    let faulty = Faulty::new(&vec![Act::Stall; 20]);
    let url = format!(
        "dynamodb://us-east-1?endpoint={}&timeout=1",
        faulty.endpoint
    );
    let store = mintkey_dynamodb::open(&url).unwrap();
    let outcomes = written(requests::run(&*store, inserts(20)));
    assert_eq!(faulty.seen().len(), 8);
    let late = ErrorKind::Timeout(Outcome::Unknown);
    let unsent = ErrorKind::Unavailable(Outcome::NotApplied);
    let kinds: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.as_ref().unwrap_err().kind)
        .collect();
    assert_eq!(kinds[..8], [late; 8]);
    assert_eq!(kinds[8..], [unsent; 12]);
}
