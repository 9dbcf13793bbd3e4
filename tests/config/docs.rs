//! docs/configuration.md says what the program does: its keys, defaults and limits are tried.

use crate::text::{BARE, FULL, get, known, leaves, only_problem, parse, set, without};
use mqs::config::{Changes, Config};
use std::collections::{BTreeMap, BTreeSet};

const RELOAD: &str = "## Changing it while it runs";

const DOCS: &str = include_str!("../../docs/configuration.md");

#[test]
fn every_key_is_documented_and_every_documented_key_is_known() {
    let mut documented: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows() {
        assert!(
            documented.entry(row.table.clone()).or_default().insert(row.key.clone()),
            "{} twice",
            row.key
        );
    }
    assert_eq!(documented, known());
    let shown: BTreeSet<(String, String)> =
        leaves().into_iter().filter(|(t, k)| get(FULL, t, k).is_none()).collect();
    assert_eq!(shown, BTreeSet::new(), "packaging/mqs.toml shows every key");
}

#[test]
fn documented_defaults_are_the_defaults() {
    let mut tried = 0;
    for row in rows() {
        let Some(default) = row.default.strip_prefix('`').and_then(|d| d.strip_suffix('`')) else { continue };
        assert_eq!(parse(&set(BARE, &row.table, &row.key, default)), parse(BARE), "{} = {default}", row.key);
        tried += 1;
    }
    assert!(tried >= 25, "only {tried} defaults tried");
}

#[test]
fn documented_limits_are_the_limits() {
    let mut tried = 0;
    for row in rows() {
        let Some((least, most)) = row.limits.split_once('–') else {
            let number = row.default.trim_matches('`').parse::<f64>().is_ok();
            assert!(!number, "{} is a number and has no limits", row.key);
            continue;
        };
        let (below, above) = if most.contains('.') {
            (
                format!("{:.3}", least.parse::<f64>().unwrap() - 0.001),
                format!("{:.3}", most.parse::<f64>().unwrap() + 0.001),
            )
        } else {
            ((least.parse::<i64>().unwrap() - 1).to_string(), (most.parse::<i64>().unwrap() + 1).to_string())
        };
        for inside in [least, most] {
            parse(&set(BARE, &row.table, &row.key, inside));
        }
        for outside in [below, above] {
            assert!(only_problem(&set(BARE, &row.table, &row.key, &outside)).key.ends_with(&row.key));
        }
        tried += 1;
    }
    assert!(tried >= 17, "only {tried} limits tried");
}

/// What the section on reloads says of each key: whether one applies it.
fn by_a_reload() -> BTreeMap<String, bool> {
    let section = DOCS.split_once(RELOAD).unwrap().1.split_once("\n## ").unwrap().0;
    let (mut said, mut applied) = (BTreeMap::new(), true);
    for line in section.lines().filter(|line| line.starts_with("| ")) {
        applied &= !line.contains("needs a restart |");
        let keys = line.trim_start_matches("| ").split(" |").next().unwrap();
        for key in keys.split('`').skip(1).step_by(2) {
            assert!(said.insert(key.to_owned(), applied).is_none(), "{key} twice");
        }
    }
    said
}

/// The full example, and the same with this one key otherwise.
fn otherwise(table: &str, key: &str) -> (Config, Config) {
    let value = get(FULL, table, key).unwrap();
    let number = value.parse::<i64>().ok();
    let numbers = number.into_iter().flat_map(|n| [(n + 1).to_string(), (n - 1).to_string()]);
    let words = [
        "0.6",
        "\"b\"",
        "\"/x\"",
        "\"json\"",
        "\"debug\"",
        "\"capacity\"",
        "\"ipv4\"",
        "\"0600\"",
        "\"sip:x.example.com\"",
        "\"sales\"",
        "\"x@example.com\"",
        "[\"sales\"]",
    ];
    let others = ["\"rediss://mqs@127.0.0.2:6379/0\"", "[]", "[\"192.0.2.12\"]"];
    let texts = numbers.chain(words.into_iter().chain(others).map(String::from));
    let texts = texts.map(|other| set(FULL, table, key, &other)).chain([without(FULL, table, key)]);
    let full = parse(FULL);
    let differs = |text: String| Config::parse(&text, "").ok().filter(|config| *config != full);
    let other = texts.filter_map(differs).next();
    (full.clone(), other.unwrap_or_else(|| panic!("nothing else can be written for {table}.{key}")))
}

#[test]
fn the_section_on_reloads_has_every_key_and_says_of_each_what_is_done() {
    let mut said = by_a_reload();
    for (table, key) in leaves() {
        let way = if table.is_empty() { key.clone() } else { format!("{table}.{key}") };
        let applied = said.remove(&way).unwrap_or_else(|| panic!("{way} is missing"));
        // Nodes are told otherwise, and the file with the password is not read here.
        // What has another id is another one.
        let ids = ["pool.name", "queue.id", "agent.id", "treatment.id"];
        if table == "pool.node" || way == "store.password_file" || ids.contains(&way.as_str()) {
            continue;
        }
        let (before, after) = otherwise(&table, &key);
        let changes = Changes::between(&before, &after);
        let told = match way.strip_prefix("pool.") {
            Some(_) if ["pool.limit", "pool.each_tenant", "pool.tenant"].contains(&table.as_str()) => {
                table.replace("pool.", "pool.default.")
            }
            Some(rest) => format!("pool.default.{rest}"),
            None if table == "listen.tls" => table,
            None if table == "queue" => format!("queue.sales.{key}"),
            None if table == "agent" => format!("agent.agent17.{key}"),
            None if table == "treatment" && key == "overflow" => "treatment.to-support".to_owned(),
            None if table == "treatment" && key == "cause" => "treatment.sorry".to_owned(),
            None if table == "treatment" => "treatment.voicemail".to_owned(),
            None => way,
        };
        let (of_one, of_other) =
            if applied { (changes.applied, changes.restart) } else { (changes.restart, changes.applied) };
        assert_eq!((of_one, of_other), (vec![told], Vec::new()));
    }
    assert!(said.is_empty(), "no such keys: {said:?}");
}

/// A row of a table of keys in docs/configuration.md.
struct Row {
    table: String,
    key: String,
    default: String,
    limits: String,
}

fn rows() -> Vec<Row> {
    let mut table = None;
    let mut rows = Vec::new();
    for line in DOCS.lines().take_while(|line| *line != RELOAD) {
        if let Some(heading) = line.strip_prefix("## ") {
            let name = heading.trim_matches(['`', '[', ']']);
            table = Some(if heading == "Top level" { String::new() } else { name.to_owned() });
        } else if let (Some(table), Some(row)) = (&table, line.strip_prefix("| `")) {
            let cells: Vec<&str> = row.trim_end_matches('|').split('|').map(str::trim).collect();
            let [key, _meaning, default, limits] = cells[..] else { panic!("four cells: {line}") };
            let key = key.trim_end_matches('`');
            rows.push(Row {
                table: table.clone(),
                key: key.into(),
                default: default.into(),
                limits: limits.into(),
            });
        }
    }
    rows
}
