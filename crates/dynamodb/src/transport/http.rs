//! HTTP/1.1 without I/O: the bytes of a request, and a parser for the response, which may arrive in pieces.
//!
//! `httparse` parses heads and the sizes of chunks. Where a head ends, and where a body ends, is decided here: a response
//! whose end is not certain is refused, because its connection is used again.

use std::mem::{self, MaybeUninit};
use std::str;

use httparse::{Header, ParserConfig, Status};

/// The longest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The most headers of a response.
const MAX_HEADERS: usize = 128;
/// The longest body, in bytes: a batch of reads returns up to 16 MB, and its JSON is a few times as long.
const MAX_BODY: usize = 96 * 1024 * 1024;
/// The longest line with the size of a chunk, with its line break.
const MAX_SIZE_LINE: usize = 22;
/// The longest line behind the last chunk, in bytes.
const MAX_TRAILER: usize = 8 * 1024;
/// How a head begins.
const START: &[u8] = b"HTTP/1.";
/// A line break.
const CRLF: &[u8] = b"\r\n";
/// The headers that `Response::of_services` keeps.
const OF_SERVICES: [&str; 2] = ["x-aws-ec2-metadata-token-ttl-seconds", "x-amzn-errortype"];
/// The headers that only AWS and compatible servers send.
const OF_AWS: [&str; 2] = ["x-amzn-requestid", CRC32];
/// The header with the checksum of the body.
const CRC32: &str = "x-amz-crc32";

/// The request cannot be written as HTTP: why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidRequest(pub String);

/// A request.
pub struct Request {
    bytes: Vec<u8>,
}

impl Request {
    /// A request with these headers, and with the length of its body.
    ///
    /// # Errors
    ///
    /// If the method, the path or a header is not valid.
    pub fn new(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Self, InvalidRequest> {
        let is_word =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        // The response to a HEAD or a CONNECT ends differently.
        if !matches!(method, "GET" | "POST" | "PUT") {
            return Err(InvalidRequest(format!("the method is {method:?}")));
        }
        if !(path.starts_with('/') && is_word(path)) {
            return Err(InvalidRequest(format!("the path is {path:?}")));
        }
        let headers_length: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 4)
            .sum();
        let mut text = String::with_capacity(path.len() + headers_length + body.len() + 64);
        let mut push = |parts: &[&str]| parts.iter().for_each(|part| text.push_str(part));
        push(&[method, " ", path, " HTTP/1.1\r\n"]);
        for (name, value) in headers {
            // The value may be a secret.
            if !is_word(name)
                || name.contains(':')
                || value.bytes().any(|byte| byte.is_ascii_control())
            {
                return Err(InvalidRequest(format!(
                    "the header {name:?} has another character than text"
                )));
            }
            push(&[name, ": ", value, "\r\n"]);
        }
        push(&[
            "content-length: ",
            &body.len().to_string(),
            "\r\n\r\n",
            body,
        ]);
        Ok(Self {
            bytes: text.into_bytes(),
        })
    }

    /// All its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// A response.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The header `date`.
    pub date: Option<String>,
    /// The header `content-type`, in lower case.
    pub content_type: Option<String>,
    /// Whether it has a header that only AWS and compatible servers send: `x-amzn-requestid` or `x-amz-crc32`.
    pub is_aws: bool,
    /// The checksum of the body, in the header `x-amz-crc32`.
    pub crc32: Option<u32>,
    /// Whether the connection can be used for another request.
    pub keep_alive: bool,
    /// The headers that AWS's libraries read in responses of the services that give credentials.
    pub of_services: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// Whether the body has the checksum of the header, if there is one.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        self.crc32
            .is_none_or(|checksum| checksum == crc32fast::hash(&self.body))
    }
}

/// The bytes are not an HTTP response, or not one whose end is certain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotHttp;

impl From<httparse::Error> for NotHttp {
    fn from(_: httparse::Error) -> Self {
        Self
    }
}

/// Parses the response to one request.
#[derive(Default)]
pub struct ResponseParser {
    state: State,
    response: Response,
    /// The bytes that are not parsed yet: the beginning of a head, or of a line between two chunks.
    rest: Vec<u8>,
    /// How many bytes of the head were searched for its end.
    searched: usize,
}

#[derive(Default)]
enum State {
    #[default]
    Head,
    Body(Body),
    /// The response is complete, or not valid.
    Ended,
}

/// What is missing of a body.
enum Body {
    /// So many bytes.
    Length(usize),
    Chunks(Chunk),
    /// What the server sends before it closes the connection.
    All,
}

/// What comes next in a chunked body.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Chunk {
    /// The line with the size of a chunk.
    Size,
    /// So many bytes of a chunk.
    Data(usize),
    /// The line break after a chunk.
    LineBreak,
    /// A line behind the last chunk: a header, or the empty one at the end.
    Trailer,
    /// Nothing.
    Ended,
}

impl ResponseParser {
    /// Takes the next bytes of the connection. Returns the response once it is complete.
    ///
    /// # Errors
    ///
    /// If the bytes are not an HTTP response, or not one whose end is certain. The connection cannot be used any more.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Response>, NotHttp> {
        if self.rest.is_empty() {
            let used = self.parse(bytes)?;
            self.rest.extend_from_slice(&bytes[used..]);
        } else {
            let mut rest = mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let used = self.parse(&rest)?;
            rest.drain(..used);
            self.rest = rest;
        }
        if !matches!(self.state, State::Ended) {
            return Ok(None);
        }
        let mut response = mem::take(&mut self.response);
        // Bytes after a response belong to no request: they would be read as the response to the next one.
        response.keep_alive &= self.rest.is_empty();
        Ok(Some(response))
    }

    /// The response, if it is complete because the server closed the connection.
    #[must_use]
    pub fn end(self) -> Option<Response> {
        matches!(self.state, State::Body(Body::All)).then_some(self.response)
    }

    /// Parses what can be parsed, and returns how many bytes that are. The state is `Ended` after an error.
    fn parse(&mut self, input: &[u8]) -> Result<usize, NotHttp> {
        let mut used = 0;
        loop {
            let left = &input[used..];
            match mem::replace(&mut self.state, State::Ended) {
                State::Head => {
                    let Some(end) = self.end_of_head(left)? else {
                        self.state = State::Head;
                        return Ok(used);
                    };
                    used += end;
                    self.state = self.parse_head(&left[..end])?;
                    if matches!(self.state, State::Ended) {
                        return Ok(used);
                    }
                }
                State::Body(mut body) => {
                    used += body.read(left, &mut self.response.body)?;
                    if !body.is_complete() {
                        self.state = State::Body(body);
                    }
                    return Ok(used);
                }
                State::Ended => return Err(NotHttp),
            }
        }
    }

    /// The length of the head, if it is complete. The head is parsed once, and not with each piece that arrives.
    fn end_of_head(&mut self, input: &[u8]) -> Result<Option<usize>, NotHttp> {
        let known = START.len().min(input.len());
        // `httparse` skips empty lines before a head.
        if input[..known] != START[..known] {
            return Err(NotHttp);
        }
        // Two line breaks may arrive in two pieces.
        let mut from = self.searched.saturating_sub(2);
        let mut end = None;
        while let Some(length) = input[from..].iter().position(|byte| *byte == b'\n') {
            from += length + 1;
            end = match input[from..] {
                [b'\n', ..] => Some(from + 1),
                [b'\r', b'\n', ..] => Some(from + 2),
                _ => continue,
            };
            break;
        }
        if end.unwrap_or(input.len()) > MAX_HEAD {
            return Err(NotHttp);
        }
        self.searched = if end.is_some() { 0 } else { input.len() };
        Ok(end)
    }

    /// Parses a complete head. Returns what follows it.
    fn parse_head(&mut self, head: &[u8]) -> Result<State, NotHttp> {
        let mut headers = [const { MaybeUninit::uninit() }; MAX_HEADERS];
        let mut parsed = httparse::Response::new(&mut []);
        let config = ParserConfig::default();
        let used = config.parse_response_with_uninit_headers(&mut parsed, head, &mut headers)?;
        let (Some(version), Some(status)) = (parsed.version, parsed.code) else {
            return Err(NotHttp);
        };
        match status {
            _ if used != Status::Complete(head.len()) => return Err(NotHttp),
            // Switching to another protocol.
            ..100 | 101 => return Err(NotHttp),
            // An interim response: the final one follows.
            102..200 | 100 => return Ok(State::Head),
            _ => {}
        }
        let headers = Headers(parsed.headers);
        let body = headers.body(version)?;
        self.response = Response {
            status,
            date: headers.text("date").map(ToOwned::to_owned),
            content_type: headers.text("content-type").map(str::to_ascii_lowercase),
            is_aws: OF_AWS.iter().any(|name| headers.all(name).next().is_some()),
            crc32: headers.text(CRC32).and_then(|value| value.parse().ok()),
            keep_alive: headers.keep_alive(version),
            of_services: OF_SERVICES
                .into_iter()
                .filter_map(|name| Some((name, headers.text(name)?.to_owned())))
                .collect(),
            body: Vec::new(),
        };
        // These have no body, whatever the headers say.
        if matches!(status, 204 | 304) {
            return Ok(State::Ended);
        }
        self.response.keep_alive &= !matches!(body, Body::All);
        Ok(State::Body(body))
    }
}

/// The headers of a response.
struct Headers<'a>(&'a [Header<'a>]);

impl<'a> Headers<'a> {
    /// The values of all headers of this name.
    fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let named = self
            .0
            .iter()
            .filter(move |header| header.name.eq_ignore_ascii_case(name));
        named.map(|header| header.value)
    }

    /// The value of the first header of this name, if it is text.
    fn text(&self, name: &str) -> Option<&'a str> {
        ascii(self.all(name).next()?)
    }

    /// How the body ends, if that is certain.
    fn body(&self, version: u8) -> Result<Body, NotHttp> {
        let length = self.length()?;
        let mut codings = self.all("transfer-encoding");
        let Some(coding) = codings.next() else {
            return Ok(length.map_or(Body::All, Body::Length));
        };
        // Another coding, a list of them, HTTP/1.0 or a length next to it: the server may mean another end.
        let is_certain = coding.eq_ignore_ascii_case(b"chunked")
            && codings.next().is_none()
            && version == 1
            && length.is_none();
        if is_certain {
            Ok(Body::Chunks(Chunk::Size))
        } else {
            Err(NotHttp)
        }
    }

    /// The length of the body. It may be given several times, if all are equal.
    fn length(&self) -> Result<Option<usize>, NotHttp> {
        let mut length = None;
        for value in self.all("content-length") {
            for part in ascii(value).ok_or(NotHttp)?.split(',').map(str::trim) {
                // `parse` accepts a sign.
                let is_number = part.bytes().all(|byte| byte.is_ascii_digit());
                let own = part
                    .parse()
                    .ok()
                    .filter(|own| is_number && *own <= MAX_BODY);
                if own.is_none() || length.is_some_and(|known| Some(known) != own) {
                    return Err(NotHttp);
                }
                length = own;
            }
        }
        Ok(length)
    }

    /// Whether the server keeps the connection.
    fn keep_alive(&self, version: u8) -> bool {
        let mut keeps = version == 1;
        for value in self.all("connection") {
            // What is not text may mean anything.
            let Some(value) = ascii(value) else {
                return false;
            };
            for option in value.split(',').map(str::trim) {
                if option.eq_ignore_ascii_case("close") {
                    return false;
                }
                keeps |= option.eq_ignore_ascii_case("keep-alive");
            }
        }
        keeps
    }
}

/// The value of a header without blanks around it, if all of it is ASCII.
fn ascii(value: &[u8]) -> Option<&str> {
    let text = str::from_utf8(value).ok().filter(|text| text.is_ascii())?;
    Some(text.trim())
}

impl Body {
    /// Whether nothing is missing.
    const fn is_complete(&self) -> bool {
        matches!(self, Self::Length(0) | Self::Chunks(Chunk::Ended))
    }

    /// Appends to a body, and returns how many bytes of the input are used.
    fn read(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, NotHttp> {
        match self {
            Self::Length(left) => {
                let count = input.len().min(*left);
                *left -= count;
                append(&input[..count], body)
            }
            Self::Chunks(chunk) => {
                let mut used = 0;
                while let Some(count) = chunk.read(&input[used..], body)? {
                    used += count;
                }
                Ok(used)
            }
            Self::All => append(input, body),
        }
    }
}

impl Chunk {
    /// Parses what comes next, and returns how many bytes are used. `None` if nothing comes, or a line that is not complete.
    fn read(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<Option<usize>, NotHttp> {
        let max = match self {
            Self::Size => MAX_SIZE_LINE,
            Self::Data(_) if input.is_empty() => return Ok(None),
            Self::Data(left) => {
                let count = input.len().min(*left);
                *self = match *left - count {
                    0 => Self::LineBreak,
                    left => Self::Data(left),
                };
                return append(&input[..count], body).map(Some);
            }
            Self::LineBreak => CRLF.len(),
            Self::Trailer => MAX_TRAILER,
            Self::Ended => return Ok(None),
        };
        let Some(end) = input.iter().take(max).position(|byte| *byte == b'\n') else {
            return if input.len() < max {
                Ok(None)
            } else {
                Err(NotHttp)
            };
        };
        let line = &input[..=end];
        *self = match self {
            Self::Size => match size(line)? {
                0 => Self::Trailer,
                size => Self::Data(size),
            },
            Self::LineBreak if line == CRLF => Self::Size,
            Self::Trailer if line == CRLF => Self::Ended,
            // Any other text could be the next response.
            Self::Trailer if is_header(line) => Self::Trailer,
            _ => return Err(NotHttp),
        };
        Ok(Some(line.len()))
    }
}

/// The size of a chunk, from its line.
fn size(line: &[u8]) -> Result<usize, NotHttp> {
    // `httparse` accepts a line without a number.
    if !line[0].is_ascii_hexdigit() {
        return Err(NotHttp);
    }
    match httparse::parse_chunk_size(line) {
        Ok(Status::Complete((used, size))) if used == line.len() => {
            usize::try_from(size).map_err(|_| NotHttp)
        }
        _ => Err(NotHttp),
    }
}

/// Whether a line has a name and a colon.
fn is_header(line: &[u8]) -> bool {
    let length = line.iter().position(|byte| *byte == b':').unwrap_or(0);
    length > 0 && line[..length].iter().all(u8::is_ascii_graphic) && line.ends_with(CRLF)
}

/// Appends to a body, and returns how many bytes.
fn append(bytes: &[u8], body: &mut Vec<u8>) -> Result<usize, NotHttp> {
    if body.len() + bytes.len() > MAX_BODY {
        return Err(NotHttp);
    }
    body.extend_from_slice(bytes);
    Ok(bytes.len())
}

#[cfg(test)]
mod tests;
