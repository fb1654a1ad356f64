//! What the servers of the tests need: ports, certificates.

use std::hash::{BuildHasher as _, Hasher as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};

/// A free port. The port 10,000 above, which the servers of a Redis Cluster use among themselves, is free too.
///
/// Both are below the ports that the system gives to outgoing connections: a test that waits for its server there could
/// otherwise be connected with itself, and another program's connection could take the port before the server does.
pub fn free_port() -> u16 {
    loop {
        let random = std::hash::RandomState::new().build_hasher().finish() % 12_000;
        let port = 10_000 + u16::try_from(random).unwrap();
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free(port) && is_free(port + 10_000) {
            return port;
        }
    }
}

/// Creates a self-signed certificate for `localhost`, `NAME.pem` with its key `NAME.key`, in a folder.
pub fn create_certificate(folder: &Path, name: &str) {
    let created = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt"])
        .args(["ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext"])
        .args(["subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext"])
        .args(["basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(folder.join(format!("{name}.key")))
        .arg("-out")
        .arg(folder.join(format!("{name}.pem")))
        .stderr(Stdio::null())
        .status()
        .expect("install openssl, which creates the certificates of the tests");
    assert!(created.success());
}
