//! The order of the sources of credentials.

use std::error::Error as _;

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileSet};
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials as _;
use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_async::rt::sleep::TokioSleep;
use aws_types::region::Region;
use mintkey_store::{Error, ErrorKind, Outcome, Result};

use crate::aws::credentials::destination::{Destination, Variant};
use crate::aws::credentials::profiles::{self, Sources};
use crate::aws::credentials::services::{LastRequest, Services};
use crate::config::Config;
use crate::wire::errors;

/// Finds credentials in the profile, and behind it.
pub async fn find(
    config: &Config,
    destination: &Destination,
    profiles: &ProfileSet,
    services: &Services,
) -> Result<Credentials> {
    profiles::refuse_mfa(profiles)?;
    let is_local = destination.endpoint.is_loopback();
    let chain = chain(destination, profiles, services, is_local);
    match chain.provide_credentials().await {
        Ok(found) => Ok(found),
        // A local server accepts any credentials, but needs a signature.
        Err(CredentialsError::CredentialsNotLoaded(_)) if is_local => {
            Ok(Credentials::new("local", "not secret", None, None, "local"))
        }
        Err(error) => Err(failed(config, &error, services.last())),
    }
}

fn chain(
    destination: &Destination,
    profiles: &ProfileSet,
    services: &Services,
    is_local: bool,
) -> CredentialsProviderChain {
    let variant = Variant::of(profiles);
    let configured = ProviderConfig::empty()
        .with_region(Some(Region::new(destination.region.clone())))
        .with_use_fips(Some(variant.fips))
        .with_use_dual_stack(Some(variant.dual_stack))
        .with_sleep_impl(TokioSleep::new())
        .with_http_client(services.clone());
    let container = || {
        let builder = EcsCredentialsProvider::builder().configure(&configured);
        builder.dns(services.clone()).build()
    };
    let sources = Sources::of(profiles);
    let mut profile = ProfileFileCredentialsProvider::builder()
        .configure(&configured)
        .profile_files(sources.files)
        .profile_name(profiles.selected_profile().to_owned())
        .with_custom_provider("EcsContainer", container());
    for (name, provider) in sources.named {
        profile = profile.with_custom_provider(name, provider);
    }
    let web_identity = WebIdentityTokenCredentialsProvider::builder().configure(&configured);
    let chain = CredentialsProviderChain::first_try("Profile", profile.build())
        .or_else("WebIdentityToken", web_identity.build());
    if is_local {
        // Nobody waits for metadata services to use a local server.
        return chain;
    }
    let instance = ImdsCredentialsProvider::builder().configure(&configured);
    chain
        .or_else("EcsContainer", container())
        .or_else("Ec2InstanceMetadata", instance.build())
}

/// The error for the caller. Texts of servers are not shown: they may repeat the request.
fn failed(config: &Config, error: &CredentialsError, last: Option<LastRequest>) -> Error {
    let address = &config.address;
    if matches!(error, CredentialsError::CredentialsNotLoaded(_)) {
        return Error::configuration(format!(
            "{address}: no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile of ~/.aws with \
             ?profile=, or attach a role to this machine"
        ));
    }
    let Some(LastRequest { source, result }) = last else {
        return Error::configuration(format!("{address}: no credentials: {}", reasons(error)));
    };
    match result {
        Some(Err(transport)) => {
            let mut error = errors::transport_error(config, &transport, Outcome::NotApplied);
            error.message = format!("credentials from {source}: {}", error.message);
            error
        }
        Some(Ok(status @ (429 | 500..))) => Error::new(
            ErrorKind::Unavailable(Outcome::NotApplied),
            format!("{address}: credentials from {source}: the response has status {status}"),
        )
        .advice("try again"),
        Some(Ok(200)) => Error::configuration(format!(
            "{address}: credentials from {source}: the response contains no valid credentials"
        )),
        Some(Ok(status)) => Error::configuration(format!(
            "{address}: credentials from {source}: the response has status {status}"
        )),
        None => Error::new(
            ErrorKind::Timeout(Outcome::NotApplied),
            format!("{address}: credentials from {source}: no response in time"),
        )
        .advice("try again"),
    }
}

/// Why a source on this machine failed.
fn reasons(error: &CredentialsError) -> String {
    let mut reasons = Vec::new();
    let mut next = error.source();
    while let Some(reason) = next {
        reasons.push(reason.to_string());
        next = reason.source();
    }
    let text = reasons.join(": ");
    if text.contains("SSO") {
        format!("{text}: run aws sso login")
    } else {
        text
    }
}
