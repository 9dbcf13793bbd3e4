//! What lies between two configurations, key by key: what a running process takes over, and what needs a restart.

use super::{
    Config, DiscoverConfig, DispatchConfig, DnsConfig, Instance, Listen, LogConfig, PoolConfig, Redirect,
    RegisterConfig, RouteOptions, StoreConfig, TokenConfig,
};
use crate::domain::admission::Limits;
use crate::domain::discovery::Template;
use crate::domain::health::HealthRules;
use crate::domain::lease::Lifetimes;
use crate::domain::pool::Rules;

/// Keys, as docs/configuration.md names them; those of a pool with its name: `pool.sales.refuse_code`. Nodes are not among them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A running process takes these over.
    pub applied: Vec<String>,
    /// These count after a restart.
    pub restart: Vec<String>,
}

/// Names the keys whose fields differ. The fields are all named, without `..`: a key that is new has to be told about.
macro_rules! differing {
    ($kind:ident, $old:expr, $new:expr, { $($field:ident => $key:expr),* $(,)? }) => {{
        let $kind { $($field: _),* } = $old;
        let mut keys: Vec<String> = Vec::new();
        $(if $old.$field != $new.$field {
            let key: &str = $key;
            // Without a key: compared elsewhere.
            if !key.is_empty() {
                keys.push(key.to_owned());
            }
        })*
        keys
    }};
}

// Behind the macro, which it uses.
mod cell;

impl Changes {
    /// From the configuration that runs to another one.
    pub fn between(old: &Config, new: &Config) -> Changes {
        let Config {
            instance,
            store,
            listen,
            redirect,
            token,
            dispatch,
            dns,
            log,
            emergency_numbers,
            pools,
            cell,
        } = new;
        let mut changes = Changes::default();
        changes.instance(&old.instance, instance);
        changes.store(&old.store, store);
        changes.listen(&old.listen, listen);
        changes.redirect(&old.redirect, redirect, old.listen.sip == listen.sip);
        let keys = differing!(TokenConfig, &old.token, token, { secret_file => "token.secret_file" });
        changes.restart.extend(keys);
        changes.dispatch(&old.dispatch, dispatch);
        let dns = differing!(DnsConfig, &old.dns, dns, { servers => "dns.servers", timeout_ms => "dns.timeout_ms" });
        changes.applied.extend(dns);
        changes.log(&old.log, log);
        if old.emergency_numbers != *emergency_numbers {
            changes.applied.push("emergency_numbers".to_owned());
        }
        changes.pools(&old.pools, pools);
        changes.cell(old.cell.as_ref(), cell.as_ref());
        changes
    }

    fn instance(&mut self, old: &Instance, new: &Instance) {
        for key in differing!(Instance, old, new, { id => "instance.id", zone => "instance.zone" }) {
            if key == "instance.id" { self.restart.push(key) } else { self.applied.push(key) }
        }
    }

    fn store(&mut self, old: &StoreConfig, new: &StoreConfig) {
        // The password is a part of the address here.
        self.restart.extend(differing!(StoreConfig, old, new, {
            url => "store.url", ca_file => "store.ca_file", timeout_ms => "store.timeout_ms",
        }));
    }

    fn listen(&mut self, old: &Listen, new: &Listen) {
        self.restart.extend(differing!(Listen, old, new, {
            resp => "listen.resp", http => "listen.http", sip => "listen.sip", socket_mode => "listen.socket_mode",
            socket_group => "listen.socket_group", token_file => "listen.token_file", tls => "listen.tls",
            connections_max => "listen.connections_max", body_max_bytes => "listen.body_max_bytes",
            header_timeout_ms => "listen.header_timeout_ms", idle_timeout_s => "listen.idle_timeout_s",
        }));
    }

    /// Who may ask was written for these listeners: with others in the file it waits with them.
    fn redirect(&mut self, old: &Redirect, new: &Redirect, same_listeners: bool) {
        for key in differing!(Redirect, old, new, { allow => "redirect.allow", pool => "redirect.pool" }) {
            let waits = key == "redirect.allow" && !same_listeners;
            if waits { self.restart.push(key) } else { self.applied.push(key) }
        }
    }

    fn dispatch(&mut self, old: &DispatchConfig, new: &DispatchConfig) {
        self.applied.extend(differing!(DispatchConfig, old, new, {
            life => "", pick_deadline_ms => "dispatch.pick_deadline_ms", decisions_kept => "dispatch.decisions_kept",
        }));
        self.applied.extend(differing!(Lifetimes, &old.life, new.life, {
            held_ms => "dispatch.held_ms", call_max_ms => "dispatch.call_max_s",
        }));
    }

    fn log(&mut self, old: &LogConfig, new: &LogConfig) {
        for key in differing!(LogConfig, old, new, { format => "log.format", filter => "log.filter" }) {
            if key == "log.format" { self.restart.push(key) } else { self.applied.push(key) }
        }
    }

    fn pools(&mut self, old: &[PoolConfig], new: &[PoolConfig]) {
        let named = |pools: &'_ [PoolConfig], pool: &PoolConfig| pools.iter().any(|p| p.name == pool.name);
        for pool in new {
            match old.iter().find(|before| before.name == pool.name) {
                Some(before) => {
                    let keys = pool_keys(before, pool);
                    self.applied.extend(keys.iter().map(|key| format!("pool.{}.{key}", pool.name)));
                    self.nodes_ari(before, pool);
                }
                None => self.applied.push(format!("pool.{}: new", pool.name)),
            }
        }
        for pool in old.iter().filter(|pool| !named(new, pool)) {
            self.applied.push(format!("pool.{}: removed", pool.name));
        }
        if let (Some(before), Some(first)) = (old.first(), new.first())
            && before.name != first.name
        {
            self.applied.push(format!("pool: {} comes first", first.name));
        }
    }
}

fn pool_keys(old: &PoolConfig, new: &PoolConfig) -> Vec<String> {
    let mut keys = differing!(PoolConfig, old, new, {
        name => "", rules => "", health => "", health_ca_file => "health.ca_file", refuse_code => "refuse_code", retry_after_s => "retry_after_s", route => "",
        limits => "", sticky_s => "sticky_s", overflow => "overflow", discover => "", register => "", nodes => "",
    });
    keys.extend(differing!(Limits, &old.limits, new.limits, {
        pool => "limit", each_tenant => "each_tenant", tenants => "tenant",
    }));
    keys.extend(differing!(Rules, &old.rules, new.rules, {
        agent_reserve_pm => "agent_reserve", zone_spill_pm => "zone_spill", targets_max => "targets_max",
    }));
    keys.extend(differing!(RouteOptions, &old.route, new.route, {
        fr_timer_ms => "fr_timer_ms", fr_inv_timer_ms => "fr_inv_timer_ms", socket => "socket", path => "path",
        headers => "headers",
    }));
    keys.extend(differing!(HealthRules, &old.health, new.health, {
        probe_every_ms => "health.probe_every_ms", probe_timeout_ms => "health.probe_timeout_ms",
        accept => "health.accept", down_after => "health.down_after", up_after => "health.up_after", eject_after => "health.eject_after",
        eject_ms => "health.eject_ms", eject_max_ms => "health.eject_max_ms", slow_start_ms => "health.slow_start_ms",
        out_max_pm => "health.out_max",
    }));
    match (&old.discover, &new.discover) {
        (Some(before), Some(now)) => keys.extend(discover_keys(before, now)),
        (Some(_), None) => keys.push("discover: removed".to_owned()),
        (None, Some(_)) => keys.push("discover: new".to_owned()),
        (None, None) => {}
    }
    match (&old.register, &new.register) {
        (Some(before), Some(now)) => keys.extend(register_keys(before, now)),
        (Some(_), None) => keys.push("register: removed".to_owned()),
        (None, Some(_)) => keys.push("register: new".to_owned()),
        (None, None) => {}
    }
    keys
}

fn register_keys(old: &RegisterConfig, new: &RegisterConfig) -> Vec<String> {
    use crate::domain::registration::Limits;
    let mut keys = differing!(RegisterConfig, old, new, { networks => "register.networks", limits => "" });
    keys.extend(differing!(Limits, &old.limits, new.limits, {
        capacity_max => "register.capacity_max", ttl_max_s => "register.ttl_max_s",
        nodes_max => "register.nodes_max",
    }));
    keys
}

fn discover_keys(old: &DiscoverConfig, new: &DiscoverConfig) -> Vec<String> {
    let mut keys = differing!(DiscoverConfig, old, new, {
        service => "discover.name", family => "discover.addresses", template => "",
        refresh_min_s => "discover.refresh_min_s", refresh_max_s => "discover.refresh_max_s",
    });
    keys.extend(differing!(Template, &old.template, new.template, {
        capacity => "discover.capacity", weighted => "discover.weight", zone => "discover.zone", tags => "discover.tags",
        nodes_max => "discover.nodes_max", forget_after_ms => "discover.forget_after_s",
    }));
    keys
}

impl Config {
    /// This configuration, with what needs a restart as it is in the process that `running` started.
    pub fn over(self, running: &Config) -> Config {
        let same_listeners = self.listen.sip == running.listen.sip;
        let allow = if same_listeners { self.redirect.allow } else { running.redirect.allow.clone() };
        Config {
            instance: Instance { id: running.instance.id.clone(), ..self.instance },
            store: running.store.clone(),
            listen: running.listen.clone(),
            token: running.token.clone(),
            log: LogConfig { format: running.log.format, ..self.log },
            redirect: Redirect { allow, ..self.redirect },
            cell: cell::over(self.cell, running.cell.as_ref()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(text, "test").unwrap()
    }

    fn pool(name: &str) -> String {
        format!(
            "[[pool]]\nname = {name:?}\n[[pool.node]]\nid = \"a\"\nuri = \"sip:127.0.0.1\"\ncapacity = 1\n"
        )
    }

    #[test]
    fn pools_come_and_go() {
        let (one, two) = (config(&pool("one")), config(&(pool("two") + &pool("one"))));
        assert_eq!(Changes::between(&one, &two).applied, ["pool.two: new", "pool: two comes first"]);
        assert_eq!(Changes::between(&two, &one).applied, ["pool.two: removed", "pool: one comes first"]);
        assert_eq!(Changes::between(&one, &one), Changes::default());
    }

    #[test]
    fn who_may_ask_waits_with_the_listeners_that_it_was_written_for() {
        let allow = "[redirect]\nallow = [\"192.0.2.1\"]\n";
        let sip = |port| format!("[listen]\nsip = [\"udp:127.0.0.1:{port}\"]\n");
        let (old, same) = (config(&(sip(5070) + &pool("p"))), config(&(sip(5070) + allow + &pool("p"))));
        assert_eq!(Changes::between(&old, &same).applied, ["redirect.allow"]);
        assert_eq!(same.clone().over(&old).redirect, same.redirect);
        let other = config(&(sip(5071) + allow + &pool("p")));
        assert_eq!(Changes::between(&old, &other).restart, ["listen.sip", "redirect.allow"]);
        assert_eq!(other.over(&old), old);
    }
}
