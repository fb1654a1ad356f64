//! TLS with the root certificates of the system.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use crate::transport::error::Cause;

/// The TLS settings, loaded at first use.
#[derive(Debug, Default)]
pub struct Tls(OnceLock<Result<Arc<ClientConfig>, String>>);

impl Tls {
    /// The settings of a connection.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Cause> {
        self.0.get_or_init(load).clone().map_err(Cause::Untrusted)
    }
}

/// The name that must be in the server's certificate.
pub fn server_name(host: &str) -> Result<ServerName<'static>, Cause> {
    ServerName::try_from(host.to_owned()).map_err(|error| Cause::Untrusted(error.to_string()))
}

fn load() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(
            "this system has no root certificates: install ca-certificates, or set $SSL_CERT_FILE to a file of them"
                .to_owned(),
        );
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
