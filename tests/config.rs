//! The configuration file: what is taken, what is refused and in which words, and that examples, documentation and
//! program agree about every key.

// Here a failed unwrap is a failed test.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

#[path = "config/cell.rs"]
mod cell;
#[path = "config/cell_runs.rs"]
mod cell_runs;
#[path = "config/docs.rs"]
mod docs;
#[path = "config/redirect.rs"]
mod redirect;
#[path = "config/text.rs"]
mod text;
#[path = "config/wrong.rs"]
mod wrong;

use mqs::config::{Config, ConfigError, Endpoint, LogFormat, StoreUrl};
use mqs::domain::node::NodeState;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use text::{BARE, FULL, MINIMAL, examples, leaves, only_problem, parse, problems, set, tables, way_to};
use wrong::{OF_A_CELL, WRONG};

// ---- what is taken ----

#[test]
fn what_is_left_out_has_its_default() {
    let config = parse(MINIMAL);
    assert_eq!(config.store.url, StoreUrl::Memory);
    assert_eq!(texts(&config.listen.resp), ["unix:/run/mqs/mqs.sock"]);
    assert_eq!(texts(&config.listen.http), ["127.0.0.1:8088", "unix:/run/mqs/http.sock"]);
    assert_eq!((config.listen.socket_mode, config.listen.tls, config.listen.token_file), (0o660, None, None));
    assert_eq!((config.dispatch.life.held_ms, config.dispatch.life.call_max_ms), (30_000, 14_400_000));
    assert_eq!((config.log.format, config.log.filter.as_str()), (LogFormat::Text, "info"));
    assert!(!config.instance.id.is_empty(), "the host's name");
    let pool = &config.pools[0];
    assert_eq!((pool.rules.agent_reserve_pm, pool.rules.zone_spill_pm, pool.rules.targets_max), (0, 800, 3));
    assert_eq!((pool.refuse_code, pool.retry_after_s), (480, 3));
    assert_eq!((pool.route.fr_timer_ms, pool.route.fr_inv_timer_ms), (Some(2000), Some(120_000)));
    assert_eq!(pool.nodes[1].state, NodeState::Active);
}

#[test]
fn what_is_written_arrives() {
    let config = parse(FULL);
    assert_eq!(config.instance.zone.map(|z| z.to_string()).as_deref(), Some("a"));
    assert_eq!(config.emergency_numbers, ["112", "911"].map(String::from).into());
    assert_eq!(config.listen.http[2], Endpoint::Tcp("192.0.2.10:8443".parse().unwrap()));
    assert_eq!(config.listen.tls.unwrap().key, Path::new("/etc/mqs/tls/key.pem"));
    let pool = &config.pools[0];
    assert_eq!(pool.rules.agent_reserve_pm, 400);
    assert_eq!(pool.route.headers, [("X-Tenant".to_owned(), "main".to_owned())]);
    assert_eq!(pool.route.socket.as_deref(), Some("udp:192.0.2.10:5060"));
    let node = &pool.nodes[1];
    assert_eq!((node.id.as_str(), node.uri.as_str(), node.capacity), ("ast2", "sip:192.0.2.22:5060", 900));
    assert_eq!((node.zone.as_ref().unwrap().as_str(), node.state), ("b", NodeState::Draining));
    assert_eq!(node.tags.iter().map(|t| t.as_str()).collect::<Vec<_>>(), ["opus"]);
}

#[test]
fn headers_keep_the_order_of_the_file() {
    let config = parse(&set(BARE, "pool", "headers", r#"{ "X-B" = "1", "X-A" = "2", "Subject" = "3" }"#));
    let names: Vec<&str> = config.pools[0].route.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["X-B", "X-A", "Subject"]);
}

#[test]
fn the_shipped_examples_are_taken_without_a_warning() {
    for (name, text) in examples() {
        let config = Config::parse(&text, &name).unwrap_or_else(|e| panic!("{name}: {e}"));
        if name.starts_with("packaging") {
            assert_eq!(config.warnings(), Vec::<String>::new(), "{name}");
        }
    }
}

// ---- what is refused ----

#[test]
fn a_key_that_is_not_known_is_refused_in_every_table_of_every_example() {
    let mut tried = 0;
    for (name, text) in examples() {
        for (at, table) in tables(&text) {
            let mut lines: Vec<&str> = text.lines().collect();
            lines.insert(at, "bogus_key = 1");
            let problem = only_problem(&lines.join("\n"));
            let key = if table.is_empty() { "bogus_key".to_owned() } else { format!("{table}.bogus_key") };
            assert_eq!((problem.line, problem.column, problem.key), (at + 1, 1, key), "{name}");
            assert!(problem.message.starts_with("unknown key; allowed here: "), "{}", problem.message);
            tried += 1;
        }
    }
    assert!(tried > 30, "only {tried} tables tried");
}

#[test]
fn a_wrong_value_is_refused_and_named_for_every_key() {
    for (table, key, value, rest, words) in WRONG.iter().chain(OF_A_CELL) {
        let text = set(FULL, table, key, value);
        let line = 1 + text.lines().position(|line| line == format!("{key} = {value}")).unwrap();
        let problem = only_problem(&text);
        let way = format!("{}{rest}", way_to(&text, table, key));
        assert_eq!((problem.key.as_str(), problem.line), (way.as_str(), line), "{problem}");
        assert!(problem.column > key.len() + 2, "{problem}");
        assert!(problem.message.contains(words), "{problem}");
    }
    let all = WRONG.iter().chain(OF_A_CELL);
    let tried: BTreeSet<(String, String)> = all.map(|w| (w.0.to_owned(), w.1.to_owned())).collect();
    assert_eq!(tried, leaves(), "every key has its wrong value");
}

#[test]
fn capacities_that_cannot_be_are_refused() {
    for bad in
        ["0", "-5", "900.0", "1_000_000", "inf", "nan", "\"900\"", "true", "[900]", "9223372036854775808"]
    {
        let problem = only_problem(&set(BARE, "pool.node", "capacity", bad));
        assert_eq!(problem.key, "pool[0].node[0].capacity", "{bad}");
        assert!(problem.message.contains("from 1 to 8000"), "{problem}");
    }
    assert_eq!(parse(&set(BARE, "pool.node", "capacity", "8_000")).pools[0].nodes[0].capacity, 8000);
}

#[test]
fn shares_are_exact() {
    let reserve =
        |value: &str| parse(&set(BARE, "pool", "agent_reserve", value)).pools[0].rules.agent_reserve_pm;
    assert_eq!(
        ["0", "0.0", "0.1", "0.333", "0.4", "0.7", "9e-1"].map(reserve),
        [0, 0, 100, 333, 400, 700, 900]
    );
    for bad in ["0.3333", "-0.0001", "0.9001", "1", "0x0"] {
        only_problem(&set(BARE, "pool", "agent_reserve", bad));
    }
}

#[test]
fn what_must_be_there_is_missed_by_name() {
    for (table, key) in [
        ("pool", "name"),
        ("pool.discover", "name"),
        ("pool.discover", "capacity"),
        ("pool.node", "id"),
        ("pool.node", "uri"),
        ("pool.node", "capacity"),
    ] {
        let text = set(BARE, table, key, "").replace(&format!("{key} = \n"), "");
        let problem = only_problem(&text);
        assert!(problem.key.ends_with(&format!(".{key}")), "{problem}");
        assert!(problem.message.starts_with("missing"), "{problem}");
    }
    let half = set(BARE, "listen", "tls", r#"{ cert = "/c" }"#);
    assert_eq!(only_problem(&half).key, "listen.tls.key");
}

#[test]
fn tables_of_the_wrong_shape_are_refused() {
    let said = |text: &str| {
        let problem = only_problem(text);
        format!("{}: {}", problem.key, problem.message)
    };
    assert_eq!(said("[pool]\nname = \"a\""), "pool: found a table; write [[pool]] with double brackets");
    assert_eq!(
        said(&BARE.replace("[store]", "[[store]]")),
        "store: found a list; write a table: [store], with single brackets"
    );
    assert_eq!(
        said(&set(BARE, "listen", "tls", "true")),
        "listen.tls: found true or false; write a table: [listen.tls], with single brackets"
    );
    assert_eq!(
        said(&set(MINIMAL, "pool", "headers", "[]")),
        "pool[0].headers: found a list; write { \"X-Name\" = \"value\" }"
    );
    assert_eq!(said("pool = [1]"), "pool[0]: found a number; write a table");
    for nothing in ["", "pool = []", "# a comment"] {
        assert_eq!(said(nothing), "pool: no pool: write at least one [[pool]] with a name", "{nothing:?}");
    }
}

// ---- rules that span keys ----

#[test]
fn a_shared_store_needs_a_shared_secret() {
    for url in [
        "redis://127.0.0.1",
        "rediss://redis.example.com/1",
        "redis+unix:///run/redis.sock?db=1",
        "redis+sentinel://s1:1,s2:2/m/0",
    ] {
        let text = set(BARE, "store", "url", &format!("{url:?}"));
        let problem = only_problem(&text);
        assert_eq!((problem.key.as_str(), problem.line), ("token.secret_file", 5), "{problem}");
        let text = set(&text, "token", "secret_file", "\"/etc/mqs/secret\"");
        assert_eq!(parse(&text).store.url.to_string(), url);
    }
    let text = set(BARE, "store", "url", "\"file:/var/lib/mqs/mqs.redb\"");
    let problem = only_problem(&text);
    assert_eq!((problem.key.as_str(), problem.line), ("token.secret_file", 5), "{problem}");
    assert!(problem.message.contains("outlive the process"), "{problem}");
    let text = set(&text, "token", "secret_file", "\"/etc/mqs/secret\"");
    assert_eq!(parse(&text).store.url.to_string(), "file:/var/lib/mqs/mqs.redb");
    assert!(only_problem(&set(&text, "store", "password_file", "\"/p\"")).message.contains("file: take no"));
    let text = set(BARE, "store", "password_file", "\"/p\"");
    assert_eq!(only_problem(&text).message, "the stores memory: and file: take no password");
    let text = set(FULL, "store", "url", "\"redis://:pw@127.0.0.1\"");
    assert!(only_problem(&text).message.contains("holds a password already"));
    let text = set(FULL, "token", "secret_file", "\"/etc/mqs/client-token\"");
    assert!(only_problem(&text).message.contains("whoever may ask could then sign tokens"));
}

#[test]
fn what_other_hosts_can_reach_needs_a_token_and_tls() {
    for (list, endpoint) in [("resp", "0.0.0.0:6380"), ("http", "192.0.2.10:8443"), ("http", "[::]:8443")] {
        let open = set(BARE, "listen", list, &format!("[\"127.0.0.1:1\", {endpoint:?}]"));
        let token = set(&open, "listen", "token_file", "\"/t\"");
        let tls = "tls = { cert = \"/c\", key = \"/k\" }\n";
        let tls_only = open.replace("[listen]\n", &format!("[listen]\n{tls}"));
        for text in [&open, &token, &tls_only] {
            let problem = only_problem(text);
            assert_eq!(problem.key, format!("listen.{list}[1]"));
            assert!(problem.message.starts_with(endpoint), "the listener is named: {problem}");
        }
        parse(&token.replace("[listen]\n", &format!("[listen]\n{tls}")));
    }
    parse(&set(BARE, "listen", "http", r#"["127.0.0.2:8088", "[::1]:8088", "[::ffff:127.0.0.1]:8089"]"#));
}

#[test]
fn listeners_are_there_and_apart() {
    let none = set(&set(BARE, "listen", "resp", "[]"), "listen", "http", "[]");
    let problem = only_problem(&none);
    assert!(problem.key == "listen" && problem.message.contains("no listener at all"), "{problem}");
    let only_http = parse(&set(BARE, "listen", "resp", "[]"));
    assert!(only_http.listen.resp.is_empty() && only_http.listen.http.len() == 2);
    for (resp, key) in [
        (r#"["unix:/a", "unix:/a"]"#, "listen.resp[1]"),
        (r#"["127.0.0.1:8088"]"#, "listen"),
        (r#"["unix:/run/mqs/http.sock"]"#, "listen"),
    ] {
        let problem = only_problem(&set(BARE, "listen", "resp", resp));
        assert!(problem.key == key && problem.message.contains("cannot be listened on twice"), "{problem}");
    }
}

#[test]
fn names_and_places_are_unique() {
    let two =
        |id: &str, uri: &str| format!("{BARE}[[pool.node]]\nid = {id:?}\nuri = {uri:?}\ncapacity = 1\n");
    assert_eq!(parse(&two("ast2", "sip:127.0.1.1:5061")).pools[0].nodes.len(), 2);
    let problem = only_problem(&two("ast1", "sip:127.0.1.2"));
    assert_eq!(
        (problem.key.as_str(), problem.line),
        ("pool[0].node[1].id", BARE.lines().count() + 2),
        "{problem}"
    );
    let problem = only_problem(&two("ast2", "sip:127.0.1.1;transport=udp"));
    assert!(problem.key == "pool[0].node[1].uri" && problem.message.contains("node ast1"), "{problem}");
    let problem = only_problem(&format!("{BARE}[[pool]]\nname = \"default\"\n"));
    assert_eq!(problem.key, "pool[1].name");
    assert_eq!(parse(&format!("{BARE}[[pool]]\nname = \"b\"\n")).pools.len(), 2);
}

#[test]
fn a_pool_that_nodes_register_in_needs_no_others() {
    let only = "[[pool]]\nname = \"a\"\n[pool.register]\nnetworks = [\"10.0.0.0/8\", \"2001:db8::1\"]\n";
    let config = parse(only);
    assert!(!config.warnings().iter().any(|w| w.contains("no nodes") || w.contains("no active")));
    assert_eq!(config.pools[0].register.as_ref().unwrap().networks.len(), 2);
    let zone = format!("[instance]\nzone = \"z\"\n{only}");
    assert!(!parse(&zone).warnings().iter().any(|w| w.contains("no node stands there")));
    assert_eq!(parse("[[pool]]\nname = \"a\"\n").pools[0].register, None);
    let missing = only_problem("[[pool]]\nname = \"a\"\n[pool.register]\nttl_max_s = 60\n");
    assert_eq!((missing.key.as_str(), missing.line), ("pool[0].register.networks", 3), "{missing}");
    let empty = only_problem(&set(BARE, "pool.register", "networks", "[]"));
    assert!(empty.key.ends_with("register.networks") && empty.message.contains("an empty list"), "{empty}");
}

#[test]
fn a_pool_from_the_dns_needs_bounds_that_fit() {
    let text =
        set(&set(BARE, "pool.discover", "refresh_min_s", "60"), "pool.discover", "refresh_max_s", "59");
    let problem = only_problem(&text);
    assert_eq!(problem.key, "pool[0].discover.refresh_min_s");
    assert_eq!(problem.message, "60 is more than refresh_max_s, 59");
    let dns =
        parse(&set(BARE, "dns", "servers", r#"["192.0.2.53", "[2001:db8::53]:5353", "2001:db8::54"]"#)).dns;
    let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["192.0.2.53:53", "[2001:db8::53]:5353", "[2001:db8::54]:53"]);
    let twice = only_problem(&set(BARE, "dns", "servers", r#"["192.0.2.53", "192.0.2.53:53"]"#));
    assert!(twice.key == "dns.servers[1]" && twice.message.contains("there twice"), "{twice}");
    let only = "[[pool]]\nname = \"a\"\n[pool.discover]\nname = \"_sip._udp.a\"\ncapacity = 1\n";
    assert!(!parse(only).warnings().iter().any(|w| w.contains("no nodes")));
    let zone = format!("[instance]\nzone = \"z\"\n{only}zone = \"z\"\n");
    assert!(!parse(&zone).warnings().iter().any(|w| w.contains("no node stands there")));
    let reserve = only.replace("[pool.discover]", "agent_reserve = 0.9\n[pool.discover]");
    assert!(parse(&reserve).warnings().iter().any(|w| w.contains("nodes of _sip._udp.a in pool a")));
}

#[test]
fn several_mistakes_are_told_at_once_in_the_order_of_the_file() {
    let text = set(BARE, "pool.node", "capacity", "0");
    let text = set(&set(&text, "dispatch", "held_ms", "1"), "pool", "colour", "1");
    let keys: Vec<String> = problems(&text).into_iter().map(|p| p.key).collect();
    assert_eq!(keys, ["dispatch.held_ms", "pool[0].colour", "pool[0].node[0].capacity"]);
    let many: String = (0..200_000).map(|n| format!("k{n} = 1\n")).collect();
    let error = Config::parse(&many, "mqs.toml").unwrap_err();
    assert!(error.problems().len() <= 100 && error.to_string().lines().count() <= 21, "bounded");
}

// ---- secrets ----

#[test]
fn a_password_is_in_no_word_that_the_program_says() {
    let urls = [
        r#""redis://:hunter2@127.0.0.1""#,
        r#""rediss://mqs:hunter2@redis.example.com:6380/1""#,
        r#""redis+unix:///run/redis.sock?pass=hunter2""#,
        r#""redis+sentinel://mqs:hunter2@s1,s2/m?sentinel_pass=hunter2""#,
        r#""redis+cluster://:hunter2@10.0.0.1""#,
    ];
    for url in urls {
        let config = parse(
            &set(&set(FULL, "store", "url", url), "store", "password_file", "")
                .replace("password_file = \n", ""),
        );
        let StoreUrl::Redis(redis) = &config.store.url else { panic!("{url}") };
        assert!(redis.secret().contains("hunter2"));
        let said = format!("{config:?} {config:#?} {} {redis} {:?}", config.store.url, config.warnings());
        assert!(!said.contains("hunter2"), "{said}");
    }
    let slips = [
        ("store", "url", r#""redis://:hunter2@127.0.0.1/x""#),
        ("store", "url", r#""mysql://root:hunter2@127.0.0.1""#),
        ("store", "url", r#""redis://:hunter2@127.0.0.1#insecure""#),
        ("store", "url", r#""redis://:hunter2@127.0.0.1 ""#),
        ("store", "url", r#""redis+sentinel://:hunter2@s1/""#),
        ("store", "url", r#""redis+sentinel://s1/m?pass=hunter2""#),
        ("store", "url", r#""redis+cluster://:hunter2@10.0.0.1/1""#),
        ("store", "url", r#""redis://:hunter2@127.0.0.1"#),
        ("store", "url", "redis://:hunter2@127.0.0.1"),
        ("store", "url", r#"["redis://:hunter2@127.0.0.1"]"#),
        ("store", "url", r#""redis://:hunter2@127.0.0.1""#),
        ("store", "uri", r#""redis://:hunter2@127.0.0.1""#),
        ("store", "password", r#""hunter2""#),
        ("store", "password_file", r#""hunter2""#),
        ("token", "secret_file", r#""hunter2""#),
        ("token", "secret", r#""hunter2""#),
        ("listen", "token_file", r#""hunter2""#),
        ("listen", "http", r#"["http://me:hunter2@127.0.0.1"]"#),
        ("listen.tls", "key", r#""hunter2""#),
        ("pool.node", "uri", r#""sip:me:hunter2@127.0.1.1""#),
        ("pool", "path", r#""sip:me:hunter2@127.0.1.1""#),
    ];
    for (table, key, value) in slips {
        let error = Config::parse(&set(FULL, table, key, value), "mqs.toml").unwrap_err();
        assert!(!format!("{error} {error:?} {error:#?}").contains("hunter2"), "{key} = {value}: {error}");
    }
}

#[test]
fn what_is_repeated_from_the_file_is_escaped_and_cut() {
    let text = set(BARE, "log", "format", r#""\u001b[31mred\r\n""#);
    assert!(only_problem(&text).message.contains(r#""\u{1b}[31mred\r\n""#));
    let text = set(BARE, "log", "format", &format!("\"{}\"", "é".repeat(5000)));
    assert!(only_problem(&text).message.chars().count() < 120);
    let text = set(BARE, "log", "\"\\u001b[31m\"", "1");
    assert!(!only_problem(&text).to_string().contains('\u{1b}'));
}

// ---- files ----

#[test]
fn files_that_cannot_be_read_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("mqs.toml");
    assert!(matches!(Config::load(&file), Err(ConfigError::Read { .. })), "missing");
    assert!(matches!(Config::load(dir.path()), Err(ConfigError::Read { .. })), "a directory");
    fs::write(&file, b"# one\n# caf\xe9\n").unwrap();
    let error = Config::load(&file).unwrap_err();
    assert!(matches!(error, ConfigError::NotUtf8 { line: 2, .. }), "{error}");
    fs::write(&file, vec![b'#'; 4 * 1024 * 1024 + 1]).unwrap();
    let error = Config::load(&file).unwrap_err();
    assert!(matches!(error, ConfigError::TooLarge { limit_bytes: 4_194_304, .. }), "{error}");
    assert!(error.to_string().contains(file.to_str().unwrap()));
    fs::write(&file, format!("\u{feff}{}", MINIMAL.replace('\n', "\r\n"))).unwrap();
    assert_eq!(Config::load(&file).unwrap(), parse(MINIMAL), "a byte order mark and CR LF do no harm");
}

#[test]
fn the_password_comes_from_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (file, password) = (dir.path().join("mqs.toml"), dir.path().join("password"));
    let text = set(FULL, "store", "password_file", &format!("{:?}", password.to_str().unwrap()));
    fs::write(&file, &text).unwrap();
    let refused = |what: &str| {
        let error = Config::load(&file).unwrap_err();
        let problem = error.problems().first().unwrap().clone();
        assert_eq!(problem.key, "store.password_file", "{what}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    };
    refused("missing");
    for bad in ["", "\n", "hunter2\nhunter2\n", "hunter2\0", &"hunter2".repeat(100)] {
        fs::write(&password, bad).unwrap();
        refused(bad);
    }
    for good in ["hunter2", "hunter2\n", "hunter2\r\n"] {
        fs::write(&password, good).unwrap();
        let config = Config::load(&file).unwrap();
        let StoreUrl::Redis(redis) = &config.store.url else { panic!() };
        assert_eq!(redis.secret(), "rediss://mqs:hunter2@127.0.0.1:6379/0");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}

#[test]
fn no_text_is_too_broken_to_be_refused() {
    for end in (0..FULL.len()).step_by(3).filter(|end| FULL.is_char_boundary(*end)) {
        let _ = Config::parse(&FULL[..end], "mqs.toml");
        let (head, tail) = FULL.split_at(end);
        let with = ["\"", "[", "{", "\n", "=", "é", "\0", "9"][end / 3 % 8];
        let _ = Config::parse(&format!("{head}{with}{tail}"), "mqs.toml");
    }
    for deep in [
        format!("a = {}", "[".repeat(100_000)),
        "[a".to_owned() + &".a".repeat(100_000) + "]",
        "{a=".repeat(1000),
    ] {
        assert!(Config::parse(&deep, "mqs.toml").is_err());
    }
}

// ---- warnings ----

const REGISTER: &str = "[pool.register]\nnetworks = [\"127.0.0.0/8\"]\n";

#[test]
fn what_is_probably_not_meant_is_said() {
    let dispatch_only = BARE.split("[cell]").next().unwrap();
    let quiet = set(dispatch_only, "", "emergency_numbers", "[\"112\"]");
    assert_eq!(parse(&quiet).warnings(), Vec::<String>::new());
    let redis = set(
        &set(&quiet, "token", "secret_file", "\"/s\""),
        "store",
        "url",
        "\"redis://mqs:hunter2@10.0.0.1\"",
    );
    let tls = quiet.replace("[listen]\n", "[listen]\ntls = { cert = \"/c\", key = \"/k\" }\n");
    let remote = set(&set(&tls, "listen", "http", "[\"192.0.2.1:1\"]"), "listen", "token_file", "\"/t\"");
    let small = set(&set(&quiet, "pool", "agent_reserve", "0.4"), "pool.node", "capacity", "1");
    let said = |table, key, value| set(&quiet, table, key, value);
    for (text, words) in [
        (dispatch_only.to_owned(), "emergency_numbers is empty"),
        (format!("{quiet}[[pool]]\nname = \"b\"\n"), "pool b has no nodes"),
        (
            said("pool.node", "state", "\"draining\"")
                .replace("[pool.discover]\nname = \"sip:pool.example.com\"\ncapacity = 900\n", "")
                .replace(REGISTER, ""),
            "no active node",
        ),
        (small, "no room for a caller in a capacity of 1"),
        (said("pool", "refuse_code", "503"), "send nothing"),
        (said("pool", "refuse_code", "407"), "credentials"),
        (said("dispatch", "held_ms", "2000"), "fr_timer_ms 2000"),
        (said("dispatch", "call_max_s", "120"), "fr_inv_timer_ms 120000"),
        (said("dispatch", "pick_deadline_ms", "250"), "cmd_timeout"),
        (said("store", "timeout_ms", "61"), "store.timeout_ms 61"),
        (said("instance", "zone", "\"b\"").replace(REGISTER, ""), "no node stands there"),
        (said("listen", "socket_mode", "\"0666\""), "every user"),
        (said("listen", "http", "[\"127.0.0.1:0\"]"), "port 0"),
        (
            said("pool.register", "networks", "[\"0.0.0.0/0\"]"),
            "pool default: register.networks holds 0.0.0.0/0",
        ),
        (tls, "not used"),
        (remote, "a second instance"),
        (redis, "without TLS"),
        (
            format!(
                "{quiet}[[pool]]\nname = \"b\"\n[[pool.node]]\nid = \"x\"\nuri = \"sip:127.0.1.1\"\ncapacity = 1\n"
            ),
            "in pools default and b",
        ),
    ] {
        let warnings = parse(&text).warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{words}: {warnings:?}");
        assert!(!warnings[0].contains("hunter2"));
    }
}

fn texts(endpoints: &[Endpoint]) -> Vec<String> {
    endpoints.iter().map(Endpoint::to_string).collect()
}

#[test]
fn what_holds_between_limits_and_between_pools_is_checked() {
    let pools = |keys: &str| {
        format!("[[pool]]\nname = \"a\"\n{keys}\n[[pool]]\nname = \"b\"\n[[pool]]\nname = \"c\"\n")
    };
    let said = |text: &str| only_problem(text).to_string();
    let itself = said(&pools("overflow = \"a\""));
    assert!(
        itself.contains("pool[0].overflow") && itself.contains("pool a overflows into itself"),
        "{itself}"
    );
    let round = pools("overflow = \"b\"").replace("name = \"b\"", "name = \"b\"\noverflow = \"c\"");
    parse(&round);
    let round = round.replace("name = \"c\"", "name = \"c\"\noverflow = \"b\"");
    let all = problems(&round);
    let of: Vec<&str> = all.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(of, ["pool[1].overflow", "pool[2].overflow"], "a runs into the ring, and is not in it");
    let burst = said(&pools("[pool.limit]\nburst = 5"));
    assert!(burst.contains("pool[0].limit.burst") && burst.contains("calls_per_second"), "{burst}");
    let twice = said(&pools("[[pool.tenant]]\nname = \"x\"\n[[pool.tenant]]\nname = \"x\""));
    assert!(twice.contains("two tenants of this pool have the name x"), "{twice}");
}

#[test]
fn a_limit_without_a_burst_lets_a_seconds_worth_in_at_one_moment() {
    let limit = |rest: &str| {
        let text = format!("[[pool]]\nname = \"a\"\n[pool.limit]\ncalls_per_second = {rest}\n");
        parse(&text).pools[0].limits.pool.rate.unwrap()
    };
    assert_eq!((limit("2.5").interval_us, limit("2.5").burst), (400_000, 3));
    assert_eq!((limit("0.001").interval_us, limit("0.001").burst), (1_000_000_000, 1));
    assert_eq!(limit("100\nburst = 7").burst, 7);
}

#[test]
fn codes_that_count_as_alive_are_read_strictly() {
    let wrong = |value: &str| {
        let problem = only_problem(&set(BARE, "pool.health", "accept", value));
        format!("{}: {}", problem.key, problem.message)
    };
    for (value, said) in [
        (
            "[\"2yy\"]",
            "pool[0].health.accept[0]: found \"2yy\": write a code (404), a class (\"2xx\") or a range",
        ),
        ("[200, 99]", "pool[0].health.accept[1]: found 99: write a code"),
        ("[200, \"1xx\"]", "pool[0].health.accept[1]: found \"1xx\": write a code"),
        ("[0xc8]", "pool[0].health.accept[0]: found 0xc8; write a text in quotes"),
        ("[2.5]", "pool[0].health.accept[0]: found 2.5; write a text in quotes"),
        ("404", "pool[0].health.accept: found 404; write a list of texts"),
        ("[]", "pool[0].health.accept: no code at all: no node would ever be alive"),
    ] {
        assert!(wrong(value).starts_with(said), "{}", wrong(value));
    }
    let many = format!("[{}]", vec!["200"; 17].join(", "));
    assert_eq!(wrong(&many), "pool[0].health.accept: found 17 entries; at most 16 are allowed");
    let accept = parse(&set(BARE, "pool.health", "accept", "[\"2xx\", 404]")).pools[0].health.accept;
    assert_eq!([200, 299, 404, 403, 503].map(|code| accept.takes(code)), [true, true, true, false, false]);
}
