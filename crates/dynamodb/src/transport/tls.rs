//! TLS with the system's roots.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use crate::transport::Why;

/// The settings, read at the first use.
#[derive(Debug, Default)]
pub struct Tls(OnceLock<Result<Arc<ClientConfig>, String>>);

impl Tls {
    /// The settings for a connection.
    pub fn config(&self) -> Result<Arc<ClientConfig>, Why> {
        self.0.get_or_init(load).clone().map_err(Why::Untrusted)
    }
}

/// The name under which a server must prove itself.
pub fn server_name(host: &str) -> Result<ServerName<'static>, Why> {
    ServerName::try_from(host.to_owned()).map_err(|error| Why::Untrusted(error.to_string()))
}

fn load() -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(
            "this system has no certificates to trust: install ca-certificates, or name a file in $SSL_CERT_FILE"
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
