//! Asking a running instance to read its configuration file again. Who serves knows the file; who asks waits for its answer.

use super::nodes::Step;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

/// What a reload did, or would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The file.
    pub file: String,
    /// Nothing was changed: only what would be is told.
    pub check: bool,
    /// Keys that are otherwise now.
    pub applied: Vec<String>,
    /// Nodes that are otherwise now.
    pub nodes: Vec<NodeStep>,
    /// Why the nodes are not in the store yet: they follow when it is back.
    pub waiting: Option<String>,
    /// Keys that the file has otherwise than this process, and that need a restart.
    pub restart: Vec<String>,
    /// What is allowed, and probably not meant.
    pub warnings: Vec<String>,
    /// How long it took, in ms.
    pub took_ms: f64,
}

/// What became of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStep {
    /// The pool.
    pub pool: String,
    /// The node.
    pub node: String,
    /// `added`, `changed`, `drained`; `discovery`: not named in the file, the next answer of the DNS decides.
    pub done: String,
}

impl From<&Step> for NodeStep {
    fn from(step: &Step) -> NodeStep {
        let done = step.done.as_str().to_owned();
        NodeStep { pool: step.pool.to_string(), node: step.node.to_string(), done }
    }
}

/// Why nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReloadError {
    /// The file is wrong: the same words as at a start.
    #[error("{0}")]
    Wrong(String),
    /// Nobody reads a file here, or the instance is stopping.
    #[error("this instance has no configuration file that it could read again, or is stopping")]
    Nobody,
}

/// A question, and where its answer goes.
#[derive(Debug)]
pub struct Ask {
    /// Only tell what would be changed.
    pub check: bool,
    /// The answer.
    pub answer: oneshot::Sender<Result<Report, ReloadError>>,
}

/// Where to ask.
#[derive(Clone, Debug)]
pub struct Door(mpsc::Sender<Ask>);

impl Door {
    /// A door, and who stands behind it.
    pub fn new() -> (Door, mpsc::Receiver<Ask>) {
        let (to, asked) = mpsc::channel(1);
        (Door(to), asked)
    }

    /// Asks, and waits for what came of it. One reload runs at a time.
    pub async fn ask(&self, check: bool) -> Result<Report, ReloadError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Ask { check, answer }).await.map_err(|_| ReloadError::Nobody)?;
        answered.await.unwrap_or(Err(ReloadError::Nobody))
    }
}
