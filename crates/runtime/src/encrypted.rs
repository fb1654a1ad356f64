//! TLS over a socket.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::{ClientConnection, StreamOwned};

use crate::tls_records::TlsRecords;

/// The most reads of messages that TLS sends between replies.
const MOST_READS: usize = 8;

/// Whether a socket is open, and nothing that the server sent waits in the buffer of the system. The system is asked: what
/// a runtime knows about a socket may be out of date.
#[must_use]
pub fn is_quiet(socket: impl AsFd) -> bool {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    recv(socket, &mut [0_u8; 1], flags) == Err(Errno::AGAIN)
}

/// A TLS connection over a socket. The handshake starts with the first bytes.
pub struct Encrypted<S: Read + Write>(StreamOwned<ClientConnection, RecordSocket<S>>);

/// A socket, and the records of TLS that were read from it.
struct RecordSocket<S> {
    socket: S,
    records: TlsRecords,
}

impl<S: Read> Read for RecordSocket<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.socket.read(buffer)?;
        self.records.pass(&buffer[..count]);
        Ok(count)
    }
}

impl<S: Write> Write for RecordSocket<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Reads what has come, also from a socket that blocks.
struct Received<'a, S>(&'a mut RecordSocket<S>);

impl<S: AsFd> Read for Received<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(&self.0.socket, &mut *buffer, RecvFlags::DONTWAIT)?;
        self.0.records.pass(&buffer[..count]);
        Ok(count)
    }
}

impl<S: Read + Write> Encrypted<S> {
    /// Encrypts what a socket carries from now on.
    pub fn new(connection: ClientConnection, socket: S) -> Self {
        let records = TlsRecords::default();
        Self(StreamOwned::new(
            connection,
            RecordSocket { socket, records },
        ))
    }

    /// The socket.
    pub const fn socket(&self) -> &S {
        &self.0.sock.socket
    }

    /// Whether the handshake is not complete.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.0.conn.is_handshaking()
    }

    /// Whether there are bytes that are not sent yet.
    #[must_use]
    pub fn has_unsent_bytes(&self) -> bool {
        self.0.conn.wants_write()
    }

    /// Goes on with the handshake, to its end.
    ///
    /// # Errors
    ///
    /// Those of the socket, and of TLS.
    pub fn complete_handshake(&mut self) -> io::Result<()> {
        while self.is_handshaking() {
            self.0.conn.complete_io(&mut self.0.sock)?;
        }
        Ok(())
    }
}

impl<S: Read + Write + AsFd> Encrypted<S> {
    /// Whether it is open, and nothing that the server sent waits in a buffer: of the system, or of TLS. Messages of TLS
    /// itself, as the tickets for later sessions, may come at any time: they are processed.
    pub fn is_quiet(&mut self) -> bool {
        let StreamOwned { conn, sock } = &mut self.0;
        for _ in 0..MOST_READS {
            match conn.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return false,
            }
            match conn.read_tls(&mut Received(sock)) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return sock.records.are_complete();
                }
                _ => return false,
            }
        }
        false
    }

    /// Why a write failed: the alert that the server sent before it closed the connection, if there is one.
    pub fn explain(&mut self, failed: io::Error) -> io::Error {
        let StreamOwned { conn, sock } = &mut self.0;
        while matches!(conn.read_tls(&mut Received(sock)), Ok(count) if count > 0) {
            if let Err(alert) = conn.process_new_packets() {
                return io::Error::new(io::ErrorKind::InvalidData, alert);
            }
        }
        failed
    }
}

impl<S: Read + Write> Read for Encrypted<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<S: Read + Write> Write for Encrypted<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}
