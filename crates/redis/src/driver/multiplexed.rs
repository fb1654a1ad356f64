//! A connection of the event loop, which carries the calls of many requests.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mintkey_runtime::Deadline;
use mintkey_store::Result;
use rustix::event::{PollFd, PollFlags};

use crate::config::Config;
use crate::protocol::resp::{Call, Value};
use crate::transport::connection::{Connection, TransportError};
use crate::transport::topology::Node;

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
}

/// A call that was sent.
pub struct SentCall {
    /// Which one.
    pub id: CallId,
    /// The position of its first byte in the stream.
    start: u64,
    sent_at: Instant,
}

/// A connection to a server.
pub struct MultiplexedConnection {
    /// The server.
    pub node: Arc<Node>,
    /// The connection.
    pub connection: Connection,
    output: Vec<u8>,
    /// The bytes of `output` that are written.
    written: usize,
    /// The bytes of the stream before `output`.
    flushed: u64,
    /// The calls without a reply, in order.
    pub pending: VecDeque<SentCall>,
    /// When the server last sent something.
    last_received: Instant,
    /// Whether it takes no more calls: its replies may belong to other calls.
    is_retired: bool,
}

impl MultiplexedConnection {
    /// Connects.
    pub fn open(config: &Config, node: &Arc<Node>, deadline: &mut Deadline) -> Result<Self> {
        // The event loop serves other requests too, and must not wait for a server that cannot answer at the moment.
        let connection = node.open(config, deadline, false)?;
        connection.set_nonblocking(&node.address)?;
        Ok(Self {
            node: Arc::clone(node),
            connection,
            output: Vec::new(),
            written: 0,
            flushed: 0,
            pending: VecDeque::new(),
            last_received: Instant::now(),
            is_retired: false,
        })
    }

    /// Whether there are bytes to write.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty() || self.connection.stream.has_buffered_writes()
    }

    /// Whether it takes calls. Nothing may be left in any buffer when no call is pending.
    pub fn is_usable(&mut self) -> bool {
        self.is_retired |= self.pending.is_empty() && !self.connection.is_usable();
        !self.is_retired
    }

    /// Takes no more calls.
    pub const fn retire(&mut self) {
        self.is_retired = true;
    }

    /// Whether it is of no more use.
    pub fn has_ended(&self) -> bool {
        self.is_retired && self.pending.is_empty()
    }

    /// Whether the server has sent nothing for this time, although a call was pending all the time.
    pub fn is_silent(&self, time: Duration) -> bool {
        let since = self
            .pending
            .front()
            .map(|call| call.sent_at.max(self.last_received));
        since.is_some_and(|since| since.elapsed() >= time)
    }

    /// Whether the server may have received a call.
    pub const fn may_have_received(&self, call: &SentCall) -> bool {
        call.start < self.flushed + self.written as u64
    }

    /// Adds a call to the output.
    pub fn push(&mut self, id: CallId, call: &Call, send_source: bool) {
        self.pending.push_back(SentCall {
            id,
            start: self.flushed + self.output.len() as u64,
            sent_at: Instant::now(),
        });
        call.write(send_source, &mut self.output);
    }

    /// Writes as much output as possible without blocking.
    pub fn write(&mut self) -> io::Result<()> {
        while self.written < self.output.len() {
            match self.connection.stream.write(&self.output[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.flushed += self.output.len() as u64;
        self.output.clear();
        self.written = 0;
        Ok(())
    }

    /// The next reply, if it is complete.
    pub fn read(&mut self) -> std::result::Result<Option<(SentCall, Value)>, TransportError> {
        loop {
            if let Some(value) = self.connection.parser.next()? {
                let surplus = "the server sent a reply to no call";
                let call = self.pending.pop_front();
                let call = call.ok_or_else(|| TransportError::Broken(io::Error::other(surplus)))?;
                return Ok(Some((call, value)));
            }
            match self.connection.parser.fill(&mut self.connection.stream) {
                Ok(0) => {
                    let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(TransportError::Broken(ended));
                }
                Ok(_) => self.last_received = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(TransportError::Broken(error)),
            }
        }
    }
}

/// The events of connections to wait for.
pub fn poll_sockets(connections: &[MultiplexedConnection]) -> Vec<PollFd<'_>> {
    let sockets = connections.iter().map(|connection| {
        let mut flags = PollFlags::IN;
        if connection.has_output() {
            flags |= PollFlags::OUT;
        }
        PollFd::new(&connection.connection.stream, flags)
    });
    sockets.collect()
}
