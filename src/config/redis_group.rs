//! Addresses of several servers that are one Redis: behind Sentinel, or a Redis Cluster.

use super::store_url::{STORE_DB_MAX, StoreUrlError};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::fmt;
use std::net::IpAddr;

/// Addresses in one URL; more is a slip of the pen.
pub const REDIS_SEATS_MAX: usize = 32;

/// Several servers that are one Redis.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisGroup {
    /// Whether every connection is TLS.
    pub tls: bool,
    /// Who to ask first: the Sentinels, or some nodes of the cluster. Never empty.
    pub seats: Vec<(String, u16)>,
    /// Who we are at the servers that hold the data.
    pub login: Login,
    /// What kind of group it is.
    pub kind: GroupKind,
}

/// What kind of group it is.
#[derive(Clone, PartialEq, Eq)]
pub enum GroupKind {
    /// The seats are Sentinels, which know the master.
    Sentinel {
        /// The name that the Sentinels know the master by.
        master: String,
        /// The database.
        db: u32,
        /// Who we are at the Sentinels.
        login: Login,
    },
    /// The seats are nodes of a cluster.
    Cluster {},
}

/// User and password; neither is there when the server asks for none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// The ACL user; without one it is `default`.
    pub user: Option<String>,
    /// The password.
    pub password: Option<String>,
}

impl RedisGroup {
    /// Reads an address of a group, or says that it is another kind of address (`None`).
    ///
    /// # Errors
    /// [`StoreUrlError`], when its scheme is that of a group and the rest is wrong.
    pub fn parse(url: &str) -> Result<Option<RedisGroup>, StoreUrlError> {
        let Some((scheme, rest)) = url.split_once("://") else { return Ok(None) };
        let (tls, sentinel) = match scheme {
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            "redis+cluster" => (false, false),
            "rediss+cluster" => (true, false),
            _ => return Ok(None),
        };
        if rest.contains('#') {
            return Err(StoreUrlError::Fragment);
        }
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
        let (authority, path) = rest.split_once('/').map_or((rest, ""), |(place, path)| (place, path));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (read_login(login)?, hosts),
            None => (Login::default(), authority),
        };
        let seats = read_seats(hosts, if sentinel { 26379 } else { 6379 })?;
        let kind = if sentinel {
            let (master, db) = path.split_once('/').unwrap_or((path, "0"));
            if !is_name(master) {
                return Err(StoreUrlError::MasterName);
            }
            GroupKind::Sentinel { master: master.to_owned(), db: read_db(db)?, login: read_query(query)? }
        } else if path.is_empty() && query.is_none() {
            GroupKind::Cluster {}
        } else {
            return Err(StoreUrlError::ClusterPath);
        };
        Ok(Some(RedisGroup { tls, seats, login, kind }))
    }

    /// Whether it holds a password for the servers with the data.
    pub fn has_password(&self) -> bool {
        self.login.password.is_some()
    }

    /// Whether it names another host, and no TLS.
    pub fn crosses_the_network_in_the_clear(&self) -> bool {
        let here = |host: &str| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
        };
        !self.tls && !self.seats.iter().all(|(host, _)| here(host))
    }

    /// The whole address, passwords included. Not for logs.
    pub fn secret(&self) -> String {
        self.write(|password| utf8_percent_encode(password, NON_ALPHANUMERIC).to_string())
    }

    fn write(&self, secret: impl Fn(&str) -> String) -> String {
        let plain = |text: &Option<String>| {
            text.as_deref().map(|text| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string())
        };
        let tls = if self.tls { "s" } else { "" };
        let kind = match self.kind {
            GroupKind::Sentinel { .. } => "sentinel",
            GroupKind::Cluster {} => "cluster",
        };
        let mut text = format!("redis{tls}+{kind}://{}", plain(&self.login.user).unwrap_or_default());
        if let Some(password) = &self.login.password {
            text += &format!(":{}", secret(password));
        }
        if self.login != Login::default() {
            text.push('@');
        }
        let seats = self.seats.iter().map(|(host, port)| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        });
        text += &seats.collect::<Vec<_>>().join(",");
        if let GroupKind::Sentinel { master, db, login } = &self.kind {
            text += &format!("/{master}/{db}");
            let user = plain(&login.user).map(|user| format!("sentinel_user={user}"));
            let password = login.password.as_deref().map(|p| format!("sentinel_pass={}", secret(p)));
            let query: Vec<String> = user.into_iter().chain(password).collect();
            if !query.is_empty() {
                text += &format!("?{}", query.join("&"));
            }
        }
        text
    }
}

/// The address with its passwords left out.
impl fmt::Display for RedisGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write(|_| "***".to_owned()))
    }
}

impl fmt::Debug for RedisGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn read_login(text: &str) -> Result<Login, StoreUrlError> {
    let (user, password) =
        text.split_once(':').map_or((text, None), |(user, password)| (user, Some(password)));
    let user = if user.is_empty() { None } else { Some(decoded(user)?) };
    Ok(Login { user, password: password.map(decoded).transpose()? })
}

fn decoded(text: &str) -> Result<String, StoreUrlError> {
    let text = percent_decode_str(text).decode_utf8().map_err(|_| StoreUrlError::Client)?;
    Ok(text.into_owned())
}

fn read_seats(hosts: &str, default_port: u16) -> Result<Vec<(String, u16)>, StoreUrlError> {
    let mut seats = Vec::new();
    for seat in hosts.split(',') {
        let (host, port) = match seat.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or(StoreUrlError::Host)?;
                let port = if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':').ok_or(StoreUrlError::Host)?)
                };
                host.parse::<std::net::Ipv6Addr>().map_err(|_| StoreUrlError::Host)?;
                (host, port)
            }
            None => {
                let (host, port) =
                    seat.split_once(':').map_or((seat, None), |(host, port)| (host, Some(port)));
                if !is_name(host) {
                    return Err(StoreUrlError::Host);
                }
                (host, port)
            }
        };
        if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified()) {
            return Err(StoreUrlError::Host);
        }
        let port = match port {
            None => default_port,
            Some(digits) if !digits.bytes().all(|b| b.is_ascii_digit()) => return Err(StoreUrlError::Host),
            Some(digits) => digits.parse().ok().filter(|port| *port > 0).ok_or(StoreUrlError::Host)?,
        };
        let seat = (host.to_owned(), port);
        if seats.contains(&seat) || seats.len() == REDIS_SEATS_MAX {
            return Err(StoreUrlError::Seats);
        }
        seats.push(seat);
    }
    Ok(seats)
}

/// The login at the Sentinels.
fn read_query(query: Option<&str>) -> Result<Login, StoreUrlError> {
    let mut login = Login::default();
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let (key, value) = pair.split_once('=').ok_or(StoreUrlError::SentinelQuery)?;
        let place = match key {
            "sentinel_user" => &mut login.user,
            "sentinel_pass" => &mut login.password,
            _ => return Err(StoreUrlError::SentinelQuery),
        };
        if value.is_empty() || place.replace(decoded(value)?).is_some() {
            return Err(StoreUrlError::SentinelQuery);
        }
    }
    match (&login.user, &login.password) {
        (Some(_), None) => Err(StoreUrlError::SentinelQuery),
        (Some(_) | None, Some(_)) | (None, None) => Ok(login),
    }
}

fn read_db(text: &str) -> Result<u32, StoreUrlError> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let number = text.parse().ok().filter(|n| digits && *n <= STORE_DB_MAX);
    number.ok_or(StoreUrlError::Database)
}

fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(url: &str) -> RedisGroup {
        RedisGroup::parse(url).unwrap().unwrap()
    }

    #[test]
    fn addresses_of_groups_are_read_whole() {
        let sentinel = group("rediss+sentinel://mqs:p%40w@a.example:1,[2001:db8::1],c/mymaster/3");
        let seats = [("a.example", 1), ("2001:db8::1", 26379), ("c", 26379)];
        assert_eq!(sentinel.seats, seats.map(|(host, port)| (host.to_owned(), port)));
        assert_eq!(sentinel.login.password.as_deref(), Some("p@w"));
        let kind = GroupKind::Sentinel { master: "mymaster".into(), db: 3, login: Login::default() };
        assert!(sentinel.tls && sentinel.kind == kind);
        let cluster = group("redis+cluster://10.0.0.1,10.0.0.2:7000");
        assert!(!cluster.tls && cluster.kind == GroupKind::Cluster {});
        assert_eq!(cluster.seats, [("10.0.0.1".to_owned(), 6379), ("10.0.0.2".to_owned(), 7000)]);
        for url in [
            "redis+sentinel://a:1/m/0",
            "rediss+sentinel://:p%2Fw@a:1,b:2/m/7?sentinel_user=u&sentinel_pass=s%26s",
            "redis+cluster://u:p@[::1]:1",
        ] {
            assert_eq!(group(url).secret(), url, "written as it was read");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let group = group("redis+sentinel://u:hunter2@a:1/m?sentinel_pass=hunter3");
        let shown = format!("{group} {group:?}");
        assert!(!shown.contains("hunter"), "{shown}");
        assert!(shown.contains("u:***@a:1/m/0?sentinel_pass=***"), "{shown}");
    }

    #[test]
    fn anything_else_is_refused() {
        use StoreUrlError as E;
        for (bad, why) in [
            ("redis+sentinel://", E::Host),
            ("redis+sentinel:///m", E::Host),
            ("redis+sentinel://a", E::MasterName),
            ("redis+sentinel://a/", E::MasterName),
            ("redis+sentinel://a/m m", E::MasterName),
            ("redis+sentinel://a/m/x", E::Database),
            ("redis+sentinel://a/m/", E::Database),
            ("redis+sentinel://a/m/1024", E::Database),
            ("redis+sentinel://a/m/+1", E::Database),
            ("redis+sentinel://a/m?db=1", E::SentinelQuery),
            ("redis+sentinel://a/m?sentinel_user=u", E::SentinelQuery),
            ("redis+sentinel://a/m?sentinel_pass=a&sentinel_pass=b", E::SentinelQuery),
            ("redis+sentinel://a,/m", E::Host),
            ("redis+sentinel://a:0/m", E::Host),
            ("redis+sentinel://a:+1/m", E::Host),
            ("redis+sentinel://a:65536/m", E::Host),
            ("redis+sentinel://a:1,a:1/m", E::Seats),
            ("redis+sentinel://::1/m", E::Host),
            ("redis+sentinel://[a]/m", E::Host),
            ("redis+cluster://[::1]x", E::Host),
            ("redis+cluster://0.0.0.0", E::Host),
            ("redis+cluster://u:p/w@a", E::Host),
            ("redis+cluster://a/1", E::ClusterPath),
            ("redis+cluster://a?db=1", E::ClusterPath),
            ("redis+cluster://%FF@a", E::Client),
            ("rediss+cluster://a#insecure", E::Fragment),
        ] {
            assert_eq!(RedisGroup::parse(bad), Err(why), "{bad}");
        }
        for other in ["memory:", "redis://a", "redis+sentinel:a", "http://a"] {
            assert_eq!(RedisGroup::parse(other), Ok(None));
        }
    }

    #[test]
    fn passwords_on_the_network_without_tls_are_noticed() {
        assert!(group("redis+cluster://127.0.0.1,10.0.0.1").crosses_the_network_in_the_clear());
        assert!(!group("redis+cluster://127.0.0.1,[::1],localhost").crosses_the_network_in_the_clear());
        assert!(!group("rediss+cluster://10.0.0.1").crosses_the_network_in_the_clear());
    }
}
