//! Sources of settings: environment variables and files.

use std::path::PathBuf;

use mintkey_store::{Error, Result};

use crate::aws::credentials::files::{Files, Profile};

/// Looks up an environment variable.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

/// The environment and the files that it names.
pub struct Sources {
    var: Box<Lookup>,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            var: Box::new(|name| std::env::var(name).ok()),
        }
    }
}

impl Sources {
    /// Sources with these environment variables.
    #[cfg(test)]
    pub fn of(vars: &[(&str, &str)]) -> Self {
        let vars: Vec<(String, String)> = vars
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        Self::asking(move |name| {
            let found = vars.iter().find(|(own, _)| own == name);
            found.map(|(_, value)| value.clone())
        })
    }

    /// Sources that look up environment variables like this.
    #[cfg(test)]
    pub fn asking(var: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self { var: Box::new(var) }
    }

    /// An environment variable that is set and not empty.
    pub fn var(&self, name: &str) -> Option<String> {
        (self.var)(name).filter(|value| !value.is_empty())
    }

    /// The text of a file; `None` if it does not exist.
    pub fn file(&self, path: &str) -> Result<Option<String>> {
        let path = match path.strip_prefix("~/") {
            Some(rest) => match self.home() {
                Some(home) => home.join(rest),
                None => return Ok(None),
            },
            None => PathBuf::from(path),
        };
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::configuration(format!(
                "{} cannot be read: {error}",
                path.display()
            ))),
        }
    }

    fn home(&self) -> Option<PathBuf> {
        self.var("HOME").map(PathBuf::from)
    }

    /// AWS's files.
    pub fn files(&self) -> Result<Files> {
        let path = |name: &str, default: &str| self.var(name).unwrap_or_else(|| default.to_owned());
        let config = self.file(&path("AWS_CONFIG_FILE", "~/.aws/config"))?;
        let secrets = self.file(&path("AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"))?;
        Ok(Files::parse(
            &config.unwrap_or_default(),
            &secrets.unwrap_or_default(),
        ))
    }

    /// The name of the profile to use.
    pub fn profile_name(&self, wanted: Option<&str>) -> String {
        wanted
            .map(ToOwned::to_owned)
            .or_else(|| self.var("AWS_PROFILE"))
            .unwrap_or_else(|| "default".to_owned())
    }

    /// A profile; an empty one if the default profile does not exist.
    ///
    /// # Errors
    ///
    /// `Configuration` if a named profile does not exist.
    pub fn profile(&self, wanted: Option<&str>) -> Result<Profile> {
        let name = self.profile_name(wanted);
        match self.files()?.profile(&name) {
            Some(profile) => Ok(profile),
            None if wanted.is_none() && self.var("AWS_PROFILE").is_none() => Ok(Profile::default()),
            None => Err(Error::configuration(format!(
                "profile {name:?} does not exist in AWS's files: add it to ~/.aws/config, or name another"
            ))),
        }
    }
}
