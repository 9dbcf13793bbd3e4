//! A real redis-server for a test: in a directory of its own, on a Unix socket, gone when it is dropped.

use redis::{Client, Cmd, FromRedisValue, RedisResult};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

pub struct RedisServer {
    dir: TempDir,
    args: Vec<String>,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts one, and waits until it answers.
    pub fn start() -> RedisServer {
        RedisServer::start_with(&[])
    }

    /// Starts one with more arguments.
    pub fn start_with(args: &[&str]) -> RedisServer {
        let mut server = RedisServer::prepare(args);
        server.up();
        server
    }

    /// A place for one that is not running yet.
    pub fn prepare(args: &[&str]) -> RedisServer {
        let dir = tempfile::Builder::new().prefix("mqs-redis-").tempdir().expect("a temporary directory");
        RedisServer { dir, args: args.iter().map(ToString::to_string).collect(), child: None }
    }

    /// Starts it (again).
    pub fn up(&mut self) {
        self.down();
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a log file");
        let spawned = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.dir.path())
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(spawned.unwrap_or_else(|e| {
            panic!(
                "redis-server cannot be started ({e}): these tests need a real one on PATH; \
                 run them by `make test`, after scripts/lab-setup has installed what they need"
            )
        }));
        for _ in 0..500 {
            // Any answer will do: with a password set, it is NOAUTH.
            let answers = Client::open(self.url().as_str()).and_then(|c| c.get_connection());
            if answers.as_ref().map_or_else(|e| !e.is_io_error(), |_| true) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        panic!("redis-server did not answer within 5 s; its log:\n{log}");
    }

    /// Ends it, as a crash would.
    pub fn down(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    /// The process, while it runs.
    #[allow(dead_code)] // The lab wants to know them.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Sends a command on a connection of its own.
    pub fn send<T: FromRedisValue>(&self, cmd: &Cmd) -> T {
        self.try_send(cmd).unwrap_or_else(|e| panic!("{cmd:?}: {e}"))
    }

    fn try_send<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        cmd.query(&mut Client::open(self.url().as_str())?.get_connection()?)
    }

    /// What it says of its role. A Sentinel that changes that closes all connections, this one too: then it is asked again.
    pub fn replication(&self) -> String {
        let info = || self.try_send::<String>(redis::cmd("INFO").arg("replication"));
        let mut said = info();
        for _ in 0..5 {
            let Err(e) = &said else { break };
            assert!(e.is_connection_dropped(), "INFO replication: {e}");
            said = info();
        }
        said.unwrap()
    }

    /// Sends a command that consists of words.
    pub fn say<T: FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        words.for_each(|word| {
            cmd.arg(word);
        });
        self.send(&cmd)
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.down();
    }
}
