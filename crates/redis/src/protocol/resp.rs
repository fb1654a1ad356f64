//! RESP, the protocol of Redis: writes commands and parses replies.

use std::io::{self, Read};
use std::time::Duration;

use crate::protocol::scripts::Script;

/// The bytes that one read of a socket asks for.
const READ_SIZE: usize = 16 * 1024;
/// The deepest nesting of arrays. The replies that are used here have two or three levels.
const MAX_DEPTH: usize = 32;
/// The longest line: a status, an error, or a header. The text of an error may contain a line of a script.
const MAX_LINE: usize = 64 * 1024;
/// The largest buffer that is kept between replies. A large reply makes it larger; it is freed after that.
const MAX_IDLE_BUFFER: usize = 1024 * 1024;

/// A reply, or a part of one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Null.
    Nil,
    /// An integer.
    Int(i64),
    /// A simple string, such as `OK`.
    Status(String),
    /// An error: its code, then its text.
    Error(String),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// An array.
    Array(Vec<Value>),
}

/// A command to send, or a script to call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The slot group of its keys.
    pub slot_group: u8,
    script: Option<&'static Script>,
    arguments: usize,
    body: Vec<u8>,
    /// Whether it may be sent again when it is unknown whether the server carried it out.
    pub repeatable: bool,
    /// Whether it may change what is stored.
    pub writes: bool,
    /// Whether it is sent again when the server replies that it cannot carry it out at the moment.
    pub retry_when_busy: bool,
    /// How long it waits before it is sent.
    pub delay: Duration,
}

impl Call {
    /// A command without keys, without arguments yet.
    pub fn new(name: &str) -> Self {
        Self::on(0, name)
    }

    /// A command on keys of a slot group, without arguments yet.
    pub fn on(slot_group: u8, name: &str) -> Self {
        let mut call = Self {
            slot_group,
            script: None,
            arguments: 0,
            body: Vec::with_capacity(128),
            repeatable: true,
            writes: false,
            retry_when_busy: true,
            delay: Duration::ZERO,
        };
        call.push(name.as_bytes());
        call
    }

    /// A call of a script on keys of a slot group, without arguments yet. `more` are keys too. `room` is the capacity of
    /// the buffer.
    pub fn script(
        slot_group: u8,
        script: &'static Script,
        keys: &[&[u8]],
        more: &[Vec<u8>],
        room: usize,
    ) -> Self {
        let mut call = Self {
            slot_group,
            script: Some(script),
            arguments: 0,
            body: Vec::with_capacity(room),
            repeatable: false,
            writes: true,
            retry_when_busy: true,
            delay: Duration::ZERO,
        };
        call.push((keys.len() + more.len()).to_string().as_bytes());
        for key in keys {
            call.push(key);
        }
        for key in more {
            call.push(key);
        }
        call
    }

    /// Adds an argument.
    pub fn push(&mut self, argument: &[u8]) {
        self.arguments += 1;
        push_bulk(&mut self.body, argument);
    }

    /// Adds an argument, and returns the call.
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.push(argument.as_ref());
        self
    }

    /// Marks it as one that may be sent again.
    pub const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Marks it as one that changes stored data.
    pub const fn writing(mut self) -> Self {
        self.writes = true;
        self
    }

    /// Lets it wait before it is sent.
    pub const fn delayed(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Marks it as one that is dropped if the server cannot carry it out at the moment.
    pub const fn fail_when_busy(mut self) -> Self {
        self.retry_when_busy = false;
        self
    }

    /// Appends its bytes. A script is sent as source (`EVAL`), or by its digest (`EVALSHA`).
    pub fn write(&self, send_source: bool, out: &mut Vec<u8>) {
        let Some(script) = self.script else {
            push_header(out, b'*', self.arguments);
            out.extend_from_slice(&self.body);
            return;
        };
        push_header(out, b'*', self.arguments + 2);
        if send_source {
            push_bulk(out, b"EVAL");
            push_bulk(out, script.source().as_bytes());
        } else {
            push_bulk(out, b"EVALSHA");
            push_bulk(out, script.digest().as_bytes());
        }
        out.extend_from_slice(&self.body);
    }
}

fn push_header(out: &mut Vec<u8>, kind: u8, mut number: usize) {
    let mut digits = [0_u8; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[start..]);
    out.extend_from_slice(b"\r\n");
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    push_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// An incremental parser of replies. It scans each byte once.
#[derive(Debug)]
pub struct Parser {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The bytes from `start` on that contain no end of a line.
    scanned: usize,
    /// The bytes from `start` on that the next value needs, as far as that is known.
    needed: usize,
    /// The largest size of a reply.
    max_reply: usize,
    /// The size of the reply so far: its bytes, and the memory of its values.
    size: usize,
    /// The arrays that are not complete, with the number of members that each will have.
    open_arrays: Vec<(usize, Vec<Value>)>,
}

/// Why bytes are refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// They are not a reply of Redis.
    NotRedis,
    /// The reply is larger than this number of bytes.
    TooLarge(usize),
}

impl Parser {
    /// A parser of replies of this size at most.
    pub const fn new(max_reply: usize) -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            end: 0,
            scanned: 0,
            needed: 0,
            max_reply,
            size: 0,
            open_arrays: Vec::new(),
        }
    }

    /// Reads what a socket has. Returns 0 at its end.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > MAX_IDLE_BUFFER {
                self.buffer = Vec::new();
            }
        } else if self.start > 0 && self.buffer.len() - self.end < READ_SIZE {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < READ_SIZE {
            let enough = self.start + self.needed + READ_SIZE;
            let room = (self.buffer.len() * 2)
                .min(enough)
                .max(self.end + READ_SIZE);
            self.buffer.reserve_exact(room - self.buffer.len());
            self.buffer.resize(room, 0);
        }
        let count = from.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Whether no part of a reply is left.
    pub fn is_empty(&self) -> bool {
        self.start == self.end && self.open_arrays.is_empty()
    }

    /// The next reply, if it is complete.
    pub fn next_reply(&mut self) -> Result<Option<Value>, ProtocolError> {
        loop {
            let Some(value) = self.scalar()? else {
                return Ok(None);
            };
            let Some(mut value) = value else { continue };
            loop {
                let Some((wanted, members)) = self.open_arrays.last_mut() else {
                    self.size = 0;
                    return Ok(Some(value));
                };
                members.push(value);
                if members.len() < *wanted {
                    break;
                }
                value = Value::Array(std::mem::take(members));
                self.open_arrays.pop();
            }
        }
    }

    /// The next value without members. `Some(None)` is the header of an array.
    #[allow(
        clippy::option_option,
        reason = "incomplete, the header of an array, or a value"
    )]
    fn scalar(&mut self) -> Result<Option<Option<Value>>, ProtocolError> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(length) = end_of_line(bytes, self.scanned)? else {
            // The last byte may be the first one of the end of the line.
            self.scanned = bytes.len().saturating_sub(1);
            self.needed = 0;
            return Ok(None);
        };
        let after = length + 2;
        let (kind, line) = bytes[..length]
            .split_first()
            .ok_or(ProtocolError::NotRedis)?;
        let text = || String::from_utf8_lossy(line).into_owned();
        let (value, used) = match kind {
            b'+' => (Value::Status(text()), after),
            b'-' => (Value::Error(text()), after),
            b':' => (Value::Int(number(line)?), after),
            b'_' => (Value::Nil, after),
            b'$' => match usize::try_from(number(line)?) {
                Err(_) => (Value::Nil, after),
                Ok(bulk) => {
                    self.check_size(bulk)?;
                    let end = after + bulk;
                    match bytes.get(end..end + 2) {
                        None => {
                            (self.scanned, self.needed) = (length, end + 2);
                            return Ok(None);
                        }
                        Some(b"\r\n") => (Value::Bulk(bytes[after..end].to_vec()), end + 2),
                        Some(_) => return Err(ProtocolError::NotRedis),
                    }
                }
            },
            b'*' => match usize::try_from(number(line)?) {
                Err(_) => (Value::Nil, after),
                Ok(0) => (Value::Array(Vec::new()), after),
                Ok(_) if self.open_arrays.len() >= MAX_DEPTH => {
                    return Err(ProtocolError::NotRedis);
                }
                Ok(members) => {
                    self.check_size(members.saturating_mul(size_of::<Value>()))?;
                    self.open_arrays
                        .push((members, Vec::with_capacity(members.min(1024))));
                    self.take(after)?;
                    return Ok(Some(None));
                }
            },
            _ => return Err(ProtocolError::NotRedis),
        };
        self.take(used)?;
        Ok(Some(Some(value)))
    }

    /// Takes the bytes of a value.
    fn take(&mut self, count: usize) -> Result<(), ProtocolError> {
        self.check_size(count)?;
        self.size += count + size_of::<Value>();
        self.start += count;
        (self.scanned, self.needed) = (0, 0);
        Ok(())
    }

    /// Checks that the reply may have this many more bytes.
    const fn check_size(&self, more: usize) -> Result<(), ProtocolError> {
        if more > self.max_reply.saturating_sub(self.size) {
            return Err(ProtocolError::TooLarge(self.max_reply));
        }
        Ok(())
    }
}

/// The length of the line at the start, if it has ended. It has no end in the bytes that were scanned before.
fn end_of_line(bytes: &[u8], scanned: usize) -> Result<Option<usize>, ProtocolError> {
    let line = &bytes[..bytes.len().min(MAX_LINE + 2)];
    let found = line[scanned..].windows(2).position(|pair| pair == b"\r\n");
    if found.is_none() && line.len() < bytes.len() {
        return Err(ProtocolError::NotRedis);
    }
    Ok(found.map(|length| scanned + length))
}

fn number(line: &[u8]) -> Result<i64, ProtocolError> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(ProtocolError::NotRedis)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1024 * 1024;

    fn parse_all(bytes: &[u8], step: usize) -> Result<Vec<Value>, ProtocolError> {
        let mut parser = Parser::new(MAX);
        let mut values = Vec::new();
        for mut part in bytes.chunks(step) {
            while !part.is_empty() {
                assert!(parser.fill(&mut part).unwrap() > 0);
            }
            while let Some(value) = parser.next_reply()? {
                values.push(value);
            }
        }
        assert!(parser.is_empty());
        Ok(values)
    }

    #[test]
    fn replies_are_parsed_in_pieces_of_any_size() {
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n$0\r\n\r\n$4\r\na\r\nb\r\n*-1\r\n*0\r\n*2\r\n*1\r\n:1\r\n$1\r\nx\r\n";
        let wanted = vec![
            Value::Status("OK".into()),
            Value::Error("ERR no".into()),
            Value::Int(-7),
            Value::Nil,
            Value::Bulk(Vec::new()),
            Value::Bulk(b"a\r\nb".to_vec()),
            Value::Nil,
            Value::Array(Vec::new()),
            Value::Array(vec![
                Value::Array(vec![Value::Int(1)]),
                Value::Bulk(b"x".to_vec()),
            ]),
        ];
        for step in 1..bytes.len() {
            assert_eq!(parse_all(bytes, step).unwrap(), wanted);
        }
    }

    #[test]
    fn large_values_are_parsed() {
        let large = vec![b'\n'; 300_000];
        let mut bytes = b"$300000\r\n".to_vec();
        bytes.extend_from_slice(&large);
        bytes.extend_from_slice(b"\r\n:1\r\n");
        let wanted = vec![Value::Bulk(large), Value::Int(1)];
        assert_eq!(parse_all(&bytes, 7_000).unwrap(), wanted);
    }

    #[test]
    fn bytes_that_are_not_a_reply_are_refused() {
        for bytes in [
            &b"HTTP/1.1 400\r\n"[..],
            b":x\r\n",
            b"$1\r\nabc\r\n",
            b"\r\n",
        ] {
            assert_eq!(
                parse_all(bytes, 1),
                Err(ProtocolError::NotRedis),
                "{bytes:?}"
            );
        }
        let deep = b"*1\r\n".repeat(40);
        assert_eq!(parse_all(&deep, 4), Err(ProtocolError::NotRedis));
        let long = [b"+".as_slice(), &vec![b'x'; 2 * MAX_LINE]].concat();
        for step in [100, MAX_LINE, long.len()] {
            assert_eq!(parse_all(&long, step), Err(ProtocolError::NotRedis));
        }
    }

    #[test]
    fn a_reply_that_is_too_large_is_refused_before_it_arrives() {
        for bytes in [
            &b"$1048577\r\n"[..],
            b"$9223372036854775807\r\n",
            b"*32769\r\n",
            b"*9223372036854775807\r\n",
            b"*2\r\n$4\r\nabcd\r\n$1048560\r\n",
        ] {
            for step in [1, bytes.len()] {
                let result = parse_all(bytes, step);
                assert_eq!(result, Err(ProtocolError::TooLarge(MAX)), "{bytes:?}");
            }
        }
        let nested = [b"*2\r\n*30000\r\n".as_slice(), &b":1\r\n".repeat(30_000)].concat();
        let result = parse_all(&nested, 1000);
        assert_eq!(result, Err(ProtocolError::TooLarge(MAX)));
    }

    #[test]
    fn the_size_of_each_reply_is_limited_by_itself() {
        let reply = [b"$600000\r\n".as_slice(), &vec![b'x'; 600_000], b"\r\n"].concat();
        assert_eq!(parse_all(&reply.repeat(5), 10_000).unwrap().len(), 5);
        let mut parser = Parser::new(MAX);
        let mut sent = &reply[..];
        while !sent.is_empty() {
            parser.fill(&mut sent).unwrap();
            let _ = parser.next_reply().unwrap();
            assert!(parser.buffer.capacity() <= reply.len() + 2 * READ_SIZE);
        }
    }

    #[test]
    fn commands_are_written() {
        let mut out = Vec::new();
        Call::new("GET").arg("a\r\n").write(false, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
    }
}
