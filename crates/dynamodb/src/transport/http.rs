//! HTTP/1.1 without I/O: what is sent, and what comes back as its bytes arrive.

use std::fmt::{self, Write as _};

use mintkey_store::Error;

/// The bytes a head may have.
const MAX_HEAD: usize = 64 * 1024;
/// The bytes a body may have: a batch of reads gives 16 MB, its JSON a few times that.
const MAX_BODY: usize = 96 * 1024 * 1024;
const MAX_HEADERS: usize = 64;
/// The room for reading, which a connection keeps.
const ROOM: usize = 16 * 1024;

/// Where a server listens.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    /// Whether it is spoken to through TLS.
    pub tls: bool,
    /// The name or address, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl Endpoint {
    /// A server behind TLS on its usual port.
    pub fn https(host: impl Into<String>) -> Self {
        Self {
            tls: true,
            host: host.into(),
            port: 443,
        }
    }

    /// Reads `http://host:port` or `https://host`.
    pub fn parse(url: &str) -> Result<Self, Error> {
        Self::read(url).ok_or_else(|| {
            // Not shown: it may hold a secret.
            Error::configuration(
                "the endpoint cannot be read: write endpoint=http://localhost:8000 for example, without user, path \
                 and query",
            )
        })
    }

    fn read(url: &str) -> Option<Self> {
        let (scheme, rest) = url.split_once("://")?;
        let tls = match scheme {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let place = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => {
                let (host, port) = inner.split_once(']')?;
                (
                    host,
                    port.strip_prefix(':')
                        .or_else(|| port.is_empty().then_some("")),
                )
            }
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, Some("")),
            },
        };
        let port = match port? {
            "" if place.ends_with(':') => return None,
            "" if tls => 443,
            "" => 80,
            port => port.parse().ok().filter(|port| *port > 0)?,
        };
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        (!host.is_empty() && host.bytes().all(fits)).then(|| Self {
            tls,
            host: host.to_owned(),
            port,
        })
    }

    /// What the header `host` says.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == if self.tls { 443 } else { 80 } {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        self.host == "localhost"
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

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

/// An answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The server's time, as it wrote it.
    pub date: Option<String>,
    /// The body's type.
    pub content_type: Option<String>,
    /// Whether the head has a field that services of AWS and their likenesses send: `x-amzn-requestid`, `x-amz-crc32`.
    pub is_aws: bool,
    /// Whether the connection can carry another request.
    pub keep_alive: bool,
    /// The body.
    pub body: Vec<u8>,
}

/// The bytes are no HTTP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Garbage;

/// An answer on its way in.
#[derive(Debug)]
pub struct Incoming {
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

impl Incoming {
    /// Nothing has come yet.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; ROOM],
            filled: 0,
            head: None,
        }
    }

    /// Where the next bytes go.
    pub fn room(&mut self) -> &mut [u8] {
        let wanted = match &self.head {
            Some(head) => match head.length {
                Length::Known(length) => head.start + length,
                _ => self.filled + ROOM,
            },
            None => self.filled + ROOM / 4,
        };
        if self.buffer.len() < wanted {
            self.buffer.resize(wanted, 0);
        }
        &mut self.buffer[self.filled..]
    }

    /// So many bytes have come.
    pub fn advance(&mut self, count: usize) {
        self.filled += count;
    }

    /// The answer, if it is complete.
    pub fn response(&mut self) -> Result<Option<Response>, Garbage> {
        while self.head.is_none() {
            let Some(head) = parse_head(&self.buffer[..self.filled])? else {
                return if self.filled > MAX_HEAD {
                    Err(Garbage)
                } else {
                    Ok(None)
                };
            };
            if head.response.status < 200 {
                // Word in between: the answer comes behind it.
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
            Length::ToEnd if body.len() > MAX_BODY => return Err(Garbage),
            Length::ToEnd => return Ok(None),
        };
        Ok(Some(self.finish(body, rest)))
    }

    /// The answer, when the server has closed.
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
        // What nobody asked for makes every later answer doubtful.
        response.keep_alive &= rest == 0;
        response.body = body;
        self.filled = 0;
        self.buffer.truncate(ROOM);
        self.buffer.shrink_to(ROOM);
        response
    }
}

fn parse_head(bytes: &[u8]) -> Result<Option<Head>, Garbage> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let start = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(Garbage),
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
            head.length = Length::Known(length.ok_or(Garbage)?);
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
        }
    }
    match head.length {
        _ if matches!(head.response.status, 204 | 304) => head.length = Length::Known(0),
        Length::ToEnd => head.response.keep_alive = false,
        _ => {}
    }
    Ok(Some(head))
}

/// The body that chunks make and how many bytes lie behind it, if all of them are there.
fn parse_chunks(bytes: &[u8]) -> Result<Option<(Vec<u8>, usize)>, Garbage> {
    let mut body = Vec::new();
    let mut rest = bytes;
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Garbage),
        };
        let size = usize::try_from(size).map_err(|_| Garbage)?;
        if size.saturating_add(body.len()) > MAX_BODY {
            return Err(Garbage);
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
            return Err(Garbage);
        }
        rest = &rest[size + 2..];
    }
    // Trailers, then an empty line.
    loop {
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return if rest.len() > MAX_HEAD {
                Err(Garbage)
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

    /// Feeds bytes in pieces of so many, then the end.
    fn feed(bytes: &str, piece: usize) -> Result<Option<Response>, Garbage> {
        let mut incoming = Incoming::new();
        for part in bytes.as_bytes().chunks(piece) {
            incoming.room()[..part.len()].copy_from_slice(part);
            incoming.advance(part.len());
            if let Some(response) = incoming.response()? {
                return Ok(Some(response));
            }
        }
        Ok(incoming.end())
    }

    #[test]
    fn answers_are_read_however_they_are_cut() {
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
    fn a_connection_is_kept_only_when_it_is_clean() {
        let keep = |text: &str| feed(text, 1000).unwrap().unwrap().keep_alive;
        assert!(keep("HTTP/1.1 204 No Content\r\n\r\n"));
        assert!(!keep("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!keep(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        ));
        assert!(!keep("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\nmore"));
    }

    #[test]
    fn half_an_answer_is_none_and_garbage_is_told() {
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
            assert_eq!(feed(text, 5), Err(Garbage), "{text}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\nx: {}", "a".repeat(MAX_HEAD));
        assert_eq!(feed(&endless, 4000), Err(Garbage));
    }

    #[test]
    fn endpoints_are_read_and_shown() {
        for (url, shown) in [
            ("http://localhost:8000", "http://localhost:8000"),
            ("https://vpce-1.example/", "https://vpce-1.example"),
            ("http://[::1]:8000", "http://[::1]:8000"),
            ("http://127.0.0.1:80", "http://127.0.0.1"),
        ] {
            assert_eq!(Endpoint::parse(url).unwrap().to_string(), shown);
        }
        for url in [
            "localhost:8000",
            "http://",
            "http://a/b",
            "http://u:p@h:1",
            "http://h:",
            "http://h:0",
            "http://h:x",
        ] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
        assert!(Endpoint::parse("http://[::1]").unwrap().is_loopback());
        assert!(!Endpoint::parse("http://10.0.0.1").unwrap().is_loopback());
    }
}
