//! The exchange without sockets: what is sent where, what is sent again, and the outcome of each call.

use std::cell::{Cell, RefCell};

use super::*;

/// A Cluster, or a single server. Servers are numbers; a slot group is on the server of its route.
struct Servers {
    is_cluster: bool,
    needs_slots: Cell<bool>,
    version: Cell<u64>,
    routes: RefCell<Vec<Option<u8>>>,
}

fn servers(is_cluster: bool) -> Servers {
    Servers {
        is_cluster,
        needs_slots: Cell::new(false),
        version: Cell::new(u64::from(is_cluster)),
        routes: RefCell::new(vec![Some(0), Some(u8::from(is_cluster))]),
    }
}

impl Routes<u8> for Servers {
    fn is_cluster(&self) -> bool {
        self.is_cluster
    }

    fn needs_slots(&self) -> bool {
        self.needs_slots.get()
    }

    fn version(&self) -> u64 {
        self.version.get()
    }

    fn node_of(&self, slot_group: u8) -> Option<u8> {
        self.routes.borrow()[usize::from(slot_group)]
    }

    /// A reply is a word, with a server for MOVED and ASK.
    fn classify_reply(
        &self,
        call: &Call,
        value: Value,
        _: &u8,
        asking: Option<u8>,
    ) -> ReplyAction<u8> {
        let Value::Error(text) = &value else {
            return ReplyAction::Final(value);
        };
        let (word, node) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "NOSCRIPT" => ReplyAction::SendSource(asking),
            "MOVED" => {
                self.routes.borrow_mut()[usize::from(call.slot_group)] = node.parse().ok();
                ReplyAction::Moved
            }
            "ASK" => ReplyAction::Ask(node.parse().unwrap()),
            "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" => ReplyAction::RetryLater(value),
            _ => ReplyAction::Final(value),
        }
    }

    fn no_server_error(&self) -> Error {
        unavailable(Outcome::NotApplied)
    }
}

fn unavailable(outcome: Outcome) -> Error {
    Error::new(ErrorKind::Unavailable(outcome), "it broke")
}

fn timeout(outcome: Outcome) -> Error {
    Error::new(ErrorKind::Timeout(outcome), "it took too long")
}

/// A write that may not be repeated.
fn write(slot_group: u8) -> Call {
    let mut call = Call::on(slot_group, "SET").writing();
    call.repeatable = false;
    call
}

fn read(slot_group: u8) -> Call {
    Call::on(slot_group, "GET")
}

fn error(text: &str) -> Value {
    Value::Error(text.to_owned())
}

fn ok() -> Value {
    Value::Status("OK".to_owned())
}

/// Expects that these calls are sent to a server next.
#[track_caller]
fn expect_send(
    exchange: &mut Exchange<u8>,
    servers: &Servers,
    node: u8,
    indexes: &[usize],
) -> Vec<Outgoing> {
    match exchange.next(servers) {
        Some(Step::Send(own, calls)) => {
            let own_indexes: Vec<usize> = calls.iter().map(|call| call.index).collect();
            assert_eq!((own, &own_indexes[..]), (node, indexes));
            calls
        }
        other => panic!("{other:?}"),
    }
}

/// An exchange that has sent the calls with these indexes to server 0, and to server 1.
#[track_caller]
fn sent(servers: &Servers, calls: Vec<Call>, indexes: &[&[usize]]) -> Exchange<u8> {
    let mut exchange = Exchange::new(calls);
    for (node, indexes) in (0..).zip(indexes) {
        expect_send(&mut exchange, servers, node, indexes);
    }
    exchange
}

/// The outcome of each call: `None` for a final reply, which was sent before or not.
fn outcomes(exchange: Exchange<u8>) -> Vec<std::result::Result<bool, ErrorKind>> {
    assert!(exchange.is_done());
    let replies = exchange.into_replies().into_iter();
    replies
        .map(|reply| match reply {
            Ok(reply) => Ok(reply.sent_before),
            Err(error) => Err(error.kind),
        })
        .collect()
}

const NOT_APPLIED: ErrorKind = ErrorKind::Unavailable(Outcome::NotApplied);
const UNKNOWN: ErrorKind = ErrorKind::Unavailable(Outcome::Unknown);

#[test]
fn calls_are_sent_to_their_servers_and_end_with_their_replies() {
    let servers = servers(true);
    let mut exchange = sent(
        &servers,
        vec![write(0), read(1), write(0)],
        &[&[0, 2], &[1]],
    );
    assert_eq!(exchange.next(&servers), None);
    for index in [2, 0, 1] {
        assert!(!exchange.is_done());
        exchange.wrote(index);
        exchange.reply(index, ok(), &servers);
    }
    assert_eq!(outcomes(exchange), [Ok(false); 3]);
}

#[test]
fn redirects_are_followed() {
    let servers = servers(true);
    let mut exchange = sent(&servers, vec![write(0)], &[&[0]]);
    exchange.reply(0, error("MOVED 1"), &servers);
    expect_send(&mut exchange, &servers, 1, &[0]);
    exchange.reply(0, error("ASK 2"), &servers);
    assert!(expect_send(&mut exchange, &servers, 2, &[0])[0].asking);
    // The script is not known there: it is sent there again.
    exchange.reply(0, error("NOSCRIPT"), &servers);
    let outgoing = expect_send(&mut exchange, &servers, 2, &[0])[0];
    assert!(outgoing.asking && outgoing.send_source);
    exchange.reply(0, error("TRYAGAIN"), &servers);
    assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
    assert_eq!(exchange.next(&servers), None);
    exchange.tick();
    assert!(!expect_send(&mut exchange, &servers, 1, &[0])[0].asking);
    exchange.reply(0, ok(), &servers);
    assert_eq!(outcomes(exchange), [Ok(false)]);
}

#[test]
fn endless_redirects_are_followed_with_delays() {
    let servers = servers(true);
    let mut exchange = Exchange::new(vec![read(0)]);
    for _ in 0..=MAX_REDIRECTS {
        expect_send(&mut exchange, &servers, 0, &[0]);
        exchange.reply(0, error("MOVED 0"), &servers);
    }
    assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
    exchange.stop(timeout);
    assert_eq!(
        outcomes(exchange),
        [Err(ErrorKind::Timeout(Outcome::NotApplied))]
    );
}

#[test]
fn delayed_calls_are_sent_after_one_wait() {
    let servers = servers(true);
    let delayed = |milliseconds| read(0).delayed(Duration::from_millis(milliseconds));
    let mut exchange = Exchange::new(vec![delayed(3), read(0), delayed(5)]);
    let wait = Step::Wait(Duration::from_millis(5));
    assert_eq!(exchange.next(&servers), Some(wait));
    expect_send(&mut exchange, &servers, 0, &[1]);
    exchange.reply(1, ok(), &servers);
    assert_eq!(exchange.next(&servers), None);
    exchange.tick();
    expect_send(&mut exchange, &servers, 0, &[0, 2]);
    exchange.reply(0, ok(), &servers);
    exchange.reply(2, ok(), &servers);
    assert!(exchange.is_done());
    // It was not sent when the time is over.
    let mut exchange = Exchange::new(vec![write(0).delayed(Duration::from_millis(1))]);
    exchange.stop(timeout);
    assert_eq!(
        outcomes(exchange),
        [Err(ErrorKind::Timeout(Outcome::NotApplied))]
    );
}

#[test]
fn a_server_that_stays_busy_has_the_last_word() {
    for word in ["TRYAGAIN", "CLUSTERDOWN", "LOADING"] {
        let servers = servers(true);
        let mut exchange = sent(&servers, vec![write(0)], &[&[0]]);
        exchange.wrote(0);
        exchange.reply(0, error(word), &servers);
        assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
        exchange.tick();
        if word == "CLUSTERDOWN" {
            assert_eq!(exchange.next(&servers), Some(Step::RefreshSlots));
            assert_eq!(exchange.next(&servers), None);
            exchange.slots_refreshed(Ok(()), &servers);
        }
        expect_send(&mut exchange, &servers, 0, &[0]);
        exchange.stop(timeout);
        let replies = exchange.into_replies();
        assert_eq!(replies[0].as_ref().unwrap().value, error(word));
    }
}

#[test]
fn a_write_that_was_sent_again_after_a_busy_reply_is_uncertain() {
    let servers = servers(false);
    let mut exchange = Exchange::new(vec![write(0), read(0)]);
    expect_send(&mut exchange, &servers, 0, &[0, 1]);
    for index in [0, 1] {
        exchange.wrote(index);
        exchange.reply(index, error("LOADING"), &servers);
    }
    assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
    exchange.tick();
    expect_send(&mut exchange, &servers, 0, &[0, 1]);
    for index in [0, 1] {
        exchange.wrote(index);
    }
    exchange.stop(timeout);
    let replies = exchange.into_replies();
    let kind = replies[0].as_ref().map_err(|error| error.kind).err();
    assert_eq!(kind, Some(ErrorKind::Timeout(Outcome::Unknown)));
    // The last reply to a read says more than that the time is over.
    assert_eq!(replies[1].as_ref().unwrap().value, error("LOADING"));
}

#[test]
fn redirects_of_one_call_are_not_allowed_for_by_the_number_of_the_others() {
    let servers = servers(true);
    let mut exchange = Exchange::new((0..100).map(|_| read(0)).collect());
    assert!(matches!(exchange.next(&servers), Some(Step::Send(0, _))));
    for index in 1..100 {
        exchange.reply(index, ok(), &servers);
    }
    for _ in 0..MAX_REDIRECTS {
        exchange.reply(0, error("MOVED 0"), &servers);
        expect_send(&mut exchange, &servers, 0, &[0]);
    }
    exchange.reply(0, error("MOVED 0"), &servers);
    assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
}

#[test]
fn a_write_that_may_have_arrived_is_not_repeated() {
    for (reached, call, again) in [
        (false, write(0), true),
        (true, write(0), false),
        (true, write(0).repeatable(), true),
        (true, read(0), true),
    ] {
        for servers in [servers(false), servers(true)] {
            let mut exchange = sent(&servers, vec![call.clone()], &[&[0]]);
            if reached {
                exchange.wrote(0);
            }
            exchange.broken([0], true, &servers, unavailable);
            if again {
                expect_send(&mut exchange, &servers, 0, &[0]);
                exchange.reply(0, ok(), &servers);
                assert_eq!(outcomes(exchange), [Ok(reached)]);
            } else {
                assert_eq!(outcomes(exchange), [Err(UNKNOWN)]);
            }
        }
    }
}

#[test]
fn a_call_stays_uncertain_until_its_final_reply() {
    let servers = servers(true);
    let mut exchange = sent(&servers, vec![write(0).repeatable()], &[&[0]]);
    exchange.wrote(0);
    exchange.broken([0], true, &servers, unavailable);
    // The next attempt reaches no server, and says nothing about the first one.
    expect_send(&mut exchange, &servers, 0, &[0]);
    exchange.unreachable([0], &servers, &unavailable(Outcome::NotApplied));
    assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
    exchange.stop(timeout);
    assert_eq!(outcomes(exchange), [Err(UNKNOWN)]);
}

#[test]
fn attempts_run_out_on_a_single_server_and_wait_in_a_cluster() {
    let alone = servers(false);
    let mut exchange = Exchange::new(vec![read(0)]);
    for _ in 0..MAX_TRIES {
        expect_send(&mut exchange, &alone, 0, &[0]);
        exchange.wrote(0);
        exchange.broken([0], true, &alone, unavailable);
    }
    assert_eq!(outcomes(exchange), [Err(NOT_APPLIED)]);
    let cluster = servers(true);
    let mut exchange = sent(&cluster, vec![read(0)], &[&[0]]);
    exchange.broken([0], true, &cluster, unavailable);
    for _ in 0..2 * MAX_TRIES {
        expect_send(&mut exchange, &cluster, 0, &[0]);
        exchange.broken([0], true, &cluster, unavailable);
        assert_eq!(exchange.next(&cluster), Some(Step::Wait(RETRY_DELAY)));
        exchange.tick();
        assert_eq!(exchange.next(&cluster), Some(Step::RefreshSlots));
        exchange.slots_refreshed(Ok(()), &cluster);
    }
    exchange.stop(timeout);
    assert_eq!(outcomes(exchange), [Err(NOT_APPLIED)]);
}

#[test]
fn a_reply_that_may_not_be_asked_for_again_ends_the_call() {
    let servers = servers(true);
    let mut exchange = sent(&servers, vec![read(0), write(0)], &[&[0, 1]]);
    exchange.wrote(0);
    exchange.broken([0, 1], false, &servers, unavailable);
    assert_eq!(outcomes(exchange), [Err(NOT_APPLIED), Err(NOT_APPLIED)]);
}

#[test]
fn a_call_that_was_not_sent_is_not_applied_although_another_one_is_unknown() {
    let servers = servers(true);
    let mut exchange = sent(
        &servers,
        vec![write(0), write(1), write(0), write(1)],
        &[&[0, 2], &[1, 3]],
    );
    exchange.wrote(0);
    exchange.wrote(2);
    exchange.wrote(1);
    exchange.reply(0, ok(), &servers);
    exchange.stop(timeout);
    let stopped = |outcome| Err(ErrorKind::Timeout(outcome));
    let [unknown, not_applied] = [Outcome::Unknown, Outcome::NotApplied].map(stopped);
    assert_eq!(
        outcomes(exchange),
        [Ok(false), unknown, unknown, not_applied]
    );
}

#[test]
fn the_other_calls_go_on_when_one_server_fails() {
    let servers = servers(true);
    let mut exchange = sent(&servers, vec![write(0), write(1)], &[&[0], &[1]]);
    exchange.wrote(0);
    exchange.broken([0], true, &servers, unavailable);
    assert!(!exchange.is_done());
    exchange.wrote(1);
    exchange.reply(1, ok(), &servers);
    assert_eq!(outcomes(exchange), [Err(UNKNOWN), Ok(false)]);
}

#[test]
fn a_server_that_cannot_be_connected_to() {
    let refused = unavailable(Outcome::NotApplied);
    let alone = servers(false);
    let mut exchange = sent(&alone, vec![write(0), write(1)], &[&[0, 1]]);
    exchange.unreachable([0, 1], &alone, &refused);
    assert_eq!(outcomes(exchange), [Err(NOT_APPLIED); 2]);
    let cluster = servers(true);
    let mut exchange = sent(&cluster, vec![write(0), write(1)], &[&[0], &[1]]);
    exchange.unreachable([1], &cluster, &refused);
    exchange.reply(0, ok(), &cluster);
    assert_eq!(exchange.next(&cluster), Some(Step::Wait(RETRY_DELAY)));
    exchange.tick();
    assert_eq!(exchange.next(&cluster), Some(Step::RefreshSlots));
    cluster.routes.borrow_mut()[1] = Some(2);
    exchange.slots_refreshed(Ok(()), &cluster);
    expect_send(&mut exchange, &cluster, 2, &[1]);
    exchange.reply(1, ok(), &cluster);
    assert_eq!(outcomes(exchange), [Ok(false); 2]);
    // A refused password is final.
    let mut exchange = sent(&cluster, vec![write(0)], &[&[0]]);
    exchange.unreachable([0], &cluster, &Error::configuration("no"));
    assert_eq!(outcomes(exchange), [Err(ErrorKind::Configuration)]);
}

#[test]
fn slots_are_requested_before_the_first_call() {
    let refused = unavailable(Outcome::NotApplied);
    for is_known in [false, true] {
        let servers = servers(true);
        servers.needs_slots.set(true);
        servers.version.set(u64::from(is_known));
        let mut exchange = Exchange::new(vec![write(0)]);
        assert_eq!(exchange.next(&servers), Some(Step::RefreshSlots));
        assert_eq!(exchange.next(&servers), None);
        exchange.slots_refreshed(Err(refused.clone()), &servers);
        if is_known {
            // The known routes stay in use.
            expect_send(&mut exchange, &servers, 0, &[0]);
            exchange.reply(0, ok(), &servers);
            assert_eq!(outcomes(exchange), [Ok(false)]);
        } else {
            assert_eq!(outcomes(exchange), [Err(NOT_APPLIED)]);
        }
    }
}

#[test]
fn a_slot_group_without_a_server_waits_for_new_routes() {
    let servers = servers(true);
    servers.routes.borrow_mut()[0] = None;
    let mut exchange = Exchange::new(vec![write(0)]);
    assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
    exchange.tick();
    assert_eq!(exchange.next(&servers), Some(Step::RefreshSlots));
    exchange.slots_refreshed(Ok(()), &servers);
    assert_eq!(exchange.next(&servers), Some(Step::Wait(RETRY_DELAY)));
    exchange.stop(timeout);
    assert_eq!(outcomes(exchange), [Err(NOT_APPLIED)]);
}

#[test]
fn an_interrupt_is_reported_before_the_last_error() {
    let servers = servers(true);
    let mut exchange = sent(&servers, vec![write(0), read(1)], &[&[0], &[1]]);
    exchange.wrote(0);
    exchange.unreachable([1], &servers, &unavailable(Outcome::NotApplied));
    let interrupted = |outcome| Error::new(ErrorKind::Interrupted(outcome), "Ctrl-C");
    exchange.stop(interrupted);
    let kinds =
        [Outcome::Unknown, Outcome::NotApplied].map(|outcome| Err(ErrorKind::Interrupted(outcome)));
    assert_eq!(outcomes(exchange), kinds);
}
