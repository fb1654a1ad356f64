//! A non-blocking socket, plain or with TLS.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;

use mintkey_runtime::TlsRecords;
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{RecvFlags, SendFlags, getpeername, recv, send};
use rustls::{ClientConnection, Stream};

const SEND_FLAGS: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
/// The most reads of messages that TLS sends between responses.
const MOST_READS: usize = 8;

/// A socket. Reading and writing fail with `WouldBlock` when it is not ready.
pub struct Socket<T> {
    tcp: T,
    tls: Option<Box<Encrypted>>,
}

struct Encrypted {
    connection: ClientConnection,
    records: TlsRecords,
}

/// The TCP connection below TLS.
struct Below<'a, T> {
    tcp: &'a T,
    records: &'a mut TlsRecords,
}

impl<T: AsFd> Read for Below<'_, T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, count) = recv(self.tcp, &mut *buffer, RecvFlags::DONTWAIT)?;
        self.records.pass(&buffer[..count]);
        Ok(count)
    }
}

impl<T: AsFd> Write for Below<'_, T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.tcp, bytes, SEND_FLAGS)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Encrypted {
    /// The connection, and what is below it.
    fn parts<'a, T>(&'a mut self, tcp: &'a T) -> (&'a mut ClientConnection, Below<'a, T>) {
        let records = &mut self.records;
        (&mut self.connection, Below { tcp, records })
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
        Self { tcp, tls: None }
    }

    /// The TCP connection.
    pub const fn tcp(&self) -> &T {
        &self.tcp
    }

    /// Whether it has connected.
    pub fn is_connected(&self) -> io::Result<bool> {
        socket_error(&self.tcp)??;
        match getpeername(&self.tcp) {
            Ok(_) => Ok(true),
            Err(Errno::NOTCONN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Encrypts from now on.
    pub fn encrypt(&mut self, connection: ClientConnection) {
        self.tls = Some(Box::new(Encrypted {
            connection,
            records: TlsRecords::default(),
        }));
    }

    pub const fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Goes on with the handshake of TLS, to its end.
    pub fn shake_hands(&mut self) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            let (connection, mut below) = tls.parts(&self.tcp);
            while connection.is_handshaking() {
                connection.complete_io(&mut below)?;
            }
        }
        Ok(())
    }

    /// Whether TLS has bytes that are not sent yet.
    pub fn has_unsent_bytes(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.connection.wants_write())
    }

    /// Whether the server has neither closed it nor sent anything since the last response: nothing waits in the buffers of
    /// the system and of TLS.
    pub fn is_quiet(&mut self) -> bool {
        let Some(tls) = &mut self.tls else {
            // The system is asked: what a runtime knows about a socket may be out of date.
            let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
            return recv(&self.tcp, &mut [0_u8; 1], flags) == Err(Errno::AGAIN);
        };
        // Messages of TLS itself, as the tickets for later sessions, may come at any time.
        for _ in 0..MOST_READS {
            match tls.connection.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                _ => return false,
            }
            let (connection, mut below) = tls.parts(&self.tcp);
            match connection.read_tls(&mut below) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return tls.records.are_complete();
                }
                _ => return false,
            }
        }
        false
    }
}

impl<T: AsFd> Read for Socket<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => Ok(recv(&self.tcp, &mut *buffer, RecvFlags::DONTWAIT)?.1),
            Some(tls) => {
                let (connection, mut below) = tls.parts(&self.tcp);
                Stream::new(connection, &mut below).read(buffer)
            }
        }
    }
}

impl<T: AsFd> Write for Socket<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => Ok(send(&self.tcp, bytes, SEND_FLAGS)?),
            Some(tls) => {
                let (connection, mut below) = tls.parts(&self.tcp);
                Stream::new(connection, &mut below).write(bytes)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            None => Ok(()),
            Some(tls) => {
                let (connection, mut below) = tls.parts(&self.tcp);
                Stream::new(connection, &mut below).flush()
            }
        }
    }
}
