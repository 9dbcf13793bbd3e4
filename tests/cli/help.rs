//! What is said of the command line itself: help, completions, man pages, and what is wrong with a line.

use super::house::*;
use std::fs;
use std::process::Command;

#[test]
fn every_help_has_examples_and_fits_into_100_columns() {
    let verbs: &[&[&str]] = &[
        &[],
        &["serve"],
        &["check"],
        &["demo"],
        &["route"],
        &["explain"],
        &["confirm"],
        &["fail"],
        &["done"],
        &["node"],
        &["node", "list"],
        &["node", "add"],
        &["node", "set"],
        &["node", "drain"],
        &["node", "remove"],
        &["queue"],
        &["agent"],
        &["call"],
        &["events"],
        &["cell"],
        &["top"],
        &["reload"],
        &["completions"],
        &["man"],
    ];
    for verb in verbs {
        let (code, out, err) = run(&[verb, &["--help"][..]].concat());
        assert_eq!((code, err.as_str()), (0, ""), "{verb:?}");
        let example = ["mqs", &verb.join(" ")].join(" ");
        let (_, examples) = out.split_once("Examples:\n").unwrap_or_else(|| panic!("{verb:?}: {out}"));
        assert!(examples.contains(example.trim_end()), "{verb:?}: {examples}");
        let widest = out.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{verb:?} has a line of {widest} columns:\n{out}");
    }
    assert_eq!(
        run(&["--version"]),
        (0, concat!("mqs ", env!("CARGO_PKG_VERSION"), "\n").to_owned(), String::new())
    );
}

#[test]
fn a_wrong_command_line_ends_with_2() {
    for (args, said) in [
        (&["frobnicate"][..], "unrecognized subcommand 'frobnicate'"),
        (&["route", "call-1"], "<REQUEST_URI>"),
        (&["route", "a b", "sip:a@b"], "invalid value 'a b' for '<CALL_ID>'"),
        (&["route", "a", "http://b"], "scheme \"http\" is not taken"),
        (&["route", "a", "sip:a@b", "--kind", "agent"], "--node <NODE>"),
        (&["route", "a", "sip:a@b", "--targets", "13"], "13 is not in 1..=12"),
        (&["node", "add", "ast4", "sip:a", "--capacity", "8001"], "8001 is not in 1..=8000"),
        (
            &["node", "add", "ast4", "sip:a", "--capacity", "many"],
            "invalid value 'many' for '--capacity <CHANNELS>'",
        ),
        (&["node", "add", "ast.4", "sip:a", "--capacity", "1"], "'.' at position 3"),
        (&["node", "set", "ast4"], "the following required arguments were not provided"),
        (&["node", "drain", "ast4", "--timeout", "5"], "--wait"),
        (&["demo", "--nodes", "1"], "1 is not in 2..=24"),
        (&["top", "--interval", "0.1"], "0.1 is not in 0.2..=60"),
        (&["top", "--interval", "NaN"], "NaN is not in 0.2..=60"),
        (&["completions", "tcsh"], "[possible values: bash, zsh, fish]"),
    ] {
        let (code, out, err) = run(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains(said), "{args:?}: {err}");
    }
}

#[test]
fn without_an_instance_the_error_names_the_place() {
    let gone = "No such file or directory (os error 2)";
    let refused = "Connection refused (os error 111)";
    fails(
        run(&["node", "list"]),
        1,
        &format!("mqs: cannot list the nodes: no instance answers at /run/mqs/http.sock: {gone}\n"),
    );
    fails(
        run(&["route", "call-1", "sip:a@b", "--socket", "/nowhere/x.sock"]),
        1,
        &format!("mqs: cannot route call-1: no instance answers at /nowhere/x.sock: {gone}\n"),
    );
    fails(
        run(&["done", "m1.x", "--url", "http://127.0.0.1:1"]),
        1,
        &format!("mqs: cannot end the lease: no instance answers at http://127.0.0.1:1/: {refused}\n"),
    );
}

#[test]
fn shells_complete_every_verb() {
    for (shell, start) in [("bash", "_mqs() {"), ("zsh", "#compdef mqs"), ("fish", "complete -c mqs")] {
        let (code, out, err) = run(&["completions", shell]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains(start), "{shell}");
        for word in ["serve", "explain", "drain", "top", "interval"] {
            assert!(out.contains(word), "{shell}: {word}");
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), out).unwrap();
        // Where the shell is installed, it must take it.
        if let Ok(checked) = Command::new(shell).arg("-n").arg(file.path()).output() {
            assert!(checked.status.success(), "{shell}: {}", String::from_utf8_lossy(&checked.stderr));
        }
    }
}

#[test]
fn there_is_a_man_page_for_every_verb() {
    let (code, page, err) = run(&["man"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        page.contains(".TH mqs 1") && page.contains("mqs\\-node(1)") && page.contains("Exit codes"),
        "{page}"
    );
    let house = tempfile::tempdir().unwrap();
    let dir = house.path().to_str().unwrap();
    let (code, out, err) = run(&["man", "--dir", dir]);
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!((code, out, err.as_str()), (0, format!("{} pages in {dir}\n", names.len()), ""));
    for name in ["mqs.1", "mqs-serve.1", "mqs-top.1", "mqs-node.1", "mqs-node-drain.1"] {
        assert!(names.iter().any(|n| n == name), "{name}: {names:?}");
    }
    let drain = fs::read_to_string(house.path().join("mqs-node-drain.1")).unwrap();
    assert!(drain.contains("mqs node drain") && drain.contains("\\-\\-wait"), "{drain}");
    let (code, _, err) = run(&["man", "--dir", "/nowhere"]);
    assert_eq!(code, 1);
    assert!(err.starts_with("mqs: cannot write the man pages: /nowhere/mqs.1: "), "{err}");
}
