//! What callers and agents hear: music or ringing, and then each other.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan};
use crate::Case;
use crate::answerer::Answerer;
use crate::net::now;
use crate::phone::{Call, Invite};
use crate::room::Lab;
use crate::voice::{self, TONES, Tone, Voice};

pub const CASES: &[Case] = &[
    Case { name: "queue::tones_are_told_apart", needs: &[], run: |_| voice::check() },
    Case { name: "queue::music_and_then_the_agent", needs: PARTS, run: music },
    Case { name: "queue::ringing_and_then_the_agent", needs: PARTS, run: ringing },
    Case { name: "queue::early_music_and_then_the_agent", needs: PARTS, run: early },
];

pub(super) const CALLER: Tone = TONES[0];
pub(super) const AGENT: Tone = TONES[1];

/// How long they wait, and how long they talk.
const LONG: Duration = Duration::from_secs(2);

/// Of the 100 packets of that time.
pub(super) const MOST: usize = 70;

/// Packets with sound, and of them those of the caller's and the agent's tone.
pub(super) type Heard = [usize; 3];

fn music(lab: &Lab) -> Result<()> {
    meets(lab, "", |call| {
        ensure!(call.codes().last() == Some(&200), "{}", call.story());
        ensure!(call.voice.heard >= MOST, "no music; {}", call.story());
        Ok(())
    })
}

fn ringing(lab: &Lab) -> Result<()> {
    meets(lab, "answering = \"agent\"", |call| {
        ensure!(call.codes().last() == Some(&180), "{}", call.story());
        ensure!(call.voice.heard == 0, "{}", call.story());
        Ok(())
    })
}

fn early(lab: &Lab) -> Result<()> {
    meets(lab, "answering = \"early\"", |call| {
        ensure!(call.codes().last() == Some(&183), "{}", call.story());
        ensure!(call.voice.heard >= MOST, "no music; {}", call.story());
        Ok(())
    })
}

/// A caller waits, then hears an agent, and is heard. `waits` judges what was before.
pub(super) fn meets(lab: &Lab, queue: &str, waits: impl Fn(&Call) -> Result<()>) -> Result<()> {
    let mut floor = Floor::set(lab, &Plan { queue, music: true, ..Plan::default() })?;
    let mut agent = Answerer::new(lab, Duration::from_secs(1), AGENT)?;
    floor.register_at(0, agent.address(), &[1])?;
    floor.registrations_are_read();
    let local = UdpSocket::bind(SocketAddrV4::new(floor.trunk, 5060))?;
    let invite = Invite::to("7000", "caller-who-hears").saying(CALLER);
    let mut call = invite.send(&local, floor.proxies[0].address())?;
    call.until("the caller waits", LIMIT, |call| call.codes().iter().any(|code| *code >= 180))?;
    call.listen(LONG)?;
    waits(&call)?;
    floor.login([1])?;
    let end = now() + LIMIT;
    while !agent.has_rung() {
        ensure!(now() < end, "the agent's phone never rang");
        step(&mut call, &mut agent, Duration::from_millis(10))?;
    }
    step(&mut call, &mut agent, Duration::from_millis(500))?;
    ensure!(agent.answered.is_none(), "the phone rings for a second");
    // Nothing has changed for the caller while it rings.
    waits(&call)?;
    step(&mut call, &mut agent, Duration::from_millis(1500))?;
    ensure!(agent.answered.is_some() && call.codes().last() == Some(&200), "{}", call.story());
    // From here on nothing but the two of them.
    let (by_caller, by_agent) = hear(&mut call, &mut agent)?;
    lab.tell(format!(
        "packets with sound, of them the caller's tone, the agent's: {by_caller:?} heard by the caller, {by_agent:?} by the agent"
    ));
    ensure!(by_caller[2] >= MOST && by_caller[1] == 0, "the caller heard {by_caller:?}");
    ensure!(by_agent[1] >= MOST && by_agent[2] == 0, "the agent heard {by_agent:?}");
    ensure!(by_caller[0] - by_caller[2] <= 5, "the caller hears something else besides: {by_caller:?}");
    call.hang_up()?;
    step(&mut call, &mut agent, Duration::from_secs(3))?;
    ensure!(agent.ended.is_some(), "the agent's phone got no BYE");
    floor.is_empty()
}

/// What the caller, and what the agent hears from now on.
pub(super) fn hear(call: &mut Call, agent: &mut Answerer) -> Result<(Heard, Heard)> {
    let so_far = |voice: &Voice| -> Heard {
        let of = |tone: Tone| voice.heard_of(tone);
        [voice.heard, of(CALLER), of(AGENT)]
    };
    let before = (so_far(&call.voice), so_far(&agent.voice));
    step(call, agent, LONG)?;
    let less = |now: Heard, before: Heard| [now[0] - before[0], now[1] - before[1], now[2] - before[2]];
    Ok((less(so_far(&call.voice), before.0), less(so_far(&agent.voice), before.1)))
}

/// Both hear and answer for `time`.
pub(super) fn step(call: &mut Call, agent: &mut Answerer, time: Duration) -> Result<()> {
    let end = now() + time;
    while now() < end {
        call.step()?;
        agent.step()?;
    }
    Ok(())
}
