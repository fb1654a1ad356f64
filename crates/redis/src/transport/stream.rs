//! A stream to a server: plain, encrypted, or a Unix domain socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mintkey_runtime::{Encrypted, is_quiet};
use rustix::event::PollFlags;
use rustls::ClientConnection;

/// A stream to a server. Its socket does not block.
pub enum Stream {
    Tcp(TcpStream),
    /// TCP with TLS.
    Encrypted(Box<Encrypted<TcpStream>>),
    /// A Unix domain socket.
    Unix(UnixStream),
}

/// What to wait for before the next step.
pub enum Wait<'a> {
    /// An event of a socket.
    Socket(BorrowedFd<'a>, PollFlags),
    Time(Duration),
}

impl Stream {
    /// A stream that encrypts. The handshake starts with the first bytes.
    pub fn encrypted(tls: ClientConnection, socket: TcpStream) -> Self {
        Self::Encrypted(Box::new(Encrypted::new(tls, socket)))
    }

    /// Whether it has buffered bytes that must be sent.
    pub fn has_buffered_writes(&self) -> bool {
        matches!(self, Self::Encrypted(stream) if stream.has_unsent_bytes())
    }

    /// Whether it is open, and nothing that the server sent waits in a buffer: of the kernel, or of TLS.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => is_quiet(stream),
            Self::Encrypted(stream) => stream.is_quiet(),
            Self::Unix(stream) => is_quiet(stream),
        }
    }

    /// Writes as many bytes as possible without blocking, from the position `written` on, which moves on.
    pub fn send(&mut self, bytes: &[u8], written: &mut usize) -> io::Result<()> {
        while *written < bytes.len() {
            match self.write(&bytes[*written..]) {
                Ok(count) => *written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Why a write failed: what the server said before it closed the connection, if that is known.
    pub fn explain(&mut self, failed: io::Error) -> io::Error {
        match self {
            Self::Encrypted(stream) => stream.explain(failed),
            _ => failed,
        }
    }

    /// Whether the TLS handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Self::Encrypted(stream) if stream.is_handshaking())
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Encrypted(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Encrypted(stream) => stream.write(bytes),
            Self::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Encrypted(stream) => stream.flush(),
            _ => Ok(()),
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Encrypted(stream) => stream.socket().as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}
