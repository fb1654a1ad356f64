//! The parameters of a store's URL.

use std::fmt::{self, Display};
use std::ops::RangeInclusive;
use std::time::Duration;

use mintkey_store::error::shortened;
use mintkey_store::{Error, Result};
use percent_encoding::percent_decode_str;

/// A shorter time would be over before the first check.
const SHORTEST_TIME: f64 = 0.001;
/// A day: more is a mistake in the unit.
const LONGEST_TIME: f64 = 86_400.0;

/// The part of a store's URL after the `?`: `name=value&name=value`.
///
/// A store takes the parameters that it knows; `end` refuses all others.
pub struct Parameters {
    /// The address that they belong to, for messages.
    address: String,
    given: Vec<(String, Option<String>)>,
    known: Vec<&'static str>,
}

/// Without values: one of them may be a secret.
impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let with_values = self.given.iter().filter(|(_, value)| value.is_some());
        let names = with_values.map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

impl Parameters {
    /// Reads the part after the `?` of an address.
    pub(crate) fn parse(address: &str, query: &str) -> Result<Self> {
        let mut given: Vec<(String, Option<String>)> = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let Some((name, value)) = parameter.split_once('=') else {
                given.push((parameter.to_owned(), None));
                continue;
            };
            if given.iter().any(|(other, _)| other == name) {
                return Err(Error::configuration(format!(
                    "{address} gives the parameter {:?} twice: remove one of them",
                    shortened(name)
                )));
            }
            let value = percent_decode_str(value).decode_utf8().map_err(|error| {
                Error::configuration(format!(
                    "{address}: the value of {:?} does not decode to UTF-8: percent-encode its UTF-8 bytes",
                    shortened(name)
                ))
                .caused_by(error)
            })?;
            given.push((name.to_owned(), Some(value.into_owned())));
        }
        Ok(Self {
            address: address.to_owned(),
            given,
            known: Vec::new(),
        })
    }

    /// Takes the value of a parameter, if it is given. A parameter without a `=` has an empty value.
    pub fn take(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let index = self.given.iter().position(|(given, _)| given == name)?;
        Some(self.given.remove(index).1.unwrap_or_default())
    }

    /// Takes a number of seconds.
    ///
    /// # Errors
    ///
    /// `Configuration` if it is not a number from a millisecond to a day.
    pub fn take_seconds(&mut self, name: &'static str) -> Result<Option<Duration>> {
        let wanted = format!("a number of seconds from {SHORTEST_TIME} to {LONGEST_TIME}");
        self.take_as(name, &wanted, |value| {
            let seconds: f64 = value.parse().ok()?;
            let fits = (SHORTEST_TIME..=LONGEST_TIME).contains(&seconds);
            fits.then(|| Duration::from_secs_f64(seconds))
        })
    }

    /// Takes a whole number in this range.
    ///
    /// # Errors
    ///
    /// `Configuration` if it is not such a number.
    pub fn take_number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<usize>,
    ) -> Result<Option<usize>> {
        let wanted = format!("a whole number from {} to {}", range.start(), range.end());
        self.take_as(name, &wanted, |value| {
            value.parse().ok().filter(|number| range.contains(number))
        })
    }

    /// Takes a parameter and converts it with `read`; `wanted` says for the error message what the value should be.
    ///
    /// # Errors
    ///
    /// `Configuration` if `read` returns none.
    pub fn take_as<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.take(name) else {
            return Ok(None);
        };
        match read(&value) {
            Some(read) => Ok(Some(read)),
            None => Err(self.invalid(name, &value, wanted)),
        }
    }

    /// The error for a value that is not valid; `wanted` says what it should be.
    #[must_use]
    pub fn invalid(&self, name: &str, value: &str, wanted: impl Display) -> Error {
        Error::configuration(format!(
            "{}: {name}={:?} is not valid: give {wanted}",
            self.address,
            shortened(value)
        ))
    }

    /// Ends the reading.
    ///
    /// # Errors
    ///
    /// `Configuration` if a parameter was not taken: it is unknown. The message lists the known ones.
    pub fn end(self) -> Result<()> {
        let Some((name, value)) = self.given.first() else {
            return Ok(());
        };
        if value.is_none() {
            return Err(Error::configuration(format!(
                "{} is followed by a '?' and a text that is no parameter. It is not shown, because it may be a part of a \
                 password: write parameters as ?name=value, and a '?' in a password as %3F",
                self.address
            )));
        }
        let known = match self.known.split_last() {
            None => "there is none".to_owned(),
            Some((last, [])) => format!("there is {last}"),
            Some((last, others)) => format!("there are {} and {last}", others.join(", ")),
        };
        Err(Error::configuration(format!(
            "{} has an unknown parameter {:?}: {known}",
            self.address,
            shortened(name)
        )))
    }
}

#[cfg(test)]
mod tests {
    use mintkey_store::ErrorKind;

    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::parse("redis://host", query).unwrap()
    }

    #[track_caller]
    fn refused<T: fmt::Debug>(result: Result<T>, words: &[&str]) {
        let error = result.unwrap_err();
        assert_eq!(error.kind, ErrorKind::Configuration);
        for words in words.iter().chain(&["redis://host"]) {
            assert!(
                error.message.contains(words),
                "{words:?} in {:?}",
                error.message
            );
        }
    }

    #[test]
    fn values_are_decoded_and_taken_once() {
        let mut parameters = parameters("a=x%3D%26y&b&&c=1=2");
        assert_eq!(parameters.take("a").as_deref(), Some("x=&y"));
        assert_eq!(parameters.take("a"), None);
        assert_eq!(parameters.take("b").as_deref(), Some(""));
        assert_eq!(parameters.take("c").as_deref(), Some("1=2"));
        assert_eq!(parameters.take("d"), None);
        parameters.end().unwrap();
    }

    #[test]
    fn a_parameter_is_given_once_and_decodes() {
        refused(
            Parameters::parse("redis://host", "a=1&b=2&a=1"),
            &["\"a\" twice"],
        );
        refused(
            Parameters::parse("redis://host", "a=%ff"),
            &["\"a\"", "UTF-8"],
        );
    }

    #[test]
    fn an_unknown_parameter_is_refused_with_the_known_ones() {
        let mut some = parameters("timout=1");
        assert_eq!(some.take("prefix"), None);
        assert_eq!(some.take("timeout"), None);
        assert_eq!(some.take("max_item"), None);
        refused(some.end(), &["\"timout\"", "prefix, timeout and max_item"]);
        refused(parameters("x=1").end(), &["\"x\"", "there is none"]);
    }

    #[test]
    fn a_text_without_a_value_is_not_repeated() {
        let error = parameters("HUSH").end().unwrap_err();
        assert!(!error.message.contains("HUSH"), "{}", error.message);
        assert!(error.message.contains("%3F"), "{}", error.message);
        assert_eq!(format!("{:?}", parameters("HUSH&a=1")), r#"["a"]"#);
    }

    #[test]
    fn seconds_are_between_a_millisecond_and_a_day() {
        let take = |value: &str| parameters(&format!("t={value}")).take_seconds("t");
        assert_eq!(take("2.5").unwrap(), Some(Duration::from_millis(2500)));
        assert_eq!(take("0.001").unwrap(), Some(Duration::from_millis(1)));
        assert_eq!(take("86400").unwrap(), Some(Duration::from_secs(86_400)));
        assert_eq!(parameters("").take_seconds("t").unwrap(), None);
        for wrong in [
            "", "0", "-1", "1e-300", "86401", "inf", "NaN", "5s", "1,5", " 5",
        ] {
            let shown = format!("t={wrong:?}");
            refused(take(wrong), &[&shown, "from 0.001 to 86400"]);
        }
    }

    #[test]
    fn numbers_are_in_their_range() {
        let take = |value: &str| parameters(&format!("n={value}")).take_number("n", 0..=100);
        assert_eq!(take("0").unwrap(), Some(0));
        assert_eq!(take("100").unwrap(), Some(100));
        assert_eq!(parameters("").take_number("n", 0..=100).unwrap(), None);
        for wrong in ["", "-1", "101", "1.0", "99999999999999999999999", "five"] {
            let shown = format!("n={wrong:?}");
            refused(take(wrong), &[&shown, "from 0 to 100"]);
        }
    }

    #[test]
    fn a_long_name_or_value_is_shortened() {
        let long = "5".repeat(5_000);
        let messages = [
            parameters(&format!("t={long}")).take_seconds("t").err(),
            parameters(&format!("t={long}"))
                .take_number("t", 0..=100)
                .err(),
            parameters(&format!("{long}=1")).end().err(),
            Parameters::parse("redis://host", &format!("{long}=1&{long}=2")).err(),
            Parameters::parse("redis://host", &format!("{long}=%ff")).err(),
        ];
        for error in messages {
            let message = error.unwrap().message;
            assert!(message.contains("555… (5000 bytes)"), "{message}");
            assert!(message.len() < 400, "{message}");
        }
    }

    #[test]
    fn debug_output_shows_no_values() {
        assert_eq!(
            format!("{:?}", parameters("password=hush&a=1")),
            r#"["password", "a"]"#
        );
    }
}
