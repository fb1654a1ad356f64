//! The event loop of the worker. It drives all submitted requests over one connection to each server, and sends together
//! the calls that are ready at the same time.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mintkey_runtime::Stop;
use mintkey_store::{Error, ErrorKind, Outcome, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::driver::call_state::{
    CallState, MAX_REDIRECTS, MAX_TRIES, outcome, unsent, use_busy_replies,
};
use crate::driver::coalesce::{answer_all, coalesce};
use crate::driver::in_flight::InFlight;
use crate::driver::multiplexed::{CallId, MultiplexedConnection, SentCall, poll_sockets};
use crate::driver::queue::Job;
use crate::driver::shared::Shared;
use crate::protocol::channel::Replies;
use crate::protocol::replies::{RETRY_DELAY, is_busy, is_out_of_step};
use crate::protocol::resp::{Call, Value};
use crate::transport::adaptive_spin::AdaptiveSpin;
use crate::transport::connecting::Wait;
use crate::transport::connection::TransportError;
use crate::transport::learning::Learning;
use crate::transport::lookup::Lookups;
use crate::transport::node::Node;

/// A connection on which a request timed out is closed if its server has sent nothing for this time.
const MAX_SILENCE: Duration = Duration::from_secs(1);

/// The delay before another connection to a server that cannot answer at the moment.
const BUSY_DELAY: Duration = Duration::from_millis(100);

/// The most requests in flight. The others wait in the queue, and can be withdrawn.
const MAX_IN_FLIGHT: usize = 1024;

/// Carries out jobs until the store is closed. `wakeup` is readable when jobs were submitted.
pub fn run(shared: Arc<Shared>, wakeup: UnixStream) {
    EventLoop {
        shared,
        wakeup,
        in_flight: HashMap::new(),
        last_request: 0,
        connections: Vec::new(),
        retries: Vec::new(),
        unreachable: Vec::new(),
        lookups: Lookups::default(),
        learning: None,
        unrouted: Vec::new(),
        stale_routes: None,
        route_changes: 0,
        reply_spin: AdaptiveSpin::default(),
        queue_spin: AdaptiveSpin::default(),
    }
    .run();
}

/// A call that is sent again later.
struct Retry {
    at: Instant,
    id: CallId,
}

/// A server that no connection could be opened to.
struct Unreachable {
    /// No other attempt is made until then.
    until: Instant,
    node: Arc<Node>,
    error: Error,
}

struct EventLoop {
    shared: Arc<Shared>,
    wakeup: UnixStream,
    in_flight: HashMap<u64, InFlight>,
    /// The number of the last request.
    last_request: u64,
    connections: Vec<MultiplexedConnection>,
    retries: Vec<Retry>,
    unreachable: Vec<Unreachable>,
    lookups: Lookups,
    /// The request for the slots of the Cluster that is in flight.
    learning: Option<Learning>,
    /// The calls that are sent when it has ended.
    unrouted: Vec<CallId>,
    /// Set if the slots must be refreshed: the version of the routes at that time.
    stale_routes: Option<u64>,
    /// The changes of routes after which connections were last closed.
    route_changes: u64,
    /// Spins while waiting for replies.
    reply_spin: AdaptiveSpin,
    /// Spins while waiting for jobs.
    queue_spin: AdaptiveSpin,
}

impl EventLoop {
    fn run(mut self) {
        loop {
            if !self.begin_jobs() {
                return;
            }
            self.send_retries();
            self.learn();
            self.connect_all();
            self.write();
            self.wait();
            self.read();
            self.check_deadlines();
            self.close_unused();
        }
    }

    /// Closes idle connections to servers that have no slot group any more.
    fn close_unused(&mut self) {
        self.connections
            .retain(|connection| !connection.has_ended());
        let topology = &self.shared.topology;
        if !topology.is_cluster() || topology.changes() == self.route_changes {
            return;
        }
        let changes = topology.changes();
        let is_idle = |connection: &MultiplexedConnection| {
            connection.pending.is_empty() && !connection.has_output()
        };
        self.connections
            .retain(|connection| topology.serves(&connection.node) || !is_idle(connection));
        let mut connections = self.connections.iter();
        if connections.all(|connection| topology.serves(&connection.node)) {
            self.route_changes = changes;
        }
    }

    /// Begins jobs of the queue. Returns false if the worker must end.
    fn begin_jobs(&mut self) -> bool {
        loop {
            let room = MAX_IN_FLIGHT.saturating_sub(self.in_flight.len());
            let may_end = self.in_flight.is_empty() && self.shared.is_closed();
            let jobs = self.shared.queue.take(room, may_end);
            if jobs.is_empty() {
                return !may_end;
            }
            let begun = jobs.into_iter().filter(Job::begin);
            let shared = Arc::clone(&self.shared);
            for (jobs, request) in coalesce(&shared.context.config.keyspace, begun) {
                self.begin(jobs, request);
            }
        }
    }

    fn begin(&mut self, jobs: Vec<Job>, request: Arc<Request>) {
        self.last_request += 1;
        let in_flight = InFlight::new(&self.shared, jobs, request);
        self.in_flight.insert(self.last_request, in_flight);
        self.advance(self.last_request);
    }

    /// Polls the operation of a request, and sends its calls.
    fn advance(&mut self, request: u64) {
        let Some(in_flight) = self.in_flight.get_mut(&request) else {
            return;
        };
        let mut waker_context = Context::from_waker(Waker::noop());
        match in_flight.operation.as_mut().poll(&mut waker_context) {
            Poll::Ready(result) => {
                if result.as_ref().is_err_and(is_out_of_step) {
                    let connections = self.connections.iter_mut();
                    connections.for_each(MultiplexedConnection::retire);
                }
                if let Some(in_flight) = self.in_flight.remove(&request) {
                    answer_all(&in_flight.jobs, result);
                }
            }
            Poll::Pending => {
                let calls = in_flight.channel.take_calls();
                let checked = in_flight.channel.deadline().check();
                if let Err(stop) = checked {
                    self.resume(request, Err(self.stopped(stop, Outcome::NotApplied)));
                    return;
                }
                in_flight.begin_round(calls);
                if in_flight.missing == 0 {
                    self.resume(request, Ok(Vec::new()));
                    return;
                }
                let (round, count) = (in_flight.round, in_flight.missing);
                for index in 0..count {
                    self.send(CallId {
                        request,
                        round,
                        index,
                    });
                }
            }
        }
    }

    /// Resumes the operation of a request.
    fn resume(&mut self, request: u64, replies: Replies) {
        if let Some(in_flight) = self.in_flight.get_mut(&request) {
            // Other replies to calls of this round are ignored from now on.
            in_flight.round += 1;
            in_flight.channel.resume(replies);
            self.advance(request);
        }
    }

    fn stopped(&self, stop: Stop, outcome: Outcome) -> Error {
        let address = &self.shared.context.config.address;
        stop.error(address, "waiting for a reply", outcome)
    }

    /// Resumes the operation of a request with the replies to its calls.
    fn resume_with_replies(&mut self, request: u64) {
        if let Some(in_flight) = self.in_flight.get_mut(&request) {
            let states = std::mem::take(&mut in_flight.states).into_iter();
            let replies = states.filter_map(CallState::into_final_reply).collect();
            self.resume(request, Ok(replies));
        }
    }

    /// Resumes the operation of a request with an error of calls that could not be sent.
    fn fail(&mut self, request: u64, error: Error) {
        if let Some(in_flight) = self.in_flight.get(&request) {
            let outcome = outcome(&in_flight.calls, &in_flight.states);
            self.resume(request, Err(unsent(error, outcome)));
        }
    }

    /// Sends a call, unless its round is over. If the slots of the Cluster must be requested first, it is sent afterwards.
    fn send(&mut self, id: CallId) {
        if self.shared.topology.needs_slots() {
            if self.learning.is_none() {
                self.learning = Some(Learning::new(&self.shared.topology));
            }
            self.unrouted.push(id);
        } else {
            self.send_routed(id);
        }
    }

    /// Sends a call over the known routes, unless its round is over.
    fn send_routed(&mut self, id: CallId) {
        let topology = &self.shared.topology;
        let Some(in_flight) = self.in_flight.get_mut(&id.request) else {
            return;
        };
        if in_flight.round != id.round {
            return;
        }
        let node = in_flight.states[id.index].asking.clone();
        let slot_group = in_flight.calls[id.index].slot_group;
        let Some(node) = node.or_else(|| topology.node_of(slot_group)) else {
            in_flight.last_error = Some(topology.no_server_error());
            return self.retry_later(id, true);
        };
        let mut unreachable = self.unreachable.iter();
        if let Some(unreachable) = unreachable.find(|other| Arc::ptr_eq(&other.node, &node)) {
            in_flight.last_error = Some(unreachable.error.for_another());
            let is_cluster = topology.is_cluster();
            return self.retry_later(id, is_cluster);
        }
        let mut connections = self.connections.iter_mut();
        let usable = connections
            .position(|connection| Arc::ptr_eq(&connection.node, &node) && connection.is_usable());
        let index = usable.unwrap_or_else(|| {
            self.connections.push(MultiplexedConnection::new(&node));
            self.connections.len() - 1
        });
        let connection = &mut self.connections[index];
        let state = &mut in_flight.states[id.index];
        if state.asking.is_some() {
            connection.push(CallId::NONE, &Call::new("ASKING"), false);
        }
        connection.push(id, &in_flight.calls[id.index], state.send_source);
        state.sent = true;
    }

    /// Goes on with the request for the slots, and sends the calls that wait for it.
    fn learn(&mut self) {
        let Some(learning) = &mut self.learning else {
            return;
        };
        let topology = &self.shared.topology;
        let config = &self.shared.context.config;
        let Some(result) = learning.advance(topology, config, Some(&self.lookups)) else {
            return;
        };
        self.learning = None;
        let is_known = topology.version() > 0;
        for id in std::mem::take(&mut self.unrouted) {
            match &result {
                Ok(()) => self.send_routed(id),
                // The known routes stay in use, unless they have just failed.
                Err(error)
                    if is_busy(error)
                        || is_known
                            && matches!(error.kind, ErrorKind::Unavailable(_))
                            && !self.has_failed(id) =>
                {
                    self.send_or_retry(id, error, is_known);
                }
                Err(error) => self.fail_call(id, error),
            }
        }
    }

    /// Whether a call was sent before, and its server could not be reached.
    fn has_failed(&self, id: CallId) -> bool {
        let in_flight = self.in_flight.get(&id.request);
        in_flight.is_some_and(|in_flight| in_flight.last_error.is_some())
    }

    /// Sends a call over the known routes, or later to a Cluster that cannot answer at the moment.
    fn send_or_retry(&mut self, id: CallId, error: &Error, is_known: bool) {
        if is_known {
            self.send_routed(id);
        } else if let Some(in_flight) = self.in_flight.get_mut(&id.request)
            && in_flight.round == id.round
        {
            in_flight.last_error = Some(error.for_another());
            self.retry_later(id, false);
        }
    }

    /// Fails the request of a call, unless its round is over.
    fn fail_call(&mut self, id: CallId, error: &Error) {
        let in_flight = self.in_flight.get(&id.request);
        if in_flight.is_some_and(|in_flight| in_flight.round == id.round) {
            self.fail(id.request, error.for_another());
        }
    }

    /// Goes on with the connections that are not open.
    fn connect_all(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut index = 0;
        while index < self.connections.len() {
            let result = self.connections[index].connect(&shared.context.config, &self.lookups);
            match result {
                Ok(()) => index += 1,
                Err(error) => self.close_unreachable(index, error),
            }
        }
    }

    /// Closes a connection that could not be opened. Its calls fail, or are sent again later.
    fn close_unreachable(&mut self, index: usize, error: Error) {
        let connection = self.connections.swap_remove(index);
        let is_cluster = self.shared.topology.is_cluster();
        let is_busy = is_busy(&error);
        let try_again = is_busy || is_cluster && matches!(error.kind, ErrorKind::Unavailable(_));
        for call in &connection.pending {
            if let Some(in_flight) = self.in_flight.get_mut(&call.id.request)
                && in_flight.round == call.id.round
            {
                in_flight.states[call.id.index].connection_lost(false);
                if try_again {
                    in_flight.last_error = Some(error.for_another());
                    self.retry_later(call.id, is_cluster);
                } else {
                    self.fail(call.id.request, error.for_another());
                }
            }
        }
        if try_again {
            let delay = if is_busy { BUSY_DELAY } else { RETRY_DELAY };
            self.unreachable.push(Unreachable {
                until: Instant::now() + delay,
                node: connection.node,
                error,
            });
        }
    }

    /// Sends a call again after a delay.
    fn retry_later(&mut self, id: CallId, needs_slot_refresh: bool) {
        if needs_slot_refresh {
            self.stale_routes
                .get_or_insert(self.shared.topology.version());
        }
        let at = Instant::now() + RETRY_DELAY;
        self.retries.push(Retry { at, id });
    }

    /// Sends the calls again whose delay is over.
    fn send_retries(&mut self) {
        let now = Instant::now();
        if !self.retries.iter().any(|retry| retry.at <= now) {
            return;
        }
        self.unreachable.retain(|other| other.until > now);
        let (due, others): (Vec<Retry>, Vec<Retry>) = std::mem::take(&mut self.retries)
            .into_iter()
            .partition(|retry| retry.at <= now);
        self.retries = others;
        let topology = &self.shared.topology;
        if let Some(version) = self.stale_routes.take()
            && topology.is_cluster()
            && topology.version() == version
            && self.learning.is_none()
        {
            self.learning = Some(Learning::new(topology));
        }
        for retry in due {
            if self.learning.is_some() {
                self.unrouted.push(retry.id);
            } else {
                self.send(retry.id);
            }
        }
    }

    fn write(&mut self) {
        let mut index = 0;
        while index < self.connections.len() {
            match self.connections[index].write() {
                Ok(()) => index += 1,
                Err(error) => self.close_connection(index, &TransportError::Broken(error)),
            }
        }
    }

    /// Waits until a server sends something, a job is submitted, or a deadline or delay ends.
    fn wait(&mut self) {
        let shared = Arc::clone(&self.shared);
        let has_room = self.in_flight.len() < MAX_IN_FLIGHT;
        if self.spin(has_room) || has_room && !shared.queue.begin_sleep() {
            return;
        }
        let more = self.connections.iter().any(MultiplexedConnection::has_more);
        // Closing the store wakes only a thread that sleeps already.
        if !(more || self.in_flight.is_empty() && shared.is_closed()) {
            self.sleep();
        }
        shared.queue.end_sleep();
    }

    /// Spins briefly. Returns whether there is something to do.
    fn spin(&mut self, has_room: bool) -> bool {
        let queue = &self.shared.queue;
        if self.in_flight.is_empty() {
            let ready = self
                .queue_spin
                .spin_until(|| queue.has_jobs().then_some(()));
            return ready.is_some();
        }
        let mut connections = self.connections.iter();
        if connections.all(|connection| connection.pending.is_empty()) {
            return false;
        }
        let mut sockets = poll_sockets(&self.connections);
        let ready = self.reply_spin.spin_until(|| {
            let has_jobs = has_room && queue.has_jobs();
            (has_jobs || poll(&mut sockets, Some(&Timespec::default())) != Ok(0)).then_some(())
        });
        ready.is_some()
    }

    /// Blocks in the kernel.
    fn sleep(&mut self) {
        let deadlines = self.in_flight.values().filter_map(InFlight::end);
        let is_cluster = self.shared.topology.is_cluster();
        let connecting = self.connections.iter();
        let ends = deadlines
            .chain(self.retries.iter().map(|retry| retry.at))
            .chain(connecting.filter_map(|connection| connection.wake_at(is_cluster)))
            .chain(self.learning.iter().filter_map(Learning::end));
        let mut left = ends
            .min()
            .map(|end| end.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
        let mut sockets = poll_sockets(&self.connections);
        match self.learning.as_ref().map(Learning::wait) {
            Some(Wait::Socket(socket, flags)) => {
                sockets.push(PollFd::from_borrowed_fd(socket, flags));
            }
            Some(Wait::Time(time)) => left = Some(left.map_or(time, |left| left.min(time))),
            None => {}
        }
        let timeout = left.and_then(|left| Timespec::try_from(left).ok());
        sockets.push(PollFd::new(&self.wakeup, PollFlags::IN));
        // An interrupted wait ends early, which does no harm.
        let _ = poll(&mut sockets, timeout.as_ref());
        let is_woken = sockets
            .last()
            .is_some_and(|wakeup| !wakeup.revents().is_empty());
        if is_woken {
            let mut bytes = [0; 64];
            while matches!(self.wakeup.read(&mut bytes), Ok(64)) {}
        }
    }

    /// Reads the replies of all servers, and resumes operations.
    fn read(&mut self) {
        let mut index = 0;
        while index < self.connections.len() {
            match self.connections[index].read() {
                Ok(Some((call, value))) => self.receive(index, &call, value),
                Ok(None) => index += 1,
                Err(cause) => self.close_connection(index, &cause),
            }
        }
    }

    fn receive(&mut self, connection: usize, call: &SentCall, value: Value) {
        let id = call.id;
        let Some(in_flight) = self.in_flight.get_mut(&id.request) else {
            return;
        };
        if in_flight.round != id.round {
            return;
        }
        let topology = &self.shared.topology;
        let node = &self.connections[connection].node;
        let call = &in_flight.calls[id.index];
        let state = &mut in_flight.states[id.index];
        let asking = state.asking.take();
        let at_once = state.apply(topology.classify_reply(call, value, node, asking));
        let retry_at = Instant::now() + RETRY_DELAY;
        if !at_once
            && in_flight
                .channel
                .deadline()
                .end()
                .is_some_and(|end| retry_at >= end)
        {
            state.value = state.busy_reply.take();
        }
        if state.value.is_some() {
            in_flight.missing -= 1;
            if in_flight.missing == 0 {
                self.resume_with_replies(id.request);
            }
            return;
        }
        in_flight.redirects += usize::from(at_once);
        let is_cluster_down = state.is_cluster_down();
        if at_once && in_flight.redirects <= MAX_REDIRECTS * in_flight.calls.len() {
            self.send(id);
        } else {
            self.retry_later(id, is_cluster_down);
        }
    }

    /// Closes a connection. Sends its calls again if they may be, and fails the others.
    fn close_connection(&mut self, index: usize, cause: &TransportError) {
        let connection = self.connections.swap_remove(index);
        if let TransportError::Stopped(_) = cause {
            self.shared.topology.suspect(&connection.node);
        }
        // The call whose reply is too large is not sent again. The others have done nothing wrong.
        let too_large = match (cause, connection.pending.front()) {
            (TransportError::TooLarge(max_reply), Some(call)) => {
                Some((call.id.request, *max_reply))
            }
            _ => None,
        };
        let mut lost: BTreeMap<u64, Vec<CallId>> = BTreeMap::new();
        for call in &connection.pending {
            if let Some(in_flight) = self.in_flight.get_mut(&call.id.request)
                && in_flight.round == call.id.round
            {
                let reached = connection.may_have_received(call);
                in_flight.states[call.id.index].connection_lost(reached);
                lost.entry(call.id.request).or_default().push(call.id);
            }
        }
        let is_cluster = self.shared.topology.is_cluster();
        for (request, calls) in lost {
            let Some(in_flight) = self.in_flight.get_mut(&request) else {
                continue;
            };
            // A silent server has not failed the requests that were sent last.
            in_flight.tries += usize::from(matches!(cause, TransportError::Broken(_)));
            let is_uncertain = |id: &CallId| {
                in_flight.states[id.index].uncertain && !in_flight.calls[id.index].repeatable
            };
            let uncertain = calls.iter().any(is_uncertain);
            let in_time = in_flight.channel.deadline().check();
            let own_too_large = too_large.filter(|(own, _)| *own == request);
            let send_again = !uncertain
                && in_time.is_ok()
                && own_too_large.is_none()
                && (is_cluster || in_flight.tries < MAX_TRIES);
            let own_cause = match (in_time, cause) {
                (Err(stop), _) => TransportError::Stopped(stop),
                (Ok(()), TransportError::TooLarge(max_reply)) if own_too_large.is_some() => {
                    TransportError::TooLarge(*max_reply)
                }
                (Ok(()), TransportError::TooLarge(_)) => {
                    TransportError::Broken(io::ErrorKind::ConnectionAborted.into())
                }
                (Ok(()), TransportError::Stopped(_)) => {
                    TransportError::Broken(io::ErrorKind::TimedOut.into())
                }
                (Ok(()), TransportError::Broken(error)) => {
                    TransportError::Broken(io::Error::new(error.kind(), error.to_string()))
                }
            };
            let outcome = outcome(&in_flight.calls, &in_flight.states);
            let error = own_cause.error(&connection.node.address, outcome);
            if !send_again {
                self.resume(request, Err(error));
                continue;
            }
            in_flight.last_error = Some(error);
            let at_once = !is_cluster || in_flight.tries <= 1;
            for id in calls {
                if at_once {
                    self.send(id);
                } else {
                    self.retry_later(id, true);
                }
            }
        }
    }

    /// Fails the requests that have timed out, and closes the connections whose servers are silent. A connection whose
    /// server answers other requests stays open.
    fn check_deadlines(&mut self) {
        let now = Instant::now();
        let late: Vec<(u64, u64)> = self
            .in_flight
            .iter()
            .filter(|(_, in_flight)| in_flight.end().is_some_and(|end| end <= now))
            .map(|(request, in_flight)| (*request, in_flight.round))
            .collect();
        if late.is_empty() {
            return;
        }
        let timeout = self.shared.context.config.timeout;
        let stop = Stop::Timeout(timeout);
        // A call of a failed request is never sent later.
        for connection in &mut self.connections {
            let is_late = |id: &CallId| late.contains(&(id.request, id.round));
            for id in connection.withdraw(is_late) {
                if let Some(in_flight) = self.in_flight.get_mut(&id.request) {
                    in_flight.states[id.index].sent = false;
                    let last_error = in_flight.last_error.take();
                    in_flight.last_error = last_error.or_else(|| connection.stopped(stop));
                }
            }
        }
        let mut index = 0;
        while index < self.connections.len() {
            let connection = &self.connections[index];
            let mut pending = connection.pending.iter();
            if connection.is_silent(MAX_SILENCE.min(timeout / 2))
                && pending.any(|call| late.contains(&(call.id.request, call.id.round)))
            {
                self.close_connection(index, &TransportError::Stopped(stop));
            } else {
                index += 1;
            }
        }
        for (request, round) in late {
            if let Some(in_flight) = self.in_flight.get_mut(&request)
                && in_flight.round == round
            {
                let last_error = in_flight.last_error.take();
                if last_error.is_none() && use_busy_replies(&mut in_flight.states) {
                    self.resume_with_replies(request);
                    continue;
                }
                let outcome = outcome(&in_flight.calls, &in_flight.states);
                let error = last_error.unwrap_or_else(|| self.stopped(stop, outcome));
                self.fail(request, error);
            }
        }
    }
}
