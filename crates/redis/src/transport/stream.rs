//! A stream to a server: plain, encrypted, or a Unix domain socket.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use mintkey_runtime::POLL;
use mintkey_runtime::TlsRecords;
use rustix::io::Errno;
use rustix::net::RecvFlags;
use rustls::{ClientConnection, StreamOwned};

use crate::transport::adaptive_spin::AdaptiveSpin;

/// A stream to a server.
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// TCP with TLS.
    Encrypted(Box<StreamOwned<ClientConnection, RecordSocket>>),
    /// A Unix domain socket.
    Unix(UnixStream),
}

impl Stream {
    /// A stream that encrypts. The handshake starts with the first bytes.
    pub fn encrypted(tls: ClientConnection, socket: TcpStream) -> Self {
        let socket = RecordSocket {
            socket,
            records: TlsRecords::default(),
        };
        Self::Encrypted(Box::new(StreamOwned::new(tls, socket)))
    }

    /// Whether it has buffered bytes that must be sent.
    pub fn has_buffered_writes(&self) -> bool {
        matches!(self, Self::Encrypted(stream) if stream.conn.wants_write())
    }

    /// Whether it is open, and nothing that the server sent waits in a buffer: of the kernel, or of TLS.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => is_quiet(stream.as_fd()),
            Self::Encrypted(stream) => read_tls_messages(stream),
            Self::Unix(stream) => is_quiet(stream.as_fd()),
        }
    }

    /// Whether the TLS handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        matches!(self, Self::Encrypted(stream) if stream.conn.is_handshaking())
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
            Self::Encrypted(stream) => Ok(&stream.sock.socket),
            Self::Unix(stream) => Err(stream),
        }
    }
}

/// Whether a socket is open, and has received nothing.
fn is_quiet(socket: BorrowedFd<'_>) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    rustix::net::recv(socket, &mut [0_u8; 1], flags) == Err(Errno::AGAIN)
}

/// Processes the messages of TLS itself that a server may send at any time. Returns whether nothing else has come, and the
/// stream is open.
fn read_tls_messages(stream: &mut StreamOwned<ClientConnection, RecordSocket>) -> bool {
    let mut buffer = [0_u8; 4096];
    loop {
        let Ok(state) = stream.conn.process_new_packets() else {
            return false;
        };
        if state.plaintext_bytes_to_read() > 0 || state.peer_has_closed() {
            return false;
        }
        match rustix::net::recv(stream.sock.socket.as_fd(), &mut buffer, RecvFlags::DONTWAIT) {
            Err(Errno::AGAIN) => return stream.sock.records.are_complete(),
            Ok((_, count)) if count > 0 => {
                let mut bytes = &buffer[..count];
                stream.sock.records.pass(bytes);
                while !bytes.is_empty() {
                    if stream.conn.read_tls(&mut bytes).is_err()
                        || stream.conn.process_new_packets().is_err()
                    {
                        return false;
                    }
                }
            }
            _ => return false,
        }
    }
}

/// A socket of a TLS connection, and the records that were read from it.
pub struct RecordSocket {
    socket: TcpStream,
    records: TlsRecords,
}

impl Read for RecordSocket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer)?;
        self.records.pass(&buffer[..count]);
        Ok(count)
    }
}

impl Write for RecordSocket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
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
            Self::Encrypted(stream) => stream.sock.socket.as_fd(),
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
