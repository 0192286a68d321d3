//! `BACKUP`: what a backup consists of. Written last, so that a backup that has it is whole; `docs/format.md` has the bytes.

use std::{collections::HashSet, path::Path};

use esker_log::{
    Error, Result,
    disk::{Disk, FileIdentity},
    format::{FORMAT_VERSION, Invalid, StoreId, check_head},
    manifest::MANIFEST_NAME,
    recovery::{BACKUP_NAME, STORE_NAME, invalid_header},
    segment::parse_segment_name,
    small_file::{SMALL_BYTES_MAX, read_small},
};

use crate::{Version, bitcask::is_index_file};

const MAGIC: &[u8; 8] = b"ESKBACKP";
const CHECKSUM_LEN: usize = 4;
/// The nanoseconds of a time that is not known.
const NO_TIME: u32 = u32::MAX;

/// One file of the store that was backed up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// Its name in the store.
    pub(crate) name: String,
    /// The number of the backup that put it there; part of its name in the backup.
    pub(crate) number: u64,
    /// How many bytes of it count. There may be more, of no meaning.
    pub(crate) len: u64,
    /// The checksum of these.
    pub(crate) checksum: u32,
    /// Which file of the store it was; `None` for what was not a file.
    pub(crate) origin: Option<FileIdentity>,
}

impl Listed {
    /// Its name in the backup.
    pub(crate) fn stored_name(&self) -> String {
        stored_name(&self.name, self.number)
    }
}

/// A file's name in a backup. It is never used for anything else, so that one backup never changes what another lists.
pub(crate) fn stored_name(name: &str, number: u64) -> String {
    format!("{name}.{number:010}")
}

/// The store's name for a file of a backup, if this is one's name.
pub(crate) fn parse_stored_name(stored: &str) -> Option<&str> {
    let (name, number) = stored.rsplit_once('.')?;
    (number.len() >= 10 && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(name)
}

/// The files that every store has, and that are read into memory as a whole.
const CONTROL_FILES: [&str; 2] = [STORE_NAME, MANIFEST_NAME];

/// Whether this names something that a store is made of. Nothing else is part of a backup: under other names, files would say
/// something of the directory that they are restored to, or go when it is opened.
pub(crate) fn is_of_store(name: &str) -> bool {
    CONTROL_FILES.contains(&name) || parse_segment_name(name).is_some() || is_index_file(name)
}

/// Whether a file is longer than one of its name can be: the control files are read as a whole.
pub(crate) fn is_too_long(name: &str, len: u64) -> bool {
    CONTROL_FILES.contains(&name) && len > SMALL_BYTES_MAX
}

/// The checksum of a whole file, as it is read or written from front to back.
///
/// Not the CRC-32C of everything else: many of our files end with their own, and whatever is in such a file, the CRC-32C of all
/// of it is the same. So one could not be told from another.
#[derive(Default)]
pub(crate) struct FileChecksum(flate2::Crc);

impl FileChecksum {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn finish(&self) -> u32 {
        self.0.sum()
    }

    pub(crate) fn of(bytes: &[u8]) -> u32 {
        let mut checksum = Self::default();
        checksum.update(bytes);
        checksum.finish()
    }
}

/// What `BACKUP` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct List {
    pub(crate) store: StoreId,
    /// Counts the backups in this directory.
    pub(crate) number: u64,
    /// The last version that the backup has.
    pub(crate) version: Version,
    pub(crate) files: Vec<Listed>,
}

impl List {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        out.extend_from_slice(&self.store);
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.extend_from_slice(&(self.files.len() as u32).to_le_bytes());
        for file in &self.files {
            out.extend_from_slice(&(file.name.len() as u16).to_le_bytes());
            out.extend_from_slice(file.name.as_bytes());
            out.extend_from_slice(&file.number.to_le_bytes());
            out.extend_from_slice(&file.len.to_le_bytes());
            out.extend_from_slice(&file.checksum.to_le_bytes());
            let inode = file.origin.map_or(0, |origin| origin.inode);
            let (seconds, nanoseconds) =
                file.origin.and_then(|origin| origin.created).unwrap_or((0, NO_TIME));
            out.extend_from_slice(&inode.to_le_bytes());
            out.extend_from_slice(&seconds.to_le_bytes());
            out.extend_from_slice(&nanoseconds.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let end = bytes.len().checked_sub(CHECKSUM_LEN).ok_or(Invalid::Bad("the file is cut off"))?;
        check_head(bytes, MAGIC, end)?;
        // The checksum vouches for it: were it to lie, this is still an error and no panic.
        let mut rest = &bytes[MAGIC.len() + 4..end];
        let list = Self::decode_body(&mut rest).filter(|_| rest.is_empty());
        list.ok_or(Invalid::Bad("the list makes no sense"))
    }

    fn decode_body(rest: &mut &[u8]) -> Option<Self> {
        let store = take(rest)?;
        let number = u64::from_le_bytes(take(rest)?);
        let version = u64::from_le_bytes(take(rest)?);
        let count = u32::from_le_bytes(take(rest)?);
        let mut files = Vec::new();
        for _ in 0..count {
            files.push(decode_listed(rest)?);
        }
        Some(Self { store, number, version, files })
    }

    /// Reads the list of the backup in `dir`; `None` if there is none.
    ///
    /// Errors: `Damage`, `UnsupportedFormat`, `Io`.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>> {
        let path = dir.join(BACKUP_NAME);
        let Some(bytes) = read_small(disk, &path)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).map_err(|invalid| invalid_header(&path, invalid))
    }

    /// The same, where there has to be one.
    pub(crate) fn require(disk: &dyn Disk, dir: &Path) -> Result<Self> {
        Self::read(disk, dir)?.ok_or_else(|| {
            Error::InvalidRequest(format!(
                "there is no complete backup in {}: {BACKUP_NAME} is missing",
                dir.display()
            ))
        })
    }

    /// Whether this is a list that a store can be made of: what a restore refuses is no intact backup.
    ///
    /// Errors: `Damage` of `path`, which is where the list comes from.
    pub(crate) fn check(&self, path: &Path) -> Result<()> {
        let damage = |what: String| Err(Error::damage(path, 0, what));
        let mut names = HashSet::with_capacity(self.files.len());
        for Listed { name, len, .. } in &self.files {
            if !is_of_store(name) {
                return damage(format!("it lists {name}, which no store has"));
            }
            if is_too_long(name, *len) {
                return damage(format!("it lists {name} with {len} bytes, which none has"));
            }
            if !names.insert(name.as_str()) {
                return damage(format!("it lists {name} twice"));
            }
        }
        match CONTROL_FILES.iter().find(|name| !names.contains(*name)) {
            Some(missing) => damage(format!("it lists no {missing}, which every store has")),
            None => Ok(()),
        }
    }

    pub(crate) fn find(&self, name: &str) -> Option<&Listed> {
        self.files.iter().find(|file| file.name == name)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(*taken)
}

fn decode_listed(rest: &mut &[u8]) -> Option<Listed> {
    let name_len = usize::from(u16::from_le_bytes(take(rest)?));
    let (name, behind) = rest.split_at_checked(name_len)?;
    *rest = behind;
    let name = std::str::from_utf8(name).ok()?;
    // A name leads nowhere but into the directory.
    if name.is_empty() || name.contains(['/', '\0']) || name.starts_with('.') {
        return None;
    }
    let number = u64::from_le_bytes(take(rest)?);
    let len = u64::from_le_bytes(take(rest)?);
    let checksum = u32::from_le_bytes(take(rest)?);
    let inode = u64::from_le_bytes(take(rest)?);
    let seconds = i64::from_le_bytes(take(rest)?);
    let nanoseconds = u32::from_le_bytes(take(rest)?);
    let created = (nanoseconds != NO_TIME).then_some((seconds, nanoseconds));
    let origin = (inode != 0 || created.is_some()).then_some(FileIdentity { inode, created });
    Some(Listed { name: name.to_owned(), number, len, checksum, origin })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> List {
        let origin = Some(FileIdentity { inode: 9, created: Some((-1, 2)) });
        let file = |name: &str, origin| Listed { name: name.into(), number: 3, len: 70, checksum: 8, origin };
        let files = vec![file("STORE", None), file("0000000001.log", origin)];
        List { store: [7; 16], number: 4, version: 99, files }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        for list in [some(), List { files: Vec::new(), ..some() }] {
            assert_eq!(List::decode(&list.encode()), Ok(list));
        }
    }

    /// CHECKS 8.
    #[test]
    fn every_bit_flip_and_truncation_is_seen() {
        let good = some().encode();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(List::decode(&bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(List::decode(&good[..len]).is_err(), "length {len}");
        }
    }

    /// CHECKS 35: a list cannot have a restore write anywhere but into its directory.
    #[test]
    fn names_that_lead_elsewhere_are_refused_whatever_the_checksum_says() {
        for name in ["../x", "/x", ".", "", "a/b"] {
            let mut list = some();
            list.files[0].name = name.into();
            assert!(List::decode(&list.encode()).is_err(), "{name:?}");
        }
    }

    /// CHECKS 8, 35: what cannot be restored is not intact.
    #[test]
    fn a_list_that_no_store_can_be_made_of_is_seen() {
        let file = |name: &str| Listed { name: name.into(), number: 3, len: 70, checksum: 8, origin: None };
        let list = |names: &[&str]| List { files: names.iter().map(|name| file(name)).collect(), ..some() };
        let why = |list: List| list.check(Path::new("BACKUP")).map_err(|error| error.to_string());
        let whole = ["STORE", "MANIFEST", "0000000001.log", "0000000001.hint", "0000000002-0000000064.ckpt"];
        assert_eq!(why(list(&whole)), Ok(()));
        assert_eq!(why(list(&["STORE", "MANIFEST", "0000000002.merged", "0000000002.merged.hint"])), Ok(()));
        for missing in ["STORE", "MANIFEST"] {
            let rest: Vec<_> = whole.into_iter().filter(|name| *name != missing).collect();
            assert!(why(list(&rest)).unwrap_err().contains(&format!("no {missing}")));
        }
        for other in ["LOCK", "BACKUP", "REPLICA", "MANIFEST.tmp", "cat.jpg", "1.log", "copy"] {
            let found = why(list(&[&whole[..], &[other]].concat())).unwrap_err();
            assert!(found.contains(&format!("{other}, which no store has")), "{found}");
        }
        for twice in whole {
            let found = why(list(&[&whole[..], &[twice]].concat())).unwrap_err();
            assert!(found.contains(&format!("{twice} twice")), "{found}");
        }
        for (name, is_refused) in [("STORE", true), ("MANIFEST", true), ("0000000001.log", false)] {
            let mut long = list(&whole);
            long.files.iter_mut().filter(|file| file.name == name).for_each(|file| file.len = 1 << 40);
            assert_eq!(why(long).is_err(), is_refused, "{name}");
        }
    }

    /// What a CRC-32C cannot do.
    #[test]
    fn files_that_end_with_their_own_checksum_are_told_apart() {
        let [a, b] = [1, 2].map(|version| List { version, ..some() }.encode());
        assert_eq!(crc32c::crc32c(&a), crc32c::crc32c(&b));
        assert_ne!(FileChecksum::of(&a), FileChecksum::of(&b));
    }

    #[test]
    fn stored_names_are_told_from_others() {
        assert_eq!(parse_stored_name(&stored_name("0000000001.log", 7)), Some("0000000001.log"));
        for other in ["STORE", "0000000001.log", "0000000001-0000000064.ckpt", "x.123", "LOCK"] {
            assert_eq!(parse_stored_name(other), None, "{other}");
        }
    }
}
