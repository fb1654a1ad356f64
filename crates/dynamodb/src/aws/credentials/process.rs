//! Credentials from the program that a profile names (`credential_process`).

use std::fmt;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::{self, ProvideCredentials, error::CredentialsError, future};
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::sleep;

/// The longest output, in bytes.
const MAX_OUTPUT: u64 = 64 * 1024;
/// How often to look whether a program that has closed its output has ended.
const CHECK_INTERVAL: Duration = Duration::from_millis(1);

/// A program and the profile that names it.
pub struct Process {
    command: String,
    profile: String,
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The command may contain a secret.
        f.debug_struct("Process")
            .field("profile", &self.profile)
            .finish_non_exhaustive()
    }
}

/// A shell with a running program. Dropping it ends both.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // They have ended already, or end now. Without `wait` the shell would stay in the system's table of processes.
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        if let (Ok(None), Some(group)) = (self.0.try_wait(), group) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.0.wait();
    }
}

impl Running {
    /// The exit status; `None` if the host program ignores the ends of its children.
    async fn status(&mut self) -> Option<ExitStatus> {
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) => sleep(CHECK_INTERVAL).await,
                Err(_) => return None,
            }
        }
    }
}

impl Process {
    /// The program of a profile.
    pub fn new(command: &str, profile: &str) -> Self {
        Self {
            command: command.to_owned(),
            profile: profile.to_owned(),
        }
    }

    fn failed(&self, why: &str) -> CredentialsError {
        CredentialsError::provider_error(format!(
            "the credential_process of profile {:?} {why}",
            self.profile
        ))
    }

    async fn run(&self) -> provider::Result {
        let not_started = |error| self.failed(&format!("did not start ({error})"));
        let mut child = Command::new("/bin/sh")
            .args(["-c", &self.command])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // What the shell starts ends with it.
            .process_group(0)
            .spawn()
            .map_err(not_started)?;
        let stdout = child.stdout.take();
        let mut running = Running(child);
        let mut output = Vec::new();
        if let Some(stdout) = stdout {
            let pipe = Receiver::from_owned_fd(stdout.into()).map_err(not_started)?;
            let read = pipe.take(MAX_OUTPUT + 1).read_to_end(&mut output).await;
            read.map_err(|error| self.failed(&format!("cannot be read ({error})")))?;
        }
        if output.len() as u64 > MAX_OUTPUT {
            return Err(self.failed(&format!("wrote more than {MAX_OUTPUT} bytes")));
        }
        match running.status().await {
            Some(status) if !status.success() => Err(self.failed(&format!("failed ({status})"))),
            _ => parse(&output).ok_or_else(|| self.failed("wrote no valid credentials")),
        }
    }
}

impl ProvideCredentials for Process {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.run())
    }
}

/// What the program writes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Output {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    session_token: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
}

/// The credentials in the output.
///
/// Source: "Process credential provider", AWS SDKs and tools reference guide.
fn parse(output: &[u8]) -> Option<Credentials> {
    let output: Output = serde_json::from_slice(output).ok()?;
    let expires = match output.expiration {
        Some(text) => {
            let time = DateTime::from_str(&text, Format::DateTimeWithOffset).ok()?;
            Some(SystemTime::try_from(time).ok()?)
        }
        None => None,
    };
    Some(Credentials::new(
        output.access_key_id?,
        output.secret_access_key?,
        output.session_token.or(output.token),
        expires,
        "credential_process",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_is_parsed() {
        let keys = r#""Version":1,"AccessKeyId":"A","SecretAccessKey":"hush""#;
        let found = parse(format!("{{{keys}}}\n").as_bytes()).unwrap();
        assert_eq!(
            (found.access_key_id(), found.session_token(), found.expiry()),
            ("A", None, None)
        );
        let rest = r#","SessionToken":"t","Expiration":"2015-08-30T14:36:00+02:00""#;
        let found = parse(format!("{{{keys}{rest}}}").as_bytes()).unwrap();
        let expires = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        assert_eq!(
            (found.session_token(), found.expiry()),
            (Some("t"), Some(expires))
        );
        for wrong in [
            "",
            "{}",
            "no",
            r#"{"AccessKeyId":"A"}"#,
            &format!(r#"{{{keys},"Expiration":"soon"}}"#),
        ] {
            assert!(parse(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }
}
