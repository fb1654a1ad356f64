//! Reads a store's address.

use std::path::PathBuf;
use std::time::Duration;

use mintkey_store::size::MAX_ITEM;
use mintkey_store::{Error, Result};
use percent_encoding::percent_decode_str;

const SCHEME: &str = "sqlite://";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// A day: more is a mistake in the unit.
const LONGEST_TIMEOUT: f64 = 86_400.0;
/// `SQLite` itself ends at a billion bytes a value; JSON takes up to six bytes for one.
const LARGEST_ITEM: usize = 128 * 1024 * 1024;
/// The owner of a file reads and writes it.
const OWNER: u32 = 0o600;

/// What an address says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// The address without parameters, for messages.
    pub address: String,
    /// The file, absolute but not yet without links; none: a database in memory.
    pub path: Option<PathBuf>,
    /// Whether every commit waits for the disk.
    pub full_sync: bool,
    /// How long a request may take.
    pub timeout: Duration,
    /// The bytes an item may have.
    pub max_item: usize,
    /// The permissions of a new file, if the address says which.
    pub mode: Option<u32>,
}

impl Config {
    /// Reads an address.
    pub fn parse(url: &str) -> Result<Self> {
        let Some(rest) = url.strip_prefix(SCHEME) else {
            return Err(Error::configuration(
                "this is no SQLite address: write sqlite:///shop.db for a file, sqlite:// for memory",
            ));
        };
        let (location, parameters) = rest.split_once('?').unwrap_or((rest, ""));
        let mut config = Self {
            address: format!("{SCHEME}{location}"),
            path: path(url, location)?,
            full_sync: true,
            timeout: DEFAULT_TIMEOUT,
            max_item: MAX_ITEM,
            mode: None,
        };
        let mut seen: Vec<&str> = Vec::new();
        for parameter in parameters
            .split('&')
            .filter(|parameter| !parameter.is_empty())
        {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            if seen.contains(&name) {
                return Err(Error::configuration(format!(
                    "{url:?} gives {name:?} twice: leave one out"
                )));
            }
            seen.push(name);
            config.set(url, name, &decode(url, value)?)?;
        }
        Ok(config)
    }

    fn set(&mut self, url: &str, name: &str, value: &str) -> Result<()> {
        let wrong = |wanted: &str| {
            Error::configuration(format!(
                "{url:?}: {name}={value} is not possible: {name} is {wanted}"
            ))
        };
        match name {
            "sync" => {
                self.full_sync = match value {
                    "full" => true,
                    "normal" => false,
                    _ => return Err(wrong("\"full\" or \"normal\"")),
                };
            }
            "timeout" => {
                let seconds = value
                    .parse()
                    .ok()
                    .filter(|s| *s > 0.0 && *s <= LONGEST_TIMEOUT);
                self.timeout = Duration::from_secs_f64(
                    seconds.ok_or_else(|| wrong("a number of seconds above 0, up to 86400"))?,
                );
            }
            "max_item" => {
                let bytes = value
                    .parse()
                    .ok()
                    .filter(|b| (MAX_ITEM..=LARGEST_ITEM).contains(b));
                self.max_item = bytes.ok_or_else(|| {
                    wrong(&format!(
                        "a number of bytes from {MAX_ITEM} to {LARGEST_ITEM}"
                    ))
                })?;
            }
            "mode" => {
                if self.path.is_none() {
                    return Err(Error::configuration(format!(
                        "{url:?}: a database in memory has no file that mode={value} could be for: leave it out"
                    )));
                }
                let mode = u32::from_str_radix(value, 8)
                    .ok()
                    .filter(|mode| *mode <= 0o777 && mode & OWNER == OWNER);
                self.mode = Some(mode.ok_or_else(|| {
                    wrong("the permissions of a new file in octal, such as 600 or 660; its owner reads and writes it")
                })?);
            }
            _ => {
                return Err(Error::configuration(format!(
                    "{url:?} has an unknown parameter {name:?}: there are sync, timeout, max_item and mode"
                )));
            }
        }
        Ok(())
    }
}

fn path(url: &str, location: &str) -> Result<Option<PathBuf>> {
    if location.is_empty() {
        return Ok(None);
    }
    if matches!(location, ":memory:" | "/:memory:") {
        return Err(Error::configuration(format!(
            "{url:?}: a database in memory is written sqlite:// without anything behind"
        )));
    }
    let Some(file) = location.strip_prefix('/') else {
        // Not shown: only an address of this kind can hold a password.
        return Err(Error::configuration(
            "this SQLite address names a host, and SQLite has none: write sqlite:///shop.db for a file in the working \
             directory, sqlite:////path/shop.db for an absolute path",
        ));
    };
    let file = decode(url, file)?;
    if file.is_empty() || file.ends_with('/') || file.contains('\0') {
        return Err(Error::configuration(format!(
            "{url:?} names no file: write sqlite:///shop.db"
        )));
    }
    // Absolute from the start: connections open later, and again after a fork, wherever the process
    // works by then.
    std::path::absolute(&file).map(Some).map_err(|error| {
        Error::configuration(format!(
            "{url:?}: no working directory to find the file from"
        ))
        .caused_by(error)
    })
}

fn decode(url: &str, text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|error| {
        Error::configuration(format!("{url:?}: {text:?} does not decode to UTF-8")).caused_by(error)
    })?;
    Ok(decoded.into_owned())
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
