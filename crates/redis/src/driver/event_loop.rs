//! The event loop of the worker. It drives all submitted requests over one connection to each server, and sends together
//! the calls that are ready at the same time.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mintkey_runtime::Stop;
use mintkey_store::{Error, Request};
use rustix::event::{Timespec, poll};

use crate::driver::coalesce::{answer_all, coalesce};
use crate::driver::exchange::{Exchange, Outgoing, Step};
use crate::driver::in_flight::InFlight;
use crate::driver::multiplexed::{
    CallId, MultiplexedConnection, SentCall, block, note_broken, note_retry, poll_sockets,
    report_lost, tick_at,
};
use crate::driver::queue::Job;
use crate::driver::shared::Shared;
use crate::protocol::replies::{RETRY_DELAY, is_busy, is_in_sync};
use crate::protocol::resp::Value;
use crate::transport::adaptive_spin::AdaptiveSpin;
use crate::transport::connection::TransportError;
use crate::transport::lookup::Lookups;
use crate::transport::node::Node;
use crate::transport::slot_refresh::SlotRefresh;
use crate::transport::topology::Routes as _;

/// A connection on which a request timed out is closed if its server has sent nothing for this time.
const MAX_SILENCE: Duration = Duration::from_secs(1);

/// The delay before another connection to a server that cannot answer at the moment.
const BUSY_DELAY: Duration = Duration::from_millis(100);

/// What the requests of the event loop do, in the messages of their errors.
const WAITING: &str = "waiting for a reply";

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
        next_retry: None,
        unreachable: Vec::new(),
        lookups: Lookups::default(),
        slot_refresh: None,
        route_changes: 0,
        out_of_sync: false,
        reply_spin: AdaptiveSpin::default(),
        queue_spin: AdaptiveSpin::default(),
    }
    .run();
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
    /// When calls of a request are sent again next.
    next_retry: Option<Instant>,
    unreachable: Vec<Unreachable>,
    lookups: Lookups,
    /// The request for the slots of the Cluster that is in flight.
    slot_refresh: Option<SlotRefresh>,
    /// The changes of routes after which connections were last closed.
    route_changes: u64,
    /// Whether a reply may belong to another call than it was given to.
    out_of_sync: bool,
    /// Spins while waiting for replies.
    reply_spin: AdaptiveSpin,
    /// Spins while waiting for jobs.
    queue_spin: AdaptiveSpin,
}

impl EventLoop {
    fn run(mut self) {
        loop {
            if !self.start_jobs() {
                return;
            }
            self.send_retries();
            self.refresh_slots();
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
        let topology = &self.shared.context.topology;
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

    /// Starts jobs of the queue. Returns false if the worker must end.
    fn start_jobs(&mut self) -> bool {
        loop {
            let room = MAX_IN_FLIGHT.saturating_sub(self.in_flight.len());
            let may_end = self.in_flight.is_empty() && self.shared.is_closed();
            let jobs = self.shared.queue.take(room, may_end);
            if jobs.is_empty() {
                return !may_end;
            }
            let started = jobs.into_iter().filter(Job::start);
            let shared = Arc::clone(&self.shared);
            for (jobs, request) in coalesce(&shared.context.config.keyspace, started) {
                self.start_request(jobs, request);
            }
        }
    }

    fn start_request(&mut self, jobs: Vec<Job>, request: Arc<Request>) {
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
        let address = &self.shared.context.config.address;
        let mut waker_context = Context::from_waker(Waker::noop());
        match in_flight.operation.as_mut().poll(&mut waker_context) {
            Poll::Ready(result) => {
                self.out_of_sync |= !is_in_sync(&result);
                if let Some(in_flight) = self.in_flight.remove(&request) {
                    in_flight.record_retries();
                    answer_all(&in_flight.jobs, result);
                }
            }
            Poll::Pending => {
                in_flight.start_round(in_flight.channel.take_calls());
                if let Err(stop) = in_flight.check() {
                    in_flight
                        .exchange
                        .stop(|outcome| stop.error(address, WAITING, outcome));
                }
                self.drive(request);
            }
        }
    }

    /// Does what the exchange of a request needs next, and resumes its operation when all calls have ended.
    fn drive(&mut self, request: u64) {
        loop {
            let topology = &self.shared.context.topology;
            let Some(in_flight) = self.in_flight.get_mut(&request) else {
                return;
            };
            match in_flight.exchange.next(topology) {
                Some(Step::Send(node, calls)) => self.send(request, &node, &calls),
                Some(Step::RefreshSlots) => {
                    in_flight.is_refreshing_slots = true;
                    self.slot_refresh
                        .get_or_insert_with(|| SlotRefresh::new(topology));
                }
                Some(Step::Wait(time)) => {
                    note_retry(&self.shared.context.config, &in_flight.exchange, time);
                    in_flight.retry_at = tick_at(time, in_flight.end());
                    self.next_retry = self.next_retry.into_iter().chain(in_flight.retry_at).min();
                }
                None if in_flight.exchange.is_done() => {
                    // Other replies to calls of this round are ignored from now on.
                    in_flight.round += 1;
                    let ended = Exchange::new(Vec::new());
                    let exchange = std::mem::replace(&mut in_flight.exchange, ended);
                    in_flight.channel.add_retries(exchange.retries());
                    in_flight.channel.resume(exchange.into_replies());
                    return self.advance(request);
                }
                None => return,
            }
        }
    }

    /// Puts calls into the output of the connection to their server.
    fn send(&mut self, request: u64, node: &Arc<Node>, calls: &[Outgoing]) {
        let topology = &self.shared.context.topology;
        let Some(in_flight) = self.in_flight.get_mut(&request) else {
            return;
        };
        let now = Instant::now();
        self.unreachable.retain(|other| other.until > now);
        let mut unreachable = self.unreachable.iter();
        if let Some(unreachable) = unreachable.find(|other| Arc::ptr_eq(&other.node, node)) {
            let calls = calls.iter().map(|call| call.index);
            in_flight
                .exchange
                .unreachable(calls, topology, &unreachable.error);
            return;
        }
        let mut connections = self.connections.iter_mut();
        let usable = connections
            .position(|connection| Arc::ptr_eq(&connection.node, node) && connection.is_usable());
        let index = usable.unwrap_or_else(|| {
            self.connections.push(MultiplexedConnection::new(node));
            self.connections.len() - 1
        });
        let connection = &mut self.connections[index];
        let round = in_flight.round;
        for call in calls {
            let index = call.index;
            let id = CallId {
                request,
                round,
                index,
            };
            connection.push_outgoing(id, call, in_flight.exchange.call(index));
        }
    }

    /// Goes on with the request for the slots, and sends the calls that wait for it.
    fn refresh_slots(&mut self) {
        let Some(slot_refresh) = &mut self.slot_refresh else {
            return;
        };
        let topology = &self.shared.context.topology;
        let config = &self.shared.context.config;
        let Some(result) = slot_refresh.advance(topology, config, Some(&self.lookups)) else {
            return;
        };
        self.slot_refresh = None;
        let mut waiting = Vec::new();
        for (request, in_flight) in &mut self.in_flight {
            if std::mem::take(&mut in_flight.is_refreshing_slots) {
                let own = result.as_ref().map_err(Error::for_another).copied();
                in_flight.exchange.slots_refreshed(own, topology);
                waiting.push(*request);
            }
        }
        for request in waiting {
            self.drive(request);
        }
    }

    /// Goes on with the connections that are not open.
    fn connect_all(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut index = 0;
        while index < self.connections.len() {
            let result =
                self.connections[index].connect(&shared.context.config, Some(&self.lookups));
            match result {
                Ok(()) => index += 1,
                Err(error) => self.close_unreachable(index, &error),
            }
        }
    }

    /// Closes a connection that could not be opened.
    fn close_unreachable(&mut self, index: usize, error: &Error) {
        let connection = self.connections.swap_remove(index);
        let delay = if is_busy(error) {
            BUSY_DELAY
        } else {
            RETRY_DELAY
        };
        let shared = Arc::clone(&self.shared);
        if shared.context.topology.is_cluster() || is_busy(error) {
            self.unreachable.push(Unreachable {
                until: Instant::now() + delay,
                node: Arc::clone(&connection.node),
                error: error.for_another(),
            });
        }
        for (request, calls) in self.pending_calls(&connection) {
            if let Some(in_flight) = self.in_flight.get_mut(&request) {
                let calls = calls.into_iter().map(|(index, _)| index);
                in_flight
                    .exchange
                    .unreachable(calls, &shared.context.topology, error);
                self.drive(request);
            }
        }
    }

    /// The calls of a connection without a reply, by request: their indexes, and whether the server may have received them.
    fn pending_calls(
        &self,
        connection: &MultiplexedConnection,
    ) -> BTreeMap<u64, Vec<(usize, bool)>> {
        let mut calls: BTreeMap<u64, Vec<(usize, bool)>> = BTreeMap::new();
        for call in &connection.pending {
            let in_flight = self.in_flight.get(&call.id.request);
            if in_flight.is_some_and(|in_flight| in_flight.round == call.id.round) {
                let reached = connection.may_have_received(call);
                let own = calls.entry(call.id.request).or_default();
                own.push((call.id.index, reached));
            }
        }
        calls
    }

    /// Sends the calls again whose delay is over.
    fn send_retries(&mut self) {
        let now = Instant::now();
        if self.next_retry.is_none_or(|next| next > now) {
            return;
        }
        self.next_retry = None;
        let mut due = Vec::new();
        for (request, in_flight) in &mut self.in_flight {
            if in_flight.retry_at.is_some_and(|at| at <= now) {
                in_flight.retry_at = None;
                in_flight.exchange.tick();
                due.push(*request);
            } else {
                self.next_retry = self.next_retry.into_iter().chain(in_flight.retry_at).min();
            }
        }
        for request in due {
            self.drive(request);
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
        let is_woken = block(
            &self.connections,
            self.slot_refresh.as_ref(),
            Some(&self.wakeup),
            deadlines.chain(self.next_retry),
            self.shared.context.topology.is_cluster(),
        );
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
                Ok(Some((call, value))) => self.receive(&call, value),
                Ok(None) => index += 1,
                Err(cause) => self.close_connection(index, &cause),
            }
            if self.out_of_sync {
                self.close_all();
            }
        }
    }

    /// Closes all connections: their further replies may belong to other calls.
    fn close_all(&mut self) {
        let reason = "a reply on it did not belong to its call";
        while !self.connections.is_empty() {
            let cause = TransportError::Broken(io::Error::other(reason));
            self.close_connection(self.connections.len() - 1, &cause);
        }
        self.out_of_sync = false;
    }

    fn receive(&mut self, call: &SentCall, value: Value) {
        let id = call.id;
        let Some(in_flight) = self.in_flight.get_mut(&id.request) else {
            return;
        };
        if in_flight.round == id.round {
            in_flight
                .exchange
                .reply(id.index, value, &self.shared.context.topology);
            self.drive(id.request);
        }
    }

    /// Closes a connection. Its calls are sent again if they may be.
    fn close_connection(&mut self, index: usize, cause: &TransportError) {
        let connection = self.connections.swap_remove(index);
        let shared = Arc::clone(&self.shared);
        note_broken(&shared.context.config, &connection, cause);
        if let TransportError::Stopped(_) = cause {
            shared.context.topology.suspect(&connection.node);
        }
        let first = connection.pending.front().map(|call| call.id);
        for (request, calls) in self.pending_calls(&connection) {
            let Some(in_flight) = self.in_flight.get_mut(&request) else {
                continue;
            };
            if in_flight.check().is_err() {
                // It is stopped next.
                let reached = calls.iter().filter(|(_, reached)| *reached);
                reached.for_each(|(call, _)| in_flight.exchange.wrote(*call));
                continue;
            }
            let first = first.filter(|first| first.request == request);
            let first = first.map(|first| first.index);
            let (exchange, topology) = (&mut in_flight.exchange, &shared.context.topology);
            report_lost(exchange, &calls, first, cause, &connection, topology);
            self.drive(request);
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
        let is_late = |id: &CallId| late.contains(&(id.request, id.round));
        let silence = MAX_SILENCE.min(timeout / 2);
        let topology = &self.shared.context.topology;
        let mut silent = Vec::new();
        for (index, connection) in self.connections.iter_mut().enumerate() {
            let mut pending = connection.pending.iter();
            if connection.is_silent(silence) && pending.any(|call| is_late(&call.id)) {
                silent.push(index);
            }
            // A call of a failed request is never sent later.
            for id in connection.withdraw(is_late) {
                if let Some(in_flight) = self.in_flight.get_mut(&id.request)
                    && let Some(error) = connection.stopped(stop)
                {
                    in_flight.exchange.unreachable([id.index], topology, &error);
                }
            }
            for call in connection.pending.iter().filter(|call| is_late(&call.id)) {
                if let Some(in_flight) = self.in_flight.get_mut(&call.id.request) {
                    in_flight.exchange.wrote(call.id.index);
                }
            }
        }
        // From the last one on: closing one moves only a later one.
        for index in silent.into_iter().rev() {
            self.close_connection(index, &TransportError::Stopped(stop));
        }
        let address = &self.shared.context.config.address;
        for (request, round) in &late {
            if let Some(in_flight) = self.in_flight.get_mut(request)
                && in_flight.round == *round
            {
                in_flight
                    .exchange
                    .stop(|outcome| stop.error(address, WAITING, outcome));
            }
        }
        for (request, _) in late {
            self.drive(request);
        }
    }
}
