//! The order in which credentials are looked for.

use std::process::Command;

use mintkey_store::{Error, Result};

use super::files::{Files, Profile};
use super::remote::{self, Proof, Role};
use super::{Credentials, Place, Sources};
use crate::client::Session;
use crate::config::Config;
use crate::transport::Link;

/// How many roles may stand on each other.
const LONGEST: usize = 8;

/// Finds credentials.
pub async fn find<L: Link>(
    config: &Config,
    place: &Place,
    sources: &Sources,
    session: &Session<'_, L>,
) -> Result<Credentials> {
    // A profile that the address names goes before the environment.
    if config.profile.is_none()
        && let Some(found) = environment(sources)
    {
        return Ok(found);
    }
    if let Some(found) = of_profile(config, place, sources, session).await? {
        return Ok(found);
    }
    if let Some(found) = web_identity(place, sources, session).await? {
        return Ok(found);
    }
    if place.endpoint.is_loopback() {
        // A server on this machine asks for none, but wants a signature.
        return Ok(Credentials {
            access_key: "local".to_owned(),
            secret: "not secret".to_owned(),
            token: None,
            expires: None,
        });
    }
    if let Some(found) = remote::container(session, sources).await? {
        return Ok(found);
    }
    if let Some(found) = remote::instance(session, sources).await? {
        return Ok(found);
    }
    Err(Error::configuration(format!(
        "{}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile of ~/.aws with ?profile=, \
         or give this machine a role",
        config.address
    )))
}

fn environment(sources: &Sources) -> Option<Credentials> {
    Some(Credentials {
        access_key: sources.var("AWS_ACCESS_KEY_ID")?,
        secret: sources.var("AWS_SECRET_ACCESS_KEY")?,
        token: sources.var("AWS_SESSION_TOKEN"),
        expires: None,
    })
}

async fn web_identity<L: Link>(
    place: &Place,
    sources: &Sources,
    session: &Session<'_, L>,
) -> Result<Option<Credentials>> {
    let both = (
        sources.var("AWS_WEB_IDENTITY_TOKEN_FILE"),
        sources.var("AWS_ROLE_ARN"),
    );
    let (Some(file), Some(arn)) = both else {
        return Ok(None);
    };
    let role = Role {
        arn,
        session: sources.var("AWS_ROLE_SESSION_NAME"),
        external: None,
        duration: None,
    };
    let token = token(sources, &file)?;
    remote::assume(session, &place.region, &role, Proof::Token(token))
        .await
        .map(Some)
}

fn token(sources: &Sources, file: &str) -> Result<String> {
    sources
        .file(file)?
        .ok_or_else(|| Error::configuration(format!("there is no web identity token in {file:?}")))
}

fn static_keys(profile: &Profile) -> Option<Credentials> {
    Some(Credentials {
        access_key: profile.get("aws_access_key_id")?,
        secret: profile.get("aws_secret_access_key")?,
        token: profile.get("aws_session_token"),
        expires: None,
    })
}

async fn of_profile<L: Link>(
    config: &Config,
    place: &Place,
    sources: &Sources,
    session: &Session<'_, L>,
) -> Result<Option<Credentials>> {
    let mut profile = sources.profile(config.profile.as_deref())?;
    let files = sources.files()?;
    let mut name = sources.profile_name(config.profile.as_deref());
    let wrong = |name: &str, why: &str| Error::configuration(format!("profile {name:?} {why}"));
    // Roles to take on, the last one first.
    let mut roles: Vec<Role> = Vec::new();
    let base = loop {
        let Some(arn) = profile.get("role_arn") else {
            break plain(&files, &profile, &name, sources, session).await?;
        };
        if profile.get("mfa_serial").is_some() {
            return Err(wrong(
                &name,
                "asks for a code (mfa_serial), and nobody is asked here: use aws sso login, or a session of \
                 aws sts get-session-token",
            ));
        }
        let role = Role {
            arn,
            session: profile.get("role_session_name"),
            external: profile.get("external_id"),
            duration: profile.get("duration_seconds"),
        };
        if let Some(file) = profile.get("web_identity_token_file") {
            let token = token(sources, &file)?;
            break Some(remote::assume(session, &place.region, &role, Proof::Token(token)).await?);
        }
        roles.push(role);
        if roles.len() > LONGEST {
            return Err(wrong(&name, "leads in a circle of roles (source_profile)"));
        }
        if let Some(source) = profile.get("credential_source") {
            break match source.as_str() {
                "Environment" => environment(sources),
                "EcsContainer" => remote::container(session, sources).await?,
                "Ec2InstanceMetadata" => remote::instance(session, sources).await?,
                _ => return Err(wrong(&name, "has a credential_source that does not exist")),
            };
        }
        let Some(source) = profile.get("source_profile") else {
            return Err(wrong(
                &name,
                "has a role_arn, but neither source_profile nor credential_source",
            ));
        };
        if source == name {
            break static_keys(&profile);
        }
        profile = files
            .profile(&source)
            .ok_or_else(|| wrong(&source, "is a source_profile, but is not there"))?;
        name = source;
    };
    let Some(mut credentials) = base else {
        if roles.is_empty() {
            return Ok(None);
        }
        return Err(wrong(&name, "has no credentials to take on a role with"));
    };
    for role in roles.iter().rev() {
        credentials =
            remote::assume(session, &place.region, role, Proof::Keys(credentials)).await?;
    }
    Ok(Some(credentials))
}

/// A profile without a role.
async fn plain<L: Link>(
    files: &Files,
    profile: &Profile,
    name: &str,
    sources: &Sources,
    session: &Session<'_, L>,
) -> Result<Option<Credentials>> {
    if profile.get("sso_account_id").is_some() {
        return remote::sign_on(session, sources, files, profile)
            .await
            .map(Some);
    }
    if let Some(keys) = static_keys(profile) {
        return Ok(Some(keys));
    }
    match profile.get("credential_process") {
        Some(command) => process(&command, name).map(Some),
        None => Ok(None),
    }
}

/// Runs the program that a profile names for its credentials.
fn process(command: &str, name: &str) -> Result<Credentials> {
    let source = format!("the credential_process of profile {name:?}");
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::inherit())
        .output()
        .map_err(|error| {
            Error::configuration(format!("credentials from {source}: it did not start"))
                .caused_by(error)
        })?;
    if !output.status.success() {
        return Err(Error::configuration(format!(
            "credentials from {source}: it failed ({})",
            output.status
        )));
    }
    remote::parse(&String::from_utf8_lossy(&output.stdout), &source)
}
