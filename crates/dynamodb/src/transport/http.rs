//! HTTP/1.1 without I/O: the bytes of a request, and a parser for the response, which may arrive in pieces.
//!
//! `ureq-proto` writes and reads the messages. Where it accepts more than is safe on a connection that is used again, this
//! file checks more: each such place says so.

use std::mem;

use ureq_proto::client::state::{RecvBody, RecvResponse};
use ureq_proto::client::{
    Call, MAX_RESPONSE_HEADERS, RecvBodyResult, RecvResponseResult, SendRequestResult,
};
use ureq_proto::http::header::{
    AsHeaderName, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, TRANSFER_ENCODING,
};
use ureq_proto::http::{self, StatusCode, Version};
use ureq_proto::{BodyMode, parser};

/// The longest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The longest body, in bytes: a batch of reads returns up to 16 MB, and its JSON is a few times as long.
const MAX_BODY: usize = 96 * 1024 * 1024;
/// The longest line with the size of a chunk, with its line break: `ureq-proto` refuses longer ones.
const MAX_SIZE_LINE: usize = 22;
/// The longest line behind the last chunk, in bytes.
const MAX_TRAILER: usize = 8 * 1024;
/// How a head begins.
const START: &[u8] = b"HTTP/1.";
/// The headers that `Response::of_services` keeps.
const OF_SERVICES: [&str; 2] = ["x-aws-ec2-metadata-token-ttl-seconds", "x-amzn-errortype"];
/// The headers that only AWS and compatible servers send.
const OF_AWS: [&str; 2] = ["x-amzn-requestid", CRC32];
/// The header with the checksum of the body.
const CRC32: &str = "x-amz-crc32";

/// The request cannot be written as HTTP: why.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InvalidRequest(pub String);

impl From<ureq_proto::Error> for InvalidRequest {
    fn from(error: ureq_proto::Error) -> Self {
        Self(error.to_string())
    }
}

/// A request, and what is known of its response before that has arrived.
pub struct Request {
    bytes: Vec<u8>,
    call: Call<RecvResponse>,
}

impl Request {
    /// A request with these headers, and with the length of its body.
    ///
    /// # Errors
    ///
    /// If the path or a header is not valid.
    pub fn new(
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Self, InvalidRequest> {
        let mut length = method.len() + path.len() + body.len() + 64;
        let mut request = http::Request::builder().method(method).uri(path);
        for (name, value) in headers {
            length += name.len() + value.len() + 4;
            request = request.header(*name, value.as_bytes());
        }
        let request = request.header(CONTENT_LENGTH, body.len()).body(());
        let request = request.map_err(|error| InvalidRequest(error.to_string()))?;
        let mut call = Call::new(request)?.proceed();
        let mut bytes = vec![0; length];
        let used = call.write(&mut bytes)?;
        bytes.truncate(used);
        bytes.extend_from_slice(body.as_bytes());
        let call = match call.proceed()? {
            Some(SendRequestResult::RecvResponse(call)) => Some(call),
            Some(SendRequestResult::SendBody(mut call)) => {
                call.consume_direct_write(body.len())?;
                call.proceed()
            }
            Some(SendRequestResult::Await100(_)) | None => None,
        };
        let call = call.ok_or_else(|| InvalidRequest("it has no end".to_owned()))?;
        Ok(Self { bytes, call })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A parser for its response.
    pub fn into_parser(self) -> ResponseParser {
        ResponseParser {
            state: State::Head(self.call),
            response: Response::default(),
            rest: Vec::new(),
            searched: 0,
        }
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

impl From<ureq_proto::Error> for NotHttp {
    fn from(_: ureq_proto::Error) -> Self {
        Self
    }
}

/// Parses the response to one request.
pub struct ResponseParser {
    state: State,
    response: Response,
    /// The bytes that are not parsed yet: the beginning of a head, or of a line between two chunks.
    rest: Vec<u8>,
    /// How many bytes of the head were searched for its end.
    searched: usize,
}

enum State {
    Head(Call<RecvResponse>),
    Body(Call<RecvBody>),
    /// The response is complete, or not valid.
    Ended,
}

/// What is parsed of some bytes.
struct Parsed {
    used: usize,
    is_complete: bool,
}

impl ResponseParser {
    /// Takes the next bytes of the connection. Returns the response once it is complete.
    ///
    /// # Errors
    ///
    /// If the bytes are not an HTTP response, or not one whose end is certain. The connection cannot be used any more.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<Option<Response>, NotHttp> {
        let is_complete = if self.rest.is_empty() {
            let parsed = self.parse(bytes)?;
            self.rest.extend_from_slice(&bytes[parsed.used..]);
            parsed.is_complete
        } else {
            let mut rest = mem::take(&mut self.rest);
            rest.extend_from_slice(bytes);
            let parsed = self.parse(&rest)?;
            rest.drain(..parsed.used);
            self.rest = rest;
            parsed.is_complete
        };
        if !is_complete {
            return Ok(None);
        }
        let mut response = mem::take(&mut self.response);
        // Bytes after a response belong to no request: they would be read as the response to the next one.
        response.keep_alive &= self.rest.is_empty();
        Ok(Some(response))
    }

    /// The response, if it is complete because the server closed the connection.
    pub fn end(self) -> Option<Response> {
        match self.state {
            State::Body(call) if call.body_mode() == BodyMode::CloseDelimited => {
                Some(self.response)
            }
            _ => None,
        }
    }

    fn parse(&mut self, input: &[u8]) -> Result<Parsed, NotHttp> {
        let mut used = 0;
        loop {
            let left = &input[used..];
            match mem::replace(&mut self.state, State::Ended) {
                State::Head(call) => {
                    let Some(end) = self.end_of_head(left)? else {
                        self.state = State::Head(call);
                        let is_complete = false;
                        return Ok(Parsed { used, is_complete });
                    };
                    used += end;
                    self.parse_head(call, &left[..end])?;
                    if matches!(self.state, State::Ended) {
                        let is_complete = true;
                        return Ok(Parsed { used, is_complete });
                    }
                }
                State::Body(mut call) => {
                    used += read_body(&mut call, left, &mut self.response.body)?;
                    let is_complete =
                        call.can_proceed() && call.body_mode() != BodyMode::CloseDelimited;
                    if is_complete {
                        self.response.keep_alive &= match call.proceed() {
                            Some(RecvBodyResult::Redirect(call)) => !call.must_close_connection(),
                            Some(RecvBodyResult::Cleanup(call)) => !call.must_close_connection(),
                            None => false,
                        };
                    } else {
                        self.state = State::Body(call);
                    }
                    return Ok(Parsed { used, is_complete });
                }
                State::Ended => return Err(NotHttp),
            }
        }
    }

    /// The length of the head, if it is complete. The head is parsed once, and not with each piece that arrives.
    fn end_of_head(&mut self, input: &[u8]) -> Result<Option<usize>, NotHttp> {
        let known = START.len().min(input.len());
        // `ureq-proto` skips empty lines before a head.
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

    /// Parses a complete head.
    fn parse_head(&mut self, mut call: Call<RecvResponse>, head: &[u8]) -> Result<(), NotHttp> {
        if head.get(START.len() + 2) == Some(&b'1') {
            // An interim response: the final one follows. `ureq-proto` refuses a 100 with headers.
            let interim = parser::try_parse_response::<MAX_RESPONSE_HEADERS>(head)?;
            let (_, interim) = interim.ok_or(NotHttp)?;
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Err(NotHttp);
            }
            self.state = State::Head(call);
            return Ok(());
        }
        let (used, response) = call.try_response(head, false)?;
        let response = response.filter(|_| used == head.len()).ok_or(NotHttp)?;
        check_coding(&response)?;
        self.response = new_response(&response);
        let must_close = match call.proceed().ok_or(NotHttp)? {
            RecvResponseResult::RecvBody(mut call) => {
                match call.body_mode() {
                    BodyMode::LengthDelimited(length) if length > MAX_BODY as u64 => {
                        return Err(NotHttp);
                    }
                    BodyMode::CloseDelimited => self.response.keep_alive = false,
                    _ => {}
                }
                // So that `read_body` sees each line between chunks.
                call.stop_on_chunk_boundary(true);
                self.state = State::Body(call);
                return Ok(());
            }
            RecvResponseResult::Redirect(call) => call.must_close_connection(),
            RecvResponseResult::Cleanup(call) => call.must_close_connection(),
        };
        self.response.keep_alive &= !must_close;
        Ok(())
    }
}

/// Refuses a body whose end is not certain. `ureq-proto` takes any list with `chunked` in it for chunked, and ignores it in
/// HTTP/1.0. It also ignores a length next to it.
fn check_coding(response: &http::Response<()>) -> Result<(), NotHttp> {
    let headers = response.headers();
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else {
        return Ok(());
    };
    let is_certain = coding.as_bytes().eq_ignore_ascii_case(b"chunked")
        && codings.next().is_none()
        && response.version() == Version::HTTP_11
        && !headers.contains_key(CONTENT_LENGTH);
    if is_certain { Ok(()) } else { Err(NotHttp) }
}

/// The response with this head.
fn new_response(head: &http::Response<()>) -> Response {
    let headers = head.headers();
    let of_services = OF_SERVICES
        .into_iter()
        .filter_map(|name| Some((name, text(headers, name)?)));
    // `ureq-proto` skips a value that is not ASCII, whatever else is in it.
    let connection = headers.get_all(CONNECTION).iter();
    let is_clear = connection.into_iter().all(|value| value.to_str().is_ok());
    Response {
        status: head.status().as_u16(),
        date: text(headers, DATE),
        content_type: text(headers, CONTENT_TYPE).map(|value| value.to_ascii_lowercase()),
        is_aws: OF_AWS.into_iter().any(|name| headers.contains_key(name)),
        crc32: headers
            .get(CRC32)
            .and_then(|value| value.to_str().ok()?.trim().parse().ok()),
        keep_alive: is_clear,
        of_services: of_services.collect(),
        body: Vec::new(),
    }
}

fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().ok()?;
    Some(value.trim().to_owned())
}

/// Appends to a body, and returns how many bytes of the input are used.
fn read_body(
    call: &mut Call<RecvBody>,
    input: &[u8],
    body: &mut Vec<u8>,
) -> Result<usize, NotHttp> {
    let is_chunked = call.body_mode() == BodyMode::Chunked;
    let (mut used, mut filled) = (0, body.len());
    body.resize(filled + input.len(), 0);
    while used < input.len() && !(is_chunked && call.can_proceed()) {
        let left = &input[used..];
        let part = if is_chunked {
            chunked_part(call, left)?
        } else {
            Some(left)
        };
        let Some(part) = part else {
            break;
        };
        let (taken, written) = call.read(part, &mut body[filled..])?;
        used += taken;
        filled += written;
        if taken == 0 {
            // `ureq-proto` waits for the line break after a chunk, also when other bytes follow.
            if is_chunked && part != b"\r" {
                return Err(NotHttp);
            }
            break;
        }
    }
    body.truncate(filled);
    if filled > MAX_BODY {
        return Err(NotHttp);
    }
    Ok(used)
}

/// The bytes to parse next in a chunked body: one line, if a line with a size or a trailer comes next, otherwise all. `None`
/// if that line is not complete.
fn chunked_part<'a>(call: &Call<RecvBody>, input: &'a [u8]) -> Result<Option<&'a [u8]>, NotHttp> {
    let (max, is_valid): (usize, fn(&[u8]) -> bool) = if call.is_on_chunk_boundary() {
        // `ureq-proto` accepts a sign or blanks before the number.
        (MAX_SIZE_LINE, |line| line[0].is_ascii_hexdigit())
    } else if call.is_ended_chunked() {
        // `ureq-proto` accepts any text: it could be the next response.
        (MAX_TRAILER, |line| line == b"\r\n" || is_header(line))
    } else {
        return Ok(Some(input));
    };
    match input.iter().take(max).position(|byte| *byte == b'\n') {
        Some(end) if is_valid(&input[..=end]) => Ok(Some(&input[..=end])),
        None if input.len() < max => Ok(None),
        _ => Err(NotHttp),
    }
}

/// Whether a line has a name and a colon.
fn is_header(line: &[u8]) -> bool {
    let length = line.iter().position(|byte| *byte == b':').unwrap_or(0);
    length > 0 && line[..length].iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests;
