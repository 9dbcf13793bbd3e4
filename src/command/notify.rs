//! Tells systemd how far the service is: sd_notify(3), one datagram a message.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `state`, such as `READY=1`, to the socket that `NOTIFY_SOCKET` names. Nothing happens where there is none.
pub fn say(state: &str) {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(error) = send(socket.as_bytes(), state) {
        tracing::warn!(socket = %socket.display(), %error, "systemd was not told {state}");
    }
}

fn send(socket: &[u8], state: &str) -> io::Result<()> {
    let address = match socket.split_first() {
        // A leading '@' stands for the NUL of an abstract address: unix(7).
        Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
        Some(_) | None => {
            SocketAddr::from_pathname(std::path::Path::new(std::ffi::OsStr::from_bytes(socket)))?
        }
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(|_| ())
}
