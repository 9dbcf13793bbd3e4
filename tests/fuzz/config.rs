//! The configuration: what is taken is within its limits, and what is refused is named with its place.

use crate::brew::Corpus;
use mqs::config::{Config, ConfigError, POOLS_MAX};
use std::collections::BTreeSet;

fn check_config(text: &str, config: &Config) {
    assert!((1..=POOLS_MAX).contains(&config.pools.len()));
    let names: BTreeSet<_> = config.pools.iter().map(|p| &p.name).collect();
    assert_eq!(names.len(), config.pools.len(), "names of pools are unique");
    for pool in &config.pools {
        assert!((400..700).contains(&pool.refuse_code) && (1..=12).contains(&pool.rules.targets_max));
        assert!(pool.nodes.iter().all(|n| (1..=8000).contains(&n.capacity)));
        let ids: BTreeSet<_> = pool.nodes.iter().map(|n| &n.id).collect();
        assert_eq!(ids.len(), pool.nodes.len(), "names of nodes are unique");
        let headers = pool.route.headers.iter().flat_map(|(name, value)| [name, value]);
        let texts = headers.chain(&pool.route.path).chain(&pool.route.socket);
        for text in texts {
            assert!(text.bytes().all(|b| (0x20..0x7f).contains(&b)), "{text:?} goes into SIP messages");
        }
    }
    if let Some(cell) = &config.cell {
        let setup = &cell.setup;
        let ends = setup.queues.values().flat_map(|queue| queue.ends.values());
        let named = ends.chain(&setup.last_resort);
        assert!(named.into_iter().all(|name| setup.treatments.contains_key(name)), "treatments are there");
        let members = setup.agents.values().flat_map(|agent| agent.memberships.keys());
        assert!(members.into_iter().all(|queue| setup.queues.contains_key(queue)), "queues are there");
        let aors: BTreeSet<_> = setup.agents.values().map(|agent| &agent.aor).collect();
        assert_eq!(aors.len(), setup.agents.len(), "addresses are unique");
        let nodes = cell.nodes(&config.pools);
        let ids: BTreeSet<_> = nodes.iter().map(|node| &node.id).collect();
        assert_eq!(ids.len(), nodes.len(), "names of the nodes of a cell are unique");
    }
    for warning in config.warnings() {
        assert!(!warning.chars().any(char::is_control), "{warning:?}");
    }
    assert_eq!(Config::parse(&format!("{text}\n# end\n"), "f").as_ref().ok(), Some(config));
    assert!(Config::parse(&format!("bogus_key = 1\n{text}"), "f").is_err(), "an unknown key is refused");
}

fn check_error(text: &str, error: &ConfigError) {
    let lines: Vec<usize> = text.split('\n').map(|line| line.chars().count()).collect();
    assert!(!error.problems().is_empty());
    for problem in error.problems() {
        let at = problem.line.checked_sub(1).and_then(|n| lines.get(n));
        assert!(at.is_some_and(|length| (1..=length + 2).contains(&problem.column)), "{problem:?}");
        let said = problem.to_string();
        assert!(!said.chars().any(char::is_control), "{said:?}");
        assert!(
            said.starts_with("f:") && said.chars().count() < 4000,
            "{} characters: {said:.200}",
            said.len()
        );
    }
}

fn check(corpus: &Corpus, drawn: &[u8]) -> bool {
    let text = corpus.brew_text(drawn);
    match Config::parse(&text, "f") {
        Ok(config) => {
            check_config(&text, &config);
            true
        }
        Err(error) => {
            check_error(&text, &error);
            false
        }
    }
}

#[test]
fn configuration() {
    let small = "[[pool]]\nname = \"default\"\nheaders = { \"X-A\" = \"b\" }\n[[pool.node]]\nid = \"ast1\"\n\
        uri = \"sip:127.0.1.1:5060\"\ncapacity = 900\n";
    let redis = "[store]\nurl = \"redis://u:p@h:1/2\"\n[token]\nsecret_file = \"/s\"\n[listen]\nhttp = [\"127.0.0.1:1\"]\n\
        [[pool]]\nname = \"a\"\npath = \"<sip:e;lr>\"\nsocket = \"udp:127.0.0.1:5060\"\n";
    let corpus = Corpus::new(
        &[
            small,
            redis,
            include_str!("../../packaging/mqs.toml"),
            include_str!("../../packaging/mqs-minimal.toml"),
        ],
        &[
            "\n",
            "\"",
            "'",
            "\"\"\"",
            "[",
            "]",
            "[[",
            "]]",
            "{",
            "}",
            "=",
            ".",
            ",",
            "#",
            "\\u0000",
            "\\n",
            "\0",
            "é",
            "0",
            "-1",
            "8001",
            "1e999",
            "nan",
            "true",
            "9223372036854775808",
            "1979-05-27",
            "pool",
            "node",
            "capacity = 1\n",
            "[pool]\n",
            "[[pool]]\n",
            "a",
            "x = 1\n",
            "[listen]\n",
            "\u{feff}",
            "\r",
        ],
    );
    crate::fuzz!(|drawn: &[u8]| check(&corpus, drawn));
}
