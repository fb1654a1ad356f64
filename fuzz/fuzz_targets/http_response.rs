//! No bytes of a server make the parser of responses panic, or return another response because they arrive in other
//! pieces. A body is never longer than what arrived.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintkey_dynamodb::internals::{NotHttp, Request, Response};

/// Parses bytes that arrive in pieces of this length, then the end of the connection. Returns the response, and whether
/// there are bytes behind it.
fn parse(bytes: &[u8], piece: usize) -> Result<Option<(Response, bool)>, NotHttp> {
    let request = Request::new("POST", "/", &[("host", "localhost")], "{}");
    let mut parser = request.unwrap().into_parser();
    let mut left = bytes.len();
    for part in bytes.chunks(piece) {
        left -= part.len();
        if let Some(response) = parser.feed(part)? {
            return Ok(Some((response, left > 0)));
        }
    }
    Ok(parser.end().map(|response| (response, false)))
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = parse(bytes, bytes.len().max(1));
    if let Ok(Some((response, _))) = &whole {
        assert!(response.body.len() <= bytes.len());
        assert!(response.body.capacity() <= 2 * bytes.len().max(8));
    }
    for piece in [1, usize::from(piece).max(1)] {
        let mut pieces = parse(bytes, piece);
        // Bytes that arrive later are found before the connection is used again.
        if let Ok(Some((response, more))) = &mut pieces {
            response.keep_alive &= !*more;
        }
        let of = |result: &Result<Option<(Response, bool)>, NotHttp>| {
            result.clone().map(|found| found.map(|(response, _)| response))
        };
        assert_eq!(of(&pieces), of(&whole));
    }
});
