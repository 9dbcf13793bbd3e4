//! What people see: standard output and standard error.

use std::io::{self, Write as _};

/// Says on standard error what could not be done, and why.
pub fn error(error: &anyhow::Error) {
    let _ = writeln!(io::stderr(), "mqs: {}", told(error));
}

/// The error with its causes. Some errors repeat their cause in their own text; it is said once.
pub fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let said = cause.to_string();
        if text.is_empty() {
            text = said;
        } else if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}
