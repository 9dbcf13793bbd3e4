//! `mqs completions`: what a shell needs to know for completing `mqs` commands.

use super::output::print;
use clap_complete::{Shell, generate};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  mqs completions bash > /usr/share/bash-completion/completions/mqs
  mqs completions zsh > /usr/local/share/zsh/site-functions/_mqs
  mqs completions fish > ~/.config/fish/completions/mqs.fish";

/// Print a shell's completions of `mqs` commands
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell
    #[arg(value_parser = ["bash", "zsh", "fish"])]
    shell: String,
}

/// Prints them.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let shell = match args.shell.as_str() {
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        _ => Shell::Bash,
    };
    let mut text = Vec::new();
    generate(shell, &mut super::description(), "mqs", &mut text);
    print(&String::from_utf8(text)?)?;
    Ok(ExitCode::SUCCESS)
}
