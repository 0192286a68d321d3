//! The file `FOUNDERS`: whom this node has agreed to form a cluster with. It is on disk before anybody is told, so that a
//! node which is started again keeps its word; it means nothing any more once the cluster has begun.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use esker_engine::{Error, Result};
use esker_log::{
    disk::{Disk, OpenMode},
    format::{self, FORMAT_VERSION},
    recovery::invalid_header,
    small_file::write_durably,
};
use prost::Message;

use super::types::{Node, member_from_wire};
use crate::peer::{Id, wire};

const NAME: &str = "FOUNDERS";
const MAGIC: &[u8; 8] = b"ESKFOUND";
/// Magic and version.
const HEAD_LEN: usize = 12;
const CHECKSUM_LEN: usize = 4;
/// Far more than any cluster begins with.
const MEMBERS_MAX: usize = 64;

/// Those who form a cluster. The one with the lowest instance founds it; it alone may give the plan up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Founders {
    /// Drawn anew for each plan, so that who agreed to an earlier one with the same nodes has not agreed to this.
    id: Id,
    /// In the order of their instances.
    members: Vec<(Id, Node)>,
}

impl Founders {
    pub(crate) fn new(id: Id, mut nodes: Vec<Node>) -> Self {
        nodes.sort_unstable_by_key(|node| node.instance);
        Self { id, members: nodes.into_iter().map(|node| (node.instance, node)).collect() }
    }

    /// The instance that founds.
    pub(crate) fn founder(&self) -> &Id {
        &self.members[0].0
    }

    /// Where it listens for peers.
    pub(crate) fn founder_address(&self) -> &str {
        &self.members[0].1.peer_address
    }

    /// The nodes.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.members.iter().map(|(_, node)| node)
    }

    /// The nodes by number.
    pub(crate) fn numbered(&self) -> BTreeMap<u64, Node> {
        (1..).zip(self.nodes().cloned()).collect()
    }

    /// The number that an instance gets.
    pub(crate) fn number_of(&self, instance: &Id) -> Option<u64> {
        (1..).zip(&self.members).find(|(_, (member, _))| member == instance).map(|(number, _)| number)
    }

    pub(crate) fn to_wire(&self) -> wire::Founding {
        let member = |(number, node): (u64, &Node)| super::types::member_to_wire(number, node);
        wire::Founding { id: self.id.to_vec().into(), members: (1..).zip(self.nodes()).map(member).collect() }
    }

    /// `None`: it cannot be.
    pub(crate) fn from_wire(founding: wire::Founding) -> Option<Self> {
        let id = Id::try_from(&*founding.id).ok()?;
        if founding.members.is_empty() || founding.members.len() > MEMBERS_MAX {
            return None;
        }
        let nodes: Result<Vec<_>, _> = founding.members.into_iter().map(member_from_wire).collect();
        let nodes: Vec<Node> = nodes.ok()?.into_iter().map(|(_, node)| node).collect();
        let is_sorted = nodes.windows(2).all(|pair| pair[0].instance < pair[1].instance);
        is_sorted.then(|| Self::new(id, nodes))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = [&MAGIC[..], &FORMAT_VERSION.to_le_bytes(), &self.to_wire().encode_to_vec()].concat();
        out.extend(crc32c::crc32c(&out).to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, format::Invalid> {
        let end = bytes.len().saturating_sub(CHECKSUM_LEN).max(HEAD_LEN);
        format::check_head(bytes, MAGIC, end)?;
        let founding = wire::Founding::decode(&bytes[HEAD_LEN..end]);
        let founders = founding.ok().and_then(Self::from_wire);
        founders.ok_or(format::Invalid::Bad("it names no founders"))
    }
}

/// The file in a data directory.
pub(crate) struct FoundersFile {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
}

impl FoundersFile {
    fn path(&self) -> PathBuf {
        self.dir.join(NAME)
    }

    /// What it says; `None` if it is not there. Errors: `Damage`, `UnsupportedFormat`, `Io`.
    pub(crate) fn read(&self) -> Result<Option<Founders>> {
        let path = self.path();
        let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
        let file = match self.disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(doing(e)),
        };
        let len = file.len().map_err(doing)?;
        if len > 1 << 20 {
            return Err(Error::damage(path, 0, format_args!("it is {len} bytes long")));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(doing)?;
        Founders::decode(&bytes).map(Some).map_err(|invalid| invalid_header(&path, invalid))
    }

    /// Writes it, durably. Errors: `DiskFull`, `Io`.
    pub(crate) fn write(&self, founders: &Founders) -> Result<()> {
        write_durably(self.disk.as_ref(), &self.dir, NAME, &founders.encode())
    }

    /// Removes it, durably. Errors: `Io`.
    pub(crate) fn remove(&self) -> Result<()> {
        let path = self.path();
        let doing = |e| Error::io(format_args!("removing {}", path.display()), e);
        self.disk.remove(&path).map_err(doing)?;
        self.disk.sync_dir(&self.dir).map_err(doing)
    }
}

#[cfg(test)]
mod tests {
    use esker_log::disk::sim::SimDisk;

    use super::*;

    fn founders() -> Founders {
        let node = |n: u8| Node {
            instance: [n; 16],
            peer_address: format!("h{n}:1"),
            http_address: format!("h{n}:2"),
            voter: true,
            numbers_given: 0,
        };
        Founders::new([9; 16], vec![node(3), node(1), node(2)])
    }

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let file = FoundersFile { disk, dir: "/".into() };
        assert_eq!(file.read().unwrap(), None);
        file.write(&founders()).unwrap();
        assert_eq!(file.read().unwrap(), Some(founders()));
        file.remove().unwrap();
        assert_eq!(file.read().unwrap(), None);
        let good = founders().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Founders::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(Founders::decode(&good[..len]).is_err(), "length {len}");
        }
    }

    #[test]
    fn what_a_peer_tells_is_not_believed_blindly() {
        let good = founders().to_wire();
        assert_eq!(Founders::from_wire(good.clone()), Some(founders()));
        assert_eq!(founders().number_of(&[2; 16]), Some(2));
        assert_eq!(Founders::from_wire(wire::Founding { members: Vec::new(), ..good.clone() }), None);
        assert_eq!(Founders::from_wire(wire::Founding { id: vec![1; 3].into(), ..good.clone() }), None);
        let mut twice = good.clone();
        twice.members[1] = twice.members[0].clone();
        assert_eq!(Founders::from_wire(twice), None);
        let mut out_of_order = good;
        out_of_order.members.reverse();
        assert_eq!(Founders::from_wire(out_of_order), None);
    }
}
