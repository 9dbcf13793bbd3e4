//! `mqs man`: the manual, made of the same words as `--help`.

use super::output::{count, print};
use anyhow::Context as _;
use clap::Command;
use clap_mangen::Man;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs man | man -l -
  mqs man --dir /usr/local/share/man/man1       mqs.1, mqs-serve.1, mqs-node-list.1, …";

/// Print the man page, or write one a command
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Write a page for `mqs` and each of its commands into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the page, or writes all of them.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut mqs = super::description();
    // Gives every command its full name, `mqs node list`.
    mqs.build();
    let Some(dir) = &args.dir else {
        print(&String::from_utf8(page(&mqs)?)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    let pages = write(&mqs, dir).context("cannot write the man pages")?;
    print(&format!("{} in {}\n", count(pages, "page"), dir.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: &Command) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    Man::new(command.clone()).render(&mut text)?;
    Ok(text)
}

/// Writes the pages of a command and all below it, and returns how many there were.
fn write(command: &Command, dir: &Path) -> anyhow::Result<usize> {
    // With dashes where the command line has spaces, as git(1) does it.
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let file = dir.join(format!("{name}.1"));
    std::fs::write(&file, page(command)?).with_context(|| file.display().to_string())?;
    let mut pages = 1;
    for below in command.get_subcommands() {
        pages += write(below, dir)?;
    }
    Ok(pages)
}
