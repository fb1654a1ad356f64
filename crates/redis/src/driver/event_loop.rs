//! The store's thread: it drives all submitted requests over one connection to each server, and sends
//! whatever has come together at once.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mintkey_store::{Error, ErrorKind, Outcome, Reply, Request, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::driver::call_state::{DETOURS, Leg, TRIES, outcome, refused, unsent};
use crate::driver::coalesce::joined;
use crate::driver::multiplexed::{Line, Sent};
use crate::driver::queue::Entry;
use crate::driver::shared::Shared;
use crate::operations;
use crate::protocol::channel::{Answer, Talk};
use crate::protocol::replies::is_busy;
use crate::protocol::resp::{Call, Value};
use crate::transport::adaptive_spin::Patience;
use crate::transport::connection::Cause;
use crate::transport::deadline::{RESPITE, Stop, Watch};
use crate::transport::topology::Node;

/// How long a server may keep silent at most while something is late.
const SILENCE: Duration = Duration::from_secs(1);

/// How long a server that refuses connections at the moment is left alone.
const BUSY: Duration = Duration::from_millis(100);

/// Requests in flight at most; those behind them wait, and can be withdrawn.
const FLIGHTS: usize = 1024;

/// Carries out what is submitted until the store is closed.
pub fn work(shared: Arc<Shared>, bell: UnixStream) {
    Worker {
        shared,
        bell,
        flights: HashMap::new(),
        number: 0,
        lines: Vec::new(),
        later: Vec::new(),
        away: Vec::new(),
        unable: None,
        unreached: None,
        astray: None,
        changes: 0,
        answers: Patience::default(),
        requests: Patience::default(),
    }
    .work();
}

/// A request in flight.
struct Flight {
    /// What was submitted: one request, or several that are carried out together.
    entries: Vec<Entry>,
    operation: Pin<Box<dyn Future<Output = Result<Reply>> + Send>>,
    talk: Talk,
    watch: Watch,
    /// Counts what was asked: an answer to something older concerns nobody.
    round: u64,
    calls: Vec<Call>,
    legs: Vec<Leg>,
    missing: usize,
    tries: usize,
    detours: usize,
    /// What is told if a server of the Cluster stays away.
    trouble: Option<Error>,
}

/// Gives all who wait for it the answer to their joined request.
fn deliver(entries: &[Entry], answer: Result<Reply>) {
    match (entries, answer) {
        ([entry], answer) => entry.deliver(answer),
        (entries, Ok(Reply::Written(outcomes))) => {
            for (entry, outcome) in entries.iter().zip(outcomes) {
                entry.deliver(outcome.map(|()| Reply::Done));
            }
        }
        (entries, Ok(_)) => {
            for entry in entries {
                entry.deliver(Ok(Reply::Done));
            }
        }
        (entries, Err(error)) => {
            for entry in entries {
                entry.deliver(Err(copy(&error)));
            }
        }
    }
}

fn copy(error: &Error) -> Error {
    Error::new(error.kind, error.message.clone())
}

/// What to wait for at the lines.
fn sockets(lines: &[Line]) -> Vec<PollFd<'_>> {
    let sockets = lines.iter().map(|line| {
        let mut flags = PollFlags::IN;
        if line.is_full() {
            flags |= PollFlags::OUT;
        }
        PollFd::new(&line.connection.stream, flags)
    });
    sockets.collect()
}

/// The thread's own things.
struct Worker {
    shared: Arc<Shared>,
    bell: UnixStream,
    flights: HashMap<u64, Flight>,
    number: u64,
    lines: Vec<Line>,
    /// Calls that are sent again after a respite: flight, round, place.
    later: Vec<(Instant, u64, u64, usize)>,
    /// Servers to which no connection could be made, why, and until when they are left alone.
    away: Vec<(Instant, Arc<Node>, Error)>,
    /// Why no server of the Cluster can tell where its slots are, and until when none is asked again.
    unable: Option<(Instant, Error)>,
    /// Why no connection could be made, and when that was known.
    unreached: Option<(Instant, Error)>,
    /// Set when the Cluster must be asked where its slots are: what it had told by then.
    astray: Option<u64>,
    /// The changes of the Cluster's routes that its lines are in accord with.
    changes: u64,
    /// With servers.
    answers: Patience,
    /// With those who submit.
    requests: Patience,
}

impl Worker {
    fn work(mut self) {
        loop {
            if !self.take_in() {
                return;
            }
            self.repeat();
            self.write();
            self.wait();
            self.read();
            self.look_at_the_clock();
            self.let_lines_go();
        }
    }

    /// Closes the lines to servers that have no bucket any more, when all on them is answered.
    fn let_lines_go(&mut self) {
        let nodes = &self.shared.nodes;
        if !nodes.are_cluster() || nodes.changes() == self.changes {
            return;
        }
        let changes = nodes.changes();
        let idle = |line: &Line| line.sent.is_empty() && !line.is_full();
        self.lines
            .retain(|line| nodes.serves(&line.node) || !idle(line));
        if self.lines.iter().all(|line| nodes.serves(&line.node)) {
            self.changes = changes;
        }
    }

    /// Begins what was submitted; false if it is time to end.
    fn take_in(&mut self) -> bool {
        loop {
            let room = FLIGHTS.saturating_sub(self.flights.len());
            let ends = self.flights.is_empty() && self.shared.is_closed();
            let entries = self.shared.queue.take(room, ends);
            if entries.is_empty() {
                return !ends;
            }
            let taken = entries.into_iter().filter(Entry::begin);
            let shared = Arc::clone(&self.shared);
            for (entries, request) in joined(&shared.engine.config.space, taken) {
                self.begin(entries, request);
            }
        }
    }

    fn begin(&mut self, entries: Vec<Entry>, request: Arc<Request>) {
        let talk = Talk::default();
        let operation = {
            let (shared, talk) = (Arc::clone(&self.shared), talk.clone());
            Box::pin(async move { operations::run(&shared.engine, &talk, &request).await })
        };
        self.number += 1;
        let watch = Watch::new(None, self.shared.engine.config.timeout);
        let flight = Flight {
            entries,
            operation,
            talk,
            watch,
            round: 0,
            calls: Vec::new(),
            legs: Vec::new(),
            missing: 0,
            tries: 0,
            detours: 0,
            trouble: None,
        };
        self.flights.insert(self.number, flight);
        self.go_on(self.number);
    }

    /// Lets an operation go on until it asks or ends.
    fn go_on(&mut self, number: u64) {
        let Some(flight) = self.flights.get_mut(&number) else {
            return;
        };
        let mut context = Context::from_waker(Waker::noop());
        match flight.operation.as_mut().poll(&mut context) {
            Poll::Ready(answer) => {
                if let Some(flight) = self.flights.remove(&number) {
                    deliver(&flight.entries, answer);
                }
            }
            Poll::Pending => {
                let (calls, anew) = flight.talk.asked();
                if anew {
                    flight.watch.start_anew();
                }
                if flight.watch.end() <= Instant::now() {
                    let stop = Stop::Late(self.shared.engine.config.timeout);
                    self.answer(number, Err(stop.error(Outcome::NotApplied)));
                    return;
                }
                flight.round += 1;
                flight.missing = calls.len();
                flight.legs = calls.iter().map(|_| Leg::default()).collect();
                flight.calls = calls;
                (flight.tries, flight.detours, flight.trouble) = (0, 0, None);
                if flight.missing == 0 {
                    self.answer(number, Ok(Vec::new()));
                    return;
                }
                let (round, many) = (flight.round, flight.missing);
                for place in 0..many {
                    self.send(number, round, place);
                }
            }
        }
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        if let Some(flight) = self.flights.get_mut(&number) {
            // What else comes in for this question is too late.
            flight.round += 1;
            flight.talk.answer(answer);
            self.go_on(number);
        }
    }

    fn refuse(&mut self, number: u64, error: Error) {
        if let Some(flight) = self.flights.get(&number) {
            let outcome = outcome(&flight.calls, &flight.legs);
            self.answer(number, Err(unsent(error, outcome)));
        }
    }

    /// Refuses a request for a reason that is one for all that have been submitted by now.
    fn refuse_all(&mut self, number: u64, error: Error) {
        self.unreached = Some((Instant::now(), copy(&error)));
        self.refuse(number, error);
    }

    /// Puts a call on the line to its server, unless its question has been answered.
    fn send(&mut self, number: u64, round: u64, place: usize) {
        let nodes = &self.shared.nodes;
        let Some(flight) = self.flights.get_mut(&number) else {
            return;
        };
        if flight.round != round {
            return;
        }
        let config = &self.shared.engine.config;
        // What waited while others tried in vain must not wait for the same again, one after the other.
        let vain = self.unreached.as_ref().filter(|(when, _)| {
            let mut entries = flight.entries.iter();
            entries.all(|entry| entry.submitted <= *when)
        });
        let vain = vain.map(|(_, error)| copy(error));
        let in_cluster = nodes.are_cluster();
        if in_cluster {
            if nodes.version() == 0
                && let Some(error) = vain
            {
                return self.refuse(number, error);
            }
            if nodes.version() == 0
                && let Some((_, error)) = &self.unable
            {
                flight.trouble = Some(copy(error));
                return self.postpone(number, round, place, false);
            }
            match nodes.prepare(config, &mut flight.watch, false) {
                Ok(()) => {}
                Err(error) if is_busy(&error) => {
                    flight.trouble = Some(copy(&error));
                    self.unable = Some((Instant::now() + BUSY, error));
                    return self.postpone(number, round, place, false);
                }
                Err(error) => return self.refuse_all(number, error),
            }
        }
        let leg = &flight.legs[place];
        let node = leg.asking.clone();
        let Some(node) = node.or_else(|| nodes.of(flight.calls[place].bucket)) else {
            flight.trouble = Some(nodes.nobody());
            return self.postpone(number, round, place, true);
        };
        let mut lines = self.lines.iter_mut();
        let line = lines.position(|line| Arc::ptr_eq(&line.node, &node));
        if let (None, Some(error), false) = (line, vain, in_cluster) {
            return self.refuse(number, error);
        }
        let away = self
            .away
            .iter()
            .find(|(_, away, _)| Arc::ptr_eq(away, &node));
        if let (None, Some((.., error))) = (line, away) {
            flight.trouble = Some(copy(error));
            return self.postpone(number, round, place, in_cluster);
        }
        let began = Instant::now();
        let line = match line {
            Some(line) => line,
            None => match Line::open(config, &node, &mut flight.watch) {
                Ok(line) => {
                    self.lines.push(line);
                    self.lines.len() - 1
                }
                Err(error)
                    if is_busy(&error)
                        || in_cluster && matches!(error.kind, ErrorKind::Unavailable(_)) =>
                {
                    flight.trouble = Some(copy(&error));
                    // While this thread waits for one, it does nothing for the others.
                    let least = if is_busy(&error) { BUSY } else { RESPITE };
                    let until = Instant::now() + least.max(2 * began.elapsed());
                    self.away.push((until, node, error));
                    return self.postpone(number, round, place, in_cluster);
                }
                Err(error) if in_cluster => return self.refuse(number, error),
                Err(error) => return self.refuse_all(number, error),
            },
        };
        let (line, leg) = (&mut self.lines[line], &mut flight.legs[place]);
        if leg.asking.is_some() {
            line.push(0, 0, 0, &Call::new("ASKING"), false);
        }
        line.push(number, round, place, &flight.calls[place], leg.whole);
        leg.sent = true;
    }

    /// Lets a call wait a little.
    fn postpone(&mut self, number: u64, round: u64, place: usize, astray: bool) {
        if astray {
            self.astray.get_or_insert(self.shared.nodes.version());
        }
        let then = Instant::now() + RESPITE;
        self.later.push((then, number, round, place));
    }

    /// Sends again what could not be answered a moment ago.
    fn repeat(&mut self) {
        let now = Instant::now();
        if !self.later.iter().any(|(then, ..)| *then <= now) {
            return;
        }
        self.away.retain(|(until, ..)| *until > now);
        self.unable.take_if(|(until, _)| *until <= now);
        if let Some(version) = self.astray.take() {
            let config = &self.shared.engine.config;
            let mut watch = Watch::new(None, config.timeout);
            match self.shared.nodes.learn(config, version, &mut watch) {
                Err(error) if !is_busy(&error) => return self.abandon(&error),
                _ => {}
            }
        }
        let (due, later) = std::mem::take(&mut self.later)
            .into_iter()
            .partition(|(then, ..)| *then <= now);
        self.later = later;
        let due: Vec<_> = due;
        for (_, number, round, place) in due {
            self.send(number, round, place);
        }
    }

    /// Gives up all that waits for servers of a Cluster of which none can be reached.
    fn abandon(&mut self, error: &Error) {
        for (_, number, round, _) in std::mem::take(&mut self.later) {
            if self
                .flights
                .get(&number)
                .is_some_and(|own| own.round == round)
            {
                self.refuse(number, copy(error));
            }
        }
    }

    fn write(&mut self) {
        let mut place = 0;
        while place < self.lines.len() {
            match self.lines[place].write() {
                Ok(()) => place += 1,
                Err(error) => self.break_off(place, &Cause::Broken(error)),
            }
        }
    }

    /// Waits until a server or somebody with a request calls, or until it is time to look at the clock.
    fn wait(&mut self) {
        let shared = Arc::clone(&self.shared);
        let has_room = self.flights.len() < FLIGHTS;
        if self.looks(has_room) || has_room && !shared.queue.falls_asleep() {
            return;
        }
        // Who closes the store rings only for a thread that sleeps already.
        if !(self.flights.is_empty() && shared.is_closed()) {
            self.sleep();
        }
        shared.queue.is_awake();
    }

    /// Waits awake for a moment; whether something came.
    fn looks(&mut self, has_room: bool) -> bool {
        let queue = &self.shared.queue;
        if self.flights.is_empty() {
            let come = self.requests.look_for(|| queue.has_some().then_some(()));
            return come.is_some();
        }
        if self.lines.iter().all(|line| line.sent.is_empty()) {
            return false;
        }
        let mut sockets = sockets(&self.lines);
        let come = self.answers.look_for(|| {
            let come = has_room && queue.has_some();
            (come || poll(&mut sockets, Some(&Timespec::default())) != Ok(0)).then_some(())
        });
        come.is_some()
    }

    fn sleep(&mut self) {
        let ends = self.flights.values().map(|flight| flight.watch.end());
        let ends = ends.chain(self.later.iter().map(|(time, ..)| *time));
        let left = ends
            .min()
            .map(|end| end.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let time = left.and_then(|left| Timespec::try_from(left).ok());
        let mut sockets = sockets(&self.lines);
        sockets.push(PollFd::new(&self.bell, PollFlags::IN));
        // An interrupted wait is one that ends early.
        let _ = poll(&mut sockets, time.as_ref());
        let rung = sockets
            .last()
            .is_some_and(|bell| !bell.revents().is_empty());
        if rung {
            let mut bytes = [0; 64];
            while matches!(self.bell.read(&mut bytes), Ok(64)) {}
        }
    }

    /// Takes in what the servers said, and lets the operations go on.
    fn read(&mut self) {
        let mut place = 0;
        while place < self.lines.len() {
            match self.lines[place].read() {
                Ok(Some((sent, value))) => self.arrived(place, &sent, value),
                Ok(None) => place += 1,
                Err(cause) => self.break_off(place, &cause),
            }
        }
    }

    fn arrived(&mut self, line: usize, sent: &Sent, value: Value) {
        let (number, place) = (sent.flight, sent.place);
        let Some(flight) = self.flights.get_mut(&number) else {
            return;
        };
        if flight.round != sent.round {
            return;
        }
        let (nodes, node) = (&self.shared.nodes, &self.lines[line].node);
        let (call, leg) = (&flight.calls[place], &mut flight.legs[place]);
        let asking = leg.asking.take();
        let at_once = leg.take_in(nodes.judge(call, value, node, asking));
        if !at_once && Instant::now() + RESPITE >= flight.watch.end() {
            leg.value = leg.refusal.take();
        }
        if leg.value.is_some() {
            flight.missing -= 1;
            if flight.missing == 0 {
                let legs = std::mem::take(&mut flight.legs);
                let values = legs.into_iter().filter_map(Leg::answered);
                self.answer(number, Ok(values.collect()));
            }
            return;
        }
        flight.detours += usize::from(at_once);
        let down = leg.is_down();
        if at_once && flight.detours <= DETOURS * flight.calls.len() {
            self.send(number, sent.round, place);
        } else {
            self.postpone(number, sent.round, place, down);
        }
    }

    /// Gives a connection up. What may be sent again is; of the rest nobody knows.
    fn break_off(&mut self, place: usize, cause: &Cause) {
        let line = self.lines.swap_remove(place);
        if let Cause::Stopped(_) = cause {
            self.shared.nodes.doubt(&line.node);
        }
        let mut lost: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
        for sent in &line.sent {
            if let Some(flight) = self.flights.get_mut(&sent.flight)
                && flight.round == sent.round
            {
                flight.legs[sent.place].lose(line.reached(sent));
                lost.entry(sent.flight).or_default().push(sent.place);
            }
        }
        let in_cluster = self.shared.nodes.are_cluster();
        for (number, places) in lost {
            let Some(flight) = self.flights.get_mut(&number) else {
                continue;
            };
            // A server that keeps silent has not failed those who asked it last.
            flight.tries += usize::from(matches!(cause, Cause::Broken(_)));
            let doubtful =
                |place: &usize| flight.legs[*place].doubt && !flight.calls[*place].repeatable;
            let doubtful = places.iter().any(doubtful);
            let in_time = flight.watch.look();
            let again = !doubtful && in_time.is_ok() && (in_cluster || flight.tries < TRIES);
            let repeated = match (in_time, cause) {
                (Err(stop), _) => Cause::Stopped(stop),
                (Ok(()), Cause::Stopped(_)) => Cause::Broken(io::ErrorKind::TimedOut.into()),
                (Ok(()), Cause::Broken(error)) => {
                    Cause::Broken(io::Error::new(error.kind(), error.to_string()))
                }
            };
            let outcome = outcome(&flight.calls, &flight.legs);
            let error = repeated.error(&line.node.address, outcome);
            if !again {
                self.answer(number, Err(error));
                continue;
            }
            flight.trouble = Some(error);
            let (round, at_once) = (flight.round, !in_cluster || flight.tries <= 1);
            for place in places {
                if at_once {
                    self.send(number, round, place);
                } else {
                    self.postpone(number, round, place, true);
                }
            }
        }
    }

    /// Gives up what took too long, and the connections whose servers keep silent: one that answers others
    /// need not answer them anew.
    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        let late: Vec<(u64, u64)> = self
            .flights
            .iter()
            .filter(|(_, flight)| flight.watch.end() <= now)
            .map(|(number, flight)| (*number, flight.round))
            .collect();
        if late.is_empty() {
            return;
        }
        let timeout = self.shared.engine.config.timeout;
        let stop = Stop::Late(timeout);
        let mut place = 0;
        while place < self.lines.len() {
            let line = &self.lines[place];
            let mut sent = line.sent.iter();
            if line.is_silent(SILENCE.min(timeout / 2))
                && sent.any(|sent| late.contains(&(sent.flight, sent.round)))
            {
                self.break_off(place, &Cause::Stopped(stop));
            } else {
                place += 1;
            }
        }
        for (number, round) in late {
            if let Some(flight) = self.flights.get_mut(&number)
                && flight.round == round
            {
                let trouble = flight.trouble.take();
                if trouble.is_none() && refused(&mut flight.legs) {
                    let legs = std::mem::take(&mut flight.legs);
                    let values = legs.into_iter().filter_map(Leg::answered);
                    self.answer(number, Ok(values.collect()));
                    continue;
                }
                let outcome = outcome(&flight.calls, &flight.legs);
                self.refuse(number, trouble.unwrap_or_else(|| stop.error(outcome)));
            }
        }
    }
}
