//! A stream to a server: plain, encrypted, or a Unix domain socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use mintkey_runtime::{Encrypted, POLL, is_quiet};
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::ClientConnection;

use crate::transport::adaptive_spin::AdaptiveSpin;

/// A stream to a server.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TCP with TLS.
    Encrypted(Box<Encrypted<TcpStream>>),
    /// A Unix domain socket.
    Unix(UnixStream),
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

    /// Makes reads and writes return when they would block.
    pub fn set_nonblocking(&self) -> io::Result<()> {
        match self.tcp() {
            Ok(stream) => stream.set_nonblocking(true),
            Err(stream) => stream.set_nonblocking(true),
        }
    }

    /// Makes reads and writes block until the next check of the deadline.
    pub fn set_blocking(&self) -> io::Result<()> {
        match self.tcp() {
            Ok(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(POLL))?;
                stream.set_write_timeout(Some(POLL))
            }
            Err(stream) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(POLL))?;
                stream.set_write_timeout(Some(POLL))
            }
        }
    }

    /// The socket: of TCP, or of a Unix domain socket.
    const fn tcp(&self) -> std::result::Result<&TcpStream, &UnixStream> {
        match self {
            Self::Tcp(stream) => Ok(stream),
            Self::Encrypted(stream) => Ok(stream.socket()),
            Self::Unix(stream) => Err(stream),
        }
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

/// Spins briefly before a read blocks.
pub struct SpinningRead<'a>(pub &'a mut Stream, pub &'a mut AdaptiveSpin);

impl Read for SpinningRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Self(stream, spin) = self;
        if let Stream::Encrypted(stream) = stream {
            // A readable socket does not mean that a reply can be decrypted.
            return stream.read(buffer);
        }
        let received = spin.spin_until(|| {
            match rustix::net::recv(stream.as_fd(), &mut *buffer, RecvFlags::DONTWAIT) {
                Err(Errno::AGAIN | Errno::INTR) => None,
                result => Some(result),
            }
        });
        match received {
            Some(result) => Ok(result?.1),
            None => stream.read(buffer),
        }
    }
}
