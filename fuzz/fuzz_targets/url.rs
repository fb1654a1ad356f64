//! No URL makes its reader panic, and no message, address or cause shows a password, whatever stands around it.
#![no_main]

use std::fmt::Write as _;

use libfuzzer_sys::fuzz_target;
use mintkey_store::{Error, Result, Store};
use std::sync::Arc;

const SCHEMES: [&str; 8] = [
    "redis",
    "rediss",
    "redis-cluster",
    "rediss-cluster",
    "unix",
    "dynamodb",
    "sqlite",
    "",
];
/// A word that stands in every password, and nowhere else.
const MARK: &str = "HUSH";

type Input<'a> = (u8, &'a str, [&'a str; 2], &'a str);

fuzz_target!(|input: Input<'_>| {
    let (scheme, user, [before, after], rest) = input;
    let parts = [user, before, after, rest];
    let _ = open(rest);
    if parts.iter().any(|text| text.contains(MARK))
        || !user.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        return;
    }
    let scheme = SCHEMES[usize::from(scheme) % SCHEMES.len()];
    let login = format!("{user}:{before}{MARK}{after}@");
    // In an address, and in the address within an address.
    for url in [
        format!("{scheme}://{login}{rest}"),
        format!("dynamodb://us-east-1?endpoint=http://{login}{rest}"),
    ] {
        let shown = shown(&url);
        assert!(!shown.contains(MARK), "{url}: {shown}");
    }
});

fn open(url: &str) -> Result<Arc<dyn Store>> {
    match url.split_once("://").map_or("", |(scheme, _)| scheme) {
        "sqlite" => mintkey_sqlite::open(url),
        "dynamodb" => mintkey_dynamodb::open(url),
        _ => mintkey_redis::open(url),
    }
}

/// All that anybody sees of a URL.
fn shown(url: &str) -> String {
    match open(url) {
        Ok(store) => store.capabilities().address,
        Err(error) => told(&error),
    }
}

fn told(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        let _ = write!(text, " {next} {next:?}");
        cause = next.source();
    }
    text
}
