//! The configuration file: what is taken, what is refused, and how it is said.

use mqs::config::Config;

#[test]
fn the_basic_shape() {
    let text = r#"
[store]
url = "memory:"
[listen]
resp = ["unix:/run/mqs/mqs.sock"]
http = ["127.0.0.1:8088", "unix:/run/mqs/http.sock"]
[[pool]]
name = "default"
[[pool.node]]
id = "ast1"
uri = "sip:127.0.1.1:5060"
capacity = 900
zone = "a"
"#;
    let config = Config::parse(text, "mqs.toml").unwrap();
    assert_eq!(config.pools[0].nodes[0].capacity, 900);
}
