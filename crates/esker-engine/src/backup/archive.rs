//! A backup as one stream of bytes: a tar file with what a backup's directory has, `BACKUP` last.
//!
//! Every length is known before the first byte, so the archive's is, too. `BACKUP` has the checksums of all files, its own among
//! them, and comes behind them: whoever has read it, and found what it says, has everything. A stream that was cut off lacks it.
//!
//! Reading takes nothing from an archive on trust: names are those of a store's files, each once, so that none leads elsewhere;
//! what is read into memory is bounded; and lengths and checksums are what the list at the end says, or it is damage.

use std::{
    cell::Cell,
    collections::HashSet,
    io::{self, Read, Write},
    path::Path,
};

use esker_log::{
    Error, Result,
    recovery::{BACKUP_NAME, STORE_NAME},
};
use tar::{Archive, Entry, EntryType, Header};

use super::{
    BackupReport, Progress,
    list::{FileChecksum, List, Listed, is_of_store, is_too_long, parse_stored_name, stored_name},
    restore::mismatch,
    source::Source,
};
use crate::Version;

/// What a tar file consists of.
pub(super) const BLOCK_BYTES: u64 = 512;
/// What a tar file's first block has, and where.
const TAR_MAGIC: &[u8] = b"ustar";
const TAR_MAGIC_AT: usize = 257;
/// Two blocks of zeros end it.
const END_BYTES: usize = 2 * BLOCK_BYTES as usize;
/// An archive holds one backup, the first.
const NUMBER: u64 = 1;
/// Files are sent so many bytes at a time.
const PIECE_BYTES: u64 = 256 << 10;
/// A longer list is not believed: this is for a million files.
const LIST_BYTES_MAX: u64 = 128 << 20;

/// A backup that is ready to be written out: the store at one version, held open. Writes and merges go on meanwhile; what
/// merges retire keeps its space until this is dropped.
pub struct BackupArchive {
    source: Source,
    /// Dropped behind it.
    _held: Option<Box<dyn Send + Sync>>,
}

impl BackupArchive {
    pub(super) fn new(source: Source) -> Self {
        Self { source, _held: None }
    }

    /// The same, holding on to something as long as it is there.
    pub(crate) fn holding(self, held: Box<dyn Send + Sync>) -> Self {
        Self { _held: Some(held), ..self }
    }

    /// The last version that it has.
    pub fn version(&self) -> Version {
        self.source.version
    }

    /// How many bytes [`BackupArchive::write_to`] writes.
    pub fn bytes(&self) -> u64 {
        let files: u64 = self.source.files.iter().map(|file| in_blocks(file.len)).sum();
        files + in_blocks(self.list_of_nothing().encode().len() as u64) + END_BYTES as u64
    }

    /// The list as long as it will be: its length is up to the names.
    fn list_of_nothing(&self) -> List {
        let files = self.source.files.iter().map(|file| listed(&file.name, file.len, 0));
        self.list(files.collect())
    }

    fn list(&self, files: Vec<Listed>) -> List {
        List { store: self.source.store, number: NUMBER, version: self.source.version, files }
    }

    /// Writes the archive, in constant memory. `progress` gets (bytes done, bytes in all).
    ///
    /// Errors: `Damage` or `Io` if the store cannot be read, `Io` if `out` cannot be written, and what `progress` says.
    pub fn write_to(&self, out: &mut dyn Write, progress: Progress<'_>) -> Result<BackupReport> {
        let mut writer = Writer { out, done: 0, total: self.bytes(), progress };
        let mut report = BackupReport { version: self.version(), ..BackupReport::default() };
        let mut files = Vec::with_capacity(self.source.files.len());
        for file in &self.source.files {
            let checksum = writer.file(&stored_name(&file.name, NUMBER), file.len, &mut |piece, at| {
                file.read_exact_at(piece, at)
            })?;
            files.push(listed(&file.name, file.len, checksum));
            report.files += 1;
            report.bytes += file.len;
        }
        report.bytes_copied = report.bytes;
        let list = self.list(files).encode();
        writer.file(BACKUP_NAME, list.len() as u64, &mut |piece, at| {
            piece.copy_from_slice(&list[at as usize..][..piece.len()]);
            Ok(())
        })?;
        writer.write(&[0; END_BYTES])?;
        writer.out.flush().map_err(not_written)?;
        Ok(report)
    }
}

/// A file of an archive. Which file of the store it was says nothing where the archive is unpacked.
fn listed(name: &str, len: u64, checksum: u32) -> Listed {
    Listed { name: name.to_owned(), number: NUMBER, len, checksum, origin: None }
}

/// What a file takes of a tar file: its header, and itself up to the end of its last block.
fn in_blocks(len: u64) -> u64 {
    BLOCK_BYTES + len.next_multiple_of(BLOCK_BYTES)
}

fn not_written(e: io::Error) -> Error {
    Error::io("writing the archive", e)
}

/// An archive under way.
struct Writer<'a> {
    out: &'a mut dyn Write,
    done: u64,
    total: u64,
    progress: Progress<'a>,
}

impl Writer<'_> {
    /// Writes a file that `read` reads; gives its checksum.
    fn file(
        &mut self,
        name: &str,
        len: u64,
        read: &mut dyn FnMut(&mut [u8], u64) -> Result<()>,
    ) -> Result<u32> {
        self.write(header(name, len)?.as_bytes())?;
        let mut piece = vec![0; len.min(PIECE_BYTES) as usize];
        let (mut at, mut checksum) = (0, FileChecksum::default());
        while at < len {
            let piece = &mut piece[..(len - at).min(PIECE_BYTES) as usize];
            read(piece, at)?;
            checksum.update(piece);
            self.write(piece)?;
            at += piece.len() as u64;
        }
        self.write(&[0; BLOCK_BYTES as usize][..(len.next_multiple_of(BLOCK_BYTES) - len) as usize])?;
        Ok(checksum.finish())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(not_written)?;
        self.done += bytes.len() as u64;
        (self.progress)(self.done, self.total)
    }
}

fn header(name: &str, len: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.set_path(name).map_err(not_written)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o600);
    header.set_size(len);
    header.set_cksum();
    Ok(header)
}

/// An archive of any files, whether a store can be made of them or not.
#[cfg(any(test, fuzzing))]
pub(super) fn of_files<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    const MEMORY: &str = "memory takes everything";
    let mut out = Vec::new();
    let mut writer = Writer { out: &mut out, done: 0, total: 0, progress: &mut |_, _| Ok(()) };
    let mut write = |name: &str, bytes: &[u8]| {
        let mut read = |piece: &mut [u8], at: u64| {
            piece.copy_from_slice(&bytes[at as usize..][..piece.len()]);
            Ok(())
        };
        writer.file(name, bytes.len() as u64, &mut read).expect(MEMORY)
    };
    let mut list = List { store: [7; 16], number: NUMBER, version: 1, files: Vec::new() };
    for (name, bytes) in files {
        let checksum = write(&stored_name(name, NUMBER), bytes);
        list.files.push(listed(name, bytes.len() as u64, checksum));
    }
    write(BACKUP_NAME, &list.encode());
    writer.write(&[0; END_BYTES]).expect(MEMORY);
    out
}

/// Where the files of an archive go as they are read, one after another.
pub(super) trait Sink {
    /// A file of the store begins. None comes twice, and those that a store reads as a whole are of bounded length.
    fn begin(&mut self, name: &str) -> Result<()>;

    /// The next bytes of it.
    fn write(&mut self, piece: &[u8]) -> Result<()>;

    /// It is whole.
    fn end(&mut self) -> Result<()>;
}

/// Reads an archive to its end into `sink`, and checks all of it; gives its list. Until this has returned, what the sink was
/// given may be damaged. `path` is what the archive is called in errors; `progress` gets the bytes of files done.
///
/// Errors: `InvalidRequest` if it is no backup's archive, `Damage`, also if it was cut off, `UnsupportedFormat`, `Io`, and what
/// `sink` and `progress` say. An error of `input` is one of reading unless its kind is `Other`, `InvalidData` or `UnexpectedEof`.
pub(super) fn read(
    input: &mut dyn Read,
    path: &Path,
    sink: &mut dyn Sink,
    progress: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<List> {
    let reader = Reader { path, read: Cell::new(0) };
    let mut input = Counted { input, read: &reader.read };
    let head = reader.head(&mut input)?;
    let mut whole = head.as_slice().chain(input);
    let whole: &mut dyn Read = &mut whole;
    let mut archive = Archive::new(whole);
    let list = reader.files(&mut archive, sink, progress)?;
    // What sent it may have something to say yet: that it did not come to its end, for one.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|e| reader.failed(e))?;
    Ok(list)
}

struct Reader<'a> {
    path: &'a Path,
    /// How many bytes have come: what is wrong is before that.
    read: Cell<u64>,
}

/// Counts the bytes that come.
struct Counted<'a> {
    input: &'a mut dyn Read,
    read: &'a Cell<u64>,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}

impl Reader<'_> {
    /// The first block, unless it is no archive's. A flipped bit does not make something else of one.
    fn head(&self, input: &mut dyn Read) -> Result<Vec<u8>> {
        let mut head = Vec::with_capacity(BLOCK_BYTES as usize);
        input.take(BLOCK_BYTES).read_to_end(&mut head).map_err(|e| self.failed(e))?;
        let is_tar = head.get(TAR_MAGIC_AT..).is_some_and(|rest| rest.starts_with(TAR_MAGIC));
        let is_ours = head.starts_with(STORE_NAME.as_bytes());
        if is_tar || is_ours { Ok(head) } else { Err(self.foreign()) }
    }

    fn files(
        &self,
        archive: &mut Archive<&mut dyn Read>,
        sink: &mut dyn Sink,
        progress: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<List> {
        let (mut files, mut done, mut names) = (Vec::new(), 0, HashSet::new());
        // Raw: none of the format's extensions is in our archives, and some have a reader take as much as they like.
        for entry in archive.entries().map_err(|e| self.failed(e))?.raw(true) {
            let mut entry = entry.map_err(|e| self.failed(e))?;
            let stored = self.name(&entry)?;
            if stored == BACKUP_NAME {
                let list = self.list(&mut entry)?;
                list.check(self.path)?;
                self.compare(&list, &files)?;
                return Ok(list);
            }
            let name = parse_stored_name(&stored).filter(|name| is_of_store(name));
            let name = name.ok_or_else(|| self.foreign())?;
            if is_too_long(name, entry.size()) {
                return Err(Error::damage(
                    self.path,
                    self.read.get(),
                    format_args!("its {name} is too long to be one"),
                ));
            }
            if !names.insert(name.to_owned()) {
                return Err(Error::damage(self.path, self.read.get(), format_args!("{name} is in it twice")));
            }
            let file = self.copy(&mut entry, name, sink, &mut |bytes| progress(done + bytes))?;
            done += file.len;
            files.push(file);
        }
        match files.is_empty() {
            true => Err(self.foreign()),
            false => Err(Error::damage(
                self.path,
                self.read.get(),
                "the archive was cut off: it has no BACKUP at its end",
            )),
        }
    }

    fn foreign(&self) -> Error {
        Error::InvalidRequest(format!("{} is no archive of a backup", self.path.display()))
    }

    fn failed(&self, e: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, Other, UnexpectedEof};
        match e.kind() {
            // The library's word for whatever is wrong with a header, and for an end where none should be.
            Other | InvalidData | UnexpectedEof if e.raw_os_error().is_none() => Error::damage(
                self.path,
                self.read.get(),
                format_args!("the archive is damaged, was cut off or is none: {e}"),
            ),
            _ => Error::io(format_args!("reading {}", self.path.display()), e),
        }
    }

    /// The name of a file in the archive, which is just a name.
    fn name<R: Read>(&self, entry: &Entry<'_, R>) -> Result<String> {
        let name = String::from_utf8(entry.path_bytes().into_owned()).map_err(|_| self.foreign())?;
        let is_plain = entry.header().entry_type() == EntryType::Regular
            && !name.contains(['/', '\0'])
            && !name.starts_with('.');
        if is_plain { Ok(name) } else { Err(self.foreign()) }
    }

    fn copy<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        name: &str,
        sink: &mut dyn Sink,
        on_read: &mut dyn FnMut(u64) -> Result<()>,
    ) -> Result<Listed> {
        let len = entry.size();
        let mut piece = vec![0; len.min(PIECE_BYTES) as usize];
        let (mut at, mut checksum) = (0, FileChecksum::default());
        sink.begin(name)?;
        while at < len {
            let piece = &mut piece[..(len - at).min(PIECE_BYTES) as usize];
            entry.read_exact(piece).map_err(|e| self.failed(e))?;
            checksum.update(piece);
            sink.write(piece)?;
            at += piece.len() as u64;
            on_read(at)?;
        }
        sink.end()?;
        Ok(listed(name, len, checksum.finish()))
    }

    fn list<R: Read>(&self, entry: &mut Entry<'_, R>) -> Result<List> {
        if entry.size() > LIST_BYTES_MAX {
            return Err(Error::damage(self.path, self.read.get(), "its BACKUP is too long to be one"));
        }
        let mut bytes = vec![0; entry.size() as usize];
        entry.read_exact(&mut bytes).map_err(|e| self.failed(e))?;
        List::decode(&bytes).map_err(|invalid| esker_log::recovery::invalid_header(self.path, invalid))
    }

    /// Whether what came is what was to come.
    fn compare(&self, list: &List, found: &[Listed]) -> Result<()> {
        let differs = list.files.iter().zip(found).find(|(listed, found)| {
            (&listed.name, listed.len, listed.checksum) != (&found.name, found.len, found.checksum)
        });
        match differs {
            Some((listed, _)) => Err(mismatch(&self.path.join(listed.stored_name()))),
            None if list.files.len() != found.len() => Err(Error::damage(
                self.path,
                self.read.get(),
                "files that BACKUP lists are not in it, or others are",
            )),
            None => Ok(()),
        }
    }
}
