//! Which real programs there are: `target/lab/parts.env`, written by `scripts/lab-setup`.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// A program that a test may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    Redis,
    Sentinel,
    Sipp,
    /// Kamailio of this system (5.6 on Debian 12).
    Kamailio,
    /// Kamailio 6.1, in the root folder.
    KamailioNew,
    /// Asterisk 20 or later: of this system, or in the root folder.
    Asterisk,
    /// libfaketime, the library itself: another time for one process.
    FakeTime,
}

impl Part {
    pub const ALL: [Part; 7] = [
        Part::Redis,
        Part::Sentinel,
        Part::Sipp,
        Part::Kamailio,
        Part::KamailioNew,
        Part::Asterisk,
        Part::FakeTime,
    ];

    fn key(self) -> &'static str {
        match self {
            Part::Redis => "REDIS",
            Part::Sentinel => "SENTINEL",
            Part::Sipp => "SIPP",
            Part::Kamailio => "KAMAILIO",
            Part::KamailioNew => "KAMAILIO_NEW",
            Part::Asterisk => "ASTERISK",
            Part::FakeTime => "FAKETIME",
        }
    }
}

/// Where a program is, and the root folder in which it has to run, if any.
#[derive(Clone, Debug)]
pub struct Program {
    /// As seen from inside `root`.
    pub path: PathBuf,
    pub root: Option<PathBuf>,
    pub version: String,
}

impl Program {
    /// A command that runs the program, by `chroot` where it has a root folder.
    pub fn command(&self) -> Command {
        match &self.root {
            None => Command::new(&self.path),
            Some(root) => {
                let mut command = Command::new("chroot");
                command.arg(root).arg(&self.path);
                command
            }
        }
    }

    /// `path`, as the program sees it.
    pub fn sees(&self, path: &Path) -> Result<PathBuf> {
        let Some(root) = &self.root else { return Ok(path.to_owned()) };
        let inside = path
            .strip_prefix(root)
            .with_context(|| format!("{} is outside the root folder {}", path.display(), root.display()))?;
        Ok(Path::new("/").join(inside))
    }

    fn is_there(&self) -> bool {
        match &self.root {
            None => self.path.exists(),
            // An absolute path would replace the root folder in `join`.
            Some(root) => {
                may_chroot() && root.join(self.path.strip_prefix("/").unwrap_or(&self.path)).exists()
            }
        }
    }
}

/// All programs found, and why the others are missing.
#[derive(Debug)]
pub struct Parts {
    found: BTreeMap<Part, Program>,
    missing: BTreeMap<Part, String>,
}

impl Parts {
    /// Reads `target/lab/parts.env`, which `scripts/lab-setup --find-only` writes first where it is not there yet.
    pub fn find() -> Result<Parts> {
        let file = checkout().join("target/lab/parts.env");
        if !file.exists() {
            let script = checkout().join("scripts/lab-setup");
            let output = Command::new(&script)
                .args(["--find-only", "--quiet"])
                .output()
                .with_context(|| format!("running {}", script.display()))?;
            if !output.status.success() {
                bail!("{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
            }
        }
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        Ok(Parts::parse(&text))
    }

    pub fn get(&self, part: Part) -> Result<&Program> {
        match self.found.get(&part) {
            Some(program) => Ok(program),
            None => bail!("{part:?} is missing: {}", self.why_missing(part).unwrap_or_default()),
        }
    }

    pub fn why_missing(&self, part: Part) -> Option<String> {
        self.missing.get(&part).map(|reason| format!("no {part:?}: {reason}"))
    }

    /// The root folder that any of the programs needs.
    pub fn root(&self) -> Option<&Path> {
        self.found.values().find_map(|program| program.root.as_deref())
    }

    fn parse(text: &str) -> Parts {
        let values: BTreeMap<&str, String> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key, unquoted(value)))
            .collect();
        let value = |part: Part, suffix: &str| values.get(format!("MQS_LAB_{}{suffix}", part.key()).as_str());
        let mut parts = Parts { found: BTreeMap::new(), missing: BTreeMap::new() };
        for part in Part::ALL {
            let Some(path) = value(part, "") else {
                let reason = value(part, "_MISSING").cloned();
                parts
                    .missing
                    .insert(part, reason.unwrap_or_else(|| "run scripts/lab-setup again".to_owned()));
                continue;
            };
            let program = Program {
                path: PathBuf::from(path),
                root: value(part, "_ROOT").map(PathBuf::from),
                version: value(part, "_VERSION").cloned().unwrap_or_default(),
            };
            if program.is_there() {
                parts.found.insert(part, program);
            } else {
                let reason =
                    format!("{} cannot be used; run scripts/lab-setup again", program.path.display());
                parts.missing.insert(part, reason);
            }
        }
        parts
    }
}

/// Only root may; the file may have been written by root for another user's run.
fn may_chroot() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// The root of the source tree.
pub fn checkout() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Undoes the `\x` that bash's `printf %q` writes.
fn unquoted(value: &str) -> String {
    let mut plain = String::new();
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next()),
            '\'' => {}
            other => plain.push(other),
        }
    }
    plain
}
