//! The order of the sources of credentials.

use std::process::Command;

use mintkey_store::{Error, Result};

use crate::aws::credentials::files::{Files, Profile};
use crate::aws::credentials::identity::Credentials;
use crate::aws::credentials::region::Destination;
use crate::aws::credentials::remote::{self, Lookup, Proof, Role};
use crate::aws::credentials::sources::Sources;
use crate::transport::Transport;

/// The longest chain of roles that are assumed one after the other.
const LONGEST: usize = 8;

/// Finds credentials.
pub async fn find<T: Transport>(
    destination: &Destination,
    sources: &Sources,
    lookup: &Lookup<'_, T>,
) -> Result<Credentials> {
    // A profile in the address takes precedence over the environment.
    if lookup.config.profile.is_none()
        && let Some(found) = environment(sources)
    {
        return Ok(found);
    }
    if let Some(found) = of_profile(destination, sources, lookup).await? {
        return Ok(found);
    }
    if let Some(found) = web_identity(destination, sources, lookup).await? {
        return Ok(found);
    }
    if destination.endpoint.is_loopback() {
        // A local server accepts any credentials, but needs a signature.
        return Ok(Credentials {
            access_key: "local".to_owned(),
            secret: "not secret".to_owned(),
            token: None,
            expires: None,
        });
    }
    if let Some(found) = remote::container(lookup, sources).await? {
        return Ok(found);
    }
    if let Some(found) = remote::instance(lookup, sources).await? {
        return Ok(found);
    }
    Err(Error::configuration(format!(
        "{}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile of ~/.aws with ?profile=, \
         or attach a role to this machine",
        lookup.config.address
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

async fn web_identity<T: Transport>(
    destination: &Destination,
    sources: &Sources,
    lookup: &Lookup<'_, T>,
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
    remote::assume(lookup, &destination.region, &role, Proof::Token(token))
        .await
        .map(Some)
}

fn token(sources: &Sources, file: &str) -> Result<String> {
    sources.file(file)?.ok_or_else(|| {
        Error::configuration(format!(
            "the web identity token file {file:?} does not exist"
        ))
    })
}

fn static_keys(profile: &Profile) -> Option<Credentials> {
    Some(Credentials {
        access_key: profile.get("aws_access_key_id")?,
        secret: profile.get("aws_secret_access_key")?,
        token: profile.get("aws_session_token"),
        expires: None,
    })
}

async fn of_profile<T: Transport>(
    destination: &Destination,
    sources: &Sources,
    lookup: &Lookup<'_, T>,
) -> Result<Option<Credentials>> {
    let mut profile = sources.profile(lookup.config.profile.as_deref())?;
    let files = sources.files()?;
    let mut name = sources.profile_name(lookup.config.profile.as_deref());
    let wrong = |name: &str, why: &str| Error::configuration(format!("profile {name:?} {why}"));
    // The roles to assume, the last one first.
    let mut roles: Vec<Role> = Vec::new();
    let base = loop {
        let Some(arn) = profile.get("role_arn") else {
            break plain(&files, &profile, &name, sources, lookup).await?;
        };
        if profile.get("mfa_serial").is_some() {
            return Err(wrong(
                &name,
                "needs a code (mfa_serial), which is not supported: use aws sso login, or a session of \
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
            break Some(
                remote::assume(lookup, &destination.region, &role, Proof::Token(token)).await?,
            );
        }
        roles.push(role);
        if roles.len() > LONGEST {
            return Err(wrong(
                &name,
                "has a circular chain of roles (source_profile)",
            ));
        }
        if let Some(source) = profile.get("credential_source") {
            break match source.as_str() {
                "Environment" => environment(sources),
                "EcsContainer" => remote::container(lookup, sources).await?,
                "Ec2InstanceMetadata" => remote::instance(lookup, sources).await?,
                _ => return Err(wrong(&name, "has an unknown credential_source")),
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
            .ok_or_else(|| wrong(&source, "is a source_profile, but does not exist"))?;
        name = source;
    };
    let Some(mut credentials) = base else {
        if roles.is_empty() {
            return Ok(None);
        }
        return Err(wrong(&name, "has no credentials to assume a role with"));
    };
    for role in roles.iter().rev() {
        credentials =
            remote::assume(lookup, &destination.region, role, Proof::Keys(credentials)).await?;
    }
    Ok(Some(credentials))
}

/// A profile without a role.
async fn plain<T: Transport>(
    files: &Files,
    profile: &Profile,
    name: &str,
    sources: &Sources,
    lookup: &Lookup<'_, T>,
) -> Result<Option<Credentials>> {
    if profile.get("sso_account_id").is_some() {
        return remote::sign_on(lookup, sources, files, profile)
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
