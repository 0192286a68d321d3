//! Entry points for the fuzzers in `fuzz/`: built only for them.

use std::path::Path;

use esker_log::{GroupEnd, Result, disk::sim::SimDisk, format::StoreId};

use super::index_file::{IndexFile, IndexWriter, Stretch};

const STORE: StoreId = [7; 16];

/// Opens and reads `bytes` as an index file.
pub fn read_index_file(bytes: &[u8]) -> Result<()> {
    let disk = SimDisk::new();
    let path = Path::new("/index");
    disk.write_file(path, bytes);
    IndexFile::open(&disk, path, &STORE)?.verify()
}

/// Reads `entries` as the entries of an index file whose checksums are right.
pub fn read_entries(entries: &[u8]) -> Result<()> {
    let stretch =
        Stretch { segment: 3, group: 0, from: 64, to: 9000, last: GroupEnd { index: 1000, term: 0 } };
    let file = IndexWriter::with_raw_entries(&STORE, stretch, entries).encode(&STORE).into_memory();
    IndexFile::from_file(file, Path::new("/index"), &STORE)?.verify()
}
