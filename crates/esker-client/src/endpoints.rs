//! The servers that a client may ask, and which of them it asks first.
//!
//! The ones it was given stay for good. Others it learns: from a node that redirects, and from the list of members that
//! any node has, so that a client that was given one node survives that node's death.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::Uri;
use tokio::time::Instant;

use crate::{Error, Result};

/// A server's address: `http://host:port`, `esker://host:port` or `grpc://host:port`, with an `s` behind the scheme for TLS.
pub(crate) type Endpoint = Arc<str>;

/// The protocol of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Binary,
    Grpc,
}

impl Scheme {
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        match &**endpoint {
            endpoint if endpoint.starts_with(BINARY) || endpoint.starts_with(BINARY_TLS) => Self::Binary,
            endpoint if endpoint.starts_with(GRPC) || endpoint.starts_with(GRPC_TLS) => Self::Grpc,
            _ => Self::Http,
        }
    }
}

/// What endpoints of the binary protocol begin with.
const BINARY: &str = "esker://";
const BINARY_TLS: &str = "eskers://";
/// Their port, if they say none.
const BINARY_PORT: u16 = 9090;
/// What endpoints of gRPC begin with.
pub(crate) const GRPC: &str = "grpc://";
pub(crate) const GRPC_TLS: &str = "grpcs://";
/// Their port, if they say none.
const GRPC_PORT: u16 = 7070;

/// Whether an endpoint asks for TLS.
pub(crate) fn is_secured(endpoint: &Endpoint) -> bool {
    [HTTPS, BINARY_TLS, GRPC_TLS].iter().any(|scheme| endpoint.starts_with(scheme))
}

/// More members than a cluster has; bounds what a mistaken answer makes us remember.
const LEARNED_MAX: usize = 64;
/// The members are asked for at most this often.
const REFRESH_EVERY: Duration = Duration::from_secs(1);

/// What all handles to one client share.
#[derive(Debug)]
pub(crate) struct Endpoints(Mutex<State>);

#[derive(Debug)]
struct State {
    given: Vec<Endpoint>,
    learned: Vec<Endpoint>,
    /// Who answered last, or is known to lead.
    preferred: Endpoint,
    /// Those whose last attempt failed. They are asked again in their turn, but not preferred on hearsay.
    failed: Vec<Endpoint>,
    /// Whether the members may have changed since they were asked for.
    outdated: bool,
    refreshed: Option<Instant>,
}

impl Endpoints {
    /// Refuses an empty list and what is no address.
    pub(crate) fn new<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut distinct: Vec<Endpoint> = Vec::new();
        for text in given {
            let endpoint = base_of(text)?;
            let kind = |endpoint| (Scheme::of(endpoint), is_secured(endpoint));
            if distinct.first().is_some_and(|first| kind(first) != kind(&endpoint)) {
                return Err(Error::invalid(
                    "the endpoints are of one protocol, and all with TLS or all without: all begin with the same, such as esker://",
                ));
            }
            if !distinct.contains(&endpoint) {
                distinct.push(endpoint);
            }
        }
        let Some(first) = distinct.first() else { return Err(Error::invalid("there is no endpoint")) };
        let preferred = Arc::clone(first);
        let (learned, failed) = (Vec::new(), Vec::new());
        let state = State { given: distinct, learned, preferred, failed, outdated: true, refreshed: None };
        Ok(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the endpoints that were given ask for TLS.
    pub(crate) fn uses_tls(&self) -> bool {
        is_secured(&self.state().given[0])
    }

    /// The endpoint of an address that a server told, if it is one: what is given with TLS leads to nothing without.
    pub(crate) fn told(&self, address: &str) -> Option<Endpoint> {
        let endpoint = base_of(address).ok()?;
        Some(self.state().secured(&endpoint))
    }

    /// Who is asked first.
    pub(crate) fn preferred(&self) -> Endpoint {
        Arc::clone(&self.state().preferred)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        let state = self.state();
        state.given.len() + state.learned.len()
    }

    /// `endpoint` answered well.
    pub(crate) fn answered(&self, endpoint: &Endpoint) {
        let mut state = self.state();
        state.failed.retain(|failed| failed != endpoint);
        if state.preferred != *endpoint {
            state.preferred = Arc::clone(endpoint);
        }
    }

    /// `failed` did not answer well: who to ask instead.
    pub(crate) fn after(&self, failed: &Endpoint) -> Endpoint {
        let mut state = self.state();
        state.outdated = true;
        if !state.failed.contains(failed) && state.failed.len() < LEARNED_MAX {
            state.failed.push(Arc::clone(failed));
        }
        let next = state.next_of(failed);
        if state.preferred == *failed {
            state.preferred = Arc::clone(&next);
        }
        next
    }

    /// A node says that `leader` is the one to ask: where it is, with TLS if that is what was given.
    pub(crate) fn redirected(&self, leader: &Endpoint) -> Endpoint {
        let mut state = self.state();
        let leader = &state.secured(leader);
        state.outdated = true;
        if !state.knows(leader) {
            if state.learned.len() == LEARNED_MAX {
                state.learned.remove(0);
            }
            state.learned.push(Arc::clone(leader));
        }
        state.preferred = Arc::clone(leader);
        Arc::clone(leader)
    }

    /// Whether it is time to ask for the members; who is told so does it.
    pub(crate) fn take_refresh(&self, now: Instant) -> bool {
        let mut state = self.state();
        let due = state.refreshed.is_none_or(|last| now.saturating_duration_since(last) >= REFRESH_EVERY);
        if !state.outdated || !due {
            return false;
        }
        state.outdated = false;
        state.refreshed = Some(now);
        true
    }

    /// The members could not be asked for: somebody should try again.
    pub(crate) fn refresh_failed(&self) {
        self.state().outdated = true;
    }

    /// These are the cluster's members, and its leader where it has one. What was learned before is forgotten.
    pub(crate) fn learn(&self, members: Vec<Endpoint>, leader: Option<Endpoint>) {
        let mut state = self.state();
        let new = members.into_iter().filter(|member| !state.given.contains(member));
        state.learned = new.take(LEARNED_MAX).collect();
        if let Some(leader) = leader.filter(|leader| state.knows(leader) && !state.failed.contains(leader)) {
            state.preferred = leader;
        } else if !state.knows(&state.preferred) {
            state.preferred = Arc::clone(&state.given[0]);
        }
    }
}

impl State {
    /// The same with TLS, if that is what was given first.
    fn secured(&self, endpoint: &Endpoint) -> Endpoint {
        match endpoint.strip_prefix(HTTP) {
            Some(authority) if self.given[0].starts_with(HTTPS) => format!("{HTTPS}{authority}").into(),
            _ => Arc::clone(endpoint),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.given.iter().chain(&self.learned)
    }

    fn knows(&self, endpoint: &Endpoint) -> bool {
        self.all().any(|known| known == endpoint)
    }

    /// The one behind `endpoint`, round and round; the first for one that is not known.
    fn next_of(&self, endpoint: &Endpoint) -> Endpoint {
        let behind = self.all().skip_while(|known| *known != endpoint).nth(1);
        Arc::clone(behind.unwrap_or(&self.given[0]))
    }
}

const HTTP: &str = "http://";
const HTTPS: &str = "https://";

/// The endpoint without a slash at its end; `http://` is put before a bare `host:port`.
pub(crate) fn base_of(endpoint: &str) -> Result<Endpoint> {
    let full = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let refuse = |why: &str| {
        Error::invalid(format!("`{endpoint}` is no endpoint: {why}, such as http://127.0.0.1:8080"))
    };
    if full.contains('@') {
        // What is before it may be a password.
        return Err(Error::invalid("an endpoint holds no user or password: give them apart"));
    }
    let uri: Uri = full.parse().map_err(|_| refuse("give an address"))?;
    let names_port = |authority: &str| authority.rsplit(']').next().is_some_and(|rest| rest.contains(':'));
    if let Some(authority) = uri.authority()
        && names_port(authority.as_str())
        && authority.port_u16().is_none()
    {
        return Err(refuse("a port is 1 to 65535"));
    }
    match (uri.scheme_str(), uri.authority(), uri.path_and_query().map(|path| path.as_str())) {
        (Some(scheme @ ("http" | "https")), Some(authority), None | Some("/" | "")) => {
            Ok(format!("{scheme}://{authority}").into())
        }
        (Some(scheme @ ("esker" | "eskers" | "grpc" | "grpcs")), Some(authority), None | Some("/" | "")) => {
            let usual = if scheme.starts_with("esker") { BINARY_PORT } else { GRPC_PORT };
            let port = if authority.port().is_none() { format!(":{usual}") } else { String::new() };
            Ok(format!("{scheme}://{authority}{port}").into())
        }
        (Some("http" | "https" | "esker" | "eskers" | "grpc" | "grpcs"), Some(_), Some(_)) => {
            Err(refuse("leave out what follows the port"))
        }
        _ => Err(refuse("only http, esker and grpc are supported, and the same with an s behind for TLS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(given: &[&str]) -> Endpoints {
        Endpoints::new(given.iter().copied()).unwrap()
    }

    fn at(host: &str) -> Endpoint {
        base_of(host).unwrap()
    }

    #[test]
    fn endpoints_are_checked() {
        for (text, base) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://h:1/", "http://h:1"),
            ("https://h:1/", "https://h:1"),
            ("localhost:8080", "http://localhost:8080"),
            ("[::1]:80", "http://[::1]:80"),
            ("esker://h:1/", "esker://h:1"),
            ("esker://[::1]", "esker://[::1]:9090"),
            ("grpc://h", "grpc://h:7070"),
            ("eskers://h", "eskers://h:9090"),
            ("grpcs://h/", "grpcs://h:7070"),
        ] {
            assert_eq!(&*base_of(text).unwrap(), base);
        }
        for text in ["", "http://u:p@h:1", "http://h:1/kv", "redis://h:1", "http://"] {
            assert!(matches!(base_of(text), Err(Error::InvalidRequest { .. })), "{text}");
        }
        for mixed in
            [["http://a:1", "esker://a:2"], ["https://a:1", "http://b:1"], ["esker://a:1", "eskers://b:1"]]
        {
            assert!(Endpoints::new(mixed).is_err(), "{mixed:?}");
        }
        assert!(Endpoints::new([]).is_err() && Endpoints::new(["a:1", ""]).is_err());
        assert_eq!(endpoints(&["a:1", "http://a:1/"]).count(), 1);
    }

    #[test]
    fn who_answered_is_asked_first_and_who_failed_makes_room() {
        let endpoints = endpoints(&["a:1", "b:1", "c:1"]);
        assert_eq!(endpoints.preferred(), at("a:1"));
        assert_eq!(endpoints.after(&at("a:1")), at("b:1"));
        assert_eq!(endpoints.preferred(), at("b:1"));
        // Another request fails later on what is not preferred any more.
        assert_eq!(endpoints.after(&at("c:1")), at("a:1"));
        assert_eq!(endpoints.preferred(), at("b:1"));
        endpoints.answered(&at("c:1"));
        assert_eq!(endpoints.preferred(), at("c:1"));
    }

    #[test]
    fn members_are_learned_and_forgotten_but_never_those_given() {
        let endpoints = endpoints(&["a:1"]);
        endpoints.learn(vec![at("a:1"), at("b:1"), at("c:1")], Some(at("b:1")));
        assert_eq!((endpoints.count(), endpoints.preferred()), (3, at("b:1")));
        endpoints.redirected(&at("d:1"));
        assert_eq!((endpoints.count(), endpoints.preferred()), (4, at("d:1")));
        endpoints.learn(vec![at("b:1")], None);
        assert_eq!((endpoints.count(), endpoints.preferred()), (2, at("a:1")));
    }

    #[test]
    fn a_leader_that_cannot_be_reached_from_here_is_not_preferred_on_hearsay() {
        let endpoints = endpoints(&["a:1", "b:1"]);
        endpoints.after(&at("b:1"));
        endpoints.learn(vec![at("a:1"), at("b:1")], Some(at("b:1")));
        assert_eq!(endpoints.preferred(), at("a:1"));
        endpoints.answered(&at("b:1"));
        endpoints.answered(&at("a:1"));
        endpoints.learn(vec![at("a:1"), at("b:1")], Some(at("b:1")));
        assert_eq!(endpoints.preferred(), at("b:1"));
    }

    #[test]
    fn members_are_asked_for_once_and_after_failures() {
        let endpoints = endpoints(&["a:1"]);
        let now = Instant::now();
        assert!(endpoints.take_refresh(now));
        assert!(!endpoints.take_refresh(now + REFRESH_EVERY * 2));
        endpoints.after(&at("a:1"));
        assert!(!endpoints.take_refresh(now + REFRESH_EVERY / 2));
        assert!(endpoints.take_refresh(now + REFRESH_EVERY));
    }

    /// What is shown to a server with TLS is shown to nobody without.
    #[test]
    fn a_redirect_leads_to_nothing_without_tls() {
        let endpoints = endpoints(&["https://a:1"]);
        assert_eq!(&*endpoints.redirected(&at("http://b:1")), "https://b:1");
        assert_eq!(endpoints.told("c:1").as_deref(), Some("https://c:1"));
        assert_eq!(&*endpoints.preferred(), "https://b:1");
    }

    #[test]
    fn redirects_to_ever_new_places_are_bounded() {
        let endpoints = endpoints(&["a:1"]);
        (1..1000).for_each(|port| _ = endpoints.redirected(&at(&format!("b:{port}"))));
        assert_eq!(endpoints.count(), 1 + LEARNED_MAX);
        assert_eq!(endpoints.preferred(), at("b:999"));
    }
}
