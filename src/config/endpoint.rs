//! Where MQS listens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a Unix socket, in bytes: `sun_path` of unix(7), without its closing NUL.
pub const SOCKET_PATH_MAX: usize = 107;

/// Where MQS listens: `unix:/path` or `ip:port`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Endpoint {
    /// A Unix stream socket.
    Unix(PathBuf),
    /// An address and port. Port 0 lets the system choose one.
    Tcp(SocketAddr),
}

impl Endpoint {
    /// Whether only programs of this host reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp(addr) => addr.ip().to_canonical().is_loopback(),
        }
    }

    /// Whether listening on both fails: the same path, or the same port and one address covers the other.
    pub fn overlaps(&self, other: &Endpoint) -> bool {
        match (self, other) {
            (Endpoint::Unix(a), Endpoint::Unix(b)) => a == b,
            (Endpoint::Tcp(a), Endpoint::Tcp(b)) => {
                let (x, y) = (a.ip().to_canonical(), b.ip().to_canonical());
                a.port() == b.port() && a.port() != 0 && (x == y || covers(x, y) || covers(y, x))
            }
            (Endpoint::Unix(_), Endpoint::Tcp(_)) | (Endpoint::Tcp(_), Endpoint::Unix(_)) => false,
        }
    }
}

/// `[::]` takes IPv4 too, unless the host is set otherwise (ipv6(7), `IPV6_V6ONLY`).
fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4())
}

impl FromStr for Endpoint {
    type Err = EndpointError;
    fn from_str(s: &str) -> Result<Self, EndpointError> {
        let Some(path) = s.strip_prefix("unix:") else {
            return s.parse().map(Endpoint::Tcp).map_err(|_| EndpointError::Form);
        };
        if !path.starts_with('/') || path.ends_with('/') || path.contains('\0') {
            return Err(EndpointError::Path);
        }
        if path.len() > SOCKET_PATH_MAX {
            return Err(EndpointError::TooLong(path.len()));
        }
        Ok(Endpoint::Unix(PathBuf::from(path)))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Tcp(addr) => addr.fmt(f),
        }
    }
}

/// Why a text is not an [`Endpoint`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Neither form.
    #[error(
        "write unix:/path or ip:port, such as 127.0.0.1:8088 or [::1]:8088; host names are not looked up"
    )]
    Form,
    /// Not a path that a socket can have.
    #[error("the path of a Unix socket begins with '/' and names a file")]
    Path,
    /// Longer than [`SOCKET_PATH_MAX`].
    #[error("the path has {0} bytes; a Unix socket's has at most {SOCKET_PATH_MAX}")]
    TooLong(usize),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_and_print_alike() {
        for text in ["unix:/run/mqs/mqs.sock", "127.0.0.1:8088", "[::1]:8088", "[2001:db8::1]:1"] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
        for bad in ["", "8088", ":8088", "localhost:8088", "127.0.0.1", "127.0.0.1:99999", "tcp:127.0.0.1:1"]
        {
            assert_eq!(bad.parse::<Endpoint>(), Err(EndpointError::Form), "{bad:?}");
        }
        for bad in ["unix:", "unix:run/x", "unix:/", "unix:/run/", "unix:/a\0b"] {
            assert_eq!(bad.parse::<Endpoint>(), Err(EndpointError::Path), "{bad:?}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert_eq!(long.parse::<Endpoint>(), Err(EndpointError::TooLong(108)));
    }

    #[test]
    fn what_cannot_be_bound_together_overlaps() {
        let overlaps = |a: &str, b: &str| a.parse::<Endpoint>().unwrap().overlaps(&b.parse().unwrap());
        for (a, b) in [
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("127.0.0.1:80", "[::]:80"),
            ("[::ffff:1.2.3.4]:80", "1.2.3.4:80"),
        ] {
            assert!(overlaps(a, b) && overlaps(b, a), "{a} {b}");
        }
        for (a, b) in
            [("127.0.0.1:80", "127.0.0.2:80"), ("127.0.0.1:0", "127.0.0.1:0"), ("0.0.0.0:80", "[::1]:80")]
        {
            assert!(!overlaps(a, b) && !overlaps(b, a), "{a} {b}");
        }
    }

    #[test]
    fn loopback_is_local_in_every_spelling() {
        for (text, local) in [
            ("127.9.9.9:1", true),
            ("[::ffff:127.0.0.1]:1", true),
            ("0.0.0.0:1", false),
            ("10.0.0.1:1", false),
            ("unix:/a", true),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().is_local(), local, "{text}");
        }
    }
}
