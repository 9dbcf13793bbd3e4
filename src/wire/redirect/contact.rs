//! The addresses in a redirect: who was called, at a node, with the node's token.

use crate::domain::uri::{NodeUri, RequestUri};

/// What the Contacts of a call keep of its Request-URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Called {
    /// The user part, escaped as RFC 3261 §25.1 wants it; empty: none.
    user: String,
    /// `;user=phone`
    phone: bool,
}

impl Called {
    pub(super) fn of(uri: &RequestUri) -> Called {
        let (scheme, rest) = uri.as_str().split_once(':').unwrap_or(("", uri.as_str()));
        match scheme.to_ascii_lowercase().as_str() {
            // RFC 3261 §19.1.6: all of a tel URI becomes the user part.
            "tel" => Called { user: escaped(rest), phone: true },
            // RFC 5031: a service has no place of its own, so at a node it is the user: `sos`, `sos.police`.
            "urn" => Called {
                user: escaped(rest.split_once(':').map_or(rest, |(_, service)| service)),
                phone: false,
            },
            _ => {
                let (user, place) = rest.rsplit_once('@').unwrap_or(("", rest));
                let place = place.split('?').next().unwrap_or("");
                let phone = place.split(';').skip(1).any(|p| p.eq_ignore_ascii_case("user=phone"));
                // A password is nobody's business further on.
                Called { user: escaped(user.split(':').next().unwrap_or("")), phone }
            }
        }
    }

    /// The value of a Contact. The best has q=1, and each further one 0.05 less.
    pub(super) fn contact(&self, node: &NodeUri, token: &str, rank: u16) -> String {
        let (scheme, place) = node.as_str().split_once(':').unwrap_or(("sip", node.as_str()));
        let (user, at) = (&self.user, if self.user.is_empty() { "" } else { "@" });
        let phone = if self.phone { ";user=phone" } else { "" };
        let q = 1000u16.saturating_sub(rank.saturating_mul(50));
        format!("<{scheme}:{user}{at}{place}{phone};mqs={token}>;q={}.{:02}", q / 1000, q % 1000 / 10)
    }
}

/// `user` of RFC 3261 §25.1: what is not allowed there as it is, is escaped; what is escaped already stays so.
fn escaped(text: &str) -> String {
    let mut user = String::with_capacity(text.len());
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        let hex = |ahead: usize| bytes.get(at + ahead).is_some_and(u8::is_ascii_hexdigit);
        if byte.is_ascii_alphanumeric()
            || b"-_.!~*'()&=+$,;?/".contains(byte)
            || (*byte == b'%' && hex(1) && hex(2))
        {
            user.push(char::from(*byte));
        } else {
            user.push_str(&format!("%{byte:02X}"));
        }
    }
    user
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn contact(uri: &str, node: &str) -> String {
        Called::of(&uri.parse().unwrap()).contact(&node.parse().unwrap(), "m1.t", 1)
    }

    #[test]
    fn a_contact_is_who_was_called_at_a_node() {
        for (uri, node, want) in [
            (
                "sip:100@example.com:5070;transport=tls",
                "sip:127.0.1.1:5060",
                "<sip:100@127.0.1.1:5060;mqs=m1.t>;q=0.95",
            ),
            (
                "sip:first.last@a",
                "sip:[2001:db8::1];transport=tcp",
                "<sip:first.last@[2001:db8::1];transport=tcp;mqs=m1.t>;q=0.95",
            ),
            (
                "sip:+49;phone-context=x@a;user=PHONE?Subject=y",
                "sips:n",
                "<sips:+49;phone-context=x@n;user=phone;mqs=m1.t>;q=0.95",
            ),
            ("sips:sips%3Auser%40b@a", "sip:n", "<sip:sips%3Auser%40b@n;mqs=m1.t>;q=0.95"),
            ("sip:alice:secret@a", "sip:n", "<sip:alice@n;mqs=m1.t>;q=0.95"),
            ("sip:a", "sip:n", "<sip:n;mqs=m1.t>;q=0.95"),
            ("sip:a@b@c", "sip:n", "<sip:a%40b@n;mqs=m1.t>;q=0.95"),
            ("sip:a%4@b", "sip:n", "<sip:a%254@n;mqs=m1.t>;q=0.95"),
            ("sip:a[#]^@b", "sip:n", "<sip:a%5B%23%5D%5E@n;mqs=m1.t>;q=0.95"),
            ("tel:+1-201;ext=5", "sip:n", "<sip:+1-201;ext=5@n;user=phone;mqs=m1.t>;q=0.95"),
            ("urn:service:sos.police", "sip:n", "<sip:sos.police@n;mqs=m1.t>;q=0.95"),
            // A token of somebody else's is dropped with the other parameters.
            ("sip:100@a;mqs=m1.forged", "sip:n", "<sip:100@n;mqs=m1.t>;q=0.95"),
        ] {
            assert_eq!(contact(uri, node), want, "{uri}");
        }
        let called = Called::of(&"sip:a@b".parse().unwrap());
        let q: Vec<String> = (0..12)
            .map(|rank| {
                called.contact(&"sip:n".parse().unwrap(), "t", rank).split("q=").last().unwrap().to_owned()
            })
            .collect();
        assert_eq!((q[0].as_str(), q[11].as_str()), ("1.00", "0.45"));
        assert!(q.is_sorted_by(|a, b| a > b), "{q:?}");
    }

    proptest! {
        #[test]
        fn whatever_was_called_stays_in_its_place(user in "[!-~]{0,40}", host in "[a-z]{1,5}") {
            let Ok(uri) = format!("sip:{user}@{host}").parse::<RequestUri>() else { return Ok(()) };
            let made = Called::of(&uri).contact(&"sip:n:5060".parse().unwrap(), "m1.t", 0);
            prop_assert_eq!(made.matches('@').count(), usize::from(!made.starts_with("<sip:n:")));
            prop_assert!(made.ends_with("n:5060;mqs=m1.t>;q=1.00"), "{}", made);
            prop_assert!(!made.contains(['"', ' ', '\\', '#', '[']) && made.matches(['<', '>']).count() == 2, "{}", made);
        }
    }
}
