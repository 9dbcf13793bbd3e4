//! A Kamailio with kamailio.cfg as it is shipped, and one of several ways to choose a node.

use crate::kamailio::{Kamailio, KamailioConfig, Version};
use crate::mqs_server::Mqs;
use crate::parts;
use crate::room::Lab;
use anyhow::{Context as _, Result};
use std::net::{Ipv4Addr, SocketAddrV4};

/// A node: its name, where it listens, what it carries.
#[derive(Clone, Debug)]
pub struct NodeAt {
    pub name: String,
    pub address: SocketAddrV4,
    pub capacity: u32,
}

/// Who chooses.
#[derive(Clone, Copy)]
pub enum Way<'a> {
    /// `dispatcher`, in turn: no count at all.
    InTurn,
    /// `dispatcher`, algorithm 10, with `maxload`; it forgets a call after so many seconds.
    CallLoad { forget_s: u32 },
    /// MQS over RESP.
    Resp(&'a Mqs),
    /// MQS over HTTP.
    Http(&'a Mqs),
}

/// What differs between the Kamailios of one measurement.
#[derive(Clone)]
pub struct Proxy<'a> {
    pub name: String,
    pub way: Way<'a>,
    pub nodes: &'a [NodeAt],
    pub callers: &'a [Ipv4Addr],
    pub defines: Vec<String>,
    pub options: Vec<String>,
}

impl<'a> Proxy<'a> {
    pub fn new(name: &str, way: Way<'a>, nodes: &'a [NodeAt], callers: &'a [Ipv4Addr]) -> Proxy<'a> {
        let (name, defines) = (name.to_owned(), Vec::new());
        Proxy { name, way, nodes, callers, defines, options: Vec::new() }
    }

    pub fn start(self, lab: &Lab) -> Result<Kamailio> {
        let named: Vec<(&str, Ipv4Addr)> =
            self.nodes.iter().map(|node| (node.name.as_str(), *node.address.ip())).collect();
        let nowhere = lab.path("no-helper.sock");
        let socket = match self.way {
            Way::InTurn | Way::CallLoad { .. } | Way::Http(_) => nowhere.as_path(),
            Way::Resp(mqs) => mqs.socket(),
        };
        let config = KamailioConfig::new(lab, &self.name);
        let mut config = config.project(lab, Version::System, socket, self.callers, &named)?;
        config.shared_memory_mib = 1024;
        config.defines.extend(self.defines);
        config.options.extend(self.options);
        let shipped = parts::checkout().join("kamailio");
        let main = std::fs::read_to_string(shipped.join("kamailio.cfg"))?;
        let mut chooser = std::fs::read_to_string(shipped.join("mqs.cfg"))?;
        match self.way {
            Way::InTurn => config = config.define("DS_ALG", 4),
            Way::CallLoad { forget_s } => {
                config = config.switch("DS_LOAD").define("DS_ALG", 10).define("DS_FORGET_S", forget_s);
            }
            Way::Resp(_) => {}
            Way::Http(mqs) => {
                let url = format!("http://{}", mqs.http_address());
                config = config.switch("WITH_MQS_HTTP").define("MQS_HTTP", url);
            }
        }
        if matches!(self.way, Way::InTurn | Way::CallLoad { .. }) {
            chooser = include_str!("kamailio/dispatcher.cfg").to_owned();
            let lines = self.nodes.iter().map(|node| {
                format!("1 sip:{} 0 0 duid={};maxload={}\n", node.address, node.name, node.capacity)
            });
            let list = lab.write(&format!("{}.list", self.name), &lines.collect::<String>())?;
            config = config.define("DS_LIST", list.display());
        }
        lab.write(&format!("{}-config/mqs.cfg", self.name), &chooser)?;
        let file = lab.write(&format!("{}-config/kamailio.cfg", self.name), &main)?;
        config.directory = file.parent().map(ToOwned::to_owned);
        Kamailio::start(lab, Version::System, config).with_context(|| self.name.clone())
    }
}
