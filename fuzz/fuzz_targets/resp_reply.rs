//! No bytes of a server make the parser of replies panic, or return other replies because they arrive in other pieces. It
//! allocates no more than a limit for each reply.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mintkey_redis::internals::{Parser, ProtocolError, Value};

const MAX_REPLY: usize = 64 * 1024;

/// The replies in bytes that arrive in pieces of this length, and the error after them.
fn parse(bytes: &[u8], piece: usize) -> (Vec<Value>, Option<ProtocolError>) {
    let (mut parser, mut values) = (Parser::new(MAX_REPLY), Vec::new());
    for mut part in bytes.chunks(piece) {
        while !part.is_empty() {
            parser.fill(&mut part).unwrap();
        }
        loop {
            match parser.next_reply() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Some(error)),
            }
        }
    }
    (values, None)
}

/// The memory of a value.
fn memory(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Nil | Value::Int(_) => 0,
            Value::Status(text) | Value::Error(text) => text.len() / 3,
            Value::Bulk(bytes) => bytes.capacity(),
            Value::Array(members) => members.iter().map(memory).sum(),
        }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (piece, bytes) = input;
    let whole = parse(bytes, bytes.len().max(1));
    for value in &whole.0 {
        assert!(memory(value) <= MAX_REPLY + size_of::<Value>());
    }
    for piece in [1, usize::from(piece).max(1)] {
        assert_eq!(parse(bytes, piece), whole);
    }
});
