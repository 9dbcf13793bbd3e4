//! A relay between two parts that delays, swallows and cuts, since the kernel of the lab has no `netem`.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::net::now;

const POLL: Duration = Duration::from_millis(20);

/// What the relay does to traffic from now on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// Added to what goes to the server.
    pub requests_delay: Duration,
    /// Added to what comes back.
    pub answers_delay: Duration,
    /// Read and thrown away.
    pub swallow_requests: bool,
    pub swallow_answers: bool,
    /// Every n-th datagram (UDP) is lost, in each direction; 0 loses none.
    pub lose_every: u64,
}

pub struct Relay {
    shared: Arc<Shared>,
    acceptor: Option<thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    faults: Mutex<Faults>,
    /// New connections are closed at once.
    refuse: AtomicBool,
    ended: AtomicBool,
    connections: AtomicU64,
    open: Mutex<Vec<Box<dyn Stream>>>,
}

impl Relay {
    /// From a Unix socket to another one.
    pub fn unix(listen: &Path, to: &Path) -> Result<Relay> {
        let listener =
            UnixListener::bind(listen).with_context(|| format!("listening on {}", listen.display()))?;
        listener.set_nonblocking(true)?;
        let to: PathBuf = to.to_owned();
        Ok(Relay::streams(
            move || listener.accept().map(|(stream, _)| stream),
            move || UnixStream::connect(&to),
        ))
    }

    pub fn tcp(listen: SocketAddr, to: SocketAddr) -> Result<Relay> {
        let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
        listener.set_nonblocking(true)?;
        Ok(Relay::streams(
            move || listener.accept().map(|(stream, _)| stream),
            move || TcpStream::connect_timeout(&to, Duration::from_secs(1)),
        ))
    }

    /// To each of these servers in turn, whoever of them answers: what an address in front of them does, or a name with several addresses.
    pub fn tcp_in_turn(listen: SocketAddr, to: Vec<SocketAddr>) -> Result<Relay> {
        let listener = TcpListener::bind(listen).with_context(|| format!("listening on {listen}"))?;
        listener.set_nonblocking(true)?;
        let next = AtomicU64::new(0);
        Ok(Relay::streams(
            move || listener.accept().map(|(stream, _)| stream),
            move || {
                let turn = next.fetch_add(1, Ordering::SeqCst) as usize;
                TcpStream::connect_timeout(&to[turn % to.len()], Duration::from_secs(1))
            },
        ))
    }

    /// Datagrams: one socket towards the server for every sender. Answers must come back to that socket, so a SIP
    /// sender has to ask for it (RFC 3581, `rport`).
    pub fn udp(listen: SocketAddrV4, to: SocketAddrV4) -> Result<Relay> {
        let socket = UdpSocket::bind(listen).with_context(|| format!("listening on {listen}"))?;
        socket.set_read_timeout(Some(POLL))?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let acceptor = thread::spawn(move || relay_datagrams(&socket, *listen.ip(), to, &theirs));
        Ok(Relay { shared, acceptor: Some(acceptor) })
    }

    pub fn set(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Closes all connections, and every new one at once, until `restore`.
    pub fn cut(&self) {
        self.shared.refuse.store(true, Ordering::SeqCst);
        self.reset();
    }

    /// Closes all connections; new ones are welcome.
    pub fn reset(&self) {
        for stream in self.shared.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            stream.shut();
        }
    }

    /// No faults any more.
    pub fn restore(&self) {
        self.set(Faults::default());
        self.shared.refuse.store(false, Ordering::SeqCst);
    }

    /// Connections that were ever accepted (UDP: senders).
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::SeqCst)
    }

    fn streams<S: Stream + 'static>(
        accept: impl Fn() -> io::Result<S> + Send + 'static,
        connect: impl Fn() -> io::Result<S> + Send + 'static,
    ) -> Relay {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let acceptor = thread::spawn(move || {
            while !theirs.ended.load(Ordering::SeqCst) {
                match accept() {
                    Ok(stream) => {
                        theirs.connections.fetch_add(1, Ordering::SeqCst);
                        if theirs.refuse.load(Ordering::SeqCst) {
                            stream.shut();
                        } else if let Err(error) = join_streams(Box::new(stream), &connect, &theirs) {
                            eprintln!("relay: {error}");
                        }
                    }
                    Err(_) => thread::sleep(Duration::from_millis(1)),
                }
            }
        });
        Relay { shared, acceptor: Some(acceptor) }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.cut();
        if let Some(acceptor) = self.acceptor.take() {
            drop(acceptor.join());
        }
    }
}

impl Shared {
    fn faults(&self) -> Faults {
        *self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy)]
enum Direction {
    Request,
    Answer,
}

impl Direction {
    fn of(self, faults: &Faults) -> (Duration, bool) {
        match self {
            Direction::Request => (faults.requests_delay, faults.swallow_requests),
            Direction::Answer => (faults.answers_delay, faults.swallow_answers),
        }
    }
}

// ---------------------------------------------------------------- streams

/// What TCP and Unix sockets have in common.
trait Stream: Send {
    fn another(&self) -> io::Result<Box<dyn Stream>>;
    fn shut(&self);
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn write_whole(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn block(&self) -> io::Result<()>;
}

macro_rules! stream {
    ($kind:ty, $prepare:expr) => {
        impl Stream for $kind {
            fn another(&self) -> io::Result<Box<dyn Stream>> {
                Ok(Box::new(self.try_clone()?))
            }
            fn shut(&self) {
                drop(self.shutdown(std::net::Shutdown::Both));
            }
            fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                self.read(buffer)
            }
            fn write_whole(&mut self, bytes: &[u8]) -> io::Result<()> {
                self.write_all(bytes)
            }
            fn block(&self) -> io::Result<()> {
                self.set_nonblocking(false)?;
                let prepare: fn(&$kind) -> io::Result<()> = $prepare;
                prepare(self)
            }
        }
    };
}
stream!(TcpStream, |stream| stream.set_nodelay(true));
stream!(UnixStream, |_| Ok(()));

fn join_streams<S: Stream + 'static>(
    client: Box<dyn Stream>,
    connect: &impl Fn() -> io::Result<S>,
    shared: &Arc<Shared>,
) -> io::Result<()> {
    client.block()?;
    let server: Box<dyn Stream> = match connect() {
        Ok(server) => Box::new(server),
        Err(error) => {
            client.shut();
            return Err(error);
        }
    };
    server.block()?;
    let (client_too, server_too) = (client.another()?, server.another()?);
    let mut open = shared.open.lock().unwrap_or_else(PoisonError::into_inner);
    open.extend([client.another()?, server.another()?]);
    drop(open);
    pump(client, server_too, Direction::Request, shared);
    pump(server, client_too, Direction::Answer, shared);
    Ok(())
}

/// Two threads for one direction: the first notes when bytes came, the second writes them when they are due.
fn pump(mut from: Box<dyn Stream>, mut to: Box<dyn Stream>, direction: Direction, shared: &Arc<Shared>) {
    let (sender, receiver): (Sender<(Instant, Vec<u8>)>, Receiver<_>) = channel();
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok(length @ 1..) = from.read_some(&mut buffer) {
            let (delay, swallow) = direction.of(&shared.faults());
            if !swallow && sender.send((now() + delay, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in receiver {
            thread::sleep(due.saturating_duration_since(now()));
            if to.write_whole(&bytes).is_err() {
                break;
            }
        }
        to.shut();
    });
}

// ---------------------------------------------------------------- datagrams

/// Requests: the loop of the relay.
fn relay_datagrams(socket: &UdpSocket, local: Ipv4Addr, to: SocketAddrV4, shared: &Arc<Shared>) {
    let mut senders: Vec<(SocketAddr, Arc<UdpSocket>)> = Vec::new();
    let (mut buffer, mut count) = (vec![0; 65_536], 0u64);
    while !shared.ended.load(Ordering::SeqCst) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let known = senders.iter().find(|(sender, _)| *sender == from).map(|(_, own)| Arc::clone(own));
        let own = match known {
            Some(own) => own,
            None => {
                let Ok(own) = UdpSocket::bind((local, 0)) else { continue };
                let own = Arc::new(own);
                senders.push((from, Arc::clone(&own)));
                shared.connections.fetch_add(1, Ordering::SeqCst);
                if let Ok(back) = socket.try_clone() {
                    answers(Arc::clone(&own), back, from, Arc::clone(shared));
                }
                own
            }
        };
        count += 1;
        let bytes = buffer[..length].to_vec();
        pass(bytes, count, Direction::Request, shared, move |bytes| drop(own.send_to(bytes, to)));
    }
}

fn answers(own: Arc<UdpSocket>, back: UdpSocket, to: SocketAddr, shared: Arc<Shared>) {
    thread::spawn(move || {
        let (mut buffer, mut count) = (vec![0; 65_536], 0u64);
        let back = Arc::new(back);
        drop(own.set_read_timeout(Some(POLL)));
        while !shared.ended.load(Ordering::SeqCst) {
            let Ok((length, _)) = own.recv_from(&mut buffer) else { continue };
            count += 1;
            let (bytes, back) = (buffer[..length].to_vec(), Arc::clone(&back));
            pass(bytes, count, Direction::Answer, &shared, move |bytes| drop(back.send_to(bytes, to)));
        }
    });
}

/// Sends a datagram now, later, or never.
fn pass(
    bytes: Vec<u8>,
    count: u64,
    direction: Direction,
    shared: &Shared,
    send: impl FnOnce(&[u8]) + Send + 'static,
) {
    let faults = shared.faults();
    let (delay, swallow) = direction.of(&faults);
    let lost = faults.lose_every > 0 && count.is_multiple_of(faults.lose_every);
    if swallow || lost || shared.refuse.load(Ordering::SeqCst) {
        return;
    }
    if delay.is_zero() {
        send(&bytes);
    } else {
        thread::spawn(move || {
            thread::sleep(delay);
            send(&bytes);
        });
    }
}
