//! Every path, and what is refused before one is looked for.

use super::body::BodyLimits;
use super::{Options, agents, calls, events, lookups, meta, nodes, queues};
use crate::cell::Desk;
use crate::dispatch::Dispatcher;
use crate::dispatch::reload::Door;
use crate::wire::attrs::shorten;
use crate::wire::problem::{Problem, Trouble};
use crate::wire::refusal::BadRequest;
use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, Response, header};
use axum::response::IntoResponse as _;
use axum::routing::{MethodRouter, get, post};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// A path that is served, and its methods; [`ROUTES`] is compared with the OpenAPI document in tests.
#[derive(Clone, Copy, Debug)]
pub struct RoutePath {
    /// As in the OpenAPI document.
    pub path: &'static str,
    /// The methods, in lower case.
    pub methods: &'static [&'static str],
    handlers: fn() -> MethodRouter<Arc<App>>,
}

/// Everything that is served.
pub const ROUTES: &[RoutePath] = &[
    RoutePath { path: "/v1/route", methods: &["post"], handlers: || post(lookups::route) },
    RoutePath { path: "/v1/explain", methods: &["post"], handlers: || post(lookups::explain) },
    RoutePath { path: "/v1/confirm", methods: &["post"], handlers: || post(lookups::confirm) },
    RoutePath { path: "/v1/fail", methods: &["post"], handlers: || post(lookups::fail) },
    RoutePath { path: "/v1/done", methods: &["post"], handlers: || post(lookups::done) },
    RoutePath { path: "/v1/registrations", methods: &["post"], handlers: || post(lookups::register) },
    RoutePath { path: "/v1/own-calls", methods: &["post"], handlers: || post(lookups::own_call) },
    RoutePath { path: DECISION, methods: &["get"], handlers: || get(lookups::decision) },
    RoutePath { path: "/v1/nodes", methods: &["get"], handlers: || get(nodes::all) },
    RoutePath { path: "/v1/pools", methods: &["get"], handlers: || get(nodes::pools) },
    RoutePath {
        path: "/v1/pools/{pool}/nodes",
        methods: &["get", "post"],
        handlers: || get(nodes::of_pool).post(nodes::add),
    },
    RoutePath {
        path: "/v1/pools/{pool}/nodes/{id}",
        methods: &["get", "patch", "delete"],
        handlers: || get(nodes::one).patch(nodes::change).delete(nodes::remove),
    },
    RoutePath {
        path: "/v1/pools/{pool}/nodes/{id}/heartbeat",
        methods: &["post"],
        handlers: || post(nodes::heartbeat),
    },
    RoutePath { path: "/v1/queues", methods: &["get"], handlers: || get(queues::all) },
    RoutePath {
        path: "/v1/queues/{id}",
        methods: &["get", "put", "delete"],
        handlers: || get(queues::one).put(queues::set).delete(queues::remove),
    },
    RoutePath { path: "/v1/calls", methods: &["get"], handlers: || get(calls::all) },
    RoutePath { path: "/v1/calls/{id}", methods: &["get"], handlers: || get(calls::one) },
    RoutePath { path: "/v1/calls/{id}/move", methods: &["post"], handlers: || post(calls::move_to) },
    RoutePath { path: "/v1/calls/{id}/priority", methods: &["post"], handlers: || post(calls::priority) },
    RoutePath { path: "/v1/calls/{id}/withdraw", methods: &["post"], handlers: || post(calls::withdraw) },
    RoutePath { path: "/v1/agents", methods: &["get"], handlers: || get(agents::all) },
    RoutePath {
        path: "/v1/agents/{id}",
        methods: &["get", "put", "delete"],
        handlers: || get(agents::one).put(agents::set).delete(agents::remove),
    },
    RoutePath { path: "/v1/agents/{id}/login", methods: &["post"], handlers: || post(agents::login) },
    RoutePath { path: "/v1/agents/{id}/logout", methods: &["post"], handlers: || post(agents::logout) },
    RoutePath { path: "/v1/agents/{id}/toggle", methods: &["post"], handlers: || post(agents::toggle) },
    RoutePath { path: "/v1/agents/{id}/pause", methods: &["post"], handlers: || post(agents::pause) },
    RoutePath { path: "/v1/agents/{id}/resume", methods: &["post"], handlers: || post(agents::resume) },
    RoutePath { path: "/v1/offers", methods: &["get"], handlers: || get(queues::offers) },
    RoutePath { path: "/v1/offers/{id}", methods: &["get"], handlers: || get(queues::offer) },
    RoutePath { path: "/v1/cell", methods: &["get"], handlers: || get(queues::cell) },
    RoutePath { path: "/v1/events", methods: &["get"], handlers: || get(events::events) },
    RoutePath { path: "/v1/reload", methods: &["post"], handlers: || post(meta::reload) },
    RoutePath { path: HEALTHZ, methods: &["get"], handlers: || get(meta::healthz) },
    RoutePath { path: "/readyz", methods: &["get"], handlers: || get(meta::readyz) },
    RoutePath { path: "/metrics", methods: &["get"], handlers: || get(meta::metrics) },
    RoutePath { path: "/openapi.json", methods: &["get"], handlers: || get(meta::openapi) },
];

const DECISION: &str = "/v1/decisions/{call_id}";
const HEALTHZ: &str = "/healthz";

/// What is below these reads its own query when it is asked by GET.
const QUERIED: [&str; 5] = ["/v1/queues", "/v1/calls", "/v1/agents", "/v1/offers", "/v1/events"];

/// What every handler needs.
pub(super) struct App {
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) body: BodyLimits,
    pub(super) reload: Option<Door>,
    pub(super) desk: Option<Arc<Desk>>,
    /// Answers that go on and on end with it.
    pub(super) stop: CancellationToken,
}

/// Answers requests of one listener.
pub(super) struct Front {
    body: BodyLimits,
    guard: Guard,
    router: Router,
}

impl Front {
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        options: &Options,
        needs_token: bool,
        stop: CancellationToken,
    ) -> Arc<Front> {
        let body = BodyLimits {
            bytes: options.body_max_bytes,
            time: Duration::from_millis(options.header_timeout_ms),
        };
        let guard = if needs_token { Guard::Token(options.token.clone()) } else { Guard::Open };
        let (reload, desk) = (options.reload.clone(), options.desk.clone());
        let router = router().with_state(Arc::new(App { dispatcher, body, reload, desk, stop }));
        Arc::new(Front { body, guard, router })
    }

    /// Answers one request.
    pub(super) async fn answer(&self, request: Request<hyper::body::Incoming>) -> Response<Body> {
        if let Err(problem) = self.check(&request) {
            return problem.into_response();
        }
        match self.router.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    fn check<B>(&self, request: &Request<B>) -> Result<(), Problem> {
        if request.uri().path() != HEALTHZ {
            self.guard.check(request.headers())?;
        }
        check_origin(request)?;
        check_query(request)?;
        self.body.check_length(request.headers())
    }
}

fn router() -> Router<Arc<App>> {
    let mut router = Router::new();
    for route in ROUTES {
        // A Call-ID may hold '/'.
        let path = if route.path == DECISION { "/v1/decisions/{*call_id}" } else { route.path };
        router = router.route(path, (route.handlers)());
    }
    router.fallback(no_path).method_not_allowed_fallback(no_method)
}

async fn no_path(request: Request<Body>) -> Problem {
    let path = shorten(request.uri().path());
    Problem::new(Trouble::NoPath, format!("{path:?}; GET /openapi.json lists all paths"))
}

/// axum adds `Allow`.
async fn no_method(request: Request<Body>) -> Problem {
    let (method, path) = (shorten(request.method().as_str()), shorten(request.uri().path()));
    Problem::new(Trouble::Method, format!("{method} {path}"))
}

/// Browsers send `Origin` with every request that can change something, other programs do not send it: so no web page that somebody
/// opens on this host can do anything here.
fn check_origin<B>(request: &Request<B>) -> Result<(), Problem> {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    if reads || !request.headers().contains_key(header::ORIGIN) {
        return Ok(());
    }
    let detail = "a request with an Origin header comes from a web page".to_owned();
    Err(Problem::new(Trouble::Origin, detail).about("origin"))
}

/// A parameter that is not read must not look as if it was. (Probes and scrapers may add theirs.)
fn check_query<B>(request: &Request<B>) -> Result<(), Problem> {
    let (uri, method) = (request.uri(), request.method());
    let below =
        |top: &str| uri.path().strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let reads = method == Method::GET || method == Method::HEAD;
    if method == Method::DELETE || (reads && QUERIED.into_iter().any(below)) {
        return Ok(());
    }
    match uri.query() {
        Some(query) if !query.is_empty() && uri.path().starts_with("/v1/") => {
            let key = query.split(['=', '&']).next().unwrap_or("");
            Err(BadRequest::new(&shorten(key), "this path has no parameters".to_owned()).into())
        }
        Some(_) | None => Ok(()),
    }
}

/// Who may ask.
enum Guard {
    /// Whoever gets at the socket.
    Open,
    /// Whoever shows this token. Without one nobody may: a listener that needs a token is not opened by leaving it out.
    Token(Option<Arc<str>>),
}

impl Guard {
    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Guard::Token(wanted) = self else { return Ok(()) };
        let refused = |detail: &str| Problem::new(Trouble::NoToken, detail.to_owned()).about("authorization");
        let shown = headers.get(header::AUTHORIZATION).ok_or_else(|| refused("no Authorization header"))?;
        let (scheme, token) = shown.as_bytes().split_at_checked(7).unwrap_or((&[], &[]));
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return Err(refused("not a Bearer token"));
        }
        let right =
            wanted.as_ref().is_some_and(|wanted| bool::from(wanted.as_bytes().ct_eq(token.trim_ascii())));
        if right { Ok(()) } else { Err(refused("not the right token")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &Guard, shown: Option<&str>) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(text) = shown {
            headers.insert(header::AUTHORIZATION, text.parse().unwrap());
        }
        guard.check(&headers).map_or_else(|problem| problem.status, |()| 200)
    }

    #[test]
    fn only_the_right_token_opens() {
        let guard = Guard::Token(Some("s3cret".into()));
        for (shown, want) in [
            (Some("Bearer s3cret"), 200),
            (Some("bearer  s3cret"), 200),
            (None, 401),
            (Some(""), 401),
            (Some("Bearer"), 401),
            (Some("Bearer "), 401),
            (Some("Bearer s3cre"), 401),
            (Some("Bearer s3crets"), 401),
            (Some("Basic s3cret"), 401),
            (Some("s3cret"), 401),
        ] {
            assert_eq!(status(&guard, shown), want, "{shown:?}");
        }
        assert_eq!(status(&Guard::Token(None), Some("Bearer ")), 401);
        assert_eq!(status(&Guard::Open, None), 200);
    }
}
