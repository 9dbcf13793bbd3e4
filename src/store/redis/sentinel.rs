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
use tokio::sync::{Mutex, watch};

/// How long to wait before the Sentinels are asked again, when there is no master.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

/// How often the Sentinels are asked whether the master is still the same. What is written to a master between its
/// replacement and the next look is lost; a Sentinel needs some 0.3 s from its decision to its first step.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What a Sentinel or a new connection may take at least, whatever the time-out of operations is: nobody waits for it.
const PATIENCE_MIN: Duration = Duration::from_millis(250);

/// The Sentinels of one master.
pub(super) struct Sentinels {
    seats: Vec<Seat>,
    master: String,
    door: Door,
    login: Login,
    db: u32,
    options: Options,
}

/// One Sentinel, and the connection to it.
struct Seat {
    client: Client,
    open: Mutex<Option<MultiplexedConnection>>,
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
    /// A Sentinel is about to replace it: what is written to it from now on may be lost.
    leaving: bool,
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
        let seats = seats.map(|client| client.map(|client| Seat { client, open: Mutex::default() }));
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
            let found = match self.place(current.is_none()).await {
                Ok(place) if current.as_ref() == Some(&place) => None,
                // Without a store for a second or two nothing is lost: answers are journalled, words are kept.
                Ok(Place { leaving: true, .. }) => {
                    let cause = "the Sentinels are replacing the master";
                    Some(Err((ErrorKind::MasterNameNotFoundBySentinel, cause).into()))
                }
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

    /// Where the Sentinels say that the master is: the latest election counts, since a Sentinel that was away knows an old
    /// one. Somebody who waits for a master waits for more than half of them; otherwise all are heard, since only the one
    /// that replaces a master knows of it at once.
    async fn place(&self, waiting: bool) -> RedisResult<Place> {
        let mut asked: FuturesUnordered<_> = self.seats.iter().map(|seat| self.ask(seat)).collect();
        let (mut best, mut answers, mut error): (Option<Place>, usize, _) = (None, 0, None);
        while let Some(said) = asked.next().await {
            match said {
                Ok(place) => {
                    answers += 1;
                    if best
                        .as_ref()
                        .is_none_or(|best| (place.epoch, place.leaving) > (best.epoch, best.leaving))
                    {
                        best = Some(place);
                    }
                    if waiting && answers * 2 > self.seats.len() {
                        break;
                    }
                }
                Err(e) => error = Some(e),
            }
        }
        let nobody = || RedisError::from((ErrorKind::MasterNameNotFoundBySentinel, "no Sentinel answers"));
        best.ok_or_else(|| error.unwrap_or_else(nobody))
    }

    async fn ask(&self, seat: &Seat) -> RedisResult<Place> {
        let ask = async {
            let mut open = seat.open.lock().await;
            let mut sentinel = match open.take() {
                Some(sentinel) => sentinel,
                None => seat.client.get_multiplexed_async_connection_with_config(&self.patient()).await?,
            };
            let place = self.place_by(&mut sentinel).await?;
            // After an error or a time-out the next look begins with a new connection.
            *open = Some(sentinel);
            Ok(place)
        };
        match tokio::time::timeout(self.patience(), ask).await {
            Ok(said) => said,
            Err(_) => Err((ErrorKind::Io, "a Sentinel does not answer in time").into()),
        }
    }

    /// `SENTINEL MASTER` tells the election, and whether one is under way; but until every replica follows the new master it
    /// names the old one, and `SENTINEL GET-MASTER-ADDR-BY-NAME` the new one.
    async fn place_by(&self, sentinel: &mut MultiplexedConnection) -> RedisResult<Place> {
        let ask = |what: &str| Cmd::new().arg("SENTINEL").arg(what).arg(&self.master).to_owned();
        let said: HashMap<String, String> = ask("MASTER").query_async(sentinel).await?;
        let named: RedisResult<Option<(String, u16)>> =
            ask("GET-MASTER-ADDR-BY-NAME").query_async(sentinel).await;
        let number = |name: &str| said.get(name).and_then(|text| text.parse::<u64>().ok());
        let old = said.get("ip").cloned().zip(number("port").and_then(|port| u16::try_from(port).ok()));
        // Without the right to ask, the old one has to do.
        let new = named.ok().flatten().or_else(|| old.clone());
        let Some((host, port)) = new else {
            return Err((ErrorKind::Parse, "a Sentinel names no address").into());
        };
        let under_way = said.get("flags").is_some_and(|flags| flags.contains("failover_in_progress"));
        let leaving = under_way && old.is_some_and(|old| (old.0.as_str(), old.1) == (host.as_str(), port));
        Ok(Place { epoch: number("config-epoch").unwrap_or(0), host, port, leaving })
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
