//! The file `CLUSTER`: which cluster this data directory belongs to, and as what number. Written before the node says
//! anything on the cluster's behalf; never changed after.

use std::path::Path;

use esker_engine::{Error, Result};
use esker_log::{
    disk::{Disk, OpenMode},
    format::{self, FORMAT_VERSION},
    recovery::invalid_header,
    small_file::write_durably,
};

use crate::peer::Id;

const NAME: &str = "CLUSTER";
const MAGIC: &[u8; 8] = b"ESKCLUST";
const LEN: usize = 40;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Belonging {
    /// The cluster.
    pub(crate) cluster: Id,
    /// This node's number in it.
    pub(crate) node: u64,
}

impl Belonging {
    /// Reads the file; `None` if there is none: the node belongs to no cluster yet.
    ///
    /// Errors: `Damage`, `UnsupportedFormat`, `Io`.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(NAME);
        let file = match disk.open(&path, OpenMode::Read) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(format_args!("opening {}", path.display()), e)),
        };
        let doing = |e| Error::io(format_args!("reading {}", path.display()), e);
        let len = file.len().map_err(doing)?;
        if len != LEN as u64 {
            return Err(Error::damage(path, 0, format_args!("it is {len} bytes long, not {LEN}")));
        }
        let mut bytes = [0; LEN];
        file.read_exact_at(&mut bytes, 0).map_err(doing)?;
        Self::decode(&bytes).map(Some).map_err(|invalid| invalid_header(&path, invalid))
    }

    /// Writes the file, durably. Errors: `DiskFull`, `Io`.
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<()> {
        write_durably(disk, dir, NAME, &self.encode())
    }

    fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..28].copy_from_slice(&self.cluster);
        out[28..36].copy_from_slice(&self.node.to_le_bytes());
        let checksum = crc32c::crc32c(&out[..36]);
        out[36..].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; LEN]) -> Result<Self, format::Invalid> {
        format::check_head(bytes, MAGIC, 36)?;
        let cluster = bytes[12..28].try_into().expect("16 bytes");
        let node = u64::from_le_bytes(bytes[28..36].try_into().expect("8 bytes"));
        Ok(Self { cluster, node })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_damage_is_seen() {
        let belonging = Belonging { cluster: [5; 16], node: 3 };
        let good = belonging.encode();
        assert_eq!(Belonging::decode(&good), Ok(belonging));
        for bit in 0..LEN * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Belonging::decode(&bad).is_err(), "bit {bit}");
        }
    }
}
