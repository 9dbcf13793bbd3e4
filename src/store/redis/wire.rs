//! The kinds of connections: to one server, to the master that Sentinels know, to a cluster.

use super::conn::Options;
use super::sentinel::{Followed, Sentinels};
use crate::config::{GroupKind, Login, RedisGroup};
use redis::aio::{ConnectionLike as _, ConnectionManager, ConnectionManagerConfig};
use redis::cluster::{ClusterClient, ClusterConfig};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, Route, RoutingInfo, SingleNodeRoutingInfo, SlotAddr};
use redis::{
    Client, Cmd, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, ServerErrorKind, TlsCertificates, Value,
};
use std::sync::Arc;

/// How often the client of a cluster follows a redirection, or a slot to its new master, within one operation. The
/// operation's time-out ends it earlier.
const CLUSTER_RETRIES: u32 = 4;

/// Commands without keys; in a cluster they go where [`ANY_KEY`] is: to a master, not to just any node.
const KEYLESS: [&str; 4] = ["TIME", "INFO", "ROLE", "PING"];
const ANY_KEY: &str = "{mqs:steward}";

/// How to get a connection.
pub(super) enum Way {
    /// To this server.
    One(Box<Client>, Options),
    /// To the master that these Sentinels name.
    Sentinel(Arc<Sentinels>),
    /// To all nodes of a cluster.
    Cluster(Box<ClusterClient>),
}

impl Way {
    pub(super) fn new(url: &str, options: Options, ca: Option<&[u8]>) -> Result<Way, String> {
        let trust = ca.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem.to_vec()) });
        let Some(group) = RedisGroup::parse(url).map_err(|e| e.to_string())? else {
            let client = match trust {
                Some(trust) => Client::build_with_tls(url, trust),
                None => Client::open(url),
            };
            return client.map(|client| Way::One(Box::new(client), options)).map_err(|e| e.to_string());
        };
        let door = Door { tls: group.tls, trust };
        let way = match &group.kind {
            GroupKind::Sentinel { master, db, login } => {
                Sentinels::new(door, &group, master, *db, login, options)
                    .map(|sentinels| Way::Sentinel(Arc::new(sentinels)))
            }
            GroupKind::Cluster {} => {
                cluster(door, &group, options).map(|client| Way::Cluster(Box::new(client)))
            }
        };
        way.map_err(|e| e.to_string())
    }

    /// What kind of Redis it is.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Way::One(..) => "one server",
            Way::Sentinel(_) => "Sentinel",
            Way::Cluster(_) => "cluster",
        }
    }

    /// A connection that is made by being used.
    pub(super) fn open(&self) -> RedisResult<Wire> {
        Ok(match self {
            Way::One(client, options) => {
                let config = ConnectionManagerConfig::new()
                    .set_number_of_retries(0)
                    .set_connection_timeout(Some(options.timeout))
                    .set_response_timeout(Some(options.timeout))
                    .set_pipeline_buffer_size(1024);
                Wire::One(ConnectionManager::new_lazy_with_config(Client::clone(client), config)?)
            }
            Way::Sentinel(sentinels) => Wire::Sentinel(sentinels.follow()),
            Way::Cluster(client) => {
                Wire::Cluster(client.get_pending_async_connection_with_config(ClusterConfig::new()))
            }
        })
    }
}

/// A connection.
pub(super) enum Wire {
    One(ConnectionManager),
    Sentinel(Followed),
    Cluster(ClusterConnection),
}

impl Wire {
    /// Sends a command. A server's error is one here, not a value.
    pub(super) async fn send(&self, cmd: &Cmd) -> RedisResult<Value> {
        let reply = match self {
            Wire::One(manager) => manager.clone().send_packed_command(cmd).await,
            Wire::Sentinel(followed) => followed.master().await?.send_packed_command(cmd).await,
            Wire::Cluster(cluster) => {
                let mut cluster = cluster.clone();
                match cmd.args_iter().next() {
                    Some(redis::Arg::Simple(name)) if KEYLESS.iter().any(|k| k.as_bytes() == name) => {
                        let anywhere = Route::with_key(ANY_KEY, SlotAddr::Master);
                        let routing = RoutingInfo::SingleNode(SingleNodeRoutingInfo::SpecificNode(anywhere));
                        cluster.route_command(cmd.clone(), routing).await
                    }
                    Some(_) | None => cluster.req_packed_command(cmd).await,
                }
            }
        };
        reply.and_then(Value::extract_error)
    }

    /// Sends a command to every master; of a cluster the answer is a map.
    pub(super) async fn send_to_masters(&self, cmd: &Cmd) -> RedisResult<Value> {
        match self {
            Wire::One(_) | Wire::Sentinel(_) => self.send(cmd).await,
            Wire::Cluster(cluster) => {
                let routing = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                cluster.clone().route_command(cmd.clone(), routing).await.and_then(Value::extract_error)
            }
        }
    }

    /// Whether a new connection is needed after this error.
    pub(super) fn is_spoilt_by(&self, error: &RedisError) -> bool {
        match self {
            // The manager reconnects after I/O errors only. After any other it would keep the failed connection, or the
            // failure to make one, for ever: also when the password is right by now, or the server no longer a replica.
            Wire::One(_) => !error.is_io_error(),
            // Whoever cannot be reached, or is no master any more, may have a successor.
            Wire::Sentinel(followed) => {
                let demoted = matches!(
                    error.kind(),
                    ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown)
                );
                followed.has_master() && (demoted || error.is_io_error())
            }
            // It finds nodes again by itself, except after a wrong password.
            Wire::Cluster(_) => matches!(error.kind(), ErrorKind::AuthenticationFailed),
        }
    }

    /// Whether a new connection is needed when there was no answer several times.
    pub(super) fn is_spoilt_by_silence(&self) -> bool {
        match self {
            Wire::One(_) | Wire::Cluster(_) => true,
            Wire::Sentinel(followed) => followed.has_master(),
        }
    }
}

/// What all connections of a group have in common.
pub(super) struct Door {
    tls: bool,
    trust: Option<TlsCertificates>,
}

impl Door {
    pub(super) fn client(&self, (host, port): (&str, u16), login: &Login, db: u32) -> RedisResult<Client> {
        let info = self.info((host, port), login, db)?;
        match &self.trust {
            Some(trust) => Client::build_with_tls(info, trust.clone()),
            None => Client::open(info),
        }
    }

    fn info(&self, (host, port): (&str, u16), login: &Login, db: u32) -> RedisResult<ConnectionInfo> {
        let host = host.to_owned();
        let address = match self.tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        let mut settings = RedisConnectionInfo::default().set_db(i64::from(db));
        if let Some(user) = &login.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &login.password {
            settings = settings.set_password(password);
        }
        Ok(address.into_connection_info()?.set_redis_settings(settings))
    }
}

fn cluster(door: Door, group: &RedisGroup, options: Options) -> RedisResult<ClusterClient> {
    let seats = group.seats.iter().map(|(host, port)| door.info((host, *port), &group.login, 0));
    let mut builder = ClusterClient::builder(seats.collect::<RedisResult<Vec<_>>>()?)
        .connection_timeout(options.timeout)
        .response_timeout(options.timeout)
        .retries(CLUSTER_RETRIES)
        .min_retry_wait(5)
        .max_retry_wait(50);
    if let Some(trust) = door.trust {
        builder = builder.certs(trust);
    }
    builder.build()
}
