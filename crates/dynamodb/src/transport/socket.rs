//! A non-blocking socket, plain or with TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use mintkey_runtime::{Encrypted, is_quiet};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{RecvFlags, SendFlags, getpeername, recv, send};
use rustls::ClientConnection;

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);

/// A socket. Reading and writing fail with `WouldBlock` when it is not ready.
pub enum Socket<T: AsFd> {
    Plain(Tcp<T>),
    Encrypted(Box<Encrypted<Tcp<T>>>),
}

/// A TCP connection.
pub struct Tcp<T>(T);

impl<T: AsFd> Read for Tcp<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(recv(&self.0, &mut *buffer, RecvFlags::DONTWAIT)?.1)
    }
}

impl<T: AsFd> Write for Tcp<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(&self.0, bytes, SEND_FLAGS)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<T: AsFd> AsFd for Tcp<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Begins to connect.
pub fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => {
            return Err(error);
        }
        _ => {}
    }
    Ok(socket.into())
}

impl<T: AsFd> Socket<T> {
    /// A socket without TLS, which may not have connected yet.
    pub const fn new(tcp: T) -> Self {
        Self::Plain(Tcp(tcp))
    }

    /// The TCP connection.
    pub fn tcp(&self) -> &T {
        match self {
            Self::Plain(tcp) => &tcp.0,
            Self::Encrypted(tls) => &tls.socket().0,
        }
    }

    pub fn is_connected(&self) -> io::Result<bool> {
        socket_error(self.tcp())??;
        match getpeername(self.tcp()) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The same socket, which encrypts.
    pub fn encrypted(self, connection: ClientConnection) -> Self {
        match self {
            Self::Plain(tcp) => Self::Encrypted(Box::new(Encrypted::new(connection, tcp))),
            encrypted @ Self::Encrypted(_) => encrypted,
        }
    }

    pub const fn is_encrypted(&self) -> bool {
        matches!(self, Self::Encrypted(_))
    }

    /// Goes on with the handshake of TLS, to its end.
    pub fn complete_handshake(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Encrypted(tls) => tls.complete_handshake(),
        }
    }

    /// Whether TLS has bytes that are not sent yet.
    pub fn has_unsent_bytes(&self) -> bool {
        matches!(self, Self::Encrypted(tls) if tls.has_unsent_bytes())
    }

    /// Whether the server has neither closed it nor sent anything since the last response: nothing waits in the buffers of
    /// the system and of TLS.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(tcp) => is_quiet(tcp),
            Self::Encrypted(tls) => tls.is_quiet(),
        }
    }

    /// Why a write failed: what the server said before it closed the connection, if that is known.
    pub fn explain(&mut self, failed: io::Error) -> io::Error {
        match self {
            Self::Plain(_) => failed,
            Self::Encrypted(tls) => tls.explain(failed),
        }
    }
}

impl<T: AsFd> Read for Socket<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Encrypted(tls) => tls.read(buffer),
        }
    }
}

impl<T: AsFd> Write for Socket<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Encrypted(tls) => tls.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(tcp) => tcp.flush(),
            Self::Encrypted(tls) => tls.flush(),
        }
    }
}
