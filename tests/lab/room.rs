//! A test's own room: a directory, loopback addresses, the parts. Nothing of it is left when the test ends, however it
//! ends: a small watching process, the reaper, sees the end of this one (its pipe closes) and ends and removes the rest.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};

use crate::net::Block;
use crate::parts::{self, Parts};

/// A Unix socket's path has at most 107 bytes; the file's own name needs some of them.
const DIRECTORY_BYTES_MAX: usize = 85;

pub struct Lab {
    name: &'static str,
    id: String,
    directory: PathBuf,
    parts: Arc<Parts>,
    block: Block,
    next_address: AtomicU8,
    told: Mutex<Vec<String>>,
}

impl Lab {
    fn new(name: &'static str, parts: Arc<Parts>) -> Result<Lab> {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{:x}-{number}", std::process::id());
        // Inside the root folder, so that programs of this system and of the root folder see the same files.
        let directory = match parts.root() {
            Some(root) => root.join("var/mqs-lab").join(&id),
            None => std::env::temp_dir().join(format!("mqs-lab-{id}")),
        };
        if directory.as_os_str().len() > DIRECTORY_BYTES_MAX {
            bail!("{} is too long for Unix sockets; set MQS_LAB_HOME to a shorter path", directory.display());
        }
        let block = Block::claim(std::process::id().wrapping_mul(31).wrapping_add(number))?;
        tell_reaper(&format!("dir {id} {}", directory.display()))?;
        std::fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755))?;
        Ok(Lab { name, id, directory, parts, block, next_address: AtomicU8::new(1), told: Mutex::default() })
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The test's directory; all its files are in it.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes a file into the test's directory.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// A loopback address that nothing else has: well-known ports can be used on it.
    pub fn address(&self) -> Ipv4Addr {
        let last = self.next_address.fetch_add(1, Ordering::Relaxed);
        assert!(last < 250, "a test has 249 addresses");
        self.block.address(last)
    }

    /// Figures of this test, for who looks on and for the results of the run.
    pub fn tell(&self, figures: impl Into<String>) {
        let figures = figures.into();
        println!("    {figures}");
        self.told.lock().unwrap_or_else(PoisonError::into_inner).push(figures);
    }

    /// Seed for everything that draws lots; `MQS_LAB_SEED` replays a run.
    pub fn seed(&self) -> u64 {
        std::env::var("MQS_LAB_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.directory) {
            Ok(()) => drop(tell_reaper(&format!("gone {}", self.id))),
            // Left to the reaper.
            Err(error) => eprintln!("removing {}: {error}", self.directory.display()),
        }
    }
}

/// Runs one test in a room of its own. Where it fails (or with `MQS_LAB_KEEP=1`) its files are kept under `target/lab`.
pub fn run(name: &'static str, parts: Arc<Parts>, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    run_and_tell(name, parts, test).0
}

/// The same, and what the test has told.
pub fn run_and_tell(
    name: &'static str,
    parts: Arc<Parts>,
    test: impl FnOnce(&Lab) -> Result<()>,
) -> (Result<()>, Vec<String>) {
    match Lab::new(name, parts) {
        Ok(lab) => {
            let result = run_in(&lab, test);
            let told = std::mem::take(&mut *lab.told.lock().unwrap_or_else(PoisonError::into_inner));
            (result, told)
        }
        Err(error) => (Err(error), Vec::new()),
    }
}

fn run_in(lab: &Lab, test: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| test(lab)));
    if matches!(result, Ok(Ok(()))) && std::env::var_os("MQS_LAB_KEEP").is_none() {
        return Ok(());
    }
    let kept = parts::checkout().join("target/lab/kept").join(lab.name.replace("::", "."));
    drop(std::fs::remove_dir_all(&kept));
    if let Err(error) = keep_files(lab.directory(), &kept) {
        eprintln!("keeping the files of {}: {error:#}", lab.name);
    }
    match result {
        Ok(result) => {
            result.with_context(|| format!("the files of this test are kept in {}", kept.display()))
        }
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a word");
            bail!("panicked: {text}; the files of this test are kept in {}", kept.display())
        }
    }
}

fn keep_files(from: &Path, to: &Path) -> Result<()> {
    const FILE_BYTES_MAX: u64 = 8 << 20;
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            keep_files(&entry.path(), &target)?;
        } else if kind.is_file() && entry.metadata()?.len() <= FILE_BYTES_MAX {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

// ---------------------------------------------------------------- the reaper

/// Reads what there is to end and to remove; acts when its input ends, that is when the tests' process is gone.
const REAPER: &str = r#"
declare -A groups processes dirs
while read -r verb key value; do
    case $verb in
    group) groups[$key]=1 ;;
    ended) unset "groups[$key]" ;;
    process) processes[$key]=1 ;;
    left) unset "processes[$key]" ;;
    dir) dirs[$key]=$value ;;
    gone) unset "dirs[$key]" ;;
    esac
done
for group in "${!groups[@]}"; do kill -KILL -- "-$group" 2>/dev/null; done
for process in "${!processes[@]}"; do kill -KILL "$process" 2>/dev/null; done
if ((${#dirs[@]})); then
    sleep 0.2
    rm -rf -- "${dirs[@]}"
fi
"#;

static THE_REAPER: Mutex<Option<Child>> = Mutex::new(None);

/// `group PGID`, `ended PGID`, `process PID`, `left PID`, `dir ID PATH` or `gone ID`.
pub fn tell_reaper(line: &str) -> Result<()> {
    let mut reaper = THE_REAPER.lock().unwrap_or_else(PoisonError::into_inner);
    if reaper.is_none() {
        let child = Command::new("bash")
            .args(["-c", REAPER])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own: the terminal's ^C ends the tests, not the reaper.
            .process_group(0)
            .spawn()
            .context("starting the reaper")?;
        *reaper = Some(child);
    }
    let input = reaper.as_mut().and_then(|child| child.stdin.as_mut()).context("the reaper has no input")?;
    writeln!(input, "{line}").context("telling the reaper")
}

/// Lets the reaper finish; for the end of `main`.
pub fn wait_for_reaper() {
    let reaper = THE_REAPER.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(mut child) = reaper {
        drop(child.stdin.take());
        drop(child.wait());
    }
}
