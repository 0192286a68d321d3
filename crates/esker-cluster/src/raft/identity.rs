//! The file `CLUSTER`: which cluster this data directory belongs to, and as what number. Written before the node says
//! anything on the cluster's behalf; never changed after.
//!
//! It is bound to the very directory that it was written in: it has the identities (inode and time of creation) of the directory and
//! of its `LOCK` file, which nothing replaces. A copy of the directory has others. The node that is started from a copy would have the
//! votes and entries of some earlier moment, and could vote away what it acknowledged since.

use std::path::Path;

use esker_engine::{Error, Result};
use esker_log::{
    disk::{Disk, FileIdentity, OpenMode},
    format::{self, FORMAT_VERSION},
    recovery::invalid_header,
    small_file::write_durably,
};

use crate::peer::Id;

const NAME: &str = "CLUSTER";
const MAGIC: &[u8; 8] = b"ESKCLUST";
const LEN: usize = 84;
/// As it was before it said where it is.
const UNBOUND_LEN: usize = 40;
/// The file that every opening of the directory takes its lock on, and none replaces.
const LOCK: &str = "LOCK";

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belonging {
    /// The cluster.
    pub(crate) cluster: Id,
    /// This node's number in it.
    pub(crate) node: u64,
}

/// What tells a data directory from a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    dir: FileIdentity,
    lock: FileIdentity,
}

impl Place {
    fn of(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        let identity = |path: &Path| {
            disk.identity(path).map_err(|e| Error::io(format_args!("looking at {}", path.display()), e))
        };
        Ok(Self { dir: identity(dir)?, lock: identity(&dir.join(LOCK))? })
    }
}

impl Belonging {
    /// Reads the file; `None` if there is none: the node belongs to no cluster yet. A directory that is not the one in which it
    /// was written is refused, unless it is said to have been `moved`: then it is bound to this one.
    ///
    /// Errors: `Refused`; of the engine, `Damage`, `UnsupportedFormat`, `Io`.
    pub(crate) fn open(disk: &dyn Disk, dir: &Path, moved: bool) -> crate::Result<Option<Self>> {
        let Some((belonging, place)) = Self::read(disk, dir)? else { return Ok(None) };
        let here = Place::of(disk, dir)?;
        match place {
            Some(place) if place == here => {}
            Some(_) if !moved => return Err(crate::Error::Refused(copy_refused(dir))),
            _ => {
                tracing::info!(dir = %dir.display(), "the node is bound to this directory from now on");
                belonging.write(disk, dir)?;
            }
        }
        Ok(Some(belonging))
    }

    fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<(Self, Option<Place>)>> {
        let path = dir.join(NAME);
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format_args!("opening {}", path.display()), e)),
        };
        let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
        let len = file.len().map_err(doing)?;
        if len != LEN as u64 && len != UNBOUND_LEN as u64 {
            return Err(Error::damage(path, 0, format_args!("it is {len} bytes long, not {LEN}")));
        }
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, 0).map_err(doing)?;
        Self::decode(&bytes).map(Some).map_err(|invalid| invalid_header(&path, invalid))
    }

    /// Writes the file, durably, bound to this directory. Errors: `DiskFull`, `Io`.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        write_durably(disk, dir, NAME, &self.encode(&Place::of(disk, dir)?))
    }

    fn encode(&self, place: &Place) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..28].copy_from_slice(&self.cluster);
        out[28..36].copy_from_slice(&self.node.to_le_bytes());
        encode_identity(&place.dir, &mut out[36..58]);
        encode_identity(&place.lock, &mut out[58..80]);
        let checksum = crc32c::crc32c(&out[..80]);
        out[80..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Result<(Self, Option<Place>), format::Invalid> {
        format::check_head(bytes, MAGIC, bytes.len().saturating_sub(4).max(36))?;
        let cluster = bytes[12..28].try_into().expect("16 bytes");
        let node = u64::from_le_bytes(bytes[28..36].try_into().expect("8 bytes"));
        let place = match bytes.len() {
            LEN => {
                Some(Place { dir: decode_identity(&bytes[36..58]), lock: decode_identity(&bytes[58..80]) })
            }
            _ => None,
        };
        Ok((Self { cluster, node }, place))
    }
}

/// Inode (8), whether the time is known (2), seconds (8), nanoseconds (4).
fn encode_identity(identity: &FileIdentity, out: &mut [u8]) {
    let (seconds, nanos) = identity.created.unwrap_or_default();
    out[..8].copy_from_slice(&identity.inode.to_le_bytes());
    out[8..10].copy_from_slice(&u16::from(identity.created.is_some()).to_le_bytes());
    out[10..18].copy_from_slice(&seconds.to_le_bytes());
    out[18..22].copy_from_slice(&nanos.to_le_bytes());
}

fn decode_identity(bytes: &[u8]) -> FileIdentity {
    let seconds = i64::from_le_bytes(bytes[10..18].try_into().expect("8 bytes"));
    let nanos = u32::from_le_bytes(bytes[18..22].try_into().expect("4 bytes"));
    let is_known = bytes[8] != 0;
    FileIdentity {
        inode: u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")),
        created: is_known.then_some((seconds, nanos)),
    }
}

fn copy_refused(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "{dir} is a copy, or was restored from one: a node that starts from an old copy of its data could vote away what it has \
         acknowledged since. Start it with an empty directory and it joins its cluster anew. If the directory itself was moved here \
         while the node was stopped, and no other copy of it ever ran, start it once with `data_dir_moved`"
    )
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make directories")]
mod tests {
    use esker_log::disk::sim::SimDisk;

    use super::*;

    const BELONGING: Belonging = Belonging { cluster: [5; 16], node: 3 };

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let identity = |inode| FileIdentity { inode, created: (inode > 1).then_some((-7, inode as u32)) };
        let place = Place { dir: identity(1), lock: identity(1 << 40) };
        let good = BELONGING.encode(&place);
        assert_eq!(Belonging::decode(&good), Ok((BELONGING, Some(place))));
        for bit in 0..LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Belonging::decode(&bad).is_err(), "bit {bit}");
        }
    }

    /// CHECKS 27.
    fn a_copy_is_refused(disk: &dyn Disk, dir: &Path, copied: &dyn Disk, copy: &Path) {
        let guard = disk.lock(&dir.join(LOCK)).unwrap();
        BELONGING.write(disk, dir).unwrap();
        assert_eq!(Belonging::open(disk, dir, false).unwrap(), Some(BELONGING));
        drop(guard);
        let refused = Belonging::open(copied, copy, false).unwrap_err().to_string();
        assert!(refused.contains("empty directory") && refused.contains("data_dir_moved"), "{refused}");
        assert_eq!(Belonging::open(copied, copy, true).unwrap(), Some(BELONGING));
        assert_eq!(Belonging::open(copied, copy, false).unwrap(), Some(BELONGING), "it was bound");
        assert_eq!(Belonging::open(disk, dir, false).unwrap(), Some(BELONGING));
    }

    #[test]
    fn a_copy_on_a_simulated_disk_is_refused() {
        let disk = SimDisk::new();
        let dir = Path::new("/");
        drop(disk.lock(&dir.join(LOCK)).unwrap());
        BELONGING.write(&disk, dir).unwrap();
        a_copy_is_refused(&disk, dir, &disk.copied(), dir);
    }

    #[test]
    fn a_file_from_before_it_was_bound_is_bound_now() {
        let disk = SimDisk::new();
        let dir = Path::new("/");
        drop(disk.lock(&dir.join(LOCK)).unwrap());
        let place = Place::of(&disk, dir).unwrap();
        let mut old = BELONGING.encode(&place)[..UNBOUND_LEN].to_vec();
        let checksum = crc32c::crc32c(&old[..36]);
        old[36..].copy_from_slice(&checksum.to_le_bytes());
        write_durably(&disk, dir, NAME, &old).unwrap();
        assert_eq!(Belonging::open(&disk, dir, false).unwrap(), Some(BELONGING));
        assert_eq!(Belonging::read(&disk, dir).unwrap(), Some((BELONGING, Some(place))));
        Belonging::open(&disk.copied(), dir, false).unwrap_err();
    }

    #[test]
    fn a_copied_directory_is_refused() {
        use esker_log::disk::RealDisk;
        let home = tempfile::tempdir().unwrap();
        let (dir, copy) = (home.path().join("data"), home.path().join("copy"));
        std::fs::create_dir(&dir).unwrap();
        drop(RealDisk.lock(&dir.join(LOCK)).unwrap());
        BELONGING.write(&RealDisk, &dir).unwrap();
        let status = std::process::Command::new("cp").arg("-a").args([&dir, &copy]).status().unwrap();
        assert!(status.success());
        a_copy_is_refused(&RealDisk, &dir, &RealDisk, &copy);
        // Moved, it is still the same.
        let moved = home.path().join("moved");
        std::fs::rename(&dir, &moved).unwrap();
        assert_eq!(Belonging::open(&RealDisk, &moved, false).unwrap(), Some(BELONGING));
    }
}
