//! The TLS configuration, from the files that an address names.

use std::path::Path;
use std::sync::Arc;

use mintkey_store::{Error, Result};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// The files that an address names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// The certificate authorities that sign server certificates; none: those of the system.
    pub ca: Option<String>,
    /// The client certificate.
    pub certificate: Option<String>,
    /// The key of the client certificate.
    pub key: Option<String>,
}

fn unreadable(path: &str, error: &rustls::pki_types::pem::Error) -> Error {
    Error::configuration(format!(
        "{path:?} cannot be read as PEM ({error}): give the path of a readable PEM file"
    ))
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_file_iter(Path::new(path))
        .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
        .map_err(|error| unreadable(path, &error))?;
    if found.is_empty() {
        return Err(Error::configuration(format!(
            "{path:?} holds no certificate: give a PEM file with one"
        )));
    }
    Ok(found)
}

/// Reads the files.
pub fn client_config(files: &TlsFiles) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let trusted = match &files.ca {
        Some(path) => certificates(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = roots.add_parsable_certificates(trusted);
    if added == 0 {
        return Err(Error::configuration(
            "the system has no certificate authorities: name one with ?ca=/path/to/ca.pem",
        ));
    }
    let wrong = |error: rustls::Error| {
        Error::configuration(format!(
            "the certificate or its key cannot be used: {error}"
        ))
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots);
    let client = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let own = PrivateKeyDer::from_pem_file(Path::new(key))
                .map_err(|error| unreadable(key, &error))?;
            builder
                .with_client_auth_cert(certificates(certificate)?, own)
                .map_err(wrong)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => {
            return Err(Error::configuration(
                "a client certificate needs its key: give both ?cert= and &key=, or neither",
            ));
        }
    };
    Ok(Arc::new(client))
}
