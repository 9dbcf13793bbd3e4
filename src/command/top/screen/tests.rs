//! What is on the screen. `MQS_BLESS=1` writes `golden.txt` anew.

use super::*;
use crate::command::top::cell::CellAnswers;
use crate::command::top::figures::Figures;
use crate::command::top::reading::Answers;
use crate::domain::time::EpochMs;
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const METRICS: &str = "\
mqs_build_info{version=\"0.1.0\"} 1
mqs_start_time_seconds 1000
mqs_lookups_total{pool=\"default\",result=\"routed\",transport=\"resp\"} 480
mqs_lookups_total{pool=\"default\",result=\"degraded\",transport=\"resp\"} 20
mqs_lookups_total{pool=\"sales\",result=\"full\",transport=\"http\"} 5
mqs_lookup_seconds_bucket{le=\"0.0001\",transport=\"resp\"} 400
mqs_lookup_seconds_bucket{le=\"0.0002\",transport=\"resp\"} 500
mqs_lookup_seconds_bucket{le=\"+Inf\",transport=\"resp\"} 505
mqs_store_errors_total{op=\"pick\",error=\"timeout\"} 7
mqs_degraded_seconds_total 2.5
mqs_store_breaker_state{pool=\"default\",state=\"closed\"} 1
mqs_store_breaker_state{pool=\"default\",state=\"open\"} 0
mqs_store_breaker_state{pool=\"sales\",state=\"closed\"} 0
mqs_store_breaker_state{pool=\"sales\",state=\"open\"} 1
mqs_connections{transport=\"resp\",socket=\"unix\"} 4
mqs_connections{transport=\"http\",socket=\"unix\"} 1
";

fn node(pool: &str, id: &str, state: &str, load: u32, capacity: u32) -> NodeInfo {
    NodeInfo {
        pool: pool.into(),
        id: id.into(),
        uri: "sip:127.0.1.1".into(),
        capacity,
        zone: (pool == "default").then(|| "berlin".into()),
        tags: Vec::new(),
        state: state.into(),
        since_ms: 1_000_000,
        load,
        occupancy: f64::from(load) / f64::from(capacity),
        slot: 0,
        source: None,
        heartbeat_left_ms: None,
        stale: false,
        health: "up".to_owned(),
        health_since_ms: 0,
        health_until_ms: None,
        health_why: String::new(),
        overruled: false,
        effective_capacity: capacity,
    }
}

/// Two minutes of readings, the last of them now.
fn state() -> State {
    let mut state = State {
        place: "/run/mqs/http.sock".into(),
        interval: Duration::from_secs(1),
        last: None,
        gone: None,
        history: History::every(Duration::from_secs(1)),
    };
    for at_s in (0..=75).step_by(5) {
        let mut nodes = vec![
            node("default", "ast1", "active", 6 * at_s, 900),
            node("default", "ast2", "draining", 87 - at_s, 600),
            node("default", "ast22", "active", 10, 500),
        ];
        nodes[2].zone = Some("hamburg".into());
        nodes.extend((3..=20).map(|n| node("sales", &format!("ast{n}"), "active", n, 20)));
        nodes.push(node("sales", "ast21", "down", 0, 20));
        let ill = &mut nodes[4];
        (ill.health, ill.health_why) = ("ejected".into(), "3 calls in a row: no answer".into());
        (ill.health_since_ms, ill.health_until_ms) = (1_095_000, Some(1_108_000));
        let answers = Answers::of(nodes, &["default", "empty", "sales"], Figures::read(METRICS));
        let reading = answers.since(None, Duration::from_secs(u64::from(at_s)), EpochMs(1_100_000));
        state.history.keep(&reading);
        state.last = Some(reading);
    }
    state
}

fn shown(state: &State, choice: &Choice, size: (u16, u16)) -> (String, Reach) {
    let mut terminal = Terminal::new(TestBackend::new(size.0, size.1)).unwrap();
    let mut reach = Reach::default();
    terminal.draw(|frame| reach = draw(frame, state, choice, Duration::from_secs(75))).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y| (0..size.0).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    let lines: Vec<String> = (0..size.1).map(|y| line(y).trim_end().to_owned()).collect();
    (lines.join("\n") + "\n", reach)
}

#[test]
fn the_screen_is_the_golden_one() {
    let (text, reach) = shown(&state(), &Choice::default(), (100, 30));
    if std::env::var_os("MQS_BLESS").is_some() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/command/top/screen/golden.txt");
        std::fs::write(file, &text).unwrap();
    }
    assert_eq!(text, include_str!("golden.txt"), "\n{text}");
    assert_eq!(reach, Reach { scroll_max: 10, page: 12 });
}

#[test]
fn scrolling_sorting_and_pausing_are_seen() {
    let choice = Choice { scroll: 99, sort: Sort::Occupancy, paused: true, ..Choice::default() };
    let (text, _) = shown(&state(), &choice, (100, 30));
    assert!(
        text.contains("PAUSED") && text.contains("sort: occupancy") && text.contains("10 above, 0 below"),
        "{text}"
    );
    let last = text.lines().rfind(|line| line.starts_with("sales ") || line.starts_with("default ")).unwrap();
    assert!(last.contains("ast21"), "the least occupied is last: {text}");
    let state_first = shown(&state(), &Choice { sort: Sort::State, ..Choice::default() }, (100, 30)).0;
    let nodes: Vec<&str> =
        state_first.lines().skip_while(|line| !line.starts_with("POOL") || !line.contains("NODE ")).collect();
    let first = ["ejected", "down", "draining"];
    assert!((1..).zip(first).all(|(at, state)| nodes[at].contains(state)), "{state_first}");
    let by_zone = shown(&state(), &Choice { sort: Sort::Zone, ..Choice::default() }, (100, 30)).0;
    let zones: Vec<&str> = by_zone.lines().filter_map(|l| l.split_whitespace().nth(2)).collect();
    let at = zones.iter().position(|zone| *zone == "ZONE").unwrap();
    assert_eq!(zones[at + 1..at + 5], ["berlin", "berlin", "hamburg", "-"], "{by_zone}");
}

#[test]
fn more_totals_and_more_nodes_that_are_out_than_fit_are_counted() {
    let ill = |n: u32| {
        let mut node = node("default", &format!("n{n}"), "active", 1, 2);
        (node.zone, node.health) = (Some(format!("zone{n}")), "failing".into());
        (node.health_since_ms, node.health_why) = (1_000_000 + u64::from(n), format!("reason {n}"));
        node
    };
    let answers = Answers::of((0..10).map(ill).collect(), &["default"], Figures::default());
    let last = Some(answers.since(None, Duration::ZERO, EpochMs(1_100_000)));
    let (text, _) = shown(&State { last, ..state() }, &Choice::default(), (100, 40));
    assert!(
        text.contains("\n  zone5 ") && !text.contains("\n  zone6 ") && text.contains("\nand 4 more\n"),
        "{text}"
    );
    assert!(text.contains("\nn9 is failing: reason 9\n"), "the last one first: {text}");
    assert!(!text.contains("reason 5") && text.contains("\nand 6 more\n"), "{text}");
}

#[test]
fn what_comes_from_elsewhere_does_not_steer_the_terminal() {
    let mut node = node("default", "a", "active", 1, 2);
    (node.health, node.health_why) = ("ejected".into(), "\u{1b}[2J".into());
    let reading = Answers::of(vec![node], &["default"], Figures::default());
    let reading = reading.since(None, Duration::ZERO, EpochMs(0));
    let line = reading.why(&reading.nodes[0], "a").unwrap();
    assert!(!line.contains('\u{1b}'), "{line:?}");
}

#[test]
fn an_instance_that_is_gone_is_shown_as_such() {
    let gone = || Some(Gone { why: "no instance answers".into(), since: Duration::from_secs(10) });
    let (text, _) = shown(&State { gone: gone(), ..state() }, &Choice::default(), (100, 30));
    assert!(
        text.contains("NO ANSWER for 1 m 5 s; asking again. What is below is old. (no instance answers)"),
        "{text}"
    );
    assert!(text.contains("ast1 "), "{text}");
    let (text, _) = shown(&State { gone: gone(), last: None, ..state() }, &Choice::default(), (100, 30));
    assert!(text.contains("NO ANSWER for 1 m 5 s; asking again. (no"), "{text}");
}

#[test]
fn the_help_covers_the_middle() {
    let (text, _) = shown(&state(), &Choice { help: true, ..Choice::default() }, (100, 30));
    assert!(text.contains("┌ mqs top ─") && text.contains("answered without the store"), "{text}");
}

#[test]
fn an_idle_instance_has_no_minus() {
    let answers = Answers::of(Vec::new(), &["default"], Figures::default());
    let last = Some(answers.since(None, Duration::ZERO, EpochMs(0)));
    let (text, _) = shown(&State { last, ..state() }, &Choice::default(), (100, 30));
    assert!(text.contains("\nlookups       0/s: routed 0,") && text.contains("p50 -, p99 -"), "{text}");
}

#[test]
fn every_size_is_drawn() {
    for width in [0, 1, 7, 40, 81, 300] {
        for height in [0, 1, 2, 5, 9, 13, 24, 100] {
            for help in [false, true] {
                let last = Some(cell_at(0, 5, 1, None));
                let queues = Choice { help, queues: true, scroll: 4, ..Choice::default() };
                shown(&State { last, ..state() }, &queues, (width, height));
                shown(&state(), &Choice { help, scroll: 4, ..Choice::default() }, (width, height));
            }
        }
    }
}

/// The cell of an instance, as it was read at one moment.
fn cell_at(at_s: u64, answered: u32, leads: u8, before: Option<&Reading>) -> Reading {
    let metrics = format!(
        "{METRICS}mqs_cell_leads{{}} {leads}
mqs_queue_answered_total{{queue=\"sales\"}} {answered}
mqs_queue_ended_total{{queue=\"sales\",reason=\"abandoned\"}} 3
mqs_ari_attached{{node=\"ast1\"}} 1
mqs_ari_attached{{node=\"ast2\"}} 0
"
    );
    let cell = serde_json::json!({"id": "main", "now_ms": 1, "leader": {"holder": "mqs1-1", "epoch": 7, "left_ms": 3000},
        "epoch": 7, "seq": 9, "whole": true, "inbox": {"sent": 1, "done": 1}, "outbox": 5, "counts": {}, "damaged": 0,
        "nodes": [{"id": "ast1", "calls": 4, "legs": 1}]});
    let queues = serde_json::json!({"total": 1, "items": [{"id": "sales", "strategy": "longest-idle", "waiting": 3,
        "waiting_max": 10, "longest_wait_ms": 75_000, "connected": 1, "mean_wait_ms": null, "taken": 12,
        "agents": {"ready": 2, "talking": 1, "paused": 1}}]});
    let agents = serde_json::json!({"total": 31, "items": [{"id": "ann\u{1b}", "aor": null, "state": "talking",
        "since_ms": 1_040_000, "until_ms": null, "reason": null, "then": null, "call": "c1", "offer": "o1",
        "queues": [], "skills": [], "registered": [], "taken": 8, "misses": 0, "idle_since_ms": null}]});
    let read = (
        serde_json::from_value(cell).unwrap(),
        serde_json::from_value(queues).unwrap(),
        serde_json::from_value(agents).unwrap(),
    );
    let answers = Answers::of(Vec::new(), &["default"], Figures::read(&metrics)).with(CellAnswers(Ok(read)));
    answers.since(before, Duration::from_secs(at_s), EpochMs(1_100_000))
}

#[test]
fn the_other_view_shows_the_cell() {
    let first = cell_at(0, 5, 1, None);
    let last = cell_at(30, 9, 1, Some(&first));
    let queues = Choice { queues: true, ..Choice::default() };
    let (text, _) = shown(&State { last: Some(last), ..state() }, &queues, (120, 24));
    let line = |begin: &str| {
        let found = text.lines().find(|line| line.starts_with(begin)).unwrap_or_else(|| panic!("{text}"));
        found.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("cell"), "cell main: mqs1-1 leads");
    assert_eq!(line("sales"), "sales 3 1:15 2 0 1 0 1 8.0 0 12", "{text}");
    assert_eq!((line("ast1"), line("ast2")), ("ast1 attached 4 1".into(), "ast2 away 0 0".into()));
    assert_eq!(line("ann"), "ann\u{fffd} talking 1 m 0 s 8 c1");
    assert!(line("AGENT").ends_with("(30 agents more)") && line("q quit").contains("Tab pools"), "{text}");
    // The pools are a key away, and say so.
    let first_view = shown(&State { last: Some(first), ..state() }, &Choice::default(), (120, 24)).0;
    assert!(first_view.contains("lookups ") && first_view.contains("Tab queues"), "{first_view}");
}

#[test]
fn rates_are_those_of_a_leader() {
    let first = cell_at(0, 5, 0, None);
    let last = cell_at(30, 9, 0, Some(&first));
    let cell = last.cell.unwrap();
    assert_eq!(cell.queues[0].answered_per_min, None);
    // What came before it led is not its own.
    let third = cell_at(60, 0, 1, None);
    assert_eq!(third.cell.as_ref().unwrap().queues[0].answered_per_min, None);
    let fourth = cell_at(120, 6, 1, Some(&third));
    assert_eq!(fourth.cell.unwrap().queues[0].answered_per_min, Some(6.0));
}

#[test]
fn without_a_cell_the_other_view_is_the_first_one() {
    let queues = Choice { queues: true, ..Choice::default() };
    assert_eq!(shown(&state(), &queues, (100, 30)), shown(&state(), &Choice::default(), (100, 30)));
    let json = serde_json::to_value(state().last.unwrap()).unwrap();
    assert!(json.get("cell").is_none(), "{json}");
}

#[test]
fn a_cell_that_cannot_be_read_hides_nothing() {
    let answers = Answers::of(Vec::new(), &["default"], Figures::read(METRICS));
    let answers = answers.with(CellAnswers(Err("503 the store is away".to_owned())));
    let last = answers.since(None, Duration::ZERO, EpochMs(1_100_000));
    let text = crate::command::top::plain::text(&last, "here", false);
    assert!(text.contains("cell: 503 the store is away") && text.contains("lookups "), "{text}");
    let text = crate::command::top::plain::text(&cell_at(0, 5, 1, None), "here", false);
    for line in ["cell main: mqs1-1 leads", "QUEUE  WAITING", "ast2  away", "talking  1 m 0 s      8  c1"] {
        assert!(text.contains(line), "no {line} in\n{text}");
    }
}
