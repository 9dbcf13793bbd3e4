//! The redirect server's listeners and rights: `listen.sip` and `[redirect]`.

use super::reader::{Reader, Spot};
use super::{Config, Endpoint, PoolConfig};
use crate::domain::id::PoolId;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The most listeners.
const SIP_ENDPOINTS_MAX: usize = 16;

/// The most networks in `redirect.allow`: each source is compared with all of them.
const NETWORKS_MAX: usize = 256;

/// Who may ask where nobody is named: this host, by its loopback addresses.
const LOOPBACK: [&str; 2] = ["127.0.0.0/8", "::1"];

/// `[redirect]`: who may ask over SIP, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Whose requests are answered; everybody else gets silence.
    pub allow: Vec<Network>,
    /// The pool that all calls are sent to; `None`: the first of the file.
    pub pool: Option<PoolId>,
}

impl Redirect {
    /// Whether this source is answered. An IPv4 address in IPv6 dress is an IPv4 address.
    pub fn allows(&self, source: IpAddr) -> bool {
        let source = source.to_canonical();
        self.allow.iter().any(|network| network.contains(source))
    }
}

/// Where the redirect server listens: `udp:ip:port` or `tcp:ip:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SipEndpoint {
    /// UDP or TCP.
    pub transport: SipTransport,
    /// Address and port. Port 0 lets the system choose one.
    pub address: SocketAddr,
}

/// What SIP runs over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SipTransport {
    /// Datagrams.
    Udp,
    /// Connections.
    Tcp,
}

impl SipEndpoint {
    /// Whether only programs of this host reach it.
    pub fn is_local(&self) -> bool {
        Endpoint::Tcp(self.address).is_local()
    }

    fn overlaps(&self, other: &SipEndpoint) -> bool {
        self.transport == other.transport
            && Endpoint::Tcp(self.address).overlaps(&Endpoint::Tcp(other.address))
    }

    fn is_taken_by(&self, other: &Endpoint) -> bool {
        self.transport == SipTransport::Tcp && Endpoint::Tcp(self.address).overlaps(other)
    }
}

impl FromStr for SipEndpoint {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<SipEndpoint, &'static str> {
        let (transport, address) = match s.split_once(':') {
            Some(("udp", address)) => (SipTransport::Udp, address.parse()),
            Some(("tcp", address)) => (SipTransport::Tcp, address.parse()),
            Some(_) | None => return Err(ENDPOINT_FORM),
        };
        Ok(SipEndpoint { transport, address: address.map_err(|_| ENDPOINT_FORM)? })
    }
}

const ENDPOINT_FORM: &str = "write udp:ip:port or tcp:ip:port, such as udp:127.0.0.1:5062 or tcp:[::1]:5062; host names are not looked up";

impl fmt::Display for SipEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            SipTransport::Udp => "udp",
            SipTransport::Tcp => "tcp",
        };
        write!(f, "{transport}:{}", self.address)
    }
}

/// An address, or all that share its first bits: `192.0.2.7`, `192.0.2.0/24`, `2001:db8::/32` (RFC 4632 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    /// Whether an address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(net), IpAddr::V4(one)) => {
                self.host_part(u128::from(net.to_bits() ^ one.to_bits()), 32) == 0
            }
            (IpAddr::V6(net), IpAddr::V6(one)) => self.host_part(net.to_bits() ^ one.to_bits(), 128) == 0,
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }

    pub(super) fn is_everybody(&self) -> bool {
        self.bits == 0
    }

    /// What is left of `bits` after the network's own are looked at alone.
    fn host_part(&self, bits: u128, width: u32) -> u128 {
        bits.checked_shr(width - u32::from(self.bits)).unwrap_or(0)
    }
}

impl FromStr for Network {
    type Err = &'static str;
    fn from_str(s: &str) -> Result<Network, &'static str> {
        const FORM: &str = "write an address or a network, such as 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32";
        let (address, bits) = match s.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (s, None),
        };
        let address: IpAddr = address.parse().map_err(|_| FORM)?;
        if address.to_canonical() != address {
            return Err("write an IPv4 address as IPv4: sources are compared so");
        }
        let width = if address.is_ipv4() { 32 } else { 128 };
        let digits = |text: &str| text.len() <= 3 && text.bytes().all(|b| b.is_ascii_digit());
        let bits = match bits {
            None => width,
            Some(text) => text.parse().ok().filter(|n| *n <= width && digits(text)).ok_or(FORM)?,
        };
        let network = Network { address, bits };
        let own = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let low = u128::MAX.checked_shl(u32::from(width - bits)).unwrap_or(0);
        if own & !low != 0 {
            return Err("bits are set behind the network's length: which network is meant?");
        }
        Ok(network)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

/// `listen.sip`, with the places of its entries; not written: nobody is listened to.
pub(super) fn endpoints(t: &mut Reader<'_, '_>, others: &[(Endpoint, Spot)]) -> Vec<(SipEndpoint, Spot)> {
    let sip = t.list("sip", SIP_ENDPOINTS_MAX, str::parse::<SipEndpoint>).unwrap_or_default();
    for (at, (endpoint, spot)) in sip.iter().enumerate() {
        let twice = |there: &dyn fmt::Display| {
            t.wrong(spot, format!("{endpoint} cannot be listened on twice: {there} is there before it"));
        };
        if let Some((earlier, _)) = sip.iter().take(at).find(|(earlier, _)| earlier.overlaps(endpoint)) {
            twice(earlier);
        }
        if let Some((other, _)) = others.iter().find(|(other, _)| endpoint.is_taken_by(other)) {
            twice(other);
        }
    }
    sip
}

/// `[redirect]`. A listener that other hosts can reach needs a list of those that are meant.
pub(super) fn table(
    mut t: Reader<'_, '_>,
    sip: &[(SipEndpoint, Spot)],
    pools: Option<&[PoolConfig]>,
) -> Redirect {
    let written = t.list("allow", NETWORKS_MAX, str::parse::<Network>);
    let pool = t.text("pool", str::parse::<PoolId>);
    if let Some(name) =
        pool.as_ref().filter(|name| pools.is_some_and(|all| all.iter().all(|p| p.name != **name)))
    {
        t.wrong(&t.spot_of("pool"), format!("there is no pool {name}"));
    }
    // A list that lost its wrong ones is not empty.
    if t.has("allow") && !t.any_wrong() && written.as_ref().is_some_and(Vec::is_empty) {
        t.wrong(
            &t.spot_of("allow"),
            "an empty list: nobody could ask; leave the key out for this host alone",
        );
    }
    if !t.has("allow") {
        for (endpoint, spot) in sip.iter().filter(|(endpoint, _)| !endpoint.is_local()) {
            let message = format!(
                "{endpoint} can be reached from other hosts: name those that may ask in redirect.allow; or listen on a loopback address"
            );
            t.wrong(spot, message);
        }
    }
    t.done();
    let bare = |list: Vec<(Network, Spot)>| list.into_iter().map(|(network, _)| network).collect();
    let this_host = || LOOPBACK.iter().filter_map(|text| text.parse().ok()).collect();
    Redirect { allow: written.map_or_else(this_host, bare), pool }
}

/// What is allowed, and probably not meant.
pub(super) fn warnings(config: &Config, warnings: &mut Vec<String>) {
    let (sip, redirect) = (&config.listen.sip, &config.redirect);
    if let Some(everybody) = redirect.allow.iter().find(|network| network.is_everybody()) {
        warnings
            .push(format!("redirect.allow holds {everybody}: everybody may take leases, and be answered"));
    }
    let default =
        Redirect { allow: LOOPBACK.iter().filter_map(|text| text.parse().ok()).collect(), pool: None };
    if sip.is_empty() && *redirect != default {
        warnings.push("[redirect] is set, and listen.sip names no listener: it is not used".to_owned());
    }
    for endpoint in sip.iter().filter(|endpoint| endpoint.address.port() == 0) {
        warnings.push(format!("{endpoint} has port 0: the system chooses another one at each start"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_read_and_print_alike() {
        for text in ["udp:127.0.0.1:5062", "tcp:[::1]:5060", "udp:0.0.0.0:0"] {
            assert_eq!(text.parse::<SipEndpoint>().unwrap().to_string(), text);
        }
        for bad in
            ["", "127.0.0.1:5062", "tls:127.0.0.1:5061", "udp:localhost:5060", "UDP:127.0.0.1:1", "udp:"]
        {
            assert_eq!(bad.parse::<SipEndpoint>(), Err(ENDPOINT_FORM), "{bad:?}");
        }
    }

    #[test]
    fn a_network_holds_what_shares_its_bits() {
        let holds = |net: &str, one: &str| net.parse::<Network>().unwrap().contains(one.parse().unwrap());
        for (net, inside, outside) in [
            ("127.0.0.0/8", "127.255.0.1", "128.0.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("192.0.2.128/25", "192.0.2.200", "192.0.2.127"),
            ("0.0.0.0/0", "255.255.255.255", "::1"),
            ("::/0", "ffff::1", "1.2.3.4"),
            ("2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1"),
            ("::1", "::1", "::2"),
        ] {
            assert!(holds(net, inside) && !holds(net, outside), "{net}");
        }
        for bad in [
            "",
            "host",
            "1.2.3.4/33",
            "::/129",
            "1.2.3.4/-1",
            "1.2.3.4/+8",
            "192.0.2.7/24",
            "1.2.3/8",
            "::ffff:1.2.3.4",
        ] {
            assert!(bad.parse::<Network>().is_err(), "{bad:?}");
        }
        let redirect = Redirect { allow: vec!["10.0.0.0/8".parse().unwrap()], pool: None };
        assert!(
            redirect.allows("::ffff:10.1.2.3".parse().unwrap()) && !redirect.allows("::1".parse().unwrap())
        );
    }
}
