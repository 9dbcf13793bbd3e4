//! What an agent hears before the caller does.

use std::net::{SocketAddrV4, UdpSocket};
use std::time::Duration;

use anyhow::{Result, ensure};

use super::PARTS;
use super::floor::{Floor, LIMIT, Plan};
use super::media::{AGENT, CALLER, MOST, step};
use crate::Case;
use crate::answerer::Answerer;
use crate::net::now;
use crate::parts::Part;
use crate::phone::{Call, Invite};
use crate::room::Lab;
use crate::voice;

pub const CASES: &[Case] = &[
    Case { name: "queue::an_announcement_while_it_rings", needs: PARTS, run: while_it_rings },
    Case { name: "queue::an_announcement_while_music_plays", needs: PARTS, run: while_music_plays },
    Case { name: "queue::an_announcement_is_cut_short", needs: PARTS, run: cut_short },
    Case { name: "queue::a_caller_leaves_the_announcement", needs: PARTS, run: caller_leaves },
];

/// How long the announcement is, and how long it is listened to.
const LONG_S: usize = 4;
const LISTENED: Duration = Duration::from_secs(2);

/// A caller waits, and an agent has answered: both at the announcement.
struct Scene<'a> {
    floor: Floor<'a>,
    agent: Answerer,
    call: Call,
    _local: UdpSocket,
}

impl<'a> Scene<'a> {
    fn set(lab: &'a Lab, queue: &str) -> Result<Scene<'a>> {
        let directory = lab.path("sounds");
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("sales.ulaw"), &voice::music()[..LONG_S * 8000])?;
        let seen = lab.parts().get(Part::Asterisk)?.sees(&directory)?;
        let queue = format!("agent_announce = [\"{}/sales\"]\n{queue}", seen.display());
        let mut floor = Floor::set(lab, &Plan { queue: &queue, music: true, ..Plan::default() })?;
        let mut agent = Answerer::new(lab, Duration::from_millis(300), AGENT)?;
        floor.register_at(0, agent.address(), &[1])?;
        floor.registrations_are_read();
        let local = UdpSocket::bind(SocketAddrV4::new(floor.trunk, 5060))?;
        let invite = Invite::to("7000", "caller-who-waits").saying(CALLER);
        let mut call = invite.send(&local, floor.proxies[0].address())?;
        call.until("the caller waits", LIMIT, |call| call.codes().iter().any(|code| *code >= 180))?;
        floor.login([1])?;
        let end = now() + LIMIT;
        while agent.answered.is_none() {
            ensure!(now() < end, "the agent never answered");
            step(&mut call, &mut agent, Duration::from_millis(10))?;
        }
        step(&mut call, &mut agent, Duration::from_millis(400))?;
        Ok(Scene { floor, agent, call, _local: local })
    }

    /// Packets with sound, and those of them with the other one's tone, that caller and agent hear.
    fn listen(&mut self) -> Result<[(usize, usize); 2]> {
        let heard = |scene: &Scene<'_>| {
            let (call, agent) = (&scene.call.voice, &scene.agent.voice);
            [(call.heard, call.heard_of(AGENT)), (agent.heard, agent.heard_of(CALLER))]
        };
        let before = heard(self);
        step(&mut self.call, &mut self.agent, LISTENED)?;
        let after = heard(self);
        let heard = [0, 1].map(|who| (after[who].0 - before[who].0, after[who].1 - before[who].1));
        println!("    packets with sound, of them the other one's tone: {heard:?} by caller, agent");
        Ok(heard)
    }

    /// From now on they hear each other, and nothing else.
    fn talk(mut self) -> Result<()> {
        let [caller, agent] = self.listen()?;
        ensure!(caller.1 >= MOST && caller.0 - caller.1 <= 5, "the caller hears {caller:?}");
        ensure!(agent.1 >= MOST && agent.0 - agent.1 <= 5, "the agent hears {agent:?}");
        self.call.hang_up()?;
        step(&mut self.call, &mut self.agent, Duration::from_secs(1))?;
        ensure!(self.agent.ended.is_some(), "the agent's phone got no BYE");
        self.floor.is_empty()
    }
}

fn while_it_rings(lab: &Lab) -> Result<()> {
    let mut scene = Scene::set(lab, "answering = \"agent\"")?;
    let [caller, agent] = scene.listen()?;
    ensure!(agent.0 >= MOST && agent.1 == 0, "the agent hears {agent:?}");
    ensure!(caller.0 == 0 && scene.call.codes().last() == Some(&180), "the caller hears {caller:?}");
    step(&mut scene.call, &mut scene.agent, Duration::from_secs(3))?;
    scene.talk()
}

fn while_music_plays(lab: &Lab) -> Result<()> {
    let mut scene = Scene::set(lab, "")?;
    let [caller, agent] = scene.listen()?;
    ensure!(agent.0 >= MOST && agent.1 == 0, "the agent hears {agent:?}");
    ensure!(caller.0 >= MOST && caller.1 == 0, "the caller hears {caller:?}");
    step(&mut scene.call, &mut scene.agent, Duration::from_secs(3))?;
    scene.talk()
}

/// It would go on for four seconds, and may for one.
fn cut_short(lab: &Lab) -> Result<()> {
    let mut scene = Scene::set(lab, "agent_announce_max_s = 1")?;
    step(&mut scene.call, &mut scene.agent, Duration::from_secs(1))?;
    scene.talk()
}

fn caller_leaves(lab: &Lab) -> Result<()> {
    let mut scene = Scene::set(lab, "")?;
    scene.call.hang_up()?;
    step(&mut scene.call, &mut scene.agent, Duration::from_secs(1))?;
    ensure!(scene.agent.ended.is_some(), "the agent hears on");
    scene.floor.wait_for("offer-ended", 1, LIMIT)?;
    ensure!(scene.floor.count("connected")? == 0, "{:?}", scene.floor.events()?);
    scene.floor.wait_agent(1, "ready")?;
    scene.floor.is_empty()
}
