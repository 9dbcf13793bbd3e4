//! What is wrong with a configuration, and where.

use std::fmt;
use std::io;

/// The most problems that one error lists.
const PROBLEMS_SHOWN: usize = 20;

/// Why a configuration was refused. It never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there, or may not be read.
    #[error("{file}: cannot be read: {source}")]
    Read {
        /// The file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than a configuration can be.
    #[error("{file}: larger than {limit_bytes} bytes")]
    TooLarge {
        /// The file.
        file: String,
        /// What is allowed.
        limit_bytes: usize,
    },
    /// The file is not text.
    #[error("{file}:{line}: not UTF-8 text")]
    NotUtf8 {
        /// The file.
        file: String,
        /// The first line that is not, from 1.
        line: usize,
    },
    /// The file says something that is not allowed.
    #[error("{}", list(.0))]
    Wrong(Vec<Problem>),
}

impl ConfigError {
    /// What is wrong, in the order of the file; empty when the file could not even be read.
    pub fn problems(&self) -> &[Problem] {
        match self {
            ConfigError::Wrong(problems) => problems,
            ConfigError::Read { .. } | ConfigError::TooLarge { .. } | ConfigError::NotUtf8 { .. } => &[],
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters, from 1.
    pub column: usize,
    /// The way to the key, such as `pool[0].node[2].capacity`; empty for a file that is not TOML.
    pub key: String,
    /// What was there and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}", self.message)
    }
}

fn list(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(PROBLEMS_SHOWN).map(Problem::to_string).collect();
    if problems.len() > PROBLEMS_SHOWN {
        lines.push(format!("and {} more", problems.len() - PROBLEMS_SHOWN));
    }
    lines.join("\n")
}
