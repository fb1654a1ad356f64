//! Profiles in the files `~/.aws/config` and `~/.aws/credentials`, read by AWS's libraries.

use std::fmt::Write as _;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use aws_config::profile::{self, Profile, ProfileSet};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_types::os_shim_internal::{Env, Fs};
use mintkey_store::{Error, Result};

use crate::aws::credentials::environment::Environment;
use crate::aws::credentials::process::Process;
use crate::config::Config;

/// The name of the profile that is named, if one is.
fn named(config: &Config, environment: &Environment) -> Option<String> {
    config
        .profile
        .clone()
        .or_else(|| environment.var("AWS_PROFILE"))
}

/// All profiles, with the store's one selected.
///
/// # Errors
///
/// `Configuration` if a file is not valid, or a named profile does not exist.
pub fn load(config: &Config, environment: &Environment) -> Result<ProfileSet> {
    let named = named(config, environment);
    let name = named.clone().unwrap_or_else(|| "default".to_owned());
    let (fs, env, files) = (Fs::real(), Env::real(), EnvConfigFiles::default());
    let loaded = now_or_never(profile::load(&fs, &env, &files, Some(name.into())))?;
    let profiles = loaded.map_err(|error| {
        Error::configuration(format!("AWS's files are not valid: {error}")).caused_by(error)
    })?;
    match named {
        Some(name) if profiles.get_profile(&name).is_none() => Err(wrong(
            &name,
            "does not exist in AWS's files: add it to ~/.aws/config, or name another",
        )),
        _ => Ok(profiles),
    }
}

/// The result of a future that waits for nothing: the library reads files on the calling thread.
fn now_or_never<F: Future>(future: F) -> Result<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Ok(result),
        Poll::Pending => Err(Error::configuration(
            "AWS's files were not read at once: this is a bug in mintkey: report it",
        )),
    }
}

fn wrong(name: &str, why: &str) -> Error {
    Error::configuration(format!("profile {name:?} {why}"))
}

/// Refuses a profile whose role needs a code, for which there is no prompt.
pub fn refuse_mfa(profiles: &ProfileSet) -> Result<()> {
    let mut seen = Vec::new();
    let mut name = profiles.selected_profile();
    while let Some(profile) = profiles.get_profile(name) {
        if profile.get("role_arn").is_some() && profile.get("mfa_serial").is_some() {
            return Err(wrong(
                name,
                "needs a code (mfa_serial), which is not supported: use aws sso login, or a session of \
                 aws sts get-session-token",
            ));
        }
        seen.push(name);
        match profile.get("source_profile") {
            Some(next) if !seen.contains(&next) => name = next,
            _ => return Ok(()),
        }
    }
    Ok(())
}

/// The files to read, and the sources of credentials that they name besides those that the library knows.
pub struct Sources {
    pub files: EnvConfigFiles,
    pub named: Vec<(String, SharedCredentialsProvider)>,
}

impl Sources {
    /// With the programs of all profiles (`credential_process`) as sources of ours.
    ///
    /// The library would run them itself, but it keeps whatever they write in memory, and leaves them running at a timeout.
    pub fn of(profiles: &ProfileSet) -> Self {
        let mut added = String::new();
        let mut named = Vec::new();
        for name in profiles.profiles() {
            let Some(provider) = profiles.get_profile(name).and_then(own_source) else {
                continue;
            };
            let source = format!("mintkey-{}", named.len());
            let _ = write!(added, "[{name}]\ncredential_source = {source}\n");
            named.push((source, provider));
        }
        let files = EnvConfigFiles::builder()
            .include_default_config_file(true)
            .include_default_credentials_file(true)
            .with_contents(EnvConfigFileKind::Credentials, added)
            .build();
        Self { files, named }
    }
}

/// The source of a profile that names a program, and neither a role nor single sign-on. Keys precede the program.
fn own_source(profile: &Profile) -> Option<SharedCredentialsProvider> {
    let others = [
        "role_arn",
        "credential_source",
        "sso_session",
        "sso_account_id",
    ];
    let command = profile.get("credential_process")?;
    if others.iter().any(|name| profile.get(name).is_some()) {
        return None;
    }
    let keys = (
        profile.get("aws_access_key_id"),
        profile.get("aws_secret_access_key"),
    );
    Some(match keys {
        (Some(access_key), Some(secret)) => {
            let token = profile.get("aws_session_token").map(ToOwned::to_owned);
            let keys = Credentials::new(access_key, secret, token, None, "the profile");
            SharedCredentialsProvider::new(keys)
        }
        _ => SharedCredentialsProvider::new(Process::new(command, profile.name())),
    })
}
