//! Another time for one process, by libfaketime: its wall clock only. Time-outs go by the monotonic clock, which stays true.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::parts::Part;
use crate::room::Lab;

/// How far off the clock of a process is; it reads the file each time that it asks for the time.
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right until it is set.
    pub fn new(lab: &Lab, name: &str) -> Result<Clock> {
        let library = lab.parts().get(Part::FakeTime)?.path.clone();
        let clock = Clock { library, file: lab.path(&format!("{name}.clock")) };
        clock.set(0)?;
        Ok(clock)
    }

    /// Off by so many seconds from now on.
    pub fn set(&self, seconds: i32) -> Result<()> {
        // Whoever reads sees the old text or the new one, never half of it.
        let partial = self.file.with_extension("partial");
        std::fs::write(&partial, format!("{seconds:+}s\n"))?;
        std::fs::rename(&partial, &self.file).with_context(|| format!("setting {}", self.file.display()))
    }

    /// What the process has to be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}
