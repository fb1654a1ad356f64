//! A connection that carries the calls of one or many requests, without blocking.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mintkey_runtime::Stop;
use mintkey_store::{Error, Outcome, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::config::Config;
use crate::driver::exchange::{Exchange, Outgoing};
use crate::protocol::replies::is_from_replica;
use crate::protocol::resp::{Call, Value};
use crate::transport::connecting::Connecting;
use crate::transport::connection::{Connection, TransportError};
use crate::transport::lookup::Lookups;
use crate::transport::node::{NODE_TIMEOUT, Node};
use crate::transport::slot_refresh::SlotRefresh;
use crate::transport::stream::Wait;
use crate::transport::topology::Topology;

/// No call is sent again later than this before the time limit of its request: a write without a reply would be uncertain.
const LAST_RETRY: Duration = Duration::from_millis(100);

/// Identifies a call of a request in flight.
#[derive(Clone, Copy)]
pub struct CallId {
    /// The number of the request; 0: none.
    pub request: u64,
    /// The round of calls of the request.
    pub round: u64,
    /// The index of the call in the round.
    pub index: usize,
}

impl CallId {
    /// The id of calls that belong to no request.
    pub const NONE: Self = Self {
        request: 0,
        round: 0,
        index: 0,
    };

    /// The index of the call, unless it belongs to no request.
    pub fn own_index(&self) -> Option<usize> {
        (self.request != 0).then_some(self.index)
    }
}

pub struct SentCall {
    /// Which one.
    pub id: CallId,
    /// The position of its first byte in the stream.
    start: u64,
    sent_at: Instant,
}

pub struct MultiplexedConnection {
    /// The server.
    pub node: Arc<Node>,
    stage: Stage,
    output: Vec<u8>,
    written: usize,
    /// The bytes of the stream before `output`.
    flushed: u64,
    /// The calls without a reply, in order.
    pub pending: VecDeque<SentCall>,
    /// Whether it takes no more calls: its replies may belong to other calls, or its server has become a replica. The host
    /// name may be that of another server now.
    is_retired: bool,
}

/// How far a connection is.
enum Stage {
    /// It connects and signs in since this time. Calls wait in the output.
    Connecting(Connecting, Instant),
    /// It carries calls.
    Open(Connection),
}

impl MultiplexedConnection {
    /// A connection that is not open yet. It takes calls.
    pub fn new(node: &Arc<Node>) -> Self {
        let connecting = Connecting::new(node);
        Self::in_stage(node, Stage::Connecting(connecting, Instant::now()))
    }

    /// A connection that was idle.
    pub fn over(node: &Arc<Node>, connection: Connection) -> Self {
        Self::in_stage(node, Stage::Open(connection))
    }

    fn in_stage(node: &Arc<Node>, stage: Stage) -> Self {
        Self {
            node: Arc::clone(node),
            stage,
            output: Vec::new(),
            written: 0,
            flushed: 0,
            pending: VecDeque::new(),
            is_retired: false,
        }
    }

    /// The connection with its server, if it is open and idle.
    pub fn into_idle(self) -> Option<(Arc<Node>, Connection)> {
        match self.stage {
            Stage::Open(connection) if self.pending.is_empty() && !self.is_retired => {
                Some((self.node, connection))
            }
            _ => None,
        }
    }

    /// Goes on connecting, if it is not open. A server of a Cluster that does not answer in time counts as unreachable.
    /// Host names are looked up on a thread of `lookups`, or without it on the calling thread.
    pub fn connect(&mut self, config: &Config, lookups: Option<&Lookups>) -> Result<()> {
        let Stage::Connecting(connecting, started) = &mut self.stage else {
            return Ok(());
        };
        if let Some(connection) = connecting.advance(config, lookups)? {
            self.stage = Stage::Open(connection);
        } else if config.keyspace.clustered && started.elapsed() >= NODE_TIMEOUT {
            return Err(self.node.no_answer_error());
        }
        Ok(())
    }

    /// The error if connecting is given up now; `None` if it is open.
    pub fn stopped(&self, stop: Stop) -> Option<Error> {
        match &self.stage {
            Stage::Connecting(connecting, _) => Some(connecting.stopped(stop)),
            Stage::Open(_) => None,
        }
    }

    /// When it must continue although no event of its socket has come.
    pub fn wake_at(&self, is_cluster: bool) -> Option<Instant> {
        match &self.stage {
            Stage::Open(_) => None,
            Stage::Connecting(connecting, started) => match connecting.wait() {
                Wait::Time(time) => Some(Instant::now() + time),
                Wait::Socket(..) => is_cluster.then(|| *started + NODE_TIMEOUT),
            },
        }
    }

    /// Whether more can be read at once.
    pub const fn has_more(&self) -> bool {
        matches!(&self.stage, Stage::Open(connection) if connection.has_more)
    }

    /// Removes the calls that were not sent yet and that `is_late` selects, and returns them.
    pub fn withdraw(&mut self, is_late: impl Fn(&CallId) -> bool) -> Vec<CallId> {
        let sent = self.flushed + self.written as u64;
        let first_unsent = self.pending.partition_point(|call| call.start < sent);
        let late = |call: &SentCall| call.id.request != 0 && is_late(&call.id);
        if !self.pending.range(first_unsent..).any(late) {
            return Vec::new();
        }
        let unsent = self.pending.split_off(first_unsent);
        let index = |position: u64| usize::try_from(position - self.flushed).unwrap_or(0);
        let starts: Vec<usize> = unsent.iter().map(|call| index(call.start)).collect();
        let kept = starts.first().copied().unwrap_or(self.output.len());
        let output = self.output.split_off(kept);
        let mut withdrawn = Vec::new();
        // ASKING belongs to the call after it.
        let mut asking = None;
        for (number, call) in unsent.into_iter().enumerate() {
            let end = starts
                .get(number + 1)
                .map_or(output.len(), |end| end - kept);
            let bytes = &output[starts[number] - kept..end];
            if call.id.request == 0 {
                asking = Some((call, bytes));
            } else if is_late(&call.id) {
                withdrawn.push(call.id);
                asking = None;
            } else {
                for (mut call, bytes) in asking.take().into_iter().chain([(call, bytes)]) {
                    call.start = self.flushed + self.output.len() as u64;
                    self.output.extend_from_slice(bytes);
                    self.pending.push_back(call);
                }
            }
        }
        withdrawn
    }

    /// Whether there are bytes to write.
    pub fn has_output(&self) -> bool {
        let has_buffered = |connection: &Connection| connection.stream.has_buffered_writes();
        !self.output.is_empty()
            || matches!(&self.stage, Stage::Open(connection) if has_buffered(connection))
    }

    /// Whether it takes calls. Nothing may be left in any buffer when no call is pending.
    pub fn is_usable(&mut self) -> bool {
        if let Stage::Open(connection) = &mut self.stage {
            self.is_retired |= self.pending.is_empty() && !connection.is_usable();
        }
        !self.is_retired
    }

    /// Whether it is of no more use.
    pub fn has_ended(&self) -> bool {
        self.is_retired && self.pending.is_empty()
    }

    /// Whether the server has sent nothing for this time, although a call was pending all the time.
    pub fn is_silent(&self, time: Duration) -> bool {
        let last_received = match &self.stage {
            Stage::Open(connection) => connection.last_received,
            Stage::Connecting(_, started) => *started,
        };
        let first = self.pending.front();
        first.is_some_and(|call| call.sent_at.max(last_received).elapsed() >= time)
    }

    /// Whether the server may have received a call.
    pub const fn may_have_received(&self, call: &SentCall) -> bool {
        call.start < self.flushed + self.written as u64
    }

    /// Adds a call of a request to the output, with ASKING before it if need be.
    pub fn push_outgoing(&mut self, id: CallId, outgoing: &Outgoing, call: &Call) {
        if outgoing.asking {
            self.push(CallId::NONE, &Call::new("ASKING"), false);
        }
        self.push(id, call, outgoing.send_source);
    }

    fn push(&mut self, id: CallId, call: &Call, send_source: bool) {
        self.pending.push_back(SentCall {
            id,
            start: self.flushed + self.output.len() as u64,
            sent_at: Instant::now(),
        });
        call.write(send_source, &mut self.output);
    }

    /// Writes as much output as possible without blocking.
    pub fn write(&mut self) -> io::Result<()> {
        let Stage::Open(connection) = &mut self.stage else {
            return Ok(());
        };
        connection.stream.send(&self.output, &mut self.written)?;
        if self.written == self.output.len() {
            self.flushed += self.output.len() as u64;
            self.output.clear();
            self.written = 0;
        }
        Ok(())
    }

    /// The next reply, if it is complete.
    pub fn read(&mut self) -> std::result::Result<Option<(SentCall, Value)>, TransportError> {
        let Stage::Open(connection) = &mut self.stage else {
            return Ok(None);
        };
        let Some(value) = connection.receive()? else {
            return Ok(None);
        };
        let surplus = "the server sent a reply to no call";
        let call = self.pending.pop_front();
        let call = call.ok_or_else(|| TransportError::Broken(io::Error::other(surplus)))?;
        self.is_retired |= is_from_replica(&value);
        Ok(Some((call, value)))
    }

    /// Spins briefly for the next reply, if it is open.
    pub fn spin(&mut self) -> Option<std::result::Result<(SentCall, Value), TransportError>> {
        let Stage::Open(connection) = &self.stage else {
            return None;
        };
        let mut spin = connection.spin;
        let found = spin.spin_until(|| self.read().transpose());
        if let Stage::Open(connection) = &mut self.stage {
            connection.spin = spin;
        }
        found
    }

    /// The event to wait for.
    fn event(&self) -> Option<PollFd<'_>> {
        match &self.stage {
            Stage::Open(connection) => {
                let mut flags = PollFlags::IN;
                if self.has_output() {
                    flags |= PollFlags::OUT;
                }
                Some(PollFd::from_borrowed_fd(connection.stream.as_fd(), flags))
            }
            Stage::Connecting(connecting, _) => match connecting.wait() {
                Wait::Socket(socket, flags) => Some(PollFd::from_borrowed_fd(socket, flags)),
                Wait::Time(_) => None,
            },
        }
    }
}

/// Reports to an exchange that its calls, each with whether the server may have received it, were lost with their connection.
///
/// The first call of the connection is not sent again if its reply was too large. The others have done nothing wrong.
pub fn report_lost(
    exchange: &mut Exchange<Arc<Node>>,
    calls: &[(usize, bool)],
    first: Option<usize>,
    cause: &TransportError,
    connection: &MultiplexedConnection,
    topology: &Topology,
) {
    for (index, _) in calls.iter().filter(|(_, reached)| *reached) {
        exchange.wrote(*index);
    }
    let address = &connection.node.address;
    let too_large = first.filter(|_| matches!(cause, TransportError::TooLarge(_)));
    let (guilty, others): (Vec<usize>, Vec<usize>) = calls
        .iter()
        .map(|(index, _)| *index)
        .partition(|index| too_large == Some(*index));
    exchange.broken(guilty, false, topology, |outcome| {
        cause.error(address, outcome)
    });
    let cause = cause.for_others();
    exchange.broken(others, true, topology, |outcome| {
        cause.error(address, outcome)
    });
}

/// Reports that calls are sent again after a delay.
pub fn note_retry(config: &Config, exchange: &Exchange<Arc<Node>>, delay: Duration) {
    if let Some(reason) = exchange.retry_reason() {
        let seconds = delay.as_secs_f64();
        let text = format!("calls are sent again in {seconds} s: {reason}");
        config.notices.debug(text);
    }
}

/// Reports that a connection broke.
pub fn note_broken(config: &Config, connection: &MultiplexedConnection, cause: &TransportError) {
    let error = cause.error(&connection.node.own_address(), Outcome::NotApplied);
    config.notices.debug(error.message);
}

/// When to report `tick` after this time; `None`: not before the end of the request.
pub fn tick_at(time: Duration, end: Option<Instant>) -> Option<Instant> {
    let at = Instant::now() + time;
    end.is_none_or(|end| at + LAST_RETRY <= end).then_some(at)
}

/// The events of connections to wait for.
pub fn poll_sockets(connections: &[MultiplexedConnection]) -> Vec<PollFd<'_>> {
    connections
        .iter()
        .filter_map(MultiplexedConnection::event)
        .collect()
}

/// Blocks until one of these connections, the request for the slots or `wakeup` must continue, or until the first of the
/// `ends`. Returns whether `wakeup` is readable.
pub fn block(
    connections: &[MultiplexedConnection],
    slot_refresh: Option<&SlotRefresh>,
    wakeup: Option<&UnixStream>,
    ends: impl Iterator<Item = Instant>,
    is_cluster: bool,
) -> bool {
    let mut sockets = poll_sockets(connections);
    let connecting = connections.iter();
    let ends = ends.chain(connecting.filter_map(|connection| connection.wake_at(is_cluster)));
    let mut end = ends.chain(slot_refresh.and_then(SlotRefresh::end)).min();
    match slot_refresh.map(SlotRefresh::wait) {
        Some(Wait::Socket(socket, flags)) => {
            sockets.push(PollFd::from_borrowed_fd(socket, flags));
        }
        Some(Wait::Time(time)) => end = end.into_iter().chain([Instant::now() + time]).min(),
        None => {}
    }
    sockets.extend(wakeup.map(|wakeup| PollFd::new(wakeup, PollFlags::IN)));
    let left = |end: Instant| {
        let left = end.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        Timespec::try_from(left).ok()
    };
    // An interrupted wait ends early, which does no harm.
    let _ = poll(&mut sockets, end.and_then(left).as_ref());
    let last = sockets.last().filter(|_| wakeup.is_some());
    last.is_some_and(|wakeup| !wakeup.revents().is_empty())
}
