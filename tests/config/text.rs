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
[cell]
last_resort = "sorry"
[ari]
password_file = "/p"
[[queue]]
id = "sales"
[[agent]]
id = "agent17"
aor = "agent17@example.com"
[[treatment]]
id = "sorry"
cause = 17
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
    let mut others: BTreeMap<&str, usize> = BTreeMap::new();
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
            other if line.starts_with("[[") => {
                let count = others.entry(other).or_default();
                *count += 1;
                format!("{other}[{}]", *count - 1)
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

/// The lines of each table of this name, header excluded.
fn spans_of(text: &str, table: &str) -> Vec<(usize, usize)> {
    let all = tables(text);
    let end = |at: usize| all.get(at + 1).map_or(text.lines().count(), |(next, _)| next - 1);
    let named = all.iter().enumerate().filter(|(_, (_, way))| without_indices(way) == table);
    let spans: Vec<(usize, usize)> = named.map(|(at, (from, _))| (*from, end(at))).collect();
    assert!(!spans.is_empty(), "no [{table}]");
    spans
}

/// The first line that sets this key in a table of this name.
fn line_of(text: &str, table: &str, key: &str) -> Option<usize> {
    let lines: Vec<&str> = text.lines().collect();
    let all = spans_of(text, table).into_iter().flat_map(|(from, to)| from..to);
    all.into_iter().find(|at| lines[*at].strip_prefix(key).is_some_and(|rest| rest.starts_with(" = ")))
}

pub fn get<'t>(text: &'t str, table: &str, key: &str) -> Option<&'t str> {
    let line = text.lines().nth(line_of(text, table, key)?)?;
    line.strip_prefix(key)?.strip_prefix(" = ")
}

/// The way to a key, in the first table of this name that has it.
pub fn way_to(text: &str, table: &str, key: &str) -> String {
    let line = line_of(text, table, key).unwrap();
    let way = tables(text).into_iter().rfind(|(from, _)| *from <= line).unwrap().1;
    if way.is_empty() { key.to_owned() } else { format!("{way}.{key}") }
}

/// The text with this key set: where a table of this name has it, else in the first of them.
pub fn set(text: &str, table: &str, key: &str, value: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(String::from).collect();
    let line = format!("{key} = {value}");
    match line_of(text, table, key) {
        Some(at) => lines[at] = line,
        None => lines.insert(spans_of(text, table)[0].0, line),
    }
    lines.join("\n") + "\n"
}

/// The text without this key in the first table of this name that has it.
pub fn without(text: &str, table: &str, key: &str) -> String {
    let gone = line_of(text, table, key);
    let kept = text.lines().enumerate().filter(|(at, _)| Some(*at) != gone);
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
