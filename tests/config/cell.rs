//! `[cell]` and what belongs to it: queues, agents and treatments.

use crate::text::{BARE, FULL, MINIMAL, only_problem, parse, set, without};
use mqs::config::{AriConfig, CellConfig};
use mqs::domain::agent::AgentRules;
use mqs::domain::call::TreatedFor;
use mqs::domain::id::{AgentId, QueueId, Skill};
use mqs::domain::matching::{MatchRules, Membership, Relaxing, Skills, Strategy, Widening};
use mqs::domain::queue::{Answering, Presence, QueueRules, Setup, Treatment};
use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

/// The words of the only problem.
pub fn said(text: &str) -> String {
    let problem = only_problem(text);
    format!("{}: {}", problem.key, problem.message)
}

fn cell(text: &str) -> CellConfig {
    parse(text).cell.unwrap()
}

pub fn named<T: FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// A cell with these tables behind it.
fn with(tables: &str) -> String {
    format!("[cell]\n[ari]\npassword_file = \"/p\"\n[[pool]]\nname = \"default\"\n{tables}")
}

// ---- what is taken ----

#[test]
fn without_the_table_there_is_no_cell_and_what_only_a_cell_needs_is_refused() {
    assert_eq!(parse(MINIMAL).cell, None);
    for (tables, words) in [
        ("[ari]\npassword_file = \"/p\"\n", "ari: only a cell talks to nodes: write [cell]"),
        ("[[queue]]\nid = \"a\"\n", "queue: only a cell serves it"),
        ("[[agent]]\nid = \"a\"\n", "agent: only a cell calls agents"),
        ("[[treatment]]\nid = \"a\"\n", "treatment: only a cell needs it"),
    ] {
        assert!(said(&format!("{MINIMAL}\n{tables}")).starts_with(words), "{words}");
    }
    assert_eq!(
        said("cell = 1\n[[pool]]\nname = \"a\"\n[[queue]]\nid = \"a\"\n"),
        "cell: found a number; write a table: [cell], with single brackets"
    );
}

#[test]
fn what_is_left_out_of_a_cell_has_its_default() {
    let cell = cell(&with("[[queue]]\nid = \"q\"\n[[agent]]\nid = \"a\"\naor = \"a@h\"\nqueues = [\"q\"]\n"));
    assert_eq!((cell.id.as_str(), &cell.pools), ("main", &None));
    let ari = AriConfig {
        app: "mqs".into(),
        user: "mqs".into(),
        password_file: "/p".into(),
        port: 8088,
        tls: false,
        ca_file: None,
        timeout_ms: 1500,
        connections_max: 16,
        listen: Vec::new(),
        inbound_password_file: None,
    };
    assert_eq!(cell.ari, ari);
    let rules = QueueRules {
        matching: MatchRules::default(),
        waiting_max: 1000,
        wait_max_ms: 1_800_000,
        offers_max: 100,
        ring_ms: 20_000,
        pass_over_ms: 30_000,
        wrap_up_ms: 10_000,
        talk_max_ms: 7_200_000,
        join: Presence::Any,
        stay: Presence::Any,
        answering: Answering::Entry,
        music: "".into(),
        agent_announce: Vec::new(),
        agent_announce_max_ms: 10_000,
        ends: BTreeMap::new(),
    };
    let agent = AgentRules {
        aor: "a@h".into(),
        skills: Skills::default(),
        memberships: [(named("q"), Membership { penalty: 0, weight: 0 })].into(),
        wrap_up_ms: None,
        ring_ms: None,
        misses_max: 3,
    };
    let setup = Setup {
        queues: [(named("q"), rules)].into(),
        agents: [(named("a"), agent)].into(),
        treatments: BTreeMap::new(),
        last_resort: None,
        ..Setup::default()
    };
    assert_eq!(*cell.setup, setup);
}

#[test]
fn what_is_written_of_a_cell_arrives() {
    let cell = cell(FULL);
    assert_eq!(cell.pools, Some([named("default"), named("spare")].into()));
    let ari = &cell.ari;
    assert_eq!(
        (ari.port, ari.tls, ari.ca_file.as_deref()),
        (8089, true, Some(Path::new("/etc/mqs/tls/nodes-ca.pem")))
    );
    let skills = |names: &[&str]| names.iter().map(|name| named::<Skill>(name)).collect::<Skills>();
    let widen = |after_ms, penalty_max| Widening { after_ms, penalty_max };
    let sales = QueueRules {
        matching: MatchRules {
            strategy: Strategy::RoundRobin,
            ring_all_max: 10,
            penalty_max: vec![widen(30_000, 2), widen(90_000, 9)],
            relax: vec![Relaxing { after_ms: 60_000, drop: skills(&["german"]) }],
        },
        waiting_max: 200,
        wait_max_ms: 1_800_000,
        offers_max: 100,
        ring_ms: 20_000,
        pass_over_ms: 30_000,
        wrap_up_ms: 15_000,
        talk_max_ms: 7_200_000,
        join: Presence::LoggedIn,
        stay: Presence::LoggedIn,
        answering: Answering::Agent,
        music: "sales".into(),
        agent_announce: vec!["queue-sales".into()],
        agent_announce_max_ms: 10_000,
        ends: [
            (TreatedFor::Full, named("to-support")),
            (TreatedFor::LongestWait, named("voicemail")),
            (TreatedFor::JoinEmpty, named("voicemail")),
        ]
        .into(),
    };
    assert_eq!(cell.setup.queues[&named::<QueueId>("sales")], sales);
    let agent = AgentRules {
        aor: "agent17@example.com".into(),
        skills: skills(&["billing", "german"]),
        memberships: [
            (named("sales"), Membership { penalty: 1, weight: 20 }),
            (named("support"), Membership::default()),
        ]
        .into(),
        wrap_up_ms: Some(30_000),
        ring_ms: Some(25_000),
        misses_max: 3,
    };
    assert_eq!(cell.setup.agents, [(named("agent17"), agent)].into());
    let voicemail = Treatment::Dialplan { context: "mqs-voicemail".into(), extension: "sales".into() };
    let outside = Treatment::Dialplan { context: "mqs-transfer".into(), extension: "0".into() };
    let treatments = [
        (named("outside"), outside),
        (named("to-support"), Treatment::Overflow(named("support"))),
        (named("voicemail"), voicemail),
        (named("sorry"), Treatment::HangUp { cause: 17 }),
    ];
    assert_eq!(cell.setup.treatments, treatments.into());
    assert_eq!(cell.setup.last_resort, Some(named("sorry")));
    assert_eq!(cell.setup.numbers_by, Some(named("outside")));
    assert_eq!(cell.setup.numbers, [("7000".into(), named("sales"))].into());
}

#[test]
fn every_word_and_every_reason_is_taken() {
    let queue = |key: &str, value: &str| {
        let text = set(BARE, "queue", key, value);
        cell(&text).setup.queues[&named::<QueueId>("sales")].clone()
    };
    for strategy in Strategy::ALL {
        assert_eq!(queue("strategy", &format!("{:?}", strategy.as_str())).matching.strategy, strategy);
    }
    let presence =
        [("any", Presence::Any), ("logged-in", Presence::LoggedIn), ("unpaused", Presence::Unpaused)];
    for (word, one) in presence {
        let (join, stay) = (queue("join", &format!("{word:?}")), queue("stay", &format!("{word:?}")));
        assert_eq!((join.join, stay.stay), (one, one));
    }
    let answers = [("entry", Answering::Entry), ("agent", Answering::Agent), ("early", Answering::Early)];
    for (word, one) in answers {
        assert_eq!(queue("answering", &format!("{word:?}")).answering, one);
    }
    for why in TreatedFor::ALL {
        let text = set(BARE, "queue", "ends", &format!("{{ {} = \"sorry\" }}", why.as_str()));
        match why {
            // Nobody could mean these: such a treatment is named.
            TreatedFor::Asked | TreatedFor::Transferred => assert_eq!(
                said(&text),
                format!(
                    "queue[0].ends.{}: unknown key; allowed here: exhausted, full, join-empty, leave-empty, longest-wait, no-queue",
                    why.as_str()
                )
            ),
            TreatedFor::Full
            | TreatedFor::JoinEmpty
            | TreatedFor::LeaveEmpty
            | TreatedFor::LongestWait
            | TreatedFor::Exhausted
            | TreatedFor::NoQueue => {
                let ends = &cell(&text).setup.queues[&named::<QueueId>("sales")].ends;
                assert_eq!(*ends, [(why, named("sorry"))].into());
            }
        }
    }
}

#[test]
fn a_membership_has_the_weight_of_its_queue_unless_it_has_its_own() {
    let text =
        set(&set(BARE, "queue", "weight", "7"), "agent", "queues", "[{ id = \"sales\", penalty = 2 }]");
    let of = |text: &str| {
        cell(text).setup.agents[&named::<AgentId>("agent17")].memberships[&named::<QueueId>("sales")]
    };
    assert_eq!(of(&text), Membership { penalty: 2, weight: 7 });
    let own = set(&text, "agent", "queues", "[{ id = \"sales\", weight = 0 }]");
    assert_eq!(of(&own), Membership { penalty: 0, weight: 0 });
    assert_eq!(of(&set(&text, "agent", "queues", "[\"sales\"]")).weight, 7);
}

#[test]
fn queues_may_overflow_in_a_ring() {
    let text = with(
        "[[queue]]\nid = \"a\"\nends = { full = \"to-b\" }\n[[queue]]\nid = \"b\"\nends = { full = \"to-a\" }\n\
         [[treatment]]\nid = \"to-a\"\noverflow = \"a\"\n[[treatment]]\nid = \"to-b\"\noverflow = \"b\"\n",
    );
    assert_eq!(cell(&text).setup.queues.len(), 2);
}

// ---- what is refused ----

#[test]
fn what_a_cell_must_have_is_missed_by_name() {
    for (table, key) in [("queue", "id"), ("agent", "id"), ("agent", "aor"), ("treatment", "id")] {
        let problem = only_problem(&without(BARE, table, key));
        assert_eq!(problem.key, format!("{table}[0].{key}"), "{problem}");
        assert!(problem.message.starts_with("missing"), "{problem}");
    }
    let problem = only_problem(&without(BARE, "ari", "password_file"));
    assert_eq!(problem.key, "ari.password_file");
    assert!(problem.message.starts_with("missing: the leader of a cell needs"), "{problem}");
    let problem = only_problem("[[pool]]\nname = \"a\"\n\n[cell]\n");
    assert_eq!(
        (problem.key.as_str(), problem.line),
        ("ari.password_file", 4),
        "said where the cell is: {problem}"
    );
    for (key, step, missing) in [
        ("widen", "{ after_s = 1 }", "penalty_max"),
        ("widen", "{ penalty_max = 1 }", "after_s"),
        ("relax", "{ after_s = 1 }", "drop"),
        ("relax", "{ drop = [\"a\"] }", "after_s"),
    ] {
        let text = set(BARE, "queue", key, &format!("[{step}]"));
        assert_eq!(said(&text), format!("queue[0].{key}[0].{missing}: missing, and it has no default"));
    }
    let text = set(BARE, "agent", "queues", "[\"sales\", { penalty = 1 }]");
    assert_eq!(said(&text), "agent[0].queues[1].id: missing, and it has no default");
}

#[test]
fn who_is_spoken_of_has_to_be_there() {
    let agent = "[[agent]]\nid = \"a\"\naor = \"a@h\"\nqueues = [\"sales\"]\n";
    let missing = "agent[0].queues[0]: there is no queue sales";
    assert_eq!(said(&with(agent)), missing);
    assert_eq!(said(&format!("queue = []\n{}", with(agent))), missing);
    // What cannot be read may be the one that is meant.
    assert!(said(&format!("queue = 1\n{}", with(agent))).starts_with("queue: found a number"));
    assert!(said(&with(&format!("[[queue]]\nid = \"sa les\"\n{agent}"))).starts_with("queue[0].id: found"));
}

#[test]
fn names_of_a_cell_are_there_once() {
    for (table, name) in [
        ("[[queue]]\nid = \"sales\"\n", "queue[1].id: two queues have the id sales"),
        ("[[treatment]]\nid = \"sorry\"\ncause = 1\n", "treatment[1].id: two treatments have the id sorry"),
        ("[[agent]]\nid = \"agent17\"\naor = \"b@h\"\n", "agent[1].id: two agents have the id agent17"),
        (
            "[[agent]]\nid = \"ann\"\naor = \"agent17@EXAMPLE.com\"\n",
            "agent[1].aor: agent17@example.com is the address of agent agent17: agent ann needs one of its own",
        ),
    ] {
        assert_eq!(said(&format!("{BARE}{table}")), name);
    }
    let twice = |queues: &str| said(&set(BARE, "agent", "queues", queues));
    assert_eq!(twice("[\"sales\", \"sales\"]"), "agent[0].queues[1]: queue sales is there twice");
    assert_eq!(twice("[\"sales\", { id = \"sales\" }]"), "agent[0].queues[1].id: queue sales is there twice");
    let pools = |pools: &str| said(&set(BARE, "cell", "pools", pools));
    assert_eq!(pools("[\"default\", \"default\"]"), "cell.pools[1]: default is there twice");
    assert!(pools("[]").starts_with("cell.pools: an empty list"));
}

#[test]
fn a_treatment_is_one_of_three() {
    let one = |keys: &str| format!("{BARE}[[treatment]]\nid = \"x\"\n{keys}");
    for keys in ["overflow = \"sales\"\n", "context = \"c\"\nextension = \"*9+1\"\n", "cause = 127\n"] {
        parse(&one(keys));
    }
    let wanted = "treatment[1]: write one of: overflow; context and extension; cause";
    for keys in [
        "",
        "overflow = \"sales\"\ncause = 17\n",
        "context = \"c\"\nextension = \"e\"\ncause = 17\n",
        "overflow = \"sales\"\ncontext = \"c\"\nextension = \"e\"\n",
    ] {
        assert_eq!(said(&one(keys)), wanted, "{keys}");
    }
    assert_eq!(
        said(&one("context = \"c\"\n")),
        "treatment[1].extension: missing: a context needs an extension"
    );
    assert_eq!(
        said(&one("extension = \"c\"\n")),
        "treatment[1].context: missing: an extension needs a context"
    );
}

#[test]
fn steps_and_memberships_of_the_wrong_shape_are_refused() {
    let queue = |key: &str, value: &str| said(&set(BARE, "queue", key, value));
    assert_eq!(
        queue("widen", "{ after_s = 1, penalty_max = 1 }"),
        "queue[0].widen: found a table; write a list of tables: [{ after_s = 30, penalty_max = 2 }]"
    );
    assert_eq!(queue("relax", "[1]"), "queue[0].relax[0]: found a number; write a table");
    assert_eq!(
        queue("relax", "[{ after_s = 1, drop = [] }]"),
        "queue[0].relax[0].drop: an empty list: nothing is given up"
    );
    assert!(
        queue("widen", "[{ after_s = 1, penalty_max = 1, x = 1 }]")
            .starts_with("queue[0].widen[0].x: unknown key")
    );
    assert!(
        queue("ends", "{ fulll = \"sorry\" }")
            .starts_with("queue[0].ends.fulll: unknown key; allowed here: exhausted, full")
    );
    assert_eq!(
        queue("ends", "[]"),
        "queue[0].ends: found a list; write a table: [queue[0].ends], with single brackets"
    );
    let agent = |value: &str| said(&set(BARE, "agent", "queues", value));
    let form = "\"sales\" or { id = \"sales\", penalty = 1 }";
    assert_eq!(agent("\"sales\""), format!("agent[0].queues: found a text; write a list of {form}"));
    assert_eq!(agent("[1]"), format!("agent[0].queues[0]: found 1; write {form}"));
    assert!(
        agent("[{ id = \"sales\", rank = 1 }]")
            .starts_with("agent[0].queues[0].rank: unknown key; allowed here: id, penalty, weight")
    );
    assert!(
        agent("[{ id = \"sales\", penalty = 1001 }]")
            .contains("queues[0].penalty: found 1001, out of limits; write a whole number from 0 to 1000")
    );
    assert!(
        agent("[{ id = \"sales\", weight = -1 }]")
            .contains("queues[0].weight: found -1, out of limits; write a whole number from 0 to 1000")
    );
    assert_eq!(
        said(&BARE.replace("[[queue]]", "[queue]")),
        "queue: found a table; write [[queue]] with double brackets"
    );
}

#[test]
fn a_hostile_name_is_named_shortly_and_harmlessly() {
    let long = "x".repeat(10_000);
    for bad in ["a\\u0000b", "a\\u001b[31mb", "a\\r\\nb", "a:b", "a{b}", "a b", "é", &long] {
        let (name, aor) = (format!("\"{bad}\""), format!("\"{bad}@h\""));
        for (table, key, value) in [
            ("cell", "id", &name),
            ("cell", "pools", &format!("[{name}]")),
            ("cell", "last_resort", &name),
            ("ari", "app", &name),
            ("ari", "user", &name),
            ("pool.node", "ari", &name),
            ("queue", "id", &name),
            ("queue", "music", &name),
            ("queue", "strategy", &name),
            ("queue", "ends", &format!("{{ full = {name} }}")),
            ("queue", "ends", &format!("{{ {name} = \"sorry\" }}")),
            ("queue", "relax", &format!("[{{ after_s = 1, drop = [{name}] }}]")),
            ("agent", "id", &name),
            ("agent", "aor", &aor),
            ("agent", "skills", &format!("[{name}]")),
            ("agent", "queues", &format!("[{name}]")),
            ("agent", "queues", &format!("[{{ id = {name} }}]")),
            ("treatment", "id", &name),
        ] {
            let problem = only_problem(&set(BARE, table, key, value)).to_string();
            assert!(problem.chars().count() < 330, "{problem}");
            assert!(!problem.contains(char::is_control), "{problem:?}");
        }
        for (context, extension) in [(&name, &"\"e\"".to_owned()), (&"\"c\"".to_owned(), &name)] {
            let text =
                format!("{BARE}[[treatment]]\nid = \"x\"\ncontext = {context}\nextension = {extension}\n");
            let problem = only_problem(&text).to_string();
            assert!(problem.chars().count() < 330 && !problem.contains(char::is_control), "{problem:?}");
        }
    }
}

#[test]
fn so_many_are_taken_and_not_one_more() {
    let tables = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<String>();
    let queue = |n: usize| format!("[[queue]]\nid = \"q{n}\"\n");
    let agent = |n: usize| format!("[[agent]]\nid = \"a{n}\"\naor = \"a{n}@h\"\n");
    let treatment = |n: usize| format!("[[treatment]]\nid = \"t{n}\"\ncause = 17\n");
    let all = with(&(tables(1000, &queue) + &tables(10_000, &agent) + &tables(1000, &treatment)));
    let setup = cell(&all).setup;
    assert_eq!((setup.queues.len(), setup.agents.len(), setup.treatments.len()), (1000, 10_000, 1000));
    let most = |tables: &str| said(&with(tables));
    assert_eq!(most(&tables(1001, &queue)), "queue: found 1001 of them; at most 1000 are allowed");
    assert_eq!(most(&tables(10_001, &agent)), "agent: found 10001 of them; at most 10000 are allowed");
    assert_eq!(most(&tables(1001, &treatment)), "treatment: found 1001 of them; at most 1000 are allowed");

    let list = |count: usize, form: &dyn Fn(usize) -> String| {
        format!("[{}]", (0..count).map(form).collect::<Vec<_>>().join(", "))
    };
    let queues = tables(101, &queue);
    let member = |count| {
        let names = list(count, &|n| format!("\"q{n}\""));
        with(&format!("{queues}[[agent]]\nid = \"a\"\naor = \"a@h\"\nqueues = {names}\n"))
    };
    assert_eq!(cell(&member(100)).setup.agents[&named::<AgentId>("a")].memberships.len(), 100);
    assert_eq!(said(&member(101)), "agent[0].queues: found 101 of them; at most 100 are allowed");
    let names = |count| list(count, &|n| format!("\"s{n}\""));
    parse(&set(BARE, "agent", "skills", &names(64)));
    assert_eq!(
        said(&set(BARE, "agent", "skills", &names(65))),
        "agent[0].skills: found 65 entries; at most 64 are allowed"
    );
    let widen = |count| {
        set(BARE, "queue", "widen", &list(count, &|n| format!("{{ after_s = {n}, penalty_max = 1 }}")))
    };
    parse(&widen(16));
    assert_eq!(said(&widen(17)), "queue[0].widen: found 17 of them; at most 16 are allowed");
    let relax = |count| {
        set(BARE, "queue", "relax", &list(count, &|n| format!("{{ after_s = {n}, drop = [\"a\"] }}")))
    };
    parse(&relax(16));
    assert_eq!(said(&relax(17)), "queue[0].relax: found 17 of them; at most 16 are allowed");
    for (step, key) in
        [("after_s = 86401, penalty_max = 1", "after_s"), ("after_s = -1, penalty_max = 1", "after_s")]
    {
        let problem = only_problem(&set(BARE, "queue", "widen", &format!("[{{ {step} }}]")));
        assert_eq!(problem.key, format!("queue[0].widen[0].{key}"));
        assert!(problem.message.contains("0 to 86400 (s)"), "{problem}");
    }
}
