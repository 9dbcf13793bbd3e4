//! The keys of the single tables, with their defaults and limits. docs/configuration.md says the same for people.

use super::reader::{Reader, Spot};
use super::{
    Config, DispatchConfig, Endpoint, Instance, Listen, LogConfig, LogFormat, ReadPassword, SipEndpoint,
    StoreConfig, StoreUrl, TlsFiles, TokenConfig, cell, discover, pools, redirect,
};
use crate::domain::lease::Lifetimes;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const ENDPOINTS_MAX: usize = 16;
const EMERGENCY_NUMBERS_MAX: usize = 64;
const EMERGENCY_NUMBER_MAX: usize = 32;
const INSTANCE_ID_MAX: usize = 64;
const GROUP_MAX: usize = 32;
const FILTER_MAX: usize = 1024;

/// The whole document. `None`: something that has no default is missing, and was reported.
pub(super) fn config(mut root: Reader<'_, '_>, password: Option<ReadPassword>) -> Option<Config> {
    let (store, outlives) = store(root.table("store"), password);
    let instance = instance(root.table("instance"), matches!(store.url, StoreUrl::Redis(_)));
    let (listen, sip) = listen(root.table("listen"));
    let token = token(root.table("token"), outlives.as_ref(), listen.token_file.as_deref());
    let dispatch = dispatch(root.table("dispatch"));
    let dns = discover::dns(root.table("dns"));
    let log = log(root.table("log"));
    let emergency_numbers = root.list("emergency_numbers", EMERGENCY_NUMBERS_MAX, number_called);
    let emergency_numbers = distinct(&root, emergency_numbers.unwrap_or_default());
    let redirect_table = root.table("redirect");
    let (pools, node_spots) = pools::all(&mut root).unzip();
    let redirect = redirect::table(redirect_table, &sip, pools.as_deref());
    let cell = cell::read(&mut root, pools.as_deref(), &node_spots.unwrap_or_default());
    root.done();
    Some(Config {
        instance,
        store,
        listen,
        redirect,
        token,
        dispatch,
        dns,
        log,
        emergency_numbers,
        pools: pools?,
        cell,
    })
}

/// The store; and when it outlives the process, the place that says so, with the reason why tokens must too.
fn store(
    mut t: Reader<'_, '_>,
    password: Option<ReadPassword>,
) -> (StoreConfig, Option<(Spot, &'static str)>) {
    let written = t.secret("url", str::parse::<StoreUrl>);
    let password_file = t.path("password_file");
    let ca_file = t.path("ca_file");
    let timeout_ms = t.number("timeout_ms", 5..=5000, " (ms)").unwrap_or(50);
    let url = match (written, password_file) {
        (Some(url), Some(file)) => with_password(&t, url, &file, password),
        (Some(url), None) => url,
        (None, file) => {
            if file.is_some() && !t.has("url") {
                t.wrong(&t.spot_of("password_file"), NO_PASSWORD);
            }
            StoreUrl::Memory
        }
    };
    let reason = match &url {
        StoreUrl::Memory => None,
        StoreUrl::File(_) => Some(
            "missing: leases in this file outlive the process, so must the secret that their tokens are signed with",
        ),
        StoreUrl::Redis(_) => {
            Some("missing: instances that share this store must sign their tokens with the same secret")
        }
    };
    let outlives = reason.map(|reason| (t.spot_of("url"), reason));
    t.done();
    (StoreConfig { url, ca_file, timeout_ms }, outlives)
}

const NO_PASSWORD: &str = "the stores memory: and file: take no password";

fn with_password(t: &Reader<'_, '_>, url: StoreUrl, file: &Path, password: Option<ReadPassword>) -> StoreUrl {
    let spot = t.spot_of("password_file");
    let StoreUrl::Redis(redis) = &url else {
        t.wrong(&spot, NO_PASSWORD);
        return url;
    };
    if redis.has_password() {
        t.wrong(&spot, "store.url holds a password already; take it out there");
        return url;
    }
    let Some(read) = password else { return url };
    match read(file).and_then(|password| redis.with_password(&password).map_err(|e| e.to_string())) {
        Ok(whole) => StoreUrl::Redis(whole),
        Err(message) => {
            t.wrong(&spot, message);
            url
        }
    }
}

fn instance(mut t: Reader<'_, '_>, shared: bool) -> Instance {
    let id = t.text("id", |text| {
        let fits = !text.is_empty()
            && text.len() <= INSTANCE_ID_MAX
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits { Ok(text.to_owned()) } else { Err("write 1 to 64 letters, digits, '.', '_' and '-'") }
    });
    if id.is_none() && shared && !t.has("id") && host_name().is_none() {
        t.wrong(
            &t.spot_of("id"),
            "this host's name cannot be read; instances that share a store need different ids",
        );
    }
    let zone = t.text("zone", str::parse);
    t.done();
    Instance { id: id.or_else(host_name).unwrap_or_else(|| "localhost".to_owned()), zone }
}

fn host_name() -> Option<String> {
    let files = ["/proc/sys/kernel/hostname", "/etc/hostname"];
    let name = files.iter().find_map(|file| fs::read_to_string(file).ok())?;
    let name: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c)).collect();
    let name: String = name.chars().take(INSTANCE_ID_MAX).collect();
    Some(name).filter(|name| !name.is_empty())
}

fn listen(mut t: Reader<'_, '_>) -> (Listen, Vec<(SipEndpoint, Spot)>) {
    let resp = t.list("resp", ENDPOINTS_MAX, str::parse::<Endpoint>);
    let http = t.list("http", ENDPOINTS_MAX, str::parse::<Endpoint>);
    let resp = resp.unwrap_or_else(|| defaults(&t, &["unix:/run/mqs/mqs.sock"]));
    let http = http.unwrap_or_else(|| defaults(&t, &["127.0.0.1:8088", "unix:/run/mqs/http.sock"]));
    let socket_mode = t.text("socket_mode", mode).unwrap_or(0o660);
    let socket_group = t.text("socket_group", group);
    let token_file = t.path("token_file");
    let tls = tls(t.table("tls"));
    let connections_max = t.number("connections_max", 1..=65_536, " (connections)").unwrap_or(1024);
    let body_max_bytes = t.number("body_max_bytes", 1024..=1_048_576, " (bytes)").unwrap_or(65_536);
    let header_timeout_ms = t.number("header_timeout_ms", 100..=60_000, " (ms)").unwrap_or(5000);
    let idle_timeout_s = t.number("idle_timeout_s", 10..=86_400, " (s)").unwrap_or(3600);
    let guarded = t.has("token_file") && t.has("tls");
    let sip = redirect::endpoints(&mut t, &[resp.as_slice(), http.as_slice()].concat());
    check_endpoints(&t, &resp, &http, guarded);
    t.done();
    let bare = |list: Vec<(Endpoint, Spot)>| list.into_iter().map(|(endpoint, _)| endpoint).collect();
    let listen = Listen {
        resp: bare(resp),
        http: bare(http),
        sip: sip.iter().map(|(endpoint, _)| *endpoint).collect(),
        socket_mode,
        socket_group,
        token_file,
        tls,
        connections_max,
        body_max_bytes,
        header_timeout_ms,
        idle_timeout_s,
    };
    (listen, sip)
}

fn defaults(t: &Reader<'_, '_>, texts: &[&str]) -> Vec<(Endpoint, Spot)> {
    texts.iter().filter_map(|text| text.parse().ok()).map(|endpoint| (endpoint, t.spot().clone())).collect()
}

fn check_endpoints(t: &Reader<'_, '_>, resp: &[(Endpoint, Spot)], http: &[(Endpoint, Spot)], guarded: bool) {
    let written_empty = |key: &str, list: &[(Endpoint, Spot)]| t.has(key) && list.is_empty();
    if written_empty("resp", resp) && written_empty("http", http) && !t.has("sip") && !t.any_wrong() {
        t.wrong(t.spot(), "no listener at all: nobody could ask; name one in resp, http or sip");
    }
    let all: Vec<&(Endpoint, Spot)> = resp.iter().chain(http).collect();
    for (at, (endpoint, spot)) in all.iter().enumerate() {
        if let Some((earlier, _)) = all.iter().take(at).find(|(earlier, _)| earlier.overlaps(endpoint)) {
            t.wrong(spot, format!("{endpoint} cannot be listened on twice: {earlier} is there before it"));
        }
        if !endpoint.is_local() && !guarded {
            t.wrong(
                spot,
                format!(
                    "{endpoint} can be reached from other hosts: it needs both listen.token_file and [listen.tls]; \
                     or listen on a loopback address or a Unix socket"
                ),
            );
        }
    }
}

fn tls(mut t: Reader<'_, '_>) -> Option<TlsFiles> {
    let (cert, key) = (t.path("cert"), t.path("key"));
    if t.is_written() {
        t.require("cert");
        t.require("key");
    }
    t.done();
    Some(TlsFiles { cert: cert?, key: key? })
}

fn mode(text: &str) -> Result<u32, &'static str> {
    let digits = text.strip_prefix('0').unwrap_or(text);
    let mode = u32::from_str_radix(digits, 8).ok();
    let fits =
        |mode: &u32| digits.len() == 3 && digits.bytes().all(|b| b.is_ascii_digit()) && mode & 0o600 == 0o600;
    mode.filter(fits)
        .ok_or("write a mode of three octal digits that lets the owner read and write, such as \"0660\"")
}

fn group(text: &str) -> Result<String, &'static str> {
    let fits = !text.is_empty()
        && text.len() <= GROUP_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
        && !text.starts_with('-');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("write the name of a group, 1 to 32 letters, digits, '.', '_' and '-'")
    }
}

fn token(
    mut t: Reader<'_, '_>,
    outlives: Option<&(Spot, &'static str)>,
    token_file: Option<&Path>,
) -> TokenConfig {
    let secret_file = t.path("secret_file");
    if let Some((store, reason)) = outlives.filter(|_| !t.has("secret_file")) {
        t.wrong(&store.said_of("token.secret_file"), reason);
    }
    if secret_file.is_some() && secret_file.as_deref() == token_file {
        let message = "the same file as listen.token_file: whoever may ask could then sign tokens too";
        t.wrong(&t.spot_of("secret_file"), message);
    }
    t.done();
    TokenConfig { secret_file }
}

fn dispatch(mut t: Reader<'_, '_>) -> DispatchConfig {
    let held_ms = t.number("held_ms", 1000..=600_000, " (ms)").unwrap_or(30_000);
    let call_max_s: u64 = t.number("call_max_s", 10..=604_800, " (s)").unwrap_or(14_400);
    let pick_deadline_ms = t.number("pick_deadline_ms", 5..=1000, " (ms)").unwrap_or(60);
    let decisions_kept = t.number("decisions_kept", 1..=1_000_000, " (decisions)").unwrap_or(10_000);
    t.done();
    let life = Lifetimes { held_ms, call_max_ms: call_max_s.saturating_mul(1000) };
    DispatchConfig { life, pick_deadline_ms, decisions_kept }
}

fn log(mut t: Reader<'_, '_>) -> LogConfig {
    let format = t.word("format", &[("text", LogFormat::Text), ("json", LogFormat::Json)]);
    let filter = t.text("filter", |text| {
        let known = !text.trim().is_empty() && text.len() <= FILTER_MAX;
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) if known => Ok(text.to_owned()),
            Ok(_) | Err(_) => Err("write a level (error, warn, info, debug, trace, off) or a list such as \"info,mqs::store=debug\""),
        }
    });
    t.done();
    LogConfig {
        format: format.unwrap_or(LogFormat::Text),
        filter: filter.unwrap_or_else(|| "info".to_owned()),
    }
}

/// A number as the user part of a Request-URI carries it: no visual separators.
fn number_called(text: &str) -> Result<String, &'static str> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let fits = !digits.is_empty()
        && text.len() <= EMERGENCY_NUMBER_MAX
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'*' || b == b'#');
    if fits {
        Ok(text.to_owned())
    } else {
        Err("write 1 to 32 digits, '*' and '#', perhaps with a leading '+'")
    }
}

fn distinct(t: &Reader<'_, '_>, list: Vec<(String, Spot)>) -> BTreeSet<String> {
    let mut set = BTreeSet::new();
    for (text, spot) in list {
        let message = format!("{text:?} is there twice");
        if !set.insert(text) {
            t.wrong(&spot, message);
        }
    }
    set
}
