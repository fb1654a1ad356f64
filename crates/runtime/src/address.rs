//! The address of a store: the part of its URL in front of the `?`.

use std::fmt::{self, Display};

use mintkey_store::{Error, Result};
use percent_encoding::percent_decode_str;

use crate::parameters::Parameters;

/// A server that an address names.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// The name or IP address, without brackets.
    pub name: String,
    /// The port, if the address names one.
    pub port: Option<u16>,
}

/// Where a store is and who uses it: `scheme://user:password@host:port,host:port/path`.
///
/// The text of an address has neither user nor password, so it can be part of any message.
#[derive(Clone, Eq, PartialEq)]
pub struct Address {
    /// What stands before the `://`.
    pub scheme: &'static str,
    /// The user, decoded.
    pub user: Option<String>,
    /// The password, decoded.
    pub password: Option<String>,
    /// The servers; none if a path follows the `://`, or nothing.
    pub hosts: Vec<Host>,
    /// The path, decoded. Behind hosts it is empty or begins with `/`.
    pub path: String,
    /// Hosts and path as they are in the URL.
    location: String,
}

impl Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.location)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

impl Address {
    /// Reads the URL of a store on a network, which has one of these schemes. Error messages end with the example, and show
    /// nothing of a URL that cannot be read: a password may be anywhere in it.
    ///
    /// User and password end at the last `@`, so a `/` or an `@` in a password needs no encoding.
    ///
    /// # Errors
    ///
    /// `Configuration` if it is no URL of this form.
    pub fn parse(url: &str, schemes: &[&'static str], example: &str) -> Result<(Self, Parameters)> {
        Self::parse_as(url, schemes, example, servers)
    }

    /// Reads the URL of a store in a file: all that follows the `://` is a path, also if it does not begin with a `/`. An
    /// `@` in it has no meaning.
    ///
    /// # Errors
    ///
    /// `Configuration` if it is no URL of this form.
    pub fn parse_path(
        url: &str,
        scheme: &'static str,
        example: &str,
    ) -> Result<(Self, Parameters)> {
        Self::parse_as(url, &[scheme], example, file)
    }

    fn parse_as(
        url: &str,
        schemes: &[&'static str],
        example: &str,
        locate: fn(&'static str, &str) -> Attempt<Self>,
    ) -> Result<(Self, Parameters)> {
        let read = || {
            let (scheme, rest) = url.split_once("://").ok_or("has no ://")?;
            let scheme = schemes.iter().find(|known| **known == scheme);
            let scheme = scheme.ok_or("has an unknown scheme")?;
            let (location, query) = rest.split_once('?').unwrap_or((rest, ""));
            if query.contains('@') {
                return Err(
                    "has an '@' after a '?' (in a password write %3F for a '?', in a parameter %40 for an '@')",
                );
            }
            Ok((locate(scheme, location)?, query))
        };
        let (address, query) = read().map_err(|what| {
            Error::configuration(format!("the store's URL {what}: write {example}"))
        })?;
        let parameters = Parameters::parse(&address.to_string(), query)?;
        Ok((address, parameters))
    }

    /// The text of the address with those parameters that identify the store.
    #[must_use]
    pub fn with_parameters<'a>(
        &self,
        parameters: impl IntoIterator<Item = (&'a str, String)>,
    ) -> String {
        let mut text = self.to_string();
        for (index, (name, value)) in parameters.into_iter().enumerate() {
            text.push(if index == 0 { '?' } else { '&' });
            text.push_str(name);
            text.push('=');
            text.push_str(&value);
        }
        text
    }
}

/// What was read, or what is wrong with the URL.
type Attempt<T> = std::result::Result<T, &'static str>;

/// Reads `user:password@host:port,host:port/path`.
fn servers(scheme: &'static str, location: &str) -> Attempt<Address> {
    let (login, location) = location.rsplit_once('@').unwrap_or(("", location));
    if login.starts_with('/') {
        // A message that shows this path could show a password.
        return Err("has an '@' in its path (write %40)");
    }
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let path = location.find('/').unwrap_or(location.len());
    let (authority, path) = location.split_at(path);
    Ok(Address {
        scheme,
        user: part_of_login(user)?,
        password: part_of_login(password)?,
        hosts: hosts(authority)?,
        path: decoded_path(path)?,
        location: location.to_owned(),
    })
}

/// Reads a path.
fn file(scheme: &'static str, location: &str) -> Attempt<Address> {
    if location.contains('@') && !location.starts_with('/') {
        return Err("has a user or password, and a file has none");
    }
    Ok(Address {
        scheme,
        user: None,
        password: None,
        hosts: Vec::new(),
        path: decoded_path(location)?,
        location: location.to_owned(),
    })
}

fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

fn decoded_path(text: &str) -> Attempt<String> {
    let path = decoded(text).ok_or("has a path that does not decode to UTF-8")?;
    if path.contains('\0') {
        return Err("has a path with a NUL character");
    }
    Ok(path)
}

/// A user or password, none if it is empty.
fn part_of_login(text: &str) -> Attempt<Option<String>> {
    let text = decoded(text).ok_or("has a user or password that does not decode to UTF-8")?;
    Ok((!text.is_empty()).then_some(text))
}

fn hosts(authority: &str) -> Attempt<Vec<Host>> {
    if authority.is_empty() {
        return Ok(Vec::new());
    }
    authority.split(',').map(host).collect()
}

fn host(text: &str) -> Attempt<Host> {
    const WRONG_PORT: &str = "has a port that is not a number from 1 to 65535";
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, behind) = rest.split_once(']').ok_or("has a '[' without a ']'")?;
        match behind.strip_prefix(':') {
            None if !behind.is_empty() => return Err(WRONG_PORT),
            port => (name, port),
        }
    } else {
        match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(
                    "has more than one ':' in a host (write an IPv6 address in brackets, as in [::1]:6379)",
                );
            }
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    if name.is_empty() {
        return Err("has a host without a name");
    }
    if name.contains('#') {
        return Err("has a '#' in a host, where it has no meaning");
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    if !name.bytes().all(fits) {
        return Err("has a host with a character that is not allowed in host names");
    }
    let port = match port {
        None => None,
        Some(port) => Some(number(port).ok_or(WRONG_PORT)?),
    };
    Ok(Host {
        name: name.to_owned(),
        port,
    })
}

/// A port: digits alone, without a sign.
fn number(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0)
}
