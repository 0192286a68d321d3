//! How a node without a cluster finds one, or forms one with others.
//!
//! * With `join`: it asks the nodes named to be taken in, and gets its number from the leader.
//! * With gossip or a name in DNS: the same, with the addresses that it finds. If a size is expected, and nobody has a cluster, the
//!   nodes that find one another agree on who of them form one (`assembly.rs`).
//! * With a list of members: it waits until all of them answer. If one belongs to a cluster, this node was not there when
//!   it formed, or was wiped: it joins, under a number of its own. If none does, the one with the lowest number
//!   founds the cluster with all of them; the others learn of it by its first call. Nobody is named leader: they elect one.
//! * With neither: it founds a cluster of itself alone.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use esker_engine::Replica;
use parking_lot::Mutex;

use super::{
    Service,
    assembly::{Myself, Seen, Step, decide},
    config::{MemberAddress, RaftConfig},
    founders::{Founders as Plan, FoundersFile},
    identity::Belonging,
    runtime::{random_fraction, random_id},
    types::{Node, member_from_wire},
};
use crate::{
    Error, Result,
    peer::{Caller, Connector, Id, Identity, PeerApi, PeerResult, wire},
};

/// Between two rounds of asking.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Says again for whom it waits, after so many rounds.
const ROUNDS_PER_NOTICE: u32 = 50;
/// A founder plans anew when somebody it planned with was silent for so many rounds.
const ROUNDS_OF_PATIENCE: u32 = 100;
/// Addresses that are asked in one round.
const ADDRESSES_MAX: usize = 64;

/// The members of a cluster that is to be founded.
type Founders = BTreeMap<u64, Node>;

/// Finds or forms the cluster: what this node belongs to from now on, and whom to found it with if that falls to it.
pub(super) async fn form(
    config: &RaftConfig,
    connector: &Arc<dyn Connector>,
    service: &Service,
    replica: &Replica,
    file: &FoundersFile,
) -> Result<(Belonging, Option<Founders>)> {
    let (me, instance) = (service.me(), *replica.log().store());
    let asker = Asker { config, connector, me, instance, service, ways: Mutex::default() };
    if config.cluster_size > 0 {
        return asker.assemble(file).await;
    }
    if let Some(plan) = file.read()? {
        let founder = plan.founder_address();
        return Err(Error::Refused(format!(
            "this node has agreed to form a cluster with the one at {founder}: start it with the settings it had \
             (`cluster_size`), or with an empty directory"
        )));
    }
    if config.searches() {
        return Ok((asker.join(&config.join).await?, None));
    }
    if config.members.len() > 1 {
        return asker.form_with_members().await;
    }
    let node = config.node_id.max(1);
    let founders = [(node, asker.node()?)].into();
    Ok((Belonging { cluster: random_id(), node }, Some(founders)))
}

/// For a node that knows its cluster but was stopped before it had begun it, if that fell to it: whom to begin it with.
/// Nothing was said on the cluster's behalf before its log had begun.
pub(super) async fn resume(
    config: &RaftConfig,
    connector: &Arc<dyn Connector>,
    service: &Service,
    replica: &Replica,
    file: &FoundersFile,
    belonging: Belonging,
) -> Result<Option<Founders>> {
    let is_empty = replica.last().index == 0 && replica.vote().is_none();
    let founder = config.members.iter().map(|member| member.id).min().unwrap_or(config.node_id.max(1));
    let (me, instance) = (service.me(), *replica.log().store());
    if !is_empty {
        return Ok(None);
    }
    if let Some(plan) = file.read()?.filter(|plan| is_carried_out(plan, &instance, belonging)) {
        return Ok(Some(plan.numbered()));
    }
    if config.searches() || belonging.node != founder {
        return Ok(None);
    }
    let asker = Asker { config, connector, me, instance, service, ways: Mutex::default() };
    let mut round = 0;
    loop {
        let (founders, silent) = asker.ask_members(belonging.node).await?;
        if silent.is_empty() {
            return Ok(Some(founders));
        }
        notice(round, || format!("the cluster begins once these nodes answer: {}", silent.join(", ")));
        round += 1;
        pause().await;
    }
}

/// Whether a node that belongs to a cluster does so by founding it by this plan: then all had agreed, durably, and nobody needs
/// to be asked again. One that was taken in by another cluster, its own plan at hand, has another number than a founder's, who
/// has the first.
fn is_carried_out(plan: &Plan, instance: &Id, belonging: Belonging) -> bool {
    plan.founder() == instance && plan.number_of(instance) == Some(belonging.node)
}

struct Asker<'a> {
    config: &'a RaftConfig,
    connector: &'a Arc<dyn Connector>,
    me: wire::Member,
    instance: Id,
    service: &'a Service,
    /// To whom it has spoken: a way remembers that nobody was there, and does not tell it again each round.
    ways: Mutex<BTreeMap<String, Arc<dyn PeerApi>>>,
}

impl Asker<'_> {
    fn node(&self) -> Result<Node> {
        member_from_wire(self.me.clone()).map(|(_, node)| node).map_err(|e| Error::Refused(e.into()))
    }

    /// A way to whoever listens at an address.
    fn stranger(&self, address: &str) -> Arc<dyn PeerApi> {
        let me = Identity { node: self.me.node, instance: self.instance };
        let mut ways = self.ways.lock();
        let way = ways.entry(address.to_owned()).or_insert_with(|| stranger(self.connector, address, me));
        Arc::clone(way)
    }

    async fn hello(&self, address: &str) -> PeerResult<wire::HelloReply> {
        let me = Some(self.me.clone());
        let mut request = wire::HelloRequest { me, ..wire::HelloRequest::default() };
        if self.config.gossips() {
            request.cluster_name = self.config.cluster_name.clone();
            request.known = self.service.book().tell();
        }
        let reply = self.stranger(address).hello(request).await?;
        if self.config.gossips() && reply.cluster_name == self.config.cluster_name {
            reply.me.iter().for_each(|member| self.service.book().meet(member, address));
            self.service.book().hear(&reply.known);
        }
        Ok(reply)
    }

    /// Where nodes may be: what gossip and the name service know, and the addresses given.
    async fn addresses(&self, given: &[String]) -> Vec<String> {
        let mut addresses = [given, &self.config.gossip_seeds].concat();
        if let Some(discovery) = &self.config.discovery {
            addresses.extend(discovery.0().await);
        }
        addresses.extend(self.service.book().addresses());
        addresses.retain(|address| *address != self.config.peer_address);
        addresses.sort_unstable();
        addresses.dedup();
        // Names lead elsewhere in time: who is not asked any more is looked up anew.
        addresses.truncate(ADDRESSES_MAX);
        self.ways.lock().retain(|address, _| addresses.contains(address));
        addresses
    }

    /// Asks all that are known who they are, at once; gives those of this cluster's name that answer.
    async fn look_around(&self, round: u32) -> Vec<(wire::HelloReply, Seen)> {
        let addresses = self.addresses(&self.config.join).await;
        let hellos = addresses.iter().map(async |address| (address, self.hello(address).await));
        let mut seen: Vec<(wire::HelloReply, Seen)> = Vec::new();
        for (address, reply) in futures_util::future::join_all(hellos).await {
            let Ok(reply) = reply else { continue };
            if let Err(e) = self.check_name(address, &reply.cluster_name) {
                notice(round, || format!("{e}: it is left out"));
                continue;
            }
            let Some((_, node)) = reply.me.clone().and_then(|me| member_from_wire(me).ok()) else { continue };
            let is_new = seen.iter().all(|(_, other)| other.node.instance != node.instance);
            if node.instance == self.instance || !is_new {
                continue;
            }
            let size = reply.cluster_size as usize;
            if reply.cluster.is_empty() && size > 0 && size != self.config.cluster_size {
                let mine = self.config.cluster_size;
                notice(round, || format!("the node at {address} has `cluster_size` {size}, this one {mine}"));
            }
            let found = Seen {
                node,
                address: address.clone(),
                in_cluster: !reply.cluster.is_empty(),
                may_found: size == self.config.cluster_size,
                agreed: reply.founding.clone().and_then(Plan::from_wire),
            };
            seen.push((reply, found));
        }
        seen
    }

    /// Finds enough others to form a cluster with, or one that is there.
    async fn assemble(&self, file: &FoundersFile) -> Result<(Belonging, Option<Founders>)> {
        let node = self.node()?;
        let mut agreed = file.read()?;
        let mut called = self.service.called();
        let (mut round, mut waited) = (0, 0);
        loop {
            self.service.publish(agreed.as_ref());
            let seen = self.look_around(round).await;
            let me = Myself {
                node: &node,
                size: self.config.cluster_size,
                agreed: agreed.as_ref(),
                is_tired: waited > ROUNDS_OF_PATIENCE,
                fresh_id: random_id(),
            };
            let others: Vec<Seen> = seen.iter().map(|(_, seen)| seen.clone()).collect();
            waited += 1;
            match decide(&me, &others) {
                Step::Wait(why) => notice(round, || why),
                Step::Agree(plan) => {
                    file.write(&plan)?;
                    (agreed, waited) = (Some(plan), 0);
                }
                Step::GiveUp => {
                    file.remove()?;
                    (agreed, waited) = (None, 0);
                }
                Step::Found => {
                    let plan = agreed.ok_or_else(|| Error::Refused("no plan was agreed to".into()))?;
                    let node = plan.number_of(&self.instance).unwrap_or_default();
                    return Ok((Belonging { cluster: random_id(), node }, Some(plan.numbered())));
                }
                Step::Join(address) => {
                    let there = seen.iter().find(|(_, seen)| seen.address == address);
                    let (reply, _) = there.ok_or_else(|| Error::Refused("nobody is there".into()))?;
                    return Ok((self.belong_to(reply, &[address]).await?, None));
                }
            }
            round += 1;
            if let Some(belonging) = self.called_or_pause(&mut called).await {
                return Ok((belonging, None));
            }
        }
    }

    /// Waits for the next round; what this node belongs to, if it is called on a cluster's behalf before.
    async fn called_or_pause(
        &self,
        called: &mut tokio::sync::watch::Receiver<Option<Belonging>>,
    ) -> Option<Belonging> {
        tokio::select! {
            biased;
            changed = called.changed() => {
                let belonging = *called.borrow_and_update();
                belonging.filter(|_| changed.is_ok())
            }
            () = pause() => None,
        }
    }

    fn check_name(&self, address: &str, name: &str) -> Result<()> {
        if name == self.config.cluster_name {
            return Ok(());
        }
        let mine = &self.config.cluster_name;
        Err(Error::Refused(format!("the node at {address} is of the cluster {name:?}, this one of {mine:?}")))
    }

    /// Asks one address after the other to be taken in, until one does.
    async fn join(&self, addresses: &[String]) -> Result<Belonging> {
        let mut called = self.service.called();
        let mut round = 0;
        loop {
            for address in &self.addresses(addresses).await {
                if self.config.gossips() && self.hello(address).await.is_err() {
                    // By asking who they are, more are heard of.
                    continue;
                }
                let cluster_name = self.config.cluster_name.clone();
                let add = wire::AddMember { member: Some(self.me.clone()), cluster_name };
                let change = Some(wire::change_members_request::Change::Add(add));
                let request = wire::ChangeMembersRequest { group: super::GROUP, change };
                let peer = self.stranger(address);
                let reply = peer.change_members(nobody(self.me.node, self.instance), request).await;
                match reply {
                    Ok(reply) if reply.node > 0 => {
                        let cluster = Id::try_from(&*reply.cluster)
                            .map_err(|_| Error::Refused("a cluster id has 16 bytes".into()))?;
                        return Ok(Belonging { cluster, node: reply.node });
                    }
                    Ok(reply) => {
                        notice(round, || format!("{address} does not take this node in: {}", reply.refused))
                    }
                    Err(e) => notice(round, || format!("cannot join by {address} yet: {e}")),
                }
            }
            round += 1;
            // A member may have been told to add this node (`esker cluster add`).
            if let Some(belonging) = self.called_or_pause(&mut called).await {
                return Ok(belonging);
            }
        }
    }

    async fn form_with_members(&self) -> Result<(Belonging, Option<Founders>)> {
        let mine = self.config.node_id;
        if !self.config.members.iter().any(|member| member.id == mine) {
            return Err(Error::Refused(format!("node {mine} is not in the list of the cluster's nodes")));
        }
        let lowest = self.config.members.iter().map(|member| member.id).min().unwrap_or(mine);
        let mut called = self.service.called();
        let mut round = 0;
        loop {
            let mut founders: Founders = [(mine, self.node()?)].into();
            let mut silent = Vec::new();
            for member in self.config.members.iter().filter(|member| member.id != mine) {
                match self.hello(&member.peer_address).await {
                    Ok(reply) if !reply.cluster.is_empty() => {
                        self.check_name(&member.peer_address, &reply.cluster_name)?;
                        // By the first call of a founder that is ahead, or by asking to be taken in.
                        let others = self.config.members.iter().filter(|member| member.id != mine);
                        let addresses: Vec<_> = others.map(|member| member.peer_address.clone()).collect();
                        return Ok((self.belong_to(&reply, &addresses).await?, None));
                    }
                    Ok(reply) => {
                        self.check_name(&member.peer_address, &reply.cluster_name)?;
                        let (id, node) = as_listed(member, reply)?;
                        founders.insert(id, node);
                    }
                    Err(_) => silent.push(member.peer_address.clone()),
                }
            }
            if silent.is_empty() && mine == lowest {
                return Ok((Belonging { cluster: random_id(), node: mine }, Some(founders)));
            }
            if !silent.is_empty() {
                notice(round, || format!("the cluster forms once these nodes answer: {}", silent.join(", ")));
            }
            round += 1;
            if let Some(belonging) = self.called_or_pause(&mut called).await {
                return Ok((belonging, None));
            }
        }
    }

    /// The members that answer, and the addresses of those that do not.
    async fn ask_members(&self, mine: u64) -> Result<(Founders, Vec<String>)> {
        let mut founders: Founders = [(mine, self.node()?)].into();
        let mut silent = Vec::new();
        for member in self.config.members.iter().filter(|member| member.id != mine) {
            match self.hello(&member.peer_address).await {
                Ok(reply) => {
                    self.check_name(&member.peer_address, &reply.cluster_name)?;
                    let (id, node) = as_listed(member, reply)?;
                    founders.insert(id, node);
                }
                Err(_) => silent.push(member.peer_address.clone()),
            }
        }
        Ok((founders, silent))
    }

    /// A member has a cluster already. Either it has just been founded with this node in it, which its first call will tell,
    /// or this node has to ask.
    async fn belong_to(&self, reply: &wire::HelloReply, addresses: &[String]) -> Result<Belonging> {
        let cluster =
            Id::try_from(&*reply.cluster).map_err(|_| Error::Refused("a cluster id has 16 bytes".into()))?;
        let mut members = reply.membership.iter().flat_map(|membership| &membership.members);
        if let Some(me) = members.find(|member| *member.instance == self.instance) {
            return Ok(Belonging { cluster, node: me.node });
        }
        tracing::info!("the cluster is there already: this node joins it anew");
        let mut called = self.service.called();
        let by_call = async {
            let called =
                called.wait_for(|called| called.is_some_and(|called| called.cluster == cluster)).await;
            called.ok().and_then(|called| *called)
        };
        // It may just be being founded, with this node in it, however long that takes: then who founds it calls. Asking
        // alone would wait for a leader that waits for this node's vote.
        tokio::select! {
            biased;
            Some(belonging) = by_call => Ok(belonging),
            joined = self.join(addresses) => joined,
        }
    }
}

/// What a member of the list says it is.
fn as_listed(member: &MemberAddress, reply: wire::HelloReply) -> Result<(u64, Node)> {
    let address = &member.peer_address;
    let said = reply.me.ok_or("it does not say who it is").and_then(member_from_wire);
    let (id, node) = said.map_err(|e| Error::Refused(format!("{address}: {e}")))?;
    if id == member.id {
        return Ok((id, Node { peer_address: address.clone(), ..node }));
    }
    Err(Error::Refused(format!(
        "the node at {address} is node {id} by its own list, and node {} by this one's: give both the same",
        member.id
    )))
}

/// A way to whoever listens at an address; only calls that need no identity are answered.
pub(super) fn stranger(connector: &Arc<dyn Connector>, address: &str, me: Identity) -> Arc<dyn PeerApi> {
    connector.connect(address, nobody(me.node, me.instance))
}

/// A caller that belongs to no cluster and knows nobody.
pub(super) fn nobody(node: u64, instance: Id) -> Caller {
    let to = Identity { node: 0, instance: Id::default() };
    Caller { cluster: Id::default(), from: Identity { node, instance }, to }
}

fn notice(round: u32, what: impl FnOnce() -> String) {
    if round.is_multiple_of(ROUNDS_PER_NOTICE) {
        tracing::info!("{}", what());
    }
}

async fn pause() {
    tokio::time::sleep(ROUND_PAUSE.mul_f64(0.5 + random_fraction())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise a second cluster would begin, with the id of the one that took it in.
    #[test]
    fn a_founder_that_was_taken_in_elsewhere_does_not_found() {
        let nodes = [1, 2, 3].map(|n| Node { instance: [n; 16], ..Node::default() });
        let plan = Plan::new([9; 16], nodes.into());
        let as_number = |node| Belonging { cluster: [5; 16], node };
        assert!(is_carried_out(&plan, &[1; 16], as_number(1)));
        assert!(!is_carried_out(&plan, &[1; 16], as_number(2)), "it joined a cluster of one");
        assert!(!is_carried_out(&plan, &[2; 16], as_number(2)), "another founds");
    }
}
