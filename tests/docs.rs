//! The papers hold together: links lead to files that are there, places of the dialplan are in the dialplan, and words for figures are
//! all told of.

#![allow(clippy::unwrap_used, clippy::panic)]

use mqs::domain::agent::Agent;
use mqs::domain::call::{DoneReason, TreatedFor};
use mqs::domain::offer::OfferEnd;
use std::fs;
use std::path::{Path, PathBuf};

fn papers() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn relative_links_lead_somewhere() {
    let papers = papers();
    assert!(papers.len() > 8, "only {} papers found", papers.len());
    let mut broken = Vec::new();
    for paper in papers {
        let text = fs::read_to_string(&paper).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap();
            let outside = path.is_empty() || path.contains("://") || path.contains(' ');
            if !outside && !paper.parent().unwrap().join(path).exists() {
                broken.push(format!("{}: {target}", paper.display()));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn contexts_of_examples_are_in_the_dialplan() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dialplan = fs::read_to_string(root.join("asterisk/templates/mqs-dialplan.conf")).unwrap();
    let mut seen = 0;
    for file in papers().into_iter().chain([root.join("packaging/mqs.toml")]) {
        let text = fs::read_to_string(&file).unwrap();
        for rest in text.split("context = \"").skip(1) {
            let context = rest.split('"').next().unwrap();
            seen += 1;
            let there = dialplan.lines().any(|line| line == format!("[{context}]"));
            assert!(there || !context.starts_with("mqs-"), "{}: no context {context}", file.display());
        }
    }
    assert!(seen >= 3, "only {seen} contexts are named");
}

#[test]
fn every_word_of_a_figure_is_told_of() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let treated = TreatedFor::ALL.map(TreatedFor::as_str);
    let ended = DoneReason::ALL.map(DoneReason::as_str);
    let offers = OfferEnd::ALL.map(OfferEnd::as_str);
    let words: [(&str, &[&str]); 4] = [
        ("mqs_queue_agents", &Agent::WORDS),
        ("mqs_queue_treated_total", &treated),
        ("mqs_queue_ended_total", &ended),
        ("mqs_queue_offers_total", &offers),
    ];
    for (metric, words) in words {
        let row = text.lines().find(|line| line.starts_with(&format!("| `{metric}`"))).unwrap();
        let missing: Vec<_> = words.iter().filter(|word| !row.contains(&format!("`{word}`"))).collect();
        assert!(missing.is_empty(), "{metric}: {missing:?}");
    }
}
