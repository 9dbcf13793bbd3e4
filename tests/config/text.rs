//! Texts of configurations: the shipped ones, changed ones, and what the program says of them.

use mqs::config::{Config, Problem};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

pub const FULL: &str = include_str!("../../packaging/mqs.toml");
pub const MINIMAL: &str = include_str!("../../packaging/mqs-minimal.toml");

/// Every table, written and empty but for what it must have.
pub const BARE: &str = r#"
[instance]
id = "a"
[store]
[token]
[listen]
[redirect]
[dispatch]
[dns]
[log]
[[pool]]
name = "default"
[pool.limit]
calls_per_second = 1
[pool.each_tenant]
calls_per_second = 1
[[pool.tenant]]
name = "acme"
calls_per_second = 1
[pool.health]
[pool.discover]
name = "sip:pool.example.com"
capacity = 900
[pool.register]
networks = ["127.0.0.0/8"]
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 900
"#;

pub fn parse(text: &str) -> Config {
    Config::parse(text, "mqs.toml").unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub fn problems(text: &str) -> Vec<Problem> {
    match Config::parse(text, "mqs.toml") {
        Ok(_) => panic!("taken:\n{text}"),
        Err(error) => error.problems().to_vec(),
    }
}

pub fn only_problem(text: &str) -> Problem {
    let mut problems = problems(text);
    assert_eq!(problems.len(), 1, "{problems:#?}\n{text}");
    problems.remove(0)
}

/// Every shipped example: the files of packaging/, and the blocks of the documents. A block without a pool is a part of
/// a file; it gets one.
pub fn examples() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut examples = Vec::new();
    for entry in fs::read_dir(root.join("packaging")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "toml") {
            let name = format!("packaging/{}", path.file_name().unwrap().to_str().unwrap());
            examples.push((name, fs::read_to_string(path).unwrap()));
        }
    }
    assert!(examples.len() >= 2);
    for name in ["docs/configuration.md", "README.md"] {
        let Ok(text) = fs::read_to_string(root.join(name)) else { continue };
        for (at, block) in text.split("\n```toml\n").skip(1).enumerate() {
            let mut block = block.split("\n```").next().unwrap().to_owned() + "\n";
            if !block.contains("[[pool]]") {
                block += "[[pool]]\nname = \"default\"\n";
            }
            examples.push((format!("{name}, block {at}"), block));
        }
    }
    examples
}

/// Each table of a text: the number of lines before its first key, and the way to it; the document itself is `""`.
pub fn tables(text: &str) -> Vec<(usize, String)> {
    let mut tables = vec![(0, String::new())];
    let (mut pools, mut nodes) = (0, 0);
    for (at, line) in text.lines().enumerate().filter(|(_, line)| line.starts_with('[')) {
        let way = match line.trim_matches(['[', ']']) {
            "pool" => {
                (pools, nodes) = (pools + 1, 0);
                format!("pool[{}]", pools - 1)
            }
            "pool.tenant" => format!("pool[{}].tenant[0]", pools - 1),
            "pool.discover" => format!("pool[{}].discover", pools - 1),
            "pool.node" => {
                nodes += 1;
                format!("pool[{}].node[{}]", pools - 1, nodes - 1)
            }
            other => match other.strip_prefix("pool.") {
                Some(rest) => format!("pool[{}].{rest}", pools - 1),
                None => other.to_owned(),
            },
        };
        tables.push((at + 1, way));
    }
    tables
}

fn without_indices(way: &str) -> String {
    way.replace(|c: char| c.is_ascii_digit(), "").replace("[]", "")
}

/// The lines of the first table of this name, header excluded.
fn span_of(text: &str, table: &str) -> (usize, usize) {
    let all = tables(text);
    let at = all
        .iter()
        .position(|(_, way)| without_indices(way) == table)
        .unwrap_or_else(|| panic!("no [{table}]"));
    (all[at].0, all.get(at + 1).map_or(text.lines().count(), |(next, _)| next - 1))
}

pub fn get<'t>(text: &'t str, table: &str, key: &str) -> Option<&'t str> {
    let (from, to) = span_of(text, table);
    text.lines().take(to).skip(from).find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
}

/// The text with this key set in the first table of this name.
pub fn set(text: &str, table: &str, key: &str, value: &str) -> String {
    let (from, to) = span_of(text, table);
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let line = format!("{key} = {value}");
    match (from..to).find(|at| lines[*at].starts_with(&format!("{key} = "))) {
        Some(at) => lines[at] = line,
        None => lines.insert(from, line),
    }
    lines.join("\n") + "\n"
}

/// The text without this key in the first table of this name.
pub fn without(text: &str, table: &str, key: &str) -> String {
    let (from, to) = span_of(text, table);
    let is_it = |at: usize, line: &str| (from..to).contains(&at) && line.starts_with(&format!("{key} = "));
    let kept = text.lines().enumerate().filter(|(at, line)| !is_it(*at, line));
    kept.map(|(_, line)| format!("{line}\n")).collect()
}

/// The keys of each table, as the program names them when it refuses another.
pub fn known() -> BTreeMap<String, BTreeSet<String>> {
    let mut known = BTreeMap::new();
    for (at, way) in tables(FULL) {
        let mut lines: Vec<&str> = FULL.lines().collect();
        lines.insert(at, "bogus_key = 1");
        let message = only_problem(&lines.join("\n")).message;
        let list = message.strip_prefix("unknown key; allowed here: ").unwrap();
        known.insert(without_indices(&way), list.split(", ").map(String::from).collect());
    }
    known
}

/// (table, key) of all keys that are no tables.
pub fn leaves() -> BTreeSet<(String, String)> {
    let known = known();
    let is_table = |table: &str, key: &str| {
        known.contains_key(&if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") })
    };
    let pairs = known.iter().flat_map(|(table, keys)| keys.iter().map(move |key| (table, key)));
    pairs.filter(|(t, k)| !is_table(t, k)).map(|(t, k)| (t.clone(), k.clone())).collect()
}
