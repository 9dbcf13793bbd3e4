//! What a running cell has of its configuration: the nodes to drive, warnings, and what a reload changes.

use crate::cell::{named, said};
use crate::text::{BARE, only_problem, parse, set, without};
use mqs::config::{Ari, Changes};

// ---- nodes ----

/// Two pools, and in each a node of this name.
fn two_pools(cell: &str, first: &str, second: &str) -> String {
    let pool = |name: &str, at: u32, node: &str| {
        format!(
            "[[pool]]\nname = \"{name}\"\n[[pool.node]]\nuri = \"sip:10.0.0.{at}:5060\"\ncapacity = 9\n{node}\n"
        )
    };
    format!(
        "[cell]\n{cell}\n[ari]\npassword_file = \"/p\"\n{}{}",
        pool("east", 1, first),
        pool("west", 2, second)
    )
}

#[test]
fn nodes_that_a_cell_drives_have_an_id_each() {
    let same = two_pools("", "id = \"ast1\"", "id = \"ast1\"");
    assert_eq!(
        said(&same),
        "pool[1].node[0].id: pool east has a node ast1 too: a cell needs another id for each node that it drives"
    );
    let line = 1 + same.lines().enumerate().filter(|(_, l)| *l == "id = \"ast1\"").last().unwrap().0;
    assert_eq!(only_problem(&same).line, line);
    for fine in [
        two_pools("pools = [\"east\"]", "id = \"ast1\"", "id = \"ast1\""),
        two_pools("", "id = \"ast1\"", "id = \"ast1\"\nari = \"off\""),
        two_pools("", "id = \"ast1\"", "id = \"ast2\""),
    ] {
        parse(&fine);
    }
}

#[test]
fn the_nodes_of_a_cell_are_those_of_its_pools() {
    let text = |cell: &str| {
        two_pools(cell, "id = \"a\"", "id = \"b\"\nari = \"https://[2001:db8::2]:1\"")
            + "[[pool.node]]\nid = \"c\"\nuri = \"sip:10.0.0.3\"\ncapacity = 9\nari = \"off\"\n\
               [[pool.node]]\nid = \"d\"\nuri = \"sips:[2001:DB8::4]:5061\"\ncapacity = 9\n\
               [[pool.node]]\nid = \"e\"\nuri = \"sip:10.0.0.5\"\ncapacity = 9\nari = \"inbound\"\n"
    };
    let nodes = |cell: &str| {
        let config = parse(&text(cell));
        let nodes = config.cell.as_ref().unwrap().nodes(&config.pools);
        nodes.iter().map(|n| format!("{}/{} {}", n.pool, n.id, n.ari)).collect::<Vec<_>>()
    };
    let east = "east/a http://10.0.0.1:8088";
    let west = ["west/b https://[2001:db8::2]:1", "west/d http://[2001:DB8::4]:8088", "west/e inbound"];
    assert_eq!(nodes(""), [&[east][..], &west].concat());
    assert_eq!(nodes("pools = [\"east\"]"), [east]);
    assert_eq!(nodes("pools = [\"west\"]"), west);

    let config = parse(&text("pools = [\"west\"]"));
    let cell = config.cell.as_ref().unwrap();
    let ari =
        |pool: &str, id: &str, uri: &str| cell.ari_of(&config.pools, &named(pool), &named(id), &named(uri));
    let url = |tls, host: &str, port| Some(Ari::Url { tls, host: host.into(), port });
    assert_eq!(ari("west", "b", "sip:10.0.0.9"), url(true, "2001:db8::2", 1), "the file's word");
    assert_eq!(ari("west", "dns-1", "sip:10.0.0.9:5080"), url(false, "10.0.0.9", 8088), "found in the DNS");
    assert_eq!(
        (ari("west", "e", "sip:10.0.0.5"), ari("west", "c", "sip:10.0.0.3")),
        (Some(Ari::Inbound), None)
    );
    assert_eq!(ari("east", "a", "sip:10.0.0.1"), None, "not its pool");
    let tls =
        set(&set(BARE, "ari", "tls", "true"), "pool.node", "uri", "\"sip:[2001:db8::1];transport=tcp\"");
    let config = parse(&tls);
    let usual = config.cell.unwrap().ari.usual(&config.pools[0].nodes[0].uri);
    assert_eq!(Some(usual), url(true, "2001:db8::1", 8089));
}

// ---- warnings ----

/// A cell of which nothing is said.
const QUIET: &str = r#"
emergency_numbers = ["112"]
[cell]
last_resort = "sorry"
[ari]
password_file = "/p"
[[pool]]
name = "default"
agent_reserve = 0.4
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 900
[[queue]]
id = "sales"
[[agent]]
id = "ann"
aor = "ann@example.com"
queues = ["sales"]
[[treatment]]
id = "sorry"
cause = 17
"#;

#[test]
fn what_is_probably_not_meant_in_a_cell_is_said() {
    assert_eq!(parse(QUIET).warnings(), Vec::<String>::new());
    let but = |table, key, value| set(QUIET, table, key, value);
    let remote = but("pool.node", "uri", "\"sip:192.0.2.1\"");
    let widened =
        but("queue", "widen", "[{ after_s = 1, penalty_max = 2 }, { after_s = 2, penalty_max = 1 }]");
    let agents: String =
        (0..12).map(|n| format!("[[agent]]\nid = \"a{n:02}\"\naor = \"a{n}@h\"\n")).collect();
    let connects = set(&remote, "pool.node", "ari", "\"inbound\"");
    let connects = set(&connects, "ari", "listen", "[\"127.0.0.1:8090\"]");
    for (text, words) in [
        (format!("{QUIET}{agents}"), "agent a00, a01, a02, a03, a04, a05, a06, a07 and 4 more has no queues"),
        (format!("{QUIET}[[queue]]\nid = \"empty\"\n"), "no agent takes calls of queue empty"),
        (
            set(&widened, "agent", "queues", "[{ id = \"sales\", penalty = 3 }]"),
            "queue sales widens to a penalty of 2 at most: agent ann",
        ),
        (
            QUIET
                .replace("[[queue]]\nid = \"sales\"\n", "")
                .replace("[[agent]]\nid = \"ann\"\naor = \"ann@example.com\"\nqueues = [\"sales\"]\n", ""),
            "cell main has no [[queue]]",
        ),
        (without(QUIET, "cell", "last_resort"), "cell.last_resort is not set"),
        (but("queue", "wait_max_s", "7201"), "queue sales: wait_max_s and talk_max_s"),
        (but("pool.node", "ari", "\"off\""), "cell main drives no node"),
        (but("pool", "agent_reserve", "0.0"), "pool default: agent_reserve is 0"),
        (
            but("pool", "overflow", "\"b\"").replace("[cell]\n", "[cell]\npools = [\"default\"]\n")
                + "[[pool]]\nname = \"b\"\n[[pool.node]]\nid = \"b\"\nuri = \"sip:127.0.1.2\"\ncapacity = 1\n",
            "pool default overflows into b, which is not in cell.pools",
        ),
        (but("ari", "ca_file", "\"/ca\""), "ari.ca_file is for nodes"),
        (remote.clone(), "node ast1 is driven without TLS on another host"),
        (but("pool.node", "ari", "\"http://ast1.example.com:8088\""), "node ast1 is driven without TLS"),
        (but("ari", "timeout_ms", "1501"), "ari.timeout_ms 1501 is above 1500"),
        (
            set(&remote, "pool.node", "ari", "\"inbound\""),
            "node ast1 is to connect by itself, and ari.listen names no address",
        ),
        (but("ari", "listen", "[\"127.0.0.1:8090\"]"), "ari.listen is for nodes that connect by themselves"),
        (but("ari", "inbound_password_file", "\"/p\""), "ari.inbound_password_file is for nodes"),
        (set(&connects, "ari", "listen", "[\"10.0.0.10:8090\"]"), "ari.listen 10.0.0.10:8090 can be reached"),
    ] {
        let warnings = parse(&text).warnings();
        assert!(warnings.len() == 1 && warnings[0].contains(words), "{words}: {warnings:?}");
    }
    let driven = "\n[pool.register]\nnetworks = [\"10.0.0.0/8\"]\n[[pool.node]]";
    for quiet in [
        set(&remote, "ari", "tls", "true"),
        connects.clone(),
        set(&connects, "ari", "inbound_password_file", "\"/p\""),
        set(&set(&remote, "pool.node", "ari", "\"https://192.0.2.1:1\""), "ari", "ca_file", "\"/ca\""),
        set(&widened, "agent", "queues", "[{ id = \"sales\", penalty = 2 }]"),
        but("queue", "wait_max_s", "7200"),
        but("pool.node", "ari", "\"off\"").replace("\n[[pool.node]]", driven),
    ] {
        assert_eq!(parse(&quiet).warnings(), Vec::<String>::new(), "{quiet}");
    }
}

// ---- reload ----

fn between(old: &str, new: &str) -> Changes {
    Changes::between(&parse(old), &parse(new))
}

#[test]
fn a_reload_tells_what_came_went_and_changed_in_a_cell() {
    let bob = "[[agent]]\nid = \"bob\"\naor = \"bob@h\"\n";
    let more = format!("{QUIET}[[queue]]\nid = \"b\"\n{bob}[[treatment]]\nid = \"t\"\ncause = 1\n");
    let applied = |old: &str, new: &str| {
        let Changes { applied, restart } = between(old, new);
        assert_eq!(restart, Vec::<String>::new());
        applied
    };
    assert_eq!(applied(QUIET, &more), ["queue.b: new", "agent.bob: new", "treatment.t: new"]);
    assert_eq!(applied(&more, QUIET), ["queue.b: removed", "agent.bob: removed", "treatment.t: removed"]);
    assert_eq!(applied(QUIET, QUIET), Vec::<String>::new());
    // A queue's weight is one key, however many members have it; what a member says itself is another.
    assert_eq!(applied(QUIET, &set(QUIET, "queue", "weight", "5")), ["queue.sales.weight"]);
    let own =
        |weight: u16| set(QUIET, "agent", "queues", &format!("[{{ id = \"sales\", weight = {weight} }}]"));
    assert_eq!(applied(&own(1), &own(2)), ["agent.ann.queues"]);
    assert_eq!(applied(QUIET, &own(2)), ["agent.ann.queues"]);
    assert_eq!(applied(&own(2), &set(&own(2), "queue", "weight", "5")), ["queue.sales.weight"]);
    let off = set(QUIET, "pool.node", "ari", "\"off\"");
    assert_eq!(applied(QUIET, &off), ["pool.default.node.ast1.ari"]);

    let many: String = (0..250).map(|n| format!("[[agent]]\nid = \"a{n:03}\"\naor = \"a{n}@h\"\n")).collect();
    let told = applied(QUIET, &format!("{QUIET}{many}"));
    assert_eq!(
        (told.len(), told[99].as_str(), told[100].as_str()),
        (101, "agent.a099: new", "agent: 150 more")
    );
}

#[test]
fn a_cell_comes_and_goes_with_a_restart() {
    let dispatch_only = QUIET.split("[cell]").next().unwrap().to_owned()
        + "[[pool]]\nname = \"default\"\nagent_reserve = 0.4\n[[pool.node]]\nid = \"ast1\"\nuri = \"sip:127.0.1.1:5060\"\ncapacity = 900\n";
    assert_eq!(
        between(&dispatch_only, QUIET),
        Changes { applied: vec![], restart: vec!["cell: new".into()] }
    );
    assert_eq!(
        between(QUIET, &dispatch_only),
        Changes { applied: vec![], restart: vec!["cell: removed".into()] }
    );
    assert_eq!(parse(QUIET).over(&parse(&dispatch_only)).cell, None);
    assert_eq!(parse(&dispatch_only).over(&parse(QUIET)).cell, parse(QUIET).cell);

    let changed = set(&set(QUIET, "cell", "id", "\"b\""), "ari", "app", "\"other\"");
    let changed = set(&set(&changed, "queue", "ring_s", "7"), "cell", "pools", "[\"default\"]");
    let Changes { applied, restart } = between(QUIET, &changed);
    assert_eq!(restart, ["cell.id", "ari.app"]);
    assert_eq!(applied, ["cell.pools", "queue.sales.ring_s"]);
    let (running, next) = (parse(QUIET), parse(&changed));
    let cell = next.clone().over(&running).cell.unwrap();
    let (running, next) = (running.cell.unwrap(), next.cell.unwrap());
    assert_eq!((&cell.id, &cell.ari), (&running.id, &running.ari), "as it runs");
    assert_eq!((&cell.setup, &cell.pools), (&next.setup, &next.pools), "as it was read");
    assert_ne!(running.setup, next.setup);
}
