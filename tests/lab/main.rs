//! Tests with the real parts: Redis, Kamailio, Asterisk, SIPp and the `mqs` program, all on 127.0.0.0/8.
//!
//! `scripts/lab-setup` finds or installs the parts; a test whose part is missing is reported as *ignored*, with the
//! reason (`MQS_LAB_STRICT=1`: as failed). One test runs at a time, since they measure; `--test-threads` changes that.
//!
//! | room | what lives there |
//! |---|---|
//! | `parts` | which programs there are |
//! | `room` | a test's own directory and addresses; the reaper that leaves nothing behind |
//! | `process` | one child: its log, readiness, signals, end |
//! | `net` | addresses, ports, a few lines of HTTP; the clock |
//! | `redis`, `mqs`, `kamailio`, `asterisk`, `sipp` | one real part each |
//! | `store` | the Redis that helpers share: alone, behind Sentinels, a cluster; how the judge reads it |
//! | `ari`, `phone`, `answerer`, `voice` | an application of a node; one call, message by message; an agent's phone; what both say and hear |
//! | `link`, `handset` | how a phone's messages travel; an agent's phone that registers and dials over any of these ways |
//! | `clock` | another time for one process |
//! | `resp`, `relay` | a RESP client; a relay that delays, drops and cuts |
//! | `cases` | the tests; `turns`: which of them run today |
//! | `results` | what a run says of each of them |
#![allow(missing_docs, dead_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod answerer;
mod ari;
mod asterisk;
mod cases;
mod clock;
mod handset;
mod kamailio;
mod link;
mod mqs;
mod net;
mod parts;
mod phone;
mod process;
mod redis;
#[path = "../support/redis_groups.rs"]
mod redis_groups;
#[path = "../support/redis_server.rs"]
mod redis_server;
mod relay;
mod resp;
mod results;
mod room;
mod sipp;
mod store;
mod voice;

use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::parts::{Part, Parts};
use crate::room::Lab;

/// A test: its name, the parts that it needs, and what it does.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub needs: &'static [Part],
    pub run: fn(&Lab) -> anyhow::Result<()>,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(1);
    let parts = match Parts::find() {
        Ok(parts) => Arc::new(parts),
        Err(error) => {
            eprintln!("the lab cannot tell which parts there are: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let strict = std::env::var_os("MQS_LAB_STRICT").is_some_and(|value| value != "0");
    let asked = arguments.filter.clone();
    let trials = cases::all().into_iter().map(|case| trial(case, &parts, strict, asked.as_deref())).collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    room::wait_for_reaper();
    conclusion.exit_code()
}

fn trial(case: Case, parts: &Arc<Parts>, strict: bool, asked: Option<&str>) -> Trial {
    let parts = Arc::clone(parts);
    let why_not_now = cases::turns::why_not_now(case.name, asked);
    Trial::ignorable_test(case.name, move || {
        let missing: Vec<String> = case.needs.iter().filter_map(|part| parts.why_missing(*part)).collect();
        if !missing.is_empty() {
            let reason = missing.join("; ");
            if strict {
                return Err(Failed::from(format!("{reason} (MQS_LAB_STRICT is set)")));
            }
            return Ok(Completion::ignored_with(reason));
        }
        if let Some(reason) = &why_not_now {
            return Ok(Completion::ignored_with(reason));
        }
        let begun = net::now();
        let (result, told) = room::run_and_tell(case.name, parts, case.run);
        let busy = |error: &anyhow::Error| !strict && error.is::<cases::machine::TooBusy>();
        let outcome = match &result {
            Ok(()) => results::Outcome::Passed,
            Err(error) if busy(error) => results::Outcome::TooBusy,
            Err(_) => results::Outcome::Failed,
        };
        let written = results::publish(case.name, outcome, begun.elapsed(), told);
        match result {
            Ok(()) => written.map(|()| Completion::Completed).map_err(|error| Failed::from(chain(&error))),
            Err(error) if busy(&error) => Ok(Completion::ignored_with(chain(&error).replace('\n', " "))),
            Err(error) => Err(Failed::from(chain(&error))),
        }
    })
}

/// The error and its causes, without a backtrace.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<String>>().join("\n  because: ")
}
