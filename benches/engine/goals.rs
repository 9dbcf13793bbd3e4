//! What is wanted of the queue's machine, for those who measure and for the page.

use serde_json::{Map, Value, json};

/// What a value may be.
pub enum Bound {
    Least(f64),
    Most(f64),
}

/// One figure: its name among the goals, its place in what was measured, the words for it, its unit, and its bound.
pub struct Goal {
    pub name: &'static str,
    pub at: &'static str,
    pub words: &'static str,
    pub unit: &'static str,
    pub bound: Bound,
}

const fn goal(
    name: &'static str,
    at: &'static str,
    words: &'static str,
    unit: &'static str,
    bound: Bound,
) -> Goal {
    Goal { name, at, words, unit, bound }
}

const RATE: Bound = Bound::Least(100_000.0);

pub const GOALS: [Goal; 11] = [
    goal(
        "controller_1000",
        "/inputs/waiting_1000/controller/inputs_a_second",
        "controller, 1,000 calls wait: inputs of one core",
        "/s",
        RATE,
    ),
    goal(
        "controller_20000",
        "/inputs/waiting_20000/controller/inputs_a_second",
        "controller, 20,000 calls wait",
        "/s",
        RATE,
    ),
    goal(
        "pilot_1000",
        "/inputs/waiting_1000/pilot/inputs_a_second",
        "the same through the pilot, 1,000",
        "/s",
        RATE,
    ),
    goal("pilot_20000", "/inputs/waiting_20000/pilot/inputs_a_second", "the same, 20,000", "/s", RATE),
    goal(
        "codec_1000",
        "/inputs/waiting_1000/pilot_and_codec/inputs_a_second",
        "pilot, and batches made into records, 1,000",
        "/s",
        RATE,
    ),
    goal(
        "codec_20000",
        "/inputs/waiting_20000/pilot_and_codec/inputs_a_second",
        "the same, 20,000",
        "/s",
        RATE,
    ),
    goal(
        "memory",
        "/memory/worst_bytes_a_call",
        "memory of a waiting call, of 100,000",
        "bytes",
        Bound::Most(2_048.0),
    ),
    goal(
        "match_index",
        "/match/index/ratio",
        "a match while 100,000 wait over one while 100 do: the index",
        "×",
        Bound::Most(2.0),
    ),
    goal(
        "match_controller",
        "/match/controller/ratio",
        "the same: an agent is done, and the next offer is made",
        "×",
        Bound::Most(2.0),
    ),
    goal(
        "commit",
        "/commit/redis/batch_512/round_trip_ms/median",
        "512 changes to Redis and back, p50",
        "ms",
        Bound::Most(3.0),
    ),
    goal(
        "takeover",
        "/takeover/whole_ms/median",
        "take-over of 5,000 calls from Redis, p50",
        "ms",
        Bound::Most(1_000.0),
    ),
];

/// Goal, value, and whether it is met, of what was measured.
pub fn judged(found: &Value) -> Value {
    let mut all = Map::new();
    for goal in &GOALS {
        let value = found.pointer(goal.at).and_then(Value::as_f64);
        let (bound, is, met) = match goal.bound {
            Bound::Least(least) => (least, "at least", value.map(|value| value >= least)),
            Bound::Most(most) => (most, "at most", value.map(|value| value <= most)),
        };
        all.insert(goal.name.to_owned(), json!({"goal": bound, "is": is, "value": value, "met": met}));
    }
    all.into()
}

/// Adds a part to `engine.json`, and what it says of the goals.
pub fn add(part: &str, figures: Value) {
    println!("{part}: {figures:#}");
    let file = crate::support::file().with_file_name("engine.json");
    crate::support::add_to(&file, json!({part: figures}));
    let goals = judged(&crate::support::read(&file));
    crate::support::add_to(&file, json!({"goals": goals}));
    println!("written to {}", file.display());
}
