//! Reads the URL of a store.

use std::path::PathBuf;
use std::time::Duration;

use mintkey_runtime::{Address, Parameters};
use mintkey_store::size::MAX_ITEM;
use mintkey_store::{Error, Result};

const EXAMPLE: &str = "sqlite:///shop.db for a file in the working directory, sqlite:////path/shop.db for an absolute \
                       path, sqlite:// for a database in memory";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A value in `SQLite` has at most a billion bytes, and JSON takes up to six bytes for one.
const LARGEST_ITEM: usize = 128 * 1024 * 1024;
/// The owner of a file reads and writes it.
const OWNER: u32 = 0o600;

/// What a URL says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The address without parameters, for messages.
    pub address: String,
    /// The file, absolute but with links not yet resolved; none: a database in memory.
    pub path: Option<PathBuf>,
    /// Whether every commit waits for the disk.
    pub full_sync: bool,
    /// The time limit of a request.
    pub timeout: Duration,
    /// The largest size of an item, in bytes.
    pub max_item: usize,
    /// The permissions of a new file, if the URL says which.
    pub mode: Option<u32>,
}

impl Config {
    /// Reads a URL.
    pub fn parse(url: &str) -> Result<Self> {
        let (address, mut parameters) = Address::parse_path(url, "sqlite", EXAMPLE)?;
        let path = path(&address)?;
        let full_sync =
            parameters.take_as("sync", "\"full\" or \"normal\"", |value| match value {
                "full" => Some(true),
                "normal" => Some(false),
                _ => None,
            })?;
        let timeout = parameters.take_seconds("timeout")?;
        let max_item = parameters.take_number("max_item", MAX_ITEM..=LARGEST_ITEM)?;
        let mode = mode(&mut parameters)?;
        parameters.end()?;
        if path.is_none() && mode.is_some() {
            return Err(Error::configuration(format!(
                "{address} is a database in memory, and mode= is for files: remove it"
            )));
        }
        Ok(Self {
            address: address.to_string(),
            path,
            full_sync: full_sync.unwrap_or(true),
            timeout: timeout.unwrap_or(DEFAULT_TIMEOUT),
            max_item: max_item.unwrap_or(MAX_ITEM),
            mode,
        })
    }
}

fn path(address: &Address) -> Result<Option<PathBuf>> {
    let text = address.to_string();
    if matches!(text.as_str(), "sqlite://:memory:" | "sqlite:///:memory:") {
        return Err(Error::configuration(format!(
            "{text:?} is not valid: write sqlite:// for a database in memory"
        )));
    }
    if address.path.is_empty() {
        return Ok(None);
    }
    let Some(file) = address.path.strip_prefix('/') else {
        // Not shown: only an address of this kind can contain a password.
        return Err(Error::configuration(format!(
            "the store's URL names a host, and SQLite has none: write {EXAMPLE}"
        )));
    };
    if file.is_empty() || file.ends_with('/') {
        return Err(Error::configuration(format!(
            "{text:?} names no file: write sqlite:///shop.db"
        )));
    }
    // Absolute from the start: the process may change its working directory, and connections open later and again after
    // a fork.
    std::path::absolute(file).map(Some).map_err(|error| {
        Error::configuration(format!(
            "{text:?} is relative to the working directory, which cannot be read: write an absolute path"
        ))
        .caused_by(error)
    })
}

fn mode(parameters: &mut Parameters) -> Result<Option<u32>> {
    let wanted = "the permissions of a new file in octal, such as 600 or 660; its owner must be able to read and write it";
    parameters.take_as("mode", wanted, |value| {
        let mode = u32::from_str_radix(value, 8).ok()?;
        (mode <= 0o777 && mode & OWNER == OWNER).then_some(mode)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// There is no place for a secret: an address with a login is refused, and not shown.
        #[test]
        fn a_login_is_refused_and_not_shown(
            secret in "(64738|HUSH|[a-z]{0,2})[@/#:%?&=,+]{0,2}HUSH[!-~]{0,6}",
            scheme in "sqlite|sqlite3",
            user in "me:|:|me",
            rest in "host/shop.db|/shop.db||host\\?sync=bad",
        ) {
            let url = format!("{scheme}://{user}{secret}@{rest}");
            let error = Config::parse(&url).unwrap_err();
            prop_assert_eq!(error.kind, mintkey_store::ErrorKind::Configuration);
            let shown = error.message.contains("HUSH") || error.message.contains("64738");
            prop_assert!(!shown, "{} of {}", error.message, url);
        }
    }
}
