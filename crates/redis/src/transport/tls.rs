//! Encrypted streams, and why a server is not trusted.

use std::io;
use std::net::TcpStream;
use std::sync::Arc;

use mintkey_store::{Error, Result};
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, ClientConnection, StreamOwned};

/// An encrypted stream.
pub type Encrypted = Box<StreamOwned<ClientConnection, TcpStream>>;

/// Why the certificate of the server was refused, if that broke the connection.
pub fn untrusted_reason(cause: &io::Error) -> Option<String> {
    let Some(rustls::Error::InvalidCertificate(why)) = cause.get_ref()?.downcast_ref() else {
        return None;
    };
    let remedy = match why {
        CertificateError::UnknownIssuer => {
            return Some(
                "no known certificate authority signed its certificate: name one with ?ca=/path/to/ca.pem"
                    .to_owned(),
            );
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "connect to a name in the certificate"
        }
        _ => "check the certificate, ?ca= and the clock of this machine",
    };
    Some(format!("its certificate is not valid ({why}): {remedy}"))
}

/// Encrypts a connection. The handshake starts with the first bytes.
pub fn encrypt(
    address: &str,
    client: &Arc<ClientConfig>,
    host: &str,
    socket: TcpStream,
) -> Result<Encrypted> {
    let wrong =
        |reason: String| Error::configuration(format!("{address} cannot be encrypted: {reason}"));
    let name = ServerName::try_from(host.to_owned()).map_err(|error| wrong(error.to_string()))?;
    let connection = ClientConnection::new(Arc::clone(client), name)
        .map_err(|error| wrong(error.to_string()))?;
    Ok(Box::new(StreamOwned::new(connection, socket)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_certificate_is_explained_with_a_remedy() {
        for (why, remedy) in [
            (CertificateError::UnknownIssuer, "?ca="),
            (
                CertificateError::NotValidForName,
                "a name in the certificate",
            ),
            (CertificateError::Expired, "the clock"),
        ] {
            let broken = io::Error::other(rustls::Error::InvalidCertificate(why));
            assert!(untrusted_reason(&broken).unwrap().contains(remedy));
        }
        assert_eq!(untrusted_reason(&io::Error::other("broken")), None);
        assert_eq!(untrusted_reason(&io::ErrorKind::BrokenPipe.into()), None);
    }
}
