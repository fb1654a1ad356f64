//! A connection to a server: sending and receiving.

use std::io::{self, ErrorKind as Io};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use mintkey_runtime::{Stop, untrusted, untrusted_reason};
use mintkey_store::{Error, ErrorKind, Outcome};
use rustix::event::PollFlags;

use crate::protocol::resp::{Call, Parser, ProtocolError, Value};
use crate::transport::adaptive_spin::AdaptiveSpin;
use crate::transport::stream::{Stream, Wait};

/// Why an exchange failed.
#[derive(Debug)]
pub enum TransportError {
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
    fn closed() -> Self {
        let ended = io::Error::new(Io::UnexpectedEof, "the server closed the connection");
        Self::Broken(ended)
    }

    /// The same for the other calls of the connection: a server that was silent for one was silent for all of them; a
    /// reply that is too large concerns only its own call.
    pub fn for_others(&self) -> Self {
        match self {
            Self::Stopped(stop) => Self::Stopped(*stop),
            Self::Broken(error) => Self::Broken(io::Error::new(error.kind(), error.to_string())),
            Self::TooLarge(_) => Self::Broken(Io::ConnectionAborted.into()),
        }
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
                if let Some(reason) = untrusted_reason(cause) {
                    return untrusted(address, &reason).caused_by(source);
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

/// The most reads in one step, so that a server that sends without end keeps nobody else waiting.
const MAX_READS: usize = 16;

pub struct Connection {
    pub stream: Stream,
    /// The bytes received.
    parser: Parser,
    /// When the server last sent something.
    pub last_received: Instant,
    /// Whether more can be read at once.
    pub has_more: bool,
    /// The calls of a round trip.
    output: Vec<u8>,
    /// Spins while a blocking request waits for replies.
    pub spin: AdaptiveSpin,
}

/// Calls that are sent together, and the replies so far, for steps that do not block.
pub struct RoundTrip {
    /// The bytes of the output that are sent.
    written: usize,
    /// The number of replies that are expected.
    count: usize,
    replies: Vec<Value>,
}

impl RoundTrip {
    /// Puts calls into the output of a connection.
    pub fn new(connection: &mut Connection, calls: &[Call]) -> Self {
        connection.output.clear();
        for call in calls {
            call.write(false, &mut connection.output);
        }
        Self {
            written: 0,
            count: calls.len(),
            replies: Vec::with_capacity(calls.len()),
        }
    }

    /// What to wait for before the next step.
    pub fn wait<'a>(&self, connection: &'a Connection) -> Wait<'a> {
        if connection.has_more {
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
            last_received: Instant::now(),
            has_more: false,
            output: Vec::new(),
            spin: AdaptiveSpin::default(),
        }
    }

    /// Sends and receives as far as possible without blocking. Returns whether all replies have come.
    pub fn advance(
        &mut self,
        round_trip: &mut RoundTrip,
    ) -> std::result::Result<bool, TransportError> {
        let sent = self.stream.send(&self.output, &mut round_trip.written);
        sent.map_err(|error| TransportError::Broken(self.stream.explain(error)))?;
        while round_trip.replies.len() < round_trip.count {
            match self.receive()? {
                Some(reply) => round_trip.replies.push(reply),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The next reply, if it is complete. Does not block.
    pub fn receive(&mut self) -> std::result::Result<Option<Value>, TransportError> {
        self.has_more = false;
        for _ in 0..MAX_READS {
            if let Some(reply) = self.parser.next_reply()? {
                return Ok(Some(reply));
            }
            match self.parser.fill(&mut self.stream) {
                Ok(0) => return Err(TransportError::closed()),
                Ok(_) => self.last_received = Instant::now(),
                Err(error) if error.kind() == Io::Interrupted => {}
                Err(error) if error.kind() == Io::WouldBlock => return Ok(None),
                Err(error) => return Err(TransportError::Broken(error)),
            }
        }
        self.has_more = true;
        Ok(None)
    }

    /// Whether the server has not closed it, and has sent nothing that no call asked for. Nothing is left in any buffer.
    pub fn is_usable(&mut self) -> bool {
        self.parser.is_empty() && self.stream.is_quiet()
    }
}
