//! Where the master is, by what the Sentinels say; and a connection that follows it.
//!
//! One task asks the Sentinels, connects to the master that they name, and goes on asking: a master that was replaced may
//! still answer whoever reaches it, and what is written to it is lost. The task ends with the connection that it serves.

use super::conn::Options;
use super::wire::Door;
use crate::config::{Login, RedisGroup};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, RedisResult};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How long to wait before the Sentinels are asked again, when there is no master.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often the Sentinels are asked whether the master is still the same.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What a Sentinel or a new connection may take at least, whatever the time-out of operations is: nobody waits for it.
const PATIENCE_MIN: Duration = Duration::from_millis(250);

/// The Sentinels of one master.
pub(super) struct Sentinels {
    seats: Vec<Client>,
    master: String,
    door: Door,
    login: Login,
    db: u32,
    options: Options,
}

/// A connection to the master, whoever that is.
pub(super) struct Followed(watch::Receiver<Found>);

/// What is known of the master.
#[derive(Clone)]
enum Found {
    /// Nothing yet: the first Sentinel is being asked.
    Looking,
    /// There is none, or it cannot be reached.
    Nobody(RedisError),
    Here(MultiplexedConnection),
}

/// Where a master is, since which election.
#[derive(Clone, PartialEq, Eq)]
struct Place {
    epoch: u64,
    host: String,
    port: u16,
}

impl Sentinels {
    pub(super) fn new(
        door: Door,
        group: &RedisGroup,
        master: &str,
        db: u32,
        at_sentinels: &Login,
        options: Options,
    ) -> RedisResult<Sentinels> {
        let seats = group.seats.iter().map(|(host, port)| door.client((host, *port), at_sentinels, 0));
        let seats = seats.collect::<RedisResult<_>>()?;
        Ok(Sentinels { seats, master: master.to_owned(), door, login: group.login.clone(), db, options })
    }

    /// Begins to look for the master, and to follow it.
    pub(super) fn follow(self: &Arc<Sentinels>) -> Followed {
        let (said, heard) = watch::channel(Found::Looking);
        let sentinels = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = said.closed() => {}
                () = sentinels.keep_looking(&said) => {}
            }
        });
        Followed(heard)
    }

    async fn keep_looking(&self, said: &watch::Sender<Found>) {
        let mut current: Option<Place> = None;
        loop {
            let found = match self.place().await {
                Ok(place) if current.as_ref() == Some(&place) => None,
                Ok(place) => Some(self.connect(&place).await.map(|master| (place, master))),
                // What was found stays good while no Sentinel can say otherwise.
                Err(_) if current.is_some() => None,
                Err(error) => Some(Err(error)),
            };
            match found {
                Some(Ok((place, master))) => {
                    current = Some(place);
                    said.send_replace(Found::Here(master));
                }
                Some(Err(error)) => {
                    current = None;
                    said.send_replace(Found::Nobody(error));
                }
                None => {}
            }
            tokio::time::sleep(if current.is_some() { LOOK_EVERY } else { AGAIN_AFTER }).await;
        }
    }

    /// Where more than half of the Sentinels, or all that answer, say the master is: the latest election counts, since a
    /// Sentinel that was away knows an old one.
    async fn place(&self) -> RedisResult<Place> {
        let mut asked: FuturesUnordered<_> = self.seats.iter().map(|seat| self.ask(seat)).collect();
        let (mut best, mut answers, mut error): (Option<Place>, usize, _) = (None, 0, None);
        while let Some(said) = asked.next().await {
            match said {
                Ok(place) => {
                    answers += 1;
                    if best.as_ref().is_none_or(|best| place.epoch > best.epoch) {
                        best = Some(place);
                    }
                    if answers * 2 > self.seats.len() {
                        break;
                    }
                }
                Err(e) => error = Some(e),
            }
        }
        let nobody = || RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no Sentinel answers"));
        best.ok_or_else(|| error.unwrap_or_else(nobody))
    }

    async fn ask(&self, seat: &Client) -> RedisResult<Place> {
        let ask = async {
            let mut sentinel = seat.get_multiplexed_async_connection_with_config(&self.patient()).await?;
            let mut cmd = redis::cmd("SENTINEL");
            let said: HashMap<String, String> =
                cmd.arg("MASTER").arg(&self.master).query_async(&mut sentinel).await?;
            let number = |name: &str| said.get(name).and_then(|text| text.parse::<u64>().ok());
            let port = number("port").and_then(|port| u16::try_from(port).ok());
            match (said.get("ip"), port) {
                (Some(host), Some(port)) => {
                    Ok(Place { epoch: number("config-epoch").unwrap_or(0), host: host.clone(), port })
                }
                (Some(_) | None, _) => Err((ErrorKind::Parse, "a Sentinel names no address").into()),
            }
        };
        match tokio::time::timeout(self.patience(), ask).await {
            Ok(said) => said,
            Err(_) => Err((ErrorKind::Io, "a Sentinel does not answer in time").into()),
        }
    }

    /// Connects, and asks the server whether it is a master: Sentinels may not know yet that it is none any more.
    async fn connect(&self, place: &Place) -> RedisResult<MultiplexedConnection> {
        let client = self.door.client((&place.host, place.port), &self.login, self.db)?;
        let connect = async {
            let mut master = client.get_multiplexed_async_connection_with_config(&self.patient()).await?;
            // Its first word is the role. Without the right to ask, a replica shows itself by READONLY.
            let role: RedisResult<Vec<redis::Value>> = Cmd::new().arg("ROLE").query_async(&mut master).await;
            match role.as_deref() {
                Ok([redis::Value::BulkString(role), ..]) if role != b"master" => {
                    let cause = "the one that the Sentinels name is a replica";
                    Err(RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, cause)))
                }
                Ok(_) | Err(_) => Ok(master),
            }
        };
        let mut master = match tokio::time::timeout(self.patience(), connect).await {
            Ok(master) => master?,
            Err(_) => return Err((ErrorKind::Io, "the master does not answer in time").into()),
        };
        master.set_response_timeout(self.options.timeout);
        Ok(master)
    }

    fn patience(&self) -> Duration {
        self.options.timeout.max(PATIENCE_MIN)
    }

    fn patient(&self) -> AsyncConnectionConfig {
        AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.patience()))
            .set_response_timeout(Some(self.patience()))
    }
}

impl Followed {
    /// The connection to the master; waits for the first look only.
    pub(super) async fn master(&self) -> RedisResult<MultiplexedConnection> {
        let mut heard = self.0.clone();
        let ended = || RedisError::from((ErrorKind::Io, "nobody looks for the master any more"));
        let found = heard.wait_for(|found| !matches!(found, Found::Looking)).await.map_err(|_| ended())?;
        match &*found {
            Found::Here(master) => Ok(master.clone()),
            Found::Nobody(error) => Err(error.clone()),
            Found::Looking => Err(ended()),
        }
    }

    /// Whether there is a connection, good or bad.
    pub(super) fn has_master(&self) -> bool {
        matches!(*self.0.borrow(), Found::Here(_))
    }
}
