//! Limits, overflow and sticky keys through real Kamailio: who is refused hears it, and nobody else is.

use std::net::SocketAddrV4;
use std::time::Duration;

use anyhow::{Result, ensure};

use super::stage::{Plan, Stage, stands};
use crate::Case;
use crate::kamailio::Version;
use crate::net::wait_until;
use crate::parts::Part;
use crate::room::Lab;

const PARTS: &[Part] = &[Part::Redis, Part::Kamailio, Part::Sipp];
const PARTS_NEW: &[Part] = &[Part::Redis, Part::KamailioNew, Part::Sipp];

pub const CASES: &[Case] = &[
    Case { name: "admission::a_tenants_limit_is_its_own", needs: PARTS, run: tenants },
    Case {
        name: "admission::a_tenants_limit_over_http_on_kamailio_6",
        needs: PARTS_NEW,
        run: tenants_over_http,
    },
    Case { name: "admission::a_full_pool_overflows", needs: PARTS, run: overflow },
    Case { name: "admission::callers_return_to_their_node", needs: PARTS, run: sticky },
];

const LIMIT: Duration = Duration::from_secs(30);
const HOLD: Duration = Duration::from_secs(6);
const CALLS: u32 = 5;

fn tenants(lab: &Lab) -> Result<()> {
    one_is_full(lab, Plan::new(stands("node.xml", &[50, 50])))
}

fn tenants_over_http(lab: &Lab) -> Result<()> {
    let plan = Plan { version: Version::New, http: true, ..Plan::new(stands("node.xml", &[50, 50])) };
    one_is_full(lab, plan)
}

/// The called user stands for the tenant.
fn one_is_full(lab: &Lab, plan: Plan<'_>) -> Result<()> {
    let pool = "[pool.each_tenant]\ncalls = 5\n";
    let mut stage = Stage::set(lab, Plan { pool, defines: vec!["MQS_TENANT=$rU".to_owned()], ..plan })?;
    let call = |name: &str, scenario, tenant: &str| {
        stage.call(name, 0, scenario).service(tenant).calls(CALLS).rate(20)
    };
    let mut full = call("full", "caller.xml", "acme").hold(HOLD).start(lab)?;
    wait_until("the tenant has its calls", LIMIT, || Ok(stage.load()? == u64::from(CALLS)))?;
    let from = SocketAddrV4::new(stage.callers[0], 5070);
    let refused = call("refused", "caller-expect-refusal.xml", "acme").set("need_reason", "1");
    let mut refused = refused.local(from).start(lab)?;
    let stats = refused.success(LIMIT)?;
    ensure!(stats.successful() == u64::from(CALLS), "{stats:?}");
    ensure!(refused.logs().iter().any(|line| line.contains("LIMIT")), "{:?}", refused.logs());
    let other = call("other", "caller.xml", "other").local(from).hold(Duration::from_millis(200));
    let mut other = other.start(lab)?;
    ensure!(other.success(LIMIT)?.successful() == u64::from(CALLS), "another tenant is not concerned");
    ensure!(full.success(LIMIT)?.successful() == u64::from(CALLS));
    stage.wait_empty(Duration::from_secs(5))?;
    let mut again = call("again", "caller.xml", "acme").hold(Duration::from_millis(200)).start(lab)?;
    ensure!(again.success(LIMIT)?.successful() == u64::from(CALLS), "its calls are over");
    for node in &mut stage.nodes {
        node.process.stop()?;
    }
    Ok(())
}

fn overflow(lab: &Lab) -> Result<()> {
    let pool = "overflow = \"spare\"\n";
    let plan = Plan { pool, spare: 1, ..Plan::new(stands("node.xml", &[3, 20])) };
    let mut stage = Stage::set(lab, plan)?;
    let call = stage.call("caller", 0, "caller.xml").calls(8).rate(20).hold(Duration::from_secs(3));
    let mut caller = call.start(lab)?;
    ensure!(caller.success(LIMIT)?.successful() == 8);
    let seen = [stage.seen(0).len(), stage.seen(1).len()];
    ensure!(seen == [3, 5], "the first pool is filled first: {seen:?}");
    stage.wait_empty(Duration::from_secs(5))?;
    for node in &mut stage.nodes {
        node.process.stop()?;
    }
    Ok(())
}

fn sticky(lab: &Lab) -> Result<()> {
    let plan =
        Plan { defines: vec!["MQS_STICKY=$rU".to_owned()], ..Plan::new(stands("node.xml", &[4, 50, 50])) };
    let mut stage = Stage::set(lab, plan)?;
    for caller in ["100", "200"] {
        let call = stage.call(&format!("caller{caller}"), 0, "caller.xml").service(caller);
        let mut calls = call.calls(10).rate(20).hold(Duration::from_secs(2)).start(lab)?;
        ensure!(calls.success(LIMIT)?.successful() == 10);
    }
    let mut seen = [stage.seen(0).len(), stage.seen(1).len(), stage.seen(2).len()];
    lab.tell(format!("nodes saw {seen:?}"));
    // One of the callers may have met the small node first, and left it when it was full.
    seen.sort_unstable();
    ensure!(seen[0] <= 4 && seen[1] + seen[2] >= 16, "each caller's calls are together: {seen:?}");
    stage.wait_empty(Duration::from_secs(5))?;
    for node in &mut stage.nodes {
        node.process.stop()?;
    }
    Ok(())
}
