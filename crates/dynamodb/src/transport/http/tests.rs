use super::*;

const PIECES: [usize; 4] = [1, 2, 7, 1000];

fn parser() -> ResponseParser {
    let request = Request::new("POST", "/", &[("host", "localhost")], "{}");
    request.unwrap().into_parser()
}

/// Parses bytes that arrive in pieces of this length, then the end of the connection.
fn feed(bytes: &[u8], piece: usize) -> Result<Option<Response>, NotHttp> {
    let mut parser = parser();
    for part in bytes.chunks(piece) {
        if let Some(response) = parser.feed(part)? {
            return Ok(Some(response));
        }
    }
    Ok(parser.end())
}

/// The same, for pieces of each length.
fn in_pieces(text: &str) -> Result<Option<Response>, NotHttp> {
    let results = PIECES.map(|piece| feed(text.as_bytes(), piece));
    for result in &results {
        assert_eq!(result, &results[0], "{text:?}");
    }
    let [first, ..] = results;
    first
}

#[test]
fn a_request_has_all_headers_and_the_length_of_its_body() {
    let headers = [("host", "localhost:8000"), ("x-amz-target", "A.B")];
    let request = Request::new("POST", "/a?b=c", &headers, "{\"a\":\"ü\"}").unwrap();
    let text = std::str::from_utf8(request.bytes()).unwrap();
    assert_eq!(
        text,
        "POST /a?b=c HTTP/1.1\r\nhost: localhost:8000\r\nx-amz-target: A.B\r\ncontent-length: 10\r\n\r\n{\"a\":\"ü\"}"
    );
    let empty = Request::new("GET", "/", &[("host", "a")], "").unwrap();
    assert_eq!(
        empty.bytes(),
        b"GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"
    );
    for (path, value) in [("/", "a\r\nb: c"), ("/", "a\nb"), ("/ \r\n", "a")] {
        assert!(Request::new("GET", path, &[("x", value)], "").is_err());
    }
}

#[test]
fn the_body_ends_as_the_head_says() {
    for (text, status, body, keep_alive) in [
        (
            "200 OK\r\nContent-Length: 5\r\n\r\nhello",
            200,
            "hello",
            true,
        ),
        (
            "200\r\ncontent-length: 5, 05\r\n\r\nhello",
            200,
            "hello",
            true,
        ),
        (
            "200 OK\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
            200,
            "hello",
            true,
        ),
        ("400 No\ncontent-length: 2\n\n{}", 400, "{}", true),
        (
            "200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n",
            200,
            "hello",
            true,
        ),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\nT: x\r\nU:\r\n\r\n",
            200,
            "hello",
            true,
        ),
        (
            "200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            200,
            "",
            true,
        ),
        ("200 OK\r\n\r\nhello", 200, "hello", false),
        ("204 No Content\r\n\r\n", 204, "", true),
        ("204 No Content\r\ncontent-length: 5\r\n\r\n", 204, "", true),
        (
            "304 Not Modified\r\ncontent-length: 5\r\n\r\n",
            304,
            "",
            true,
        ),
        (
            "301 Moved\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
            301,
            "",
            true,
        ),
        (
            "302 Found\r\nlocation: /\r\ncontent-length: 2\r\n\r\nno",
            302,
            "no",
            true,
        ),
    ] {
        let response = in_pieces(&format!("HTTP/1.1 {text}")).unwrap().unwrap();
        assert_eq!(response.status, status, "{text:?}");
        assert_eq!(response.body, body.as_bytes(), "{text:?}");
        assert_eq!(response.keep_alive, keep_alive, "{text:?}");
    }
}

#[test]
fn interim_responses_are_skipped() {
    let last = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 100 Continue\r\nserver: x\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n",
    ] {
        let response = in_pieces(&format!("{interim}{last}")).unwrap().unwrap();
        assert_eq!(response.body, b"hello", "{interim:?}");
        assert!(response.keep_alive, "{interim:?}");
    }
    let switched = format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n{last}");
    assert_eq!(in_pieces(&switched), Err(NotHttp));
}

#[test]
fn a_connection_is_kept_only_if_the_server_keeps_it() {
    for (version, connection, keep_alive) in [
        ("1.1", "", true),
        ("1.1", "connection: keep-alive\r\n", true),
        ("1.1", "connection: close\r\n", false),
        ("1.1", "connection: keep-alive, close\r\n", false),
        ("1.1", "Connection: Close ,keep-alive\r\n", false),
        (
            "1.1",
            "connection: keep-alive\r\nconnection: close\r\n",
            false,
        ),
        ("1.1", "connection: ü, close\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: keep-alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        let text = format!("HTTP/{version} 200 OK\r\n{connection}content-length: 2\r\n\r\n{{}}");
        let response = in_pieces(&text).unwrap().unwrap();
        assert_eq!(response.keep_alive, keep_alive, "{text:?}");
    }
}

#[test]
fn bytes_behind_a_response_are_not_part_of_it_and_close_the_connection() {
    for response in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ] {
        for more in ["x", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"] {
            let both = format!("{response}{more}");
            let found = feed(both.as_bytes(), both.len()).unwrap().unwrap();
            assert_eq!(found.body, b"hello");
            assert!(!found.keep_alive, "{both:?}");
        }
    }
    let empty = "HTTP/1.1 204 No Content\r\n\r\nx";
    assert!(!feed(empty.as_bytes(), 1000).unwrap().unwrap().keep_alive);
}

#[test]
fn a_response_that_is_cut_is_none() {
    for text in [
        "",
        "HTT",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhell",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: x\r\n",
    ] {
        assert_eq!(in_pieces(text), Ok(None), "{text:?}");
    }
}

#[test]
fn a_response_whose_end_is_not_certain_is_refused() {
    for head in [
        "content-length: many",
        "content-length: +5",
        "content-length: -1",
        "content-length:",
        "content-length: 99999999999",
        "content-length: 5\r\ncontent-length: 6",
        "content-length: 5, 6",
        "transfer-encoding: gzip",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, gzip",
        "transfer-encoding: identity",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: gzip\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 5",
        "content-length: 5\r\ntransfer-encoding: chunked",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n0\r\n\r\n");
        assert_eq!(in_pieces(&text), Err(NotHttp), "{text:?}");
    }
    let old = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(in_pieces(old), Err(NotHttp));
}

#[test]
fn chunks_that_are_not_valid_are_refused() {
    for body in [
        "xyz\r\n",
        "+5\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "-1\r\n",
        "\r\n",
        "5\nhello\r\n",
        "1\r\nabc\r\n",
        "1\r\na\rb",
        "ffffffffffffffffff\r\n",
        "1;a-very-long-extension=1\r\na\r\n",
        "11111111111111111111111111",
        "0\r\nHTTP/1.1 200 OK\r\n\r\n",
        "0\r\nHTTP/1.1 200 a:b\r\n\r\n",
        "0\r\n: x\r\n\r\n",
        "0\r\nT: x\n\n",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        assert_eq!(in_pieces(&text), Err(NotHttp), "{text:?}");
    }
    let endless = "a: ".to_owned() + &"b".repeat(MAX_TRAILER);
    let text = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n{endless}");
    for end in ["", "\r\n\r\n"] {
        assert_eq!(in_pieces(&format!("{text}{end}")), Err(NotHttp));
    }
}

#[test]
fn other_bytes_are_refused_at_once() {
    for text in [
        "2",
        "\r\n",
        "HTTP/2",
        "HTTP/1.2 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
    ] {
        assert_eq!(in_pieces(text), Err(NotHttp), "{text:?}");
    }
    for text in [
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 No\r\n\r\n",
        "HTTP/1.1 200 OK\r\na b: c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0c\r\n\r\n",
    ] {
        assert_eq!(in_pieces(text), Err(NotHttp), "{text:?}");
    }
}

#[test]
fn heads_and_bodies_are_limited() {
    let long = |length: usize| format!("HTTP/1.1 204 No\r\nx: {}\r\n\r\n", "a".repeat(length));
    let over = long(MAX_HEAD);
    assert_eq!(in_pieces(&over), Err(NotHttp));
    assert_eq!(in_pieces(&over[..=MAX_HEAD]), Err(NotHttp));
    let overhead = long(0).len();
    assert!(in_pieces(&long(MAX_HEAD - overhead)).unwrap().is_some());
    assert_eq!(in_pieces(&long(MAX_HEAD - overhead + 1)), Err(NotHttp));
    let many = |count: usize| format!("HTTP/1.1 204 No\r\n{}\r\n", "x: y\r\n".repeat(count));
    assert!(in_pieces(&many(MAX_RESPONSE_HEADERS)).unwrap().is_some());
    assert_eq!(in_pieces(&many(MAX_RESPONSE_HEADERS + 1)), Err(NotHttp));
    // As many bytes as it takes, without a length in the head.
    for (head, tail) in [
        ("HTTP/1.1 200 OK\r\n\r\n", ""),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffff\r\n",
            "",
        ),
    ] {
        let mut parser = parser();
        assert_eq!(parser.feed(head.as_bytes()), Ok(None));
        let piece = vec![b'a'; 1024 * 1024];
        for _ in 0..MAX_BODY / piece.len() {
            assert_eq!(parser.feed(&piece), Ok(None), "{tail}");
        }
        assert_eq!(parser.feed(b"a"), Err(NotHttp));
        assert_eq!(parser.feed(b"a"), Err(NotHttp));
    }
}

/// Chunks of one byte that arrive in small pieces: work that grows with the square of the length would take hours.
#[test]
fn a_long_body_is_parsed_in_linear_time() {
    let mut parser = parser();
    let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(parser.feed(head), Ok(None));
    let chunks = b"1\r\na\r\n".repeat(500);
    for _ in 0..2000 {
        for piece in chunks.chunks(1000) {
            assert_eq!(parser.feed(piece), Ok(None));
        }
    }
    let response = parser.feed(b"0\r\n\r\n").unwrap().unwrap();
    assert_eq!(response.body.len(), 1_000_000);
    assert!(response.keep_alive);
}

#[test]
fn the_headers_that_matter_are_kept() {
    let text = "HTTP/1.1 400 No\r\nDate: Sun, 30 Aug 2015 12:36:00 GMT\r\nContent-Type:  Application/X-Amz-Json-1.0 \r\n\
                X-Amzn-RequestId: 1\r\nx-amzn-errortype: Bad:x\r\nX-Amz-Crc32: 7\r\nserver: \u{fc}\r\ncontent-length: 0\r\n\r\n";
    let response = in_pieces(text).unwrap().unwrap();
    assert_eq!(
        response,
        Response {
            status: 400,
            date: Some("Sun, 30 Aug 2015 12:36:00 GMT".to_owned()),
            content_type: Some("application/x-amz-json-1.0".to_owned()),
            is_aws: true,
            crc32: Some(7),
            keep_alive: true,
            of_services: vec![("x-amzn-errortype", "Bad:x".to_owned())],
            body: Vec::new(),
        }
    );
}
