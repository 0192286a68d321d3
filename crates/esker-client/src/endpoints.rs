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

/// A server's address as requests begin with it: `http://host:port`.
pub(crate) type Endpoint = Arc<str>;

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
    /// Whether the servers are known to be a cluster's.
    is_cluster: bool,
}

impl Endpoints {
    /// Refuses an empty list and what is no address.
    pub(crate) fn new<'a>(given: impl IntoIterator<Item = &'a str>) -> Result<Self> {
        let mut distinct: Vec<Endpoint> = Vec::new();
        for text in given {
            let endpoint = base_of(text)?;
            if !distinct.contains(&endpoint) {
                distinct.push(endpoint);
            }
        }
        let Some(first) = distinct.first() else { return Err(Error::invalid("there is no endpoint")) };
        let preferred = Arc::clone(first);
        let (learned, failed) = (Vec::new(), Vec::new());
        // Who gives several means the nodes of one cluster.
        let is_cluster = distinct.len() > 1;
        let state = State {
            given: distinct,
            learned,
            preferred,
            failed,
            outdated: true,
            refreshed: None,
            is_cluster,
        };
        Ok(Self(Mutex::new(state)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is whole before anything can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Whether the servers are known to be a cluster's, which knows copies of a write by their request id.
    pub(crate) fn is_cluster(&self) -> bool {
        self.state().is_cluster
    }

    /// They are a cluster's.
    pub(crate) fn found_cluster(&self) {
        self.state().is_cluster = true;
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

    /// A node says that `leader` is the one to ask.
    pub(crate) fn redirected(&self, leader: &Endpoint) {
        let mut state = self.state();
        state.outdated = true;
        state.is_cluster = true;
        if !state.knows(leader) {
            if state.learned.len() == LEARNED_MAX {
                state.learned.remove(0);
            }
            state.learned.push(Arc::clone(leader));
        }
        state.preferred = Arc::clone(leader);
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

/// The endpoint without a slash at its end; `http://` is put before a bare `host:port`.
pub(crate) fn base_of(endpoint: &str) -> Result<Endpoint> {
    let full = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
    let refuse = |why: &str| {
        Error::invalid(format!("`{endpoint}` is no endpoint: {why}, such as http://127.0.0.1:8080"))
    };
    let uri: Uri = full.parse().map_err(|_| refuse("give an address"))?;
    match (uri.scheme_str(), uri.authority(), uri.path_and_query().map(|path| path.as_str())) {
        (Some("http"), Some(authority), None | Some("/" | "")) => Ok(format!("http://{authority}").into()),
        (Some("http"), Some(_), Some(_)) => Err(refuse("leave out what follows the port")),
        _ => Err(refuse("only http is supported")),
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
            ("localhost:8080", "http://localhost:8080"),
            ("[::1]:80", "http://[::1]:80"),
        ] {
            assert_eq!(&*base_of(text).unwrap(), base);
        }
        for text in ["", "https://h:1", "http://h:1/kv", "redis://h:1", "http://"] {
            assert!(matches!(base_of(text), Err(Error::InvalidRequest { .. })), "{text}");
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

    #[test]
    fn redirects_to_ever_new_places_are_bounded() {
        let endpoints = endpoints(&["a:1"]);
        (1..1000).for_each(|port| endpoints.redirected(&at(&format!("b:{port}"))));
        assert_eq!(endpoints.count(), 1 + LEARNED_MAX);
        assert_eq!(endpoints.preferred(), at("b:999"));
    }
}
