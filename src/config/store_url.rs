//! Where the shared state lives. A password never leaves through `Debug`, `Display` or an error.

use super::redis_group::{REDIS_SEATS_MAX, RedisGroup};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The longest address of a store, in bytes.
pub const STORE_URL_MAX: usize = 1024;

/// Redis has 16 databases unless it is told otherwise; more than this is a slip of the pen.
pub const STORE_DB_MAX: u32 = 1023;

/// Where the shared state lives.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// In this process: one instance, forgotten when it ends.
    Memory,
    /// In this process and in this file: one instance, restarts included.
    File(PathBuf),
    /// In a Redis that instances share.
    Redis(RedisUrl),
}

/// The address of a Redis, with its password.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    whole: String,
    shown: String,
    has_password: bool,
    crosses_the_network_in_the_clear: bool,
}

impl RedisUrl {
    /// The whole address, password included, as the client library takes it. Not for logs.
    pub fn secret(&self) -> &str {
        &self.whole
    }

    /// Whether it holds a password.
    pub fn has_password(&self) -> bool {
        self.has_password
    }

    /// Whether its connections are TLS.
    pub fn is_tls(&self) -> bool {
        self.whole.starts_with("rediss")
    }

    /// Whether it names another host, and no TLS.
    pub fn crosses_the_network_in_the_clear(&self) -> bool {
        self.crosses_the_network_in_the_clear
    }

    /// The same address with this password.
    pub fn with_password(&self, password: &str) -> Result<RedisUrl, StoreUrlError> {
        if let Some(mut group) = RedisGroup::parse(&self.whole)? {
            group.login.password = Some(password.to_owned());
            return checked(&group.secret());
        }
        let mut url = redis::parse_redis_url(&self.whole).ok_or(StoreUrlError::Form)?;
        if url.scheme() == UNIX {
            url.query_pairs_mut().append_pair("pass", password);
        } else {
            let encoded = utf8_percent_encode(password, NON_ALPHANUMERIC).to_string();
            url.set_password(Some(&encoded)).map_err(|()| StoreUrlError::Host)?;
        }
        checked(url.as_str())
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;
    fn from_str(s: &str) -> Result<Self, StoreUrlError> {
        match s {
            "memory:" => Ok(StoreUrl::Memory),
            _ if s.starts_with(FILE) => checked_file(s).map(StoreUrl::File),
            _ => checked(s).map(StoreUrl::Redis),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreUrl::Memory => f.write_str("memory:"),
            StoreUrl::File(path) => write!(f, "{FILE}{}", path.display()),
            StoreUrl::Redis(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not the address of a store. It holds none of the text, since that may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// Not an address at all, or another scheme.
    #[error(
        "write memory:, file:/var/lib/mqs/mqs.redb, redis://host:6379/0, rediss://host:6379/0, redis+unix:///run/redis/redis.sock?db=0, \
         redis+sentinel://host:26379,host:26379/MASTER-NAME/0 or redis+cluster://host:6379,host:6379"
    )]
    Form,
    /// More than [`STORE_URL_MAX`] bytes.
    #[error("the address has {0} bytes; at most {STORE_URL_MAX} are allowed")]
    TooLong(usize),
    /// A byte that must be percent-encoded; where.
    #[error("byte {0} of the address is not printable ASCII; percent-encode it")]
    Byte(usize),
    /// Not the path of a file.
    #[error(
        "after file: stands the absolute path of a file, as it is: one '/' at its beginning, no '%', '?', '#', '.' or '..' part"
    )]
    Path,
    /// No host, or one that cannot be connected to.
    #[error("the address names no host that can be connected to")]
    Host,
    /// Not a database.
    #[error(
        "the database is a number from 0 to {STORE_DB_MAX}: redis://host:6379/0, or redis+unix:///path?db=0"
    )]
    Database,
    /// A query parameter that is not taken, or given twice.
    #[error("after '?' stand, once each: protocol=resp2|resp3, and for redis+unix also db, user and pass")]
    Query,
    /// `#insecure` would skip the check of the certificate.
    #[error("an address of a store has no '#'; certificates are always checked")]
    Fragment,
    /// No name of a master, or one with other characters.
    #[error(
        "after the Sentinels stands the name of the master, of letters, digits, '.', '_' and '-': \
         redis+sentinel://host:26379/MASTER-NAME/0"
    )]
    MasterName,
    /// A query parameter that is not taken with Sentinel, or given twice.
    #[error("after '?' stand, once each: sentinel_user=… and sentinel_pass=…, the login at the Sentinels")]
    SentinelQuery,
    /// Something after the nodes of a cluster.
    #[error("a cluster has one database and no options: redis+cluster://host:6379,host:6379")]
    ClusterPath,
    /// The same address twice, or too many.
    #[error("the address names a server twice, or more than {REDIS_SEATS_MAX}")]
    Seats,
    /// The client library did not take it.
    #[error("the address is not one that the Redis client takes")]
    Client,
}

const UNIX: &str = "redis+unix";
const FILE: &str = "file:";

/// The path is taken as it is. What a URL would read in another way is refused, so that nobody is surprised.
fn checked_file(s: &str) -> Result<PathBuf, StoreUrlError> {
    if s.len() > STORE_URL_MAX {
        return Err(StoreUrlError::TooLong(s.len()));
    }
    let path = s.strip_prefix(FILE).and_then(|path| path.strip_prefix('/')).ok_or(StoreUrlError::Path)?;
    if path.chars().any(|c| c.is_control() || "%?#".contains(c))
        || path.split('/').any(|part| matches!(part, "" | "." | ".."))
    {
        return Err(StoreUrlError::Path);
    }
    Ok(Path::new("/").join(path))
}

fn checked(s: &str) -> Result<RedisUrl, StoreUrlError> {
    if s.len() > STORE_URL_MAX {
        return Err(StoreUrlError::TooLong(s.len()));
    }
    // The URL standard drops tabs and line ends in silence; here nothing is dropped.
    if let Some(at) = s.bytes().position(|b| !(0x21..=0x7e).contains(&b)) {
        return Err(StoreUrlError::Byte(at));
    }
    if let Some(group) = RedisGroup::parse(s)? {
        return Ok(RedisUrl {
            whole: s.to_owned(),
            shown: group.to_string(),
            has_password: group.has_password(),
            crosses_the_network_in_the_clear: group.crosses_the_network_in_the_clear(),
        });
    }
    let mut url = redis::parse_redis_url(s).ok_or(StoreUrlError::Form)?;
    let unix = match url.scheme() {
        "redis" | "rediss" => false,
        UNIX => true,
        _ => return Err(StoreUrlError::Form),
    };
    if url.fragment().is_some() {
        return Err(StoreUrlError::Fragment);
    }
    let mut query: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    check_query(&query, unix)?;
    if unix {
        if url.has_host() || !url.path().starts_with('/') || url.path() == "/" {
            return Err(StoreUrlError::Host);
        }
    } else if url.host_str().is_none_or(str::is_empty) {
        return Err(StoreUrlError::Host);
    } else {
        let path = url.path();
        let db = path.strip_prefix('/').unwrap_or(path);
        check_database(if db.is_empty() { "0" } else { db })?;
    }
    redis::IntoConnectionInfo::into_connection_info(s).map_err(|_| StoreUrlError::Client)?;

    let has_password = url.password().is_some() || query.iter().any(|(key, _)| key == "pass");
    if url.password().is_some() {
        url.set_password(Some("***")).map_err(|()| StoreUrlError::Host)?;
    }
    if query.iter().any(|(key, _)| key == "pass") {
        for (key, value) in &mut query {
            if key == "pass" {
                *value = "***".to_owned();
            }
        }
        url.query_pairs_mut().clear().extend_pairs(&query);
    }
    let in_the_clear = url.scheme() == "redis" && !url.host_str().is_some_and(is_this_host);
    Ok(RedisUrl {
        whole: s.to_owned(),
        shown: url.to_string(),
        has_password,
        crosses_the_network_in_the_clear: in_the_clear,
    })
}

fn check_query(query: &[(String, String)], unix: bool) -> Result<(), StoreUrlError> {
    for (at, (key, value)) in query.iter().enumerate() {
        if query.iter().take(at).any(|(earlier, _)| earlier == key) {
            return Err(StoreUrlError::Query);
        }
        match (key.as_str(), unix) {
            ("protocol", _) if matches!(value.as_str(), "resp2" | "resp3") => {}
            ("db", true) => check_database(value)?,
            ("user" | "pass", true) => {}
            _ => return Err(StoreUrlError::Query),
        }
    }
    Ok(())
}

fn check_database(s: &str) -> Result<(), StoreUrlError> {
    let number =
        s.parse::<u32>().ok().filter(|n| *n <= STORE_DB_MAX && s.bytes().all(|b| b.is_ascii_digit()));
    number.map(|_| ()).ok_or(StoreUrlError::Database)
}

fn is_this_host(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redis(s: &str) -> RedisUrl {
        match s.parse() {
            Ok(StoreUrl::Redis(url)) => url,
            other => panic!("{s}: {other:?}"),
        }
    }

    #[test]
    fn addresses_of_a_store() {
        assert_eq!("memory:".parse(), Ok(StoreUrl::Memory));
        let file: StoreUrl = "file:/var/lib/mqs/my store.redb".parse().unwrap();
        assert_eq!(file, StoreUrl::File("/var/lib/mqs/my store.redb".into()));
        assert_eq!(file.to_string().parse(), Ok(file));
        for good in [
            "redis://127.0.0.1",
            "redis://127.0.0.1:6379/0",
            "redis://[::1]:6379/15?protocol=resp3",
            "rediss://mqs:pw@redis.example.com:6380/2",
            "redis+unix:///run/redis/redis.sock",
            "redis+unix:///run/redis/redis.sock?db=3&user=mqs&pass=pw",
            "redis+sentinel://s1,s2:26380/mymaster/1",
            "rediss+cluster://mqs:pw@10.0.0.1,10.0.0.2",
        ] {
            assert_eq!(redis(good).secret(), good);
        }
        for (bad, why) in [
            ("", StoreUrlError::Form),
            ("memory", StoreUrlError::Form),
            ("memory://", StoreUrlError::Form),
            ("file:", StoreUrlError::Path),
            ("file:/", StoreUrlError::Path),
            ("file:mqs.redb", StoreUrlError::Path),
            ("file://host/mqs.redb", StoreUrlError::Path),
            ("file:///var/lib/mqs.redb", StoreUrlError::Path),
            ("file:/var/lib/mqs/", StoreUrlError::Path),
            ("file:/var/../mqs.redb", StoreUrlError::Path),
            ("file:/var/./mqs.redb", StoreUrlError::Path),
            ("file:/var/a%20b", StoreUrlError::Path),
            ("file:/var/a?b", StoreUrlError::Path),
            ("file:/var/a#b", StoreUrlError::Path),
            ("file:/var/a\nb", StoreUrlError::Path),
            ("FILE:/var/a", StoreUrlError::Form),
            (&format!("file:/{}", "a".repeat(1020)), StoreUrlError::TooLong(1026)),
            ("valkey://127.0.0.1", StoreUrlError::Form),
            ("unix:///run/redis.sock", StoreUrlError::Form),
            ("redis://", StoreUrlError::Host),
            ("redis:///0", StoreUrlError::Host),
            ("redis+unix://", StoreUrlError::Host),
            ("redis+unix://host/a", StoreUrlError::Host),
            ("redis://a/x", StoreUrlError::Database),
            ("redis://a/-1", StoreUrlError::Database),
            ("redis://a/1/2", StoreUrlError::Database),
            ("redis://a/1024", StoreUrlError::Database),
            ("redis://a?db=1", StoreUrlError::Query),
            ("redis://a?protocol=resp4", StoreUrlError::Query),
            ("redis+unix:///a?db=1&db=2", StoreUrlError::Query),
            ("redis+unix:///a?db=x", StoreUrlError::Database),
            ("rediss://a#insecure", StoreUrlError::Fragment),
            ("redis://0.0.0.0", StoreUrlError::Client),
            ("redis://a\t/0", StoreUrlError::Byte(9)),
            ("redis://ä/0", StoreUrlError::Byte(8)),
            (&format!("redis://{}", "a".repeat(1020)), StoreUrlError::TooLong(1028)),
        ] {
            assert_eq!(bad.parse::<StoreUrl>(), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_password_is_never_shown() {
        for url in [
            "redis://:hunter2@10.0.0.1/1",
            "rediss://mqs:hunter2@redis.example.com",
            "redis+unix:///run/redis.sock?db=1&pass=hunter2&user=mqs",
            "rediss+sentinel://mqs:hunter2@s1/m",
        ] {
            let url = redis(url);
            assert!(url.has_password() && url.secret().contains("hunter2"));
            let wrapped = StoreUrl::Redis(url.clone());
            for shown in [format!("{url} {url:?}"), format!("{wrapped} {wrapped:?} {wrapped:#?}")] {
                assert!(
                    !shown.contains("hunter2") && shown.contains("***") || shown.contains("%2A"),
                    "{shown}"
                );
            }
        }
    }

    #[test]
    fn a_password_from_a_file_arrives_whole() {
        let password = "p%41:/@?#[]&=+ é\"";
        for url in [
            "redis://127.0.0.1:6379/1",
            "rediss://mqs@redis.example.com",
            "redis+unix:///run/redis.sock?user=mqs",
        ] {
            let whole = redis(url).with_password(password).unwrap();
            let info = redis::IntoConnectionInfo::into_connection_info(whole.secret()).unwrap();
            assert_eq!(info.redis_settings().password(), Some(password), "{url}");
            assert!(!whole.to_string().contains("p%41") && !whole.to_string().contains("p%25"), "{whole}");
        }
        for url in ["redis+sentinel://mqs@s1,s2/m/2", "rediss+cluster://a"] {
            let whole = redis(url).with_password(password).unwrap();
            let group = RedisGroup::parse(whole.secret()).unwrap().unwrap();
            assert_eq!(group.login.password.as_deref(), Some(password), "{url}");
            assert!(!whole.to_string().contains("41"), "{whole}");
        }
    }

    #[test]
    fn passwords_on_the_network_without_tls_are_noticed() {
        assert!(redis("redis://10.0.0.1").crosses_the_network_in_the_clear());
        assert!(redis("redis://redis.example.com").crosses_the_network_in_the_clear());
        for url in [
            "redis://127.0.0.1",
            "redis://[::1]",
            "redis://localhost",
            "rediss://10.0.0.1",
            "redis+unix:///a",
        ] {
            assert!(!redis(url).crosses_the_network_in_the_clear(), "{url}");
        }
    }
}
