//! What Kamailio asks: over RESP, of the helper that answers. When one is gone, the next one is asked.

use redis::aio::MultiplexedConnection;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::Mutex;

/// How long an answer may take, as Kamailio's `cmd_timeout`.
const PATIENCE: Duration = Duration::from_millis(500);

/// The helpers.
pub struct Helpers {
    sockets: Vec<PathBuf>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    at: usize,
    connection: Option<MultiplexedConnection>,
}

impl Helpers {
    /// Their sockets.
    pub fn new(sockets: Vec<PathBuf>) -> Helpers {
        Helpers { sockets, current: Mutex::default() }
    }

    /// Asks; every verb may be asked twice.
    pub async fn ask(&self, verb: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let mut why = anyhow::anyhow!("no helper");
        for _ in 0..=self.sockets.len() {
            let (at, mut connection) = match self.connection().await {
                Ok(found) => found,
                Err(error) => {
                    why = error;
                    continue;
                }
            };
            let mut command = redis::cmd(verb);
            let asked = command.arg(arguments).query_async::<String>(&mut connection);
            match tokio::time::timeout(PATIENCE, asked).await {
                Ok(Ok(reply)) => return Ok(reply),
                Ok(Err(error)) => why = error.into(),
                Err(late) => why = late.into(),
            }
            self.leave(at).await;
        }
        Err(why)
    }

    async fn connection(&self) -> anyhow::Result<(usize, MultiplexedConnection)> {
        let mut current = self.current.lock().await;
        let at = current.at;
        if let Some(connection) = &current.connection {
            return Ok((at, connection.clone()));
        }
        match self.connect(at).await {
            Ok(connection) => {
                current.connection = Some(connection.clone());
                Ok((at, connection))
            }
            Err(error) => {
                current.at = (at + 1) % self.sockets.len().max(1);
                Err(error)
            }
        }
    }

    async fn connect(&self, at: usize) -> anyhow::Result<MultiplexedConnection> {
        let socket = self.sockets.get(at).ok_or_else(|| anyhow::anyhow!("no helper"))?;
        let client = redis::Client::open(format!("redis+unix://{}", socket.display()))?;
        Ok(tokio::time::timeout(PATIENCE, client.get_multiplexed_async_connection()).await??)
    }

    /// The next one is asked from now on, unless somebody has seen to that.
    async fn leave(&self, at: usize) {
        let mut current = self.current.lock().await;
        if current.at == at {
            *current = Current { at: (at + 1) % self.sockets.len().max(1), connection: None };
        }
    }
}
