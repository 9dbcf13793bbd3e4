//! The command line about queues: the real program against a real server, whose cell is led.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[allow(dead_code)] // What only `tests/cell.rs` asks of it.
#[path = "cell/exchange.rs"]
mod exchange;
#[allow(dead_code)] // What only `tests/http_queues.rs` asks of it.
#[path = "support/queue_scene.rs"]
mod queue_scene;
mod support;

use queue_scene::Scene;
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

fn command(s: &Scene, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqs"));
    command.args(args).env("MQS_SOCKET", &s.server.socket);
    command
}

/// Exit code, standard output, standard error.
async fn mqs(s: &Scene, args: &[&str]) -> (i32, String, String) {
    let mut command = command(s, args);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}

async fn done(s: &Scene, args: &[&str]) -> String {
    let (code, out, err) = mqs(s, args).await;
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}: {out}");
    assert!(!out.contains('\x1b'), "no colours where nobody looks: {out:?}");
    out
}

/// Times of waiting differ from run to run.
fn masked(text: &str) -> String {
    text.split_inclusive([' ', ',', ')', '\n'])
        .map(|word| {
            let bare = word.trim_end_matches([' ', ',', ')', '\n']);
            let is_wait = bare.len() == 4 && bare.starts_with("0:") && bare != "0:00";
            if is_wait { word.replace(bare, "0:00") } else { word.to_owned() }
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_an_agent_and_a_call_from_the_command_line() {
    let s = Scene::led().await;
    s.call("n1", "c1").await;
    s.call("n2", "c2").await;
    assert_eq!(
        masked(&done(&s, &["queue", "show", "sales"]).await),
        "\
sales has 2 calls (max 10) in longest-idle strategy (- holdtime), W:2, C:0, with agents: 0
   Members:
      ann (penalty 3) (offline) has taken no calls yet
      bob (penalty 3) (offline) has taken no calls yet
   Callers:
      1. c1 (wait: 0:00, prio: 0)
      2. c2 (wait: 0:00, prio: 0)
"
    );
    assert_eq!(done(&s, &["call", "priority", "c2", "500"]).await, "c2 has priority 500 now\n");
    assert_eq!(
        done(&s, &["call", "priority", "c2", "500"]).await,
        "c2 has priority 500 now (it was so before)\n"
    );
    let shown = done(&s, &["queue", "show", "sales", "--limit", "1"]).await;
    assert!(
        masked(&shown).ends_with("      1. c2 (wait: 0:00, prio: 500)\n      1 more; `--limit` shows them\n"),
        "{shown}"
    );
    assert_eq!(done(&s, &["call", "move", "c1", "support"]).await, "c1 stands in support now\n");
    assert_eq!(
        masked(&done(&s, &["call", "list"]).await),
        "\
QUEUE    POS  CALL  STATE    WAIT  PRIO  TRIES  CALLER  NODE  AGENT
sales      1  c2    waiting  0:00   500      0  -       n2    -
support    1  c1    waiting  0:00     0      0  -       n1    -
"
    );
    assert_eq!(
        masked(&done(&s, &["queue", "list"]).await),
        "\
QUEUE    WAITING  LONGEST  WITH AGENTS  READY  LOGGED IN  MEMBERS  TAKEN  STRATEGY
sales          1     0:00            0      0          0        2      0  longest-idle
support        1     0:00            0      0          0        1      0  longest-idle
"
    );
    let key = ["agent", "login", "ann", "--key", "k1", "--json"];
    for _ in 0..2 {
        assert_eq!(done(&s, &key).await, "{\"said\":\"done\",\"key\":\"k1\"}\n");
    }
    s.until("/v1/calls/c2", |call| call["state"] == "connected").await;
    let said = done(&s, &["agent", "pause", "ann", "--reason", "lunch"]).await;
    assert_eq!(said, "ann is paused, or will be after the call\n");
    assert_eq!(
        done(&s, &["agent", "list"]).await,
        "\
AGENT  STATE                        CALL  TAKEN  MISSES  PHONE  QUEUES
ann    talking, then pause (lunch)  c2        1       0  k1     sales
bob    offline                      -         0       0  k1     sales,support
"
    );
    assert_eq!(
        done(&s, &["agent", "show", "ann"]).await,
        "\
ann is talking with c2, then pause (lunch)
   address      ann@example.com
   phone        through k1
   skills       de
   taken        1 call; 0 missed since the last
   queue        sales (penalty 3, weight 0, taken 1)
"
    );
    let shown = done(&s, &["call", "show", "c2"]).await;
    assert!(shown.starts_with("c2 is connected\n   queue        sales, priority 500\n"), "{shown}");
    let cell = done(&s, &["cell"]).await;
    assert!(cell.starts_with("cell main: one leads for at least "), "{cell}");
    assert!(cell.ends_with("NODE  CALLS  LEGS\nn1        1     0\nn2        1     1\n"), "{cell}");
    assert_eq!(done(&s, &["call", "withdraw", "c1", "busy"]).await, "c1 goes to busy\n");
    let lay = ["queue", "set", "night", "ring_s=15", "strategy=ring-all", "ends.full=busy", "music=2"];
    assert_eq!(done(&s, &lay).await, "night is laid down\n");
    assert_eq!(done(&s, &lay).await, "night is laid down (it was so before)\n");
    let shown: Value = serde_json::from_str(&done(&s, &["queue", "show", "night", "--json"]).await).unwrap();
    let rules = &shown["rules"];
    assert_eq!(
        (&rules["ring_ms"], &rules["music"], &rules["ends"]["full"]),
        (&15_000.into(), &"2".into(), &"busy".into())
    );
    assert_eq!(done(&s, &["queue", "remove", "night"]).await, "night is taken away\n");
    for (args, so) in [
        (vec!["queue", "list"], "total"),
        (vec!["queue", "show", "sales"], "rules"),
        (vec!["agent", "list", "--queue", "support", "--state", "offline"], "items"),
        (vec!["agent", "show", "bob"], "aor"),
        (vec!["call", "list", "--queue", "sales"], "items"),
        (vec!["call", "show", "c2"], "caller"),
        (vec!["cell"], "leader"),
    ] {
        let text = done(&s, &[args.as_slice(), &["--json"]].concat()).await;
        let value: Value = serde_json::from_str(&text).unwrap();
        assert!(!value[so].is_null(), "{args:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_said_with_its_name() {
    let s = Scene::led().await;
    for (args, code, said) in [
        (vec!["queue", "show", "nowhere"], 1, "mqs: cannot show queue nowhere: queue nowhere (NOQUEUE)\n"),
        (vec!["agent", "show", "eve"], 1, "mqs: cannot show agent eve: agent eve (NOAGENT)\n"),
        (vec!["call", "show", "c9/;"], 1, "mqs: cannot show call c9/;: call c9/; (NOCALL)\n"),
        (
            vec!["agent", "login", "eve"],
            1,
            "mqs: cannot log in agent eve: agent: the leader knows nobody of this name (NOAGENT)\n",
        ),
        (
            vec!["agent", "set", "ann", "--aor", "a@b"],
            1,
            "mqs: cannot set agent ann: agent: change it there, and reload (INFILE)\n",
        ),
        (vec!["agent", "set", "eve", "--aor", "a@b", "--queue", "sales:x"], 2, "penalty \"x\": 0 to 1000"),
        (
            vec!["agent", "set", "eve", "--aor", "a@b", "--queue", "sales:1:2:3"],
            2,
            "QUEUE[:PENALTY[:WEIGHT]]",
        ),
        (
            vec!["queue", "set", "sales", "ring_s=15"],
            1,
            "mqs: cannot set queue sales: queue: change it there, and reload (INFILE)\n",
        ),
        (
            vec!["queue", "set", "night", "ring_s=301"],
            1,
            "mqs: cannot set queue night: ring_s: 1000 to 300000 ms (BADREQ)\n",
        ),
        (vec!["queue", "set", "night", "ring_s"], 2, "KEY=VALUE"),
        (vec!["queue", "set", "night", "widen=[1"], 2, "widen: "),
        (
            vec!["queue", "remove", "night"],
            1,
            "mqs: cannot remove queue night: the leader knows no queue of this name (NOQUEUE)\n",
        ),
        (
            vec!["agent", "remove", "eve"],
            1,
            "mqs: cannot remove agent eve: agent: the leader knows nobody of this name (NOAGENT)\n",
        ),
        (vec!["agent", "pause", "ann"], 1, "mqs: cannot pause agent ann: agent: log in first (LOGGEDOUT)\n"),
        (vec!["queue", "show", "a b"], 2, "' ' at position 1"),
        (vec!["call", "priority", "c1", "1001"], 2, "priority \"1001\" is not a whole number from 0 to 1000"),
        (vec!["agent", "list", "--state", "asleep"], 2, "offline, ready, offered, talking, wrap-up, paused"),
        (vec!["agent", "login", "ann", "--key", "a b"], 1, "idempotency-key"),
    ] {
        let (was, out, err) = mqs(&s, &args).await;
        assert_eq!((was, out.as_str()), (code, ""), "{args:?}: {err}");
        assert!(if said.ends_with('\n') { err == said } else { err.contains(said) }, "{args:?}: {err}");
    }
    for verb in ["queue", "agent", "call", "events", "cell"] {
        assert!(done(&s, &[verb, "--help"]).await.contains("Examples:"), "{verb}");
    }
    for verbs in [
        "queue list",
        "queue show",
        "queue set",
        "queue remove",
        "agent list",
        "agent show",
        "agent login",
        "agent logout",
    ]
    .into_iter()
    .chain([
        "agent set",
        "agent remove",
        "agent pause",
        "agent resume",
        "call list",
        "call show",
        "call move",
        "call priority",
    ])
    .chain(["call withdraw"])
    {
        let args: Vec<&str> = verbs.split(' ').chain(["--help"]).collect();
        assert!(done(&s, &args).await.contains("Examples:"), "{verbs}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_shown_and_followed() {
    let s = Scene::led().await;
    s.say("/v1/agents/ann/login", "").await;
    let kept = done(&s, &["events"]).await;
    let agent = kept.lines().find(|line| line.contains("state=ready")).unwrap_or_else(|| panic!("{kept}"));
    assert!(agent.contains("Z  agent         agent=ann state=ready"), "{agent}");
    let mut follower = command(&s, &["events", "--follow", "--since", "0", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    s.call("n1", "c1").await;
    let found = tokio::task::spawn_blocking(move || {
        lines.find_map(|line| {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            (event["event"] == "connected").then_some(event)
        })
    });
    let event =
        tokio::time::timeout(std::time::Duration::from_secs(10), found).await.unwrap().unwrap().unwrap();
    assert_eq!((&event["call"], &event["agent"]), (&"c1".into(), &"ann".into()));
    follower.kill().unwrap();
    follower.wait().unwrap();
    let since = event["id"].to_string();
    let rest = done(&s, &["events", "--since", &since]).await;
    assert!(!rest.contains("connected"), "{rest}");
    let (code, _, err) = mqs(&s, &["events", "--since", "1"]).await;
    assert_eq!((code, err.as_str()), (0, "mqs: what came behind 1 is forgotten; this is what is kept\n"));
}
