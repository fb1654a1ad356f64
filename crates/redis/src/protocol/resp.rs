//! The wire format: commands out, replies in.

use std::io::{self, Read};

use crate::protocol::scripts::Script;

/// The bytes asked of a socket at a time.
const CHUNK: usize = 16 * 1024;
/// Replies nest two or three levels; more is no Redis.
const DEEPEST: usize = 32;
/// Room kept between replies; a buffer that a large reply has blown up is given back.
const KEPT: usize = 1024 * 1024;

/// What a server answers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// A number.
    Int(i64),
    /// A word, such as `OK`.
    Status(String),
    /// A refusal: its code, then its text.
    Error(String),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Several.
    Array(Vec<Value>),
}

/// A command on its way to a server.
#[derive(Clone, Debug)]
pub struct Call {
    /// The bucket it is about.
    pub bucket: u8,
    script: Option<&'static Script>,
    arguments: usize,
    body: Vec<u8>,
    /// Whether it may be sent again when nobody knows if it was carried out.
    pub repeatable: bool,
    /// Whether it may change what is stored.
    pub writes: bool,
    /// Whether it is worth waiting for a server that cannot do it at the moment.
    pub patient: bool,
}

impl Call {
    /// A command for a server itself, without arguments yet.
    pub fn new(name: &str) -> Self {
        Self::on(0, name)
    }

    /// A command for a bucket, without arguments yet.
    pub fn on(bucket: u8, name: &str) -> Self {
        let mut call = Self {
            bucket,
            script: None,
            arguments: 0,
            body: Vec::with_capacity(128),
            repeatable: true,
            writes: false,
            patient: true,
        };
        call.push(name.as_bytes());
        call
    }

    /// A script on these keys of a bucket and some more, without arguments yet.
    pub fn script(
        bucket: u8,
        script: &'static Script,
        keys: &[&[u8]],
        more: &[Vec<u8>],
        room: usize,
    ) -> Self {
        let mut call = Self {
            bucket,
            script: Some(script),
            arguments: 0,
            body: Vec::with_capacity(room),
            repeatable: false,
            writes: true,
            patient: true,
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

    /// Adds an argument, and gives the call back.
    pub fn arg(mut self, argument: impl AsRef<[u8]>) -> Self {
        self.push(argument.as_ref());
        self
    }

    /// Says that it may be sent again.
    pub const fn repeatable(mut self) -> Self {
        self.repeatable = true;
        self
    }

    /// Says that it changes what is stored.
    pub const fn writing(mut self) -> Self {
        self.writes = true;
        self
    }

    /// Says that it is left undone if the server cannot do it at the moment.
    pub const fn impatient(mut self) -> Self {
        self.patient = false;
        self
    }

    /// Writes it out; with `whole` a script is sent itself, not its name.
    pub fn write(&self, whole: bool, out: &mut Vec<u8>) {
        let Some(script) = self.script else {
            push_header(out, b'*', self.arguments);
            out.extend_from_slice(&self.body);
            return;
        };
        push_header(out, b'*', self.arguments + 2);
        if whole {
            push_bulk(out, b"EVAL");
            push_bulk(out, script.text().as_bytes());
        } else {
            push_bulk(out, b"EVALSHA");
            push_bulk(out, script.digest().as_bytes());
        }
        out.extend_from_slice(&self.body);
    }
}

fn push_header(out: &mut Vec<u8>, kind: u8, mut number: usize) {
    let mut digits = [0_u8; 20];
    let mut place = digits.len();
    loop {
        place -= 1;
        digits[place] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push(kind);
    out.extend_from_slice(&digits[place..]);
    out.extend_from_slice(b"\r\n");
}

fn push_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    push_header(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Reads replies as their bytes come in, and never looks at a byte of a value twice.
#[derive(Debug, Default)]
pub struct Parser {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The arrays that are not complete, with the number of members each shall have.
    open: Vec<(usize, Vec<Value>)>,
}

/// The other side does not speak this protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Garbage;

impl Parser {
    /// Takes in what a socket has; 0 at its end.
    pub fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
            if self.buffer.len() > KEPT {
                self.buffer = Vec::new();
            }
        } else if self.start > 0 && self.buffer.len() - self.end < CHUNK {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < CHUNK {
            let room = (self.buffer.len() * 2).max(CHUNK * 2);
            self.buffer.resize(room, 0);
        }
        let count = from.read(&mut self.buffer[self.end..])?;
        self.end += count;
        Ok(count)
    }

    /// Whether nothing of a reply is left.
    pub fn is_empty(&self) -> bool {
        self.start == self.end && self.open.is_empty()
    }

    /// The next reply, once it is there whole.
    pub fn next(&mut self) -> Result<Option<Value>, Garbage> {
        loop {
            let Some(value) = self.scalar()? else {
                return Ok(None);
            };
            let Some(mut value) = value else { continue };
            loop {
                let Some((wanted, members)) = self.open.last_mut() else {
                    return Ok(Some(value));
                };
                members.push(value);
                if members.len() < *wanted {
                    break;
                }
                value = Value::Array(std::mem::take(members));
                self.open.pop();
            }
        }
    }

    /// One value that holds no others; `Some(None)` after the opening of an array.
    #[allow(clippy::option_option, reason = "incomplete, an opening, or a value")]
    fn scalar(&mut self) -> Result<Option<Option<Value>>, Garbage> {
        let bytes = &self.buffer[self.start..self.end];
        let Some(length) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
            return Ok(None);
        };
        let after = length + 2;
        let (kind, line) = bytes[..length].split_first().ok_or(Garbage)?;
        let text = || String::from_utf8_lossy(line).into_owned();
        let value = match kind {
            b'+' => Value::Status(text()),
            b'-' => Value::Error(text()),
            b':' => Value::Int(number(line)?),
            b'_' => Value::Nil,
            b'$' => match usize::try_from(number(line)?) {
                Err(_) => Value::Nil,
                Ok(size) => {
                    let end = after.checked_add(size).ok_or(Garbage)?;
                    match bytes.get(end..end + 2) {
                        None => return Ok(None),
                        Some(b"\r\n") => {
                            let value = Value::Bulk(bytes[after..end].to_vec());
                            self.start += end + 2;
                            return Ok(Some(Some(value)));
                        }
                        Some(_) => return Err(Garbage),
                    }
                }
            },
            b'*' => match usize::try_from(number(line)?) {
                Err(_) => Value::Nil,
                Ok(0) => Value::Array(Vec::new()),
                Ok(_) if self.open.len() >= DEEPEST => return Err(Garbage),
                Ok(members) => {
                    self.open
                        .push((members, Vec::with_capacity(members.min(1024))));
                    self.start += after;
                    return Ok(Some(None));
                }
            },
            _ => return Err(Garbage),
        };
        self.start += after;
        Ok(Some(Some(value)))
    }
}

fn number(line: &[u8]) -> Result<i64, Garbage> {
    std::str::from_utf8(line)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or(Garbage)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(bytes: &[u8], step: usize) -> Result<Vec<Value>, Garbage> {
        let mut parser = Parser::default();
        let mut values = Vec::new();
        for mut part in bytes.chunks(step) {
            while !part.is_empty() {
                assert!(parser.fill(&mut part).unwrap() > 0);
            }
            while let Some(value) = parser.next()? {
                values.push(value);
            }
        }
        assert!(parser.is_empty());
        Ok(values)
    }

    #[test]
    fn reads_replies_however_they_are_cut() {
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
            assert_eq!(all(bytes, step).unwrap(), wanted);
        }
    }

    #[test]
    fn reads_large_values() {
        let large = vec![b'\n'; 300_000];
        let mut bytes = b"$300000\r\n".to_vec();
        bytes.extend_from_slice(&large);
        bytes.extend_from_slice(b"\r\n:1\r\n");
        let wanted = vec![Value::Bulk(large), Value::Int(1)];
        assert_eq!(all(&bytes, 7_000).unwrap(), wanted);
    }

    #[test]
    fn refuses_what_is_no_reply() {
        for bytes in [
            &b"HTTP/1.1 400\r\n"[..],
            b":x\r\n",
            b"$1\r\nabc\r\n",
            b"\r\n",
        ] {
            assert_eq!(all(bytes, 1), Err(Garbage), "{bytes:?}");
        }
        assert_eq!(all(&b"*1\r\n".repeat(40), 4), Err(Garbage));
    }

    #[test]
    fn writes_commands() {
        let mut out = Vec::new();
        Call::new("GET").arg("a\r\n").write(false, &mut out);
        assert_eq!(out, b"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n");
    }
}
