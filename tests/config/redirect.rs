//! `listen.sip` and `[redirect]`: who may ask is said, or it is this host.

use crate::text::{BARE, only_problem, parse, set};
use std::net::IpAddr;

fn listening(sip: &str) -> String {
    set(BARE, "listen", "sip", sip)
}

#[test]
fn a_listener_that_other_hosts_reach_needs_a_list_of_those_who_may_ask() {
    for sip in ["udp:0.0.0.0:5062", "tcp:192.0.2.1:5062", "udp:[::]:5062", "tcp:[2001:db8::1]:5060"] {
        let text = listening(&format!("[\"udp:127.0.0.1:1\", {sip:?}]"));
        let problem = only_problem(&text);
        assert!(problem.key == "listen.sip[1]" && problem.message.contains("redirect.allow"), "{problem}");
        assert!(problem.message.starts_with(sip), "the listener is named: {problem}");
        let allowed = parse(&set(&text, "redirect", "allow", "[\"192.0.2.0/24\"]"));
        let may = |address: &str| allowed.redirect.allows(address.parse::<IpAddr>().unwrap());
        assert!(may("192.0.2.7") && may("::ffff:192.0.2.7") && !may("192.0.3.1") && !may("127.0.0.1"));
    }
    let local =
        parse(&listening(r#"["udp:127.0.0.1:5062", "tcp:[::1]:5062", "udp:[::ffff:127.0.0.1]:5063"]"#));
    let may = |address: &str| local.redirect.allows(address.parse::<IpAddr>().unwrap());
    assert!(may("127.8.9.1") && may("::1") && !may("10.0.0.1") && !may("::2"));
    let problem = only_problem(&set(&listening("[\"udp:127.0.0.1:1\"]"), "redirect", "allow", "[]"));
    assert!(problem.key == "redirect.allow" && problem.message.contains("empty"), "{problem}");
}

#[test]
fn listeners_are_apart_and_one_is_enough() {
    for (sip, other) in [
        (r#"["udp:127.0.0.1:5062", "udp:127.0.0.1:5062"]"#, "udp:127.0.0.1:5062"),
        (r#"["udp:127.0.0.1:5060", "tcp:127.0.0.1:8088"]"#, "127.0.0.1:8088"),
    ] {
        let problem = only_problem(&listening(sip));
        assert!(problem.key == "listen.sip[1]" && problem.message.contains(other), "{problem}");
    }
    assert_eq!(parse(&listening(r#"["udp:127.0.0.1:8088", "tcp:127.0.0.1:5062"]"#)).listen.sip.len(), 2);
    let alone =
        set(&set(&listening("[\"udp:127.0.0.1:1\"]"), "listen", "resp", "[]"), "listen", "http", "[]");
    assert_eq!(parse(&alone).listen.sip.len(), 1);
}

#[test]
fn what_is_probably_not_meant_is_said() {
    let said = |text: &str, words: &str| parse(text).warnings().iter().filter(|w| w.contains(words)).count();
    let sip = listening("[\"udp:127.0.0.1:1\"]");
    assert_eq!(said(&set(&sip, "redirect", "allow", "[\"::/0\"]"), "everybody"), 1);
    assert_eq!(said(&set(BARE, "redirect", "pool", "\"default\""), "it is not used"), 1);
    assert_eq!(said(&set(&sip, "redirect", "pool", "\"default\""), "redirect"), 0);
    assert_eq!(said(&listening("[\"udp:127.0.0.1:0\"]"), "port 0"), 1);
}
