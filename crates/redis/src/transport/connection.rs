//! A connection to a server: sending and receiving.

use std::io::{self, ErrorKind as Io, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use mintkey_runtime::{Deadline, Stop, distrust};
use mintkey_store::{Error, ErrorKind, Outcome, Result};
use rustix::event::PollFlags;

use crate::config::{Config, Endpoint};
use crate::protocol::resp::{Call, Parser, ProtocolError, Value};
use crate::transport::adaptive_spin::AdaptiveSpin;
use crate::transport::connecting::{Connecting, Wait, unreachable_server};
use crate::transport::stream::{SpinningRead, Stream};

/// Why an exchange failed.
#[derive(Debug)]
pub enum TransportError {
    /// It was stopped.
    Stopped(Stop),
    /// The connection broke.
    Broken(io::Error),
    /// A reply is larger than this number of bytes.
    TooLarge(usize),
}

impl From<ProtocolError> for TransportError {
    fn from(error: ProtocolError) -> Self {
        match error {
            ProtocolError::NotRedis => Self::Broken(io::Error::new(
                Io::InvalidData,
                "the server sent bytes that are not a reply of Redis",
            )),
            ProtocolError::TooLarge(max_reply) => Self::TooLarge(max_reply),
        }
    }
}

impl TransportError {
    /// The server closed the connection.
    pub fn closed() -> Self {
        let ended = io::Error::new(Io::UnexpectedEof, "the server closed the connection");
        Self::Broken(ended)
    }

    /// The error for the caller.
    pub fn error(&self, address: &str, outcome: Outcome) -> Error {
        match self {
            Self::Stopped(stop) => stop.error(address, "waiting for a reply", outcome),
            Self::TooLarge(max_reply) => Error::new(
                ErrorKind::Unavailable(outcome),
                format!("{address} sent a reply of more than {max_reply} bytes"),
            )
            .advice("raise ?max_reply=, or check that a Redis server listens at this address"),
            Self::Broken(cause) => {
                let source = io::Error::new(cause.kind(), cause.to_string());
                if let Some(reason) = distrust(cause) {
                    return Error::configuration(format!(
                        "{address}: no trusted connection: {reason}"
                    ))
                    .caused_by(source);
                }
                let error = Error::new(
                    ErrorKind::Unavailable(outcome),
                    format!("the connection to {address} broke ({cause})"),
                )
                .caused_by(source);
                match outcome {
                    Outcome::NotApplied => error.advice("try again"),
                    Outcome::Unknown => error,
                }
            }
        }
    }
}

/// Calls that could not all be sent.
#[derive(Debug)]
pub struct SendFailure {
    /// The reason.
    pub cause: TransportError,
    /// The bytes that may have left.
    pub written: usize,
}

/// The most reads in one step, so that a server that sends without end keeps nobody else waiting.
pub const MAX_READS: usize = 16;

/// A connection.
pub struct Connection {
    /// The stream.
    pub stream: Stream,
    /// The bytes received.
    pub parser: Parser,
    output: Vec<u8>,
    spin: AdaptiveSpin,
}

/// Calls that are sent together, and the replies so far, for steps that do not block.
pub struct RoundTrip {
    /// The bytes of the output that are sent.
    written: usize,
    /// The number of replies that are expected.
    count: usize,
    replies: Vec<Value>,
    /// Whether more can be read at once.
    has_more: bool,
}

impl RoundTrip {
    /// Puts calls into the output of a connection.
    pub fn new(connection: &mut Connection, calls: &[Call]) -> Self {
        let output = connection.clear_output();
        for call in calls {
            call.write(false, output);
        }
        Self {
            written: 0,
            count: calls.len(),
            replies: Vec::with_capacity(calls.len()),
            has_more: false,
        }
    }

    /// What to wait for before the next step.
    pub fn wait<'a>(&self, connection: &'a Connection) -> Wait<'a> {
        if self.has_more {
            return Wait::Time(Duration::ZERO);
        }
        let stream = &connection.stream;
        let must_write = stream.has_buffered_writes()
            || self.written < connection.output.len() && !stream.is_handshaking();
        let flags = if must_write {
            PollFlags::IN | PollFlags::OUT
        } else {
            PollFlags::IN
        };
        Wait::Socket(stream.as_fd(), flags)
    }

    /// The replies so far.
    pub fn into_replies(self) -> Vec<Value> {
        self.replies
    }
}

impl Connection {
    /// A connection over a stream, not signed in.
    pub fn new(stream: Stream, max_reply: usize) -> Self {
        Self {
            stream,
            parser: Parser::new(max_reply),
            output: Vec::new(),
            spin: AdaptiveSpin::default(),
        }
    }

    /// Connects and signs in, on the calling thread.
    pub fn open(
        config: &Config,
        endpoint: &Endpoint,
        address: &str,
        deadline: &mut Deadline,
    ) -> Result<Self> {
        let mut connecting = Connecting::new(endpoint, address);
        let connection = loop {
            if let Some(connection) = connecting.advance(config, None)? {
                break connection;
            }
            deadline.check().map_err(|stop| connecting.stopped(stop))?;
            let waited = connecting.wait().block(deadline);
            waited.map_err(|error| unreachable_server(address, error))?;
        };
        let blocking = connection.stream.set_blocking();
        blocking.map_err(|error| unreachable_server(address, error))?;
        Ok(connection)
    }

    /// Sends and receives as far as possible without blocking. Returns whether all replies have come.
    pub fn advance(
        &mut self,
        round_trip: &mut RoundTrip,
    ) -> std::result::Result<bool, TransportError> {
        while round_trip.written < self.output.len() {
            match self.stream.write(&self.output[round_trip.written..]) {
                Ok(count) => round_trip.written += count,
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) if error.kind() == Io::WouldBlock => break,
                Err(error) => return Err(TransportError::Broken(self.stream.explain(error))),
            }
        }
        round_trip.has_more = false;
        for _ in 0..MAX_READS {
            while round_trip.replies.len() < round_trip.count {
                match self.parser.next_reply()? {
                    Some(reply) => round_trip.replies.push(reply),
                    None => break,
                }
            }
            if round_trip.replies.len() == round_trip.count {
                return Ok(true);
            }
            match self.parser.fill(&mut self.stream) {
                Ok(0) => return Err(TransportError::closed()),
                Ok(_) => {}
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) if error.kind() == Io::WouldBlock => return Ok(false),
                Err(error) => return Err(TransportError::Broken(error)),
            }
        }
        round_trip.has_more = true;
        Ok(false)
    }

    /// Whether the server has not closed it, and has sent nothing that no call asked for. Nothing is left in any buffer.
    pub fn is_usable(&mut self) -> bool {
        self.parser.is_empty() && self.stream.is_quiet()
    }

    /// The output buffer, empty, for calls that are sent together.
    pub fn clear_output(&mut self) -> &mut Vec<u8> {
        self.output.clear();
        &mut self.output
    }

    /// Sends the output buffer.
    pub fn send(&mut self, deadline: &mut Deadline) -> std::result::Result<(), SendFailure> {
        let mut written = 0;
        while written < self.output.len() {
            let checked = match self.stream.write(&self.output[written..]) {
                Ok(count) => {
                    written += count;
                    if written == self.output.len() {
                        return Ok(());
                    }
                    deadline.check().map_err(TransportError::Stopped)
                }
                Err(error) => check_after_wait(error, deadline),
            };
            checked.map_err(|cause| SendFailure { cause, written })?;
        }
        Ok(())
    }

    /// Waits for this number of replies.
    pub fn receive(
        &mut self,
        count: usize,
        deadline: &mut Deadline,
    ) -> std::result::Result<Vec<Value>, TransportError> {
        let mut values = Vec::with_capacity(count);
        let mut has_read = false;
        loop {
            while values.len() < count {
                match self.parser.next_reply()? {
                    Some(value) => values.push(value),
                    None => break,
                }
            }
            if values.len() == count {
                return Ok(values);
            }
            if has_read {
                // If a reply comes in pieces, the reads may never time out.
                deadline.check().map_err(TransportError::Stopped)?;
            }
            let mut socket = SpinningRead(&mut self.stream, &mut self.spin);
            match self.parser.fill(&mut socket) {
                Ok(0) => return Err(TransportError::closed()),
                Ok(_) => has_read = true,
                Err(error) => check_after_wait(error, deadline)?,
            }
        }
    }
}

/// Checks the deadline after a read or write that timed out or was interrupted. Other errors break the connection.
fn check_after_wait(
    error: io::Error,
    deadline: &mut Deadline,
) -> std::result::Result<(), TransportError> {
    match error.kind() {
        Io::WouldBlock | Io::TimedOut | Io::Interrupted => {
            deadline.check().map_err(TransportError::Stopped)
        }
        _ => Err(TransportError::Broken(error)),
    }
}
