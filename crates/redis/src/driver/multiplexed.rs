//! A connection of the store's thread, and what is under way on it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mintkey_store::Result;

use crate::config::Config;
use crate::protocol::resp::{Call, Value};
use crate::transport::connection::{Cause, Connection};
use crate::transport::deadline::Watch;
use crate::transport::topology::Node;

/// A call on its way: whose it is, and where in the stream of bytes it begins.
pub struct Sent {
    /// The request it belongs to; 0: to none.
    pub flight: u64,
    /// Which of the request's questions it belongs to.
    pub round: u64,
    /// The call's place in the question.
    pub place: usize,
    begins: u64,
    /// When it was put on the line.
    when: Instant,
}

/// The connection to a server.
pub struct Line {
    /// The server.
    pub node: Arc<Node>,
    /// The connection.
    pub connection: Connection,
    out: Vec<u8>,
    written: usize,
    /// The bytes that were written before `out` begins.
    before: u64,
    /// What waits for an answer.
    pub sent: VecDeque<Sent>,
    /// When the server last said something.
    heard: Instant,
}

impl Line {
    /// Connects.
    pub fn open(config: &Config, node: &Arc<Node>, watch: &mut Watch) -> Result<Self> {
        // Others are served meanwhile: nobody waits here for a server that cannot answer at the moment.
        let connection = node.open(config, watch, false)?;
        connection.unblock(&node.address)?;
        Ok(Self {
            node: Arc::clone(node),
            connection,
            out: Vec::new(),
            written: 0,
            before: 0,
            sent: VecDeque::new(),
            heard: Instant::now(),
        })
    }

    /// Whether something waits to be written.
    pub fn is_full(&self) -> bool {
        !self.out.is_empty() || self.connection.stream.holds_back()
    }

    /// Whether the server has said nothing for so long, though it was asked all the time.
    pub fn is_silent(&self, time: Duration) -> bool {
        let asked = self.sent.front().map(|sent| sent.when.max(self.heard));
        asked.is_some_and(|since| since.elapsed() >= time)
    }

    /// Whether the server may have got a call.
    pub const fn reached(&self, sent: &Sent) -> bool {
        sent.begins < self.before + self.written as u64
    }

    /// Puts a call behind the others.
    pub fn push(&mut self, flight: u64, round: u64, place: usize, call: &Call, whole: bool) {
        self.sent.push_back(Sent {
            flight,
            round,
            place,
            begins: self.before + self.out.len() as u64,
            when: Instant::now(),
        });
        call.write(whole, &mut self.out);
    }

    /// Writes what waits, as far as it goes without waiting.
    pub fn write(&mut self) -> io::Result<()> {
        while self.written < self.out.len() {
            match self.connection.stream.write(&self.out[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.before += self.out.len() as u64;
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// The next answer, if it has come whole.
    pub fn read(&mut self) -> std::result::Result<Option<(Sent, Value)>, Cause> {
        loop {
            if let Some(value) = self.connection.parser.next()? {
                let surplus = "the server answered what nobody asked";
                let sent = self.sent.pop_front();
                let sent = sent.ok_or_else(|| Cause::Broken(io::Error::other(surplus)))?;
                return Ok(Some((sent, value)));
            }
            match self.connection.parser.fill(&mut self.connection.stream) {
                Ok(0) => {
                    let ended = io::Error::from(io::ErrorKind::UnexpectedEof);
                    return Err(Cause::Broken(ended));
                }
                Ok(_) => self.heard = Instant::now(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(Cause::Broken(error)),
            }
        }
    }
}
