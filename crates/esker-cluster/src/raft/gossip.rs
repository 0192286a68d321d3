//! Gossip: nodes tell one another where they have heard of nodes.
//!
//! It travels in `Hello`, so it comes over the peers' port, under the peers' TLS, from nodes of the same cluster name only.
//! What it gives are addresses to try. It never decides who is a member, a voter, or alive: whoever answers at an
//! address is asked who it is, and every other call names the instance that it means.
//!
//! A sighting ages on its way, by the monotonic clocks of those it passes through, and is forgotten when nobody has heard of
//! the node for a while. So one that has moved is known at its new place, and one that is gone is not told of for ever.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Handle, runtime::random_fraction};
use crate::peer::{Id, wire};

/// Sightings in one message, and nodes that are remembered: no cluster has as many.
const SIGHTINGS_MAX: usize = 64;
/// A host name has at most 253 bytes; brackets, a colon and a port come to it.
const ADDRESS_BYTES_MAX: usize = 261;
/// Who was not heard of for so long is not told of any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// A node that belongs to its cluster gossips about so often, with so many others.
const INTERVAL: Duration = Duration::from_secs(1);
const FANOUT: usize = 3;

/// Where nodes were heard of.
pub(crate) struct AddressBook {
    me: Id,
    entries: Mutex<BTreeMap<Id, Entry>>,
    ignored: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    address: String,
    heard: Instant,
    /// This node has been answered there by this very instance.
    met: bool,
}

impl AddressBook {
    pub(crate) fn new(me: Id) -> Self {
        Self { me, entries: Mutex::default(), ignored: Default::default() }
    }

    /// Takes over what a node tells. What is malformed, or beyond the limits, is ignored and counted.
    pub(crate) fn hear(&self, sightings: &[wire::Sighting]) {
        let within = sightings.len().min(SIGHTINGS_MAX);
        let mut ignored = sightings.len() - within;
        for sighting in &sightings[..within] {
            match read(sighting) {
                Some((instance, address, age)) => self.note(instance, address, age, false),
                None => ignored += 1,
            }
        }
        self.ignore(ignored);
    }

    /// A node has told where it is itself.
    pub(crate) fn hear_of_itself(&self, member: &wire::Member) {
        let sighting = wire::Sighting {
            instance: member.instance.clone(),
            peer_address: member.peer_address.clone(),
            age_ms: 0,
        };
        self.hear(std::slice::from_ref(&sighting));
    }

    /// A node has answered at an address.
    pub(crate) fn meet(&self, member: &wire::Member, address: &str) {
        match Id::try_from(&*member.instance) {
            Ok(instance) if is_address(address) => self.note(instance, address, Duration::ZERO, true),
            _ => self.ignore(1),
        }
    }

    /// What to tell others.
    pub(crate) fn tell(&self) -> Vec<wire::Sighting> {
        let mut entries = self.entries.lock();
        entries.retain(|_, entry| entry.heard.elapsed() < FORGOTTEN_AFTER);
        let sighting = |(instance, entry): (&Id, &Entry)| wire::Sighting {
            instance: instance.to_vec().into(),
            peer_address: entry.address.clone(),
            age_ms: entry.heard.elapsed().as_millis() as u64,
        };
        entries.iter().map(sighting).collect()
    }

    /// Where to look for nodes.
    pub(crate) fn addresses(&self) -> Vec<String> {
        self.tell().into_iter().map(|sighting| sighting.peer_address).collect()
    }

    /// Where this node was answered by an instance itself, lately.
    pub(crate) fn met_at(&self, instance: &Id) -> Option<String> {
        let entries = self.entries.lock();
        let entry =
            entries.get(instance).filter(|entry| entry.met && entry.heard.elapsed() < FORGOTTEN_AFTER)?;
        Some(entry.address.clone())
    }

    /// How many sightings were ignored.
    pub(crate) fn ignored(&self) -> u64 {
        self.ignored.load(std::sync::atomic::Ordering::Relaxed)
    }

    fn ignore(&self, count: usize) {
        self.ignored.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
    }

    fn note(&self, instance: Id, address: &str, age: Duration, met: bool) {
        if instance == self.me {
            return;
        }
        let Some(heard) = Instant::now().checked_sub(age) else { return };
        let mut entries = self.entries.lock();
        if let Some(known) = entries.get_mut(&instance) {
            // Of two places the one of which was heard last. Hearsay of the place where it was met changes nothing but the age.
            if known.heard <= heard {
                let met = met || known.met && known.address == address;
                *known = Entry { address: address.to_owned(), heard, met };
            }
            return;
        }
        entries.insert(instance, Entry { address: address.to_owned(), heard, met });
        if entries.len() > SIGHTINGS_MAX {
            let oldest = entries.iter().min_by_key(|(_, entry)| entry.heard).map(|(instance, _)| *instance);
            oldest.and_then(|oldest| entries.remove(&oldest));
            drop(entries);
            self.ignore(1);
        }
    }
}

/// What a sighting says, if it is one.
fn read(sighting: &wire::Sighting) -> Option<(Id, &str, Duration)> {
    let instance = Id::try_from(&*sighting.instance).ok()?;
    let age = Duration::from_millis(sighting.age_ms);
    let address = sighting.peer_address.as_str();
    (is_address(address) && age < FORGOTTEN_AFTER).then_some((instance, address, age))
}

/// `host:port`.
fn is_address(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_host = !host.is_empty() && host.chars().all(|c| c.is_ascii_graphic() && !"/@?#".contains(c));
    text.len() <= ADDRESS_BYTES_MAX && is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Gossips until the node stops: who moves, or is new, is heard of by those who do not look for anybody.
pub(crate) async fn run(handle: Arc<Handle>) {
    loop {
        tokio::time::sleep(INTERVAL.mul_f64(0.5 + random_fraction())).await;
        let mut addresses = handle.shared.book.addresses();
        addresses.extend(handle.shared.config.gossip_seeds.iter().cloned());
        addresses.extend(handle.membership().nodes().map(|(_, node)| node.peer_address.clone()));
        addresses.sort_unstable();
        addresses.dedup();
        addresses.retain(|address| *address != handle.shared.config.peer_address);
        let round = (0..FANOUT).filter_map(|_| draw(&mut addresses)).collect::<Vec<_>>();
        futures_util::future::join_all(round.iter().map(|address| handle.gossip_with(address))).await;
    }
}

/// Takes one of them at random.
fn draw(addresses: &mut Vec<String>) -> Option<String> {
    let at = (random_fraction() * addresses.len() as f64) as usize;
    (at < addresses.len()).then(|| addresses.swap_remove(at))
}

impl Handle {
    async fn gossip_with(&self, address: &str) {
        let me = self.shared.member();
        let request = wire::HelloRequest {
            me: Some(me),
            cluster: self.shared.cluster.to_vec().into(),
            cluster_name: self.shared.config.cluster_name.clone(),
            known: self.shared.book.tell(),
            ..wire::HelloRequest::default()
        };
        // Who does not answer is asked again some other time.
        let Ok(reply) = self.shared.stranger(address).hello(request).await else { return };
        let is_ours = reply.cluster.is_empty() || *reply.cluster == self.shared.cluster;
        if is_ours && reply.cluster_name == self.shared.config.cluster_name {
            reply.me.iter().for_each(|member| self.shared.book.meet(member, address));
            self.shared.book.hear(&reply.known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(instance: u8, address: &str, age_ms: u64) -> wire::Sighting {
        wire::Sighting { instance: vec![instance; 16].into(), peer_address: address.into(), age_ms }
    }

    fn book() -> AddressBook {
        AddressBook::new([0; 16])
    }

    fn member(instance: u8, address: &str) -> wire::Member {
        let instance = vec![instance; 16].into();
        wire::Member { instance, peer_address: address.into(), ..wire::Member::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_malformed_is_ignored_and_counted() {
        let book = book();
        let long = format!("{}:1", "h".repeat(ADDRESS_BYTES_MAX));
        let wrong = ["", "h", "h:", ":1", "h:0", "h:99999", "a b:1", "a/b:1", "h\n:1", &long];
        let mut sightings: Vec<_> = wrong.iter().map(|address| sighting(1, address, 0)).collect();
        sightings.push(sighting(1, "h:1", u64::MAX));
        sightings.push(wire::Sighting { instance: vec![1; 15].into(), ..sighting(1, "h:1", 0) });
        book.hear(&sightings);
        assert_eq!(book.addresses(), Vec::<String>::new());
        assert_eq!(book.ignored(), sightings.len() as u64);
        book.hear(&[sighting(1, "[::1]:7070", 5), sighting(2, "name.example:1", 5)]);
        assert_eq!(book.addresses(), ["[::1]:7070", "name.example:1"]);
        assert_eq!(book.ignored(), sightings.len() as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_taken_or_kept_than_a_message_may_have() {
        let book = book();
        let many: Vec<_> = (1..=SIGHTINGS_MAX as u8 + 9).map(|n| sighting(n, "h:1", u64::from(n))).collect();
        book.hear(&many);
        assert_eq!((book.addresses().len(), book.ignored()), (SIGHTINGS_MAX, 9));
        book.meet(&member(200, ""), "new:1");
        assert_eq!((book.tell().len(), book.ignored()), (SIGHTINGS_MAX, 10));
        assert!(book.addresses().contains(&"new:1".into()));
        assert!(book.tell().iter().all(|sighting| *sighting.instance != [SIGHTINGS_MAX as u8; 16]));
    }

    #[tokio::test(start_paused = true)]
    async fn the_latest_place_counts_and_who_is_silent_is_forgotten() {
        let book = book();
        book.meet(&member(1, ""), "old:1");
        tokio::time::advance(Duration::from_secs(10)).await;
        book.hear(&[sighting(1, "older:1", 11_000)]);
        assert_eq!(book.met_at(&[1; 16]).as_deref(), Some("old:1"));
        book.hear(&[sighting(1, "old:1", 5_000)]);
        assert_eq!(book.tell()[0].age_ms, 5_000);
        assert_eq!(book.met_at(&[1; 16]).as_deref(), Some("old:1"));
        book.hear(&[sighting(1, "new:1", 1_000)]);
        assert_eq!(book.addresses(), ["new:1"]);
        assert_eq!(book.met_at(&[1; 16]), None, "that is hearsay");
        book.hear_of_itself(&member(0, "me:1"));
        assert_eq!(book.addresses(), ["new:1"], "it knows itself where it is");
        tokio::time::advance(FORGOTTEN_AFTER).await;
        assert_eq!(book.tell(), []);
    }
}
