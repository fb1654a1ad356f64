//! HTTP/1.1 without I/O: the bytes of a request, and a parser for responses that arrive in pieces.

use std::fmt::Write as _;

/// The longest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// The longest body, in bytes: a batch of reads returns up to 16 MB, and its JSON is a few times as long.
const MAX_BODY: usize = 96 * 1024 * 1024;
const MAX_HEADERS: usize = 64;
/// The headers that `Response::of_services` keeps.
const OF_SERVICES: [&str; 2] = ["x-aws-ec2-metadata-token-ttl-seconds", "x-amzn-errortype"];
/// The read buffer that an idle connection keeps, in bytes.
const BUFFER: usize = 16 * 1024;

/// The bytes of a request.
pub fn request(method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
    let mut text = String::with_capacity(body.len() + 512);
    let _ = write!(text, "{method} {path} HTTP/1.1\r\n");
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    let _ = write!(text, "content-length: {}\r\n\r\n", body.len());
    text.push_str(body);
    text.into_bytes()
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
    /// Whether the connection can be used for another request.
    pub keep_alive: bool,
    /// The headers that AWS's libraries read in responses of the services that give credentials.
    pub of_services: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// The bytes are not an HTTP response.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NotHttp;

/// Parses responses from the bytes of one connection.
#[derive(Debug)]
pub struct ResponseParser {
    buffer: Vec<u8>,
    filled: usize,
    head: Option<Head>,
}

#[derive(Clone, Debug)]
struct Head {
    response: Response,
    start: usize,
    length: Length,
}

#[derive(Clone, Copy, Debug)]
enum Length {
    Known(usize),
    Chunked,
    ToEnd,
}

impl ResponseParser {
    /// A parser without bytes.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER],
            filled: 0,
            head: None,
        }
    }

    /// The free part of the buffer, for the next bytes.
    pub fn free(&mut self) -> &mut [u8] {
        let wanted = match &self.head {
            Some(head) => match head.length {
                Length::Known(length) => head.start + length,
                _ => self.filled + BUFFER,
            },
            None => self.filled + BUFFER / 4,
        };
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        &mut self.buffer[self.filled..]
    }

    /// Takes the first `count` bytes of the free part.
    pub fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// The response, if it is complete.
    pub fn response(&mut self) -> Result<Option<Response>, NotHttp> {
        while self.head.is_none() {
            let Some(head) = parse_head(&self.buffer[..self.filled])? else {
                return if self.filled > MAX_HEAD {
                    Err(NotHttp)
                } else {
                    Ok(None)
                };
            };
            if head.response.status < 200 {
                // An interim response: the final one follows.
                self.buffer.copy_within(head.start..self.filled, 0);
                self.filled -= head.start;
            } else {
                self.head = Some(head);
            }
        }
        let Some(head) = &self.head else {
            return Ok(None);
        };
        let body = &self.buffer[head.start..self.filled];
        let (body, rest) = match head.length {
            Length::Known(length) if body.len() < length => return Ok(None),
            Length::Known(length) => (body[..length].to_vec(), body.len() - length),
            Length::Chunked => match parse_chunks(body)? {
                Some(found) => found,
                None => return Ok(None),
            },
            Length::ToEnd if body.len() > MAX_BODY => return Err(NotHttp),
            Length::ToEnd => return Ok(None),
        };
        Ok(Some(self.finish(body, rest)))
    }

    /// The response, if it is complete because the server closed the connection.
    pub fn end(&mut self) -> Option<Response> {
        let head = self.head.as_ref()?;
        if !matches!(head.length, Length::ToEnd) {
            return None;
        }
        let body = self.buffer[head.start..self.filled].to_vec();
        Some(self.finish(body, 0))
    }

    fn finish(&mut self, body: Vec<u8>, rest: usize) -> Response {
        let mut response = self
            .head
            .take()
            .map(|head| head.response)
            .unwrap_or_default();
        // After bytes that belong to no request, later responses could be assigned to wrong requests.
        response.keep_alive &= rest == 0;
        response.body = body;
        self.filled = 0;
        self.buffer.truncate(BUFFER);
        self.buffer.shrink_to(BUFFER);
        response
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, NotHttp> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let start = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(NotHttp),
    };
    let mut head = Head {
        response: Response {
            status: parsed.code.unwrap_or(0),
            keep_alive: parsed.version == Some(1),
            ..Response::default()
        },
        start,
        length: Length::ToEnd,
    };
    for header in parsed.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or("").trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") && !matches!(head.length, Length::Chunked) {
            let length = value.parse().ok().filter(|length| *length <= MAX_BODY);
            head.length = Length::Known(length.ok_or(NotHttp)?);
        } else if is("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            head.length = Length::Chunked;
        } else if is("connection") && value.eq_ignore_ascii_case("close") {
            head.response.keep_alive = false;
        } else if is("date") {
            head.response.date = Some(value.to_owned());
        } else if is("content-type") {
            head.response.content_type = Some(value.to_ascii_lowercase());
        } else if is("x-amzn-requestid") || is("x-amz-crc32") {
            head.response.is_aws = true;
        } else if let Some(name) = OF_SERVICES.into_iter().find(|name| is(name)) {
            head.response.of_services.push((name, value.to_owned()));
        }
    }
    match head.length {
        _ if matches!(head.response.status, 204 | 304) => head.length = Length::Known(0),
        Length::ToEnd => head.response.keep_alive = false,
        _ => {}
    }
    Ok(Some(head))
}

/// The body of a chunked response and the number of bytes after it, if it is complete.
fn parse_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, NotHttp> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(NotHttp),
        };
        let size = usize::try_from(size).map_err(|_| NotHttp)?;
        if size.saturating_add(body.len()) > MAX_BODY {
            return Err(NotHttp);
        }
        rest = &rest[start..];
        if size == 0 {
            break;
        }
        if rest.len() < size + 2 {
            return Ok(None);
        }
        body.extend_from_slice(&rest[..size]);
        if &rest[size..size + 2] != b"\r\n" {
            return Err(NotHttp);
        }
        rest = &rest[size + 2..];
    }
    // Trailers, then an empty line.
    loop {
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return if rest.len() > MAX_HEAD {
                Err(NotHttp)
            } else {
                Ok(None)
            };
        };
        rest = &rest[end + 2..];
        if end == 0 {
            return Ok(Some((body, rest.len())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses bytes that arrive in pieces of this length, then the end of the connection.
    fn feed(bytes: &str, piece: usize) -> Result<Option<Response>, NotHttp> {
        let mut parser = ResponseParser::new();
        for part in bytes.as_bytes().chunks(piece) {
            parser.free()[..part.len()].copy_from_slice(part);
            parser.advance(part.len());
            if let Some(response) = parser.response()? {
                return Ok(Some(response));
            }
        }
        Ok(parser.end())
    }

    #[test]
    fn responses_are_parsed_from_pieces_of_any_length() {
        let known = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: Sun, 30 Aug 2015 12:36:00 GMT\r\n\r\nhello";
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nT: x\r\n\r\n";
        let to_end = "HTTP/1.1 200 OK\r\n\r\nhello";
        let later =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
        for (text, keep_alive) in [
            (known, true),
            (chunked, true),
            (to_end, false),
            (later, true),
        ] {
            for piece in [1, 2, 7, 1000] {
                let response = feed(text, piece).unwrap().unwrap();
                assert_eq!(
                    (response.status, &*response.body),
                    (200, &b"hello"[..]),
                    "{text}"
                );
                assert_eq!(response.keep_alive, keep_alive, "{text}");
            }
        }
        let date = feed(known, 9).unwrap().unwrap().date;
        assert_eq!(date.as_deref(), Some("Sun, 30 Aug 2015 12:36:00 GMT"));
    }

    #[test]
    fn a_connection_is_kept_only_without_leftover_bytes() {
        let keep = |text: &str| feed(text, 1000).unwrap().unwrap().keep_alive;
        assert!(keep("HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(!keep("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!keep(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        ));
        assert!(!keep("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore"));
    }

    #[test]
    fn an_incomplete_response_is_none_and_other_bytes_are_an_error() {
        assert_eq!(
            feed("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell", 3),
            Ok(None)
        );
        assert_eq!(
            feed(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
                3
            ),
            Ok(None)
        );
        for text in [
            "220 mail.example ESMTP\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc\r\n",
        ] {
            assert_eq!(feed(text, 5), Err(NotHttp), "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(MAX_HEAD));
        assert_eq!(feed(&endless, 4000), Err(NotHttp));
    }
}
