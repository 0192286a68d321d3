//! The contract of [`Disk`] and [`File`], tested on both disks; and random operations on both, compared.

use std::{
    io::{ErrorKind, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
};

use proptest::prelude::*;

use super::{Disk, File, OpenMode, RealDisk, cannot_link, sim::SimDisk};

fn on_both(check: impl Fn(&dyn Disk, &Path)) {
    let temporary = tempfile::tempdir().unwrap();
    check(&RealDisk, temporary.path());
    let sim = SimDisk::new();
    sim.create_dir_all(Path::new("/d")).unwrap();
    check(&sim, Path::new("/d"));
}

fn create(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path, OpenMode::CreateNew).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

fn content(file: &dyn File) -> Vec<u8> {
    let mut bytes = vec![0; file.len().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn read(disk: &dyn Disk, path: &Path) -> Vec<u8> {
    content(&*disk.open(path, OpenMode::Read).unwrap())
}

fn names(disk: &dyn Disk, dir: &Path) -> Vec<(String, u64)> {
    disk.list(dir).unwrap().into_iter().map(|entry| (entry.name, entry.len)).collect()
}

fn kind<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn open_modes_want_or_refuse_an_existing_file() {
    on_both(|disk, dir| {
        let path = dir.join("a");
        assert_eq!(kind(disk.open(&path, OpenMode::Read)), ErrorKind::NotFound);
        assert_eq!(kind(disk.open(&path, OpenMode::ReadWrite)), ErrorKind::NotFound);
        create(disk, &path, b"x");
        assert_eq!(kind(disk.open(&path, OpenMode::CreateNew)), ErrorKind::AlreadyExists);
        assert_eq!(kind(disk.open(&dir.join("no/a"), OpenMode::CreateNew)), ErrorKind::NotFound);
    });
}

#[test]
fn a_file_opened_for_reading_cannot_be_changed() {
    on_both(|disk, dir| {
        create(disk, &dir.join("a"), b"x");
        let file = disk.open(&dir.join("a"), OpenMode::Read).unwrap();
        assert!(file.write_all_at(b"y", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert!(file.allocate(0, 10).is_err());
        file.sync_data().unwrap();
        assert_eq!(content(&*file), b"x");
    });
}

#[test]
fn reads_end_at_the_end_of_the_file() {
    on_both(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"hello");
        let mut buf = [0; 8];
        assert_eq!(file.read_at(&mut buf, 3).unwrap(), 2);
        assert_eq!(&buf[..2], b"lo");
        assert_eq!(file.read_at(&mut buf, 5).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf, 500).unwrap(), 0);
        assert_eq!(kind(file.read_exact_at(&mut buf, 0)), ErrorKind::UnexpectedEof);
        assert_eq!(file.try_read_at(&mut buf, 5).unwrap(), None);
    });
}

#[test]
fn a_read_that_must_not_wait_gives_the_right_bytes_or_none() {
    on_both(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"hello");
        let mut buf = [0; 4];
        if let Some(n) = file.try_read_at(&mut buf, 1).unwrap() {
            assert_eq!(buf[..n], b"ello"[..n]);
        }
    });
}

#[test]
fn a_write_takes_a_prefix_of_many_buffers() {
    on_both(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"");
        let bytes: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
        let bufs: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
        let mut done = 0;
        while done < bytes.len() {
            let n = file.write_at(&bufs[done..], done as u64).unwrap();
            assert!(n > 0);
            done += n;
        }
        assert_eq!(content(&*file), bytes);
    });
}

#[test]
fn holes_and_extensions_read_as_zeros() {
    on_both(|disk, dir| {
        let file = create(disk, &dir.join("a"), b"abc");
        file.write_all_at(b"z", 5000).unwrap();
        file.set_len(2).unwrap();
        file.set_len(4).unwrap();
        assert_eq!(content(&*file), b"ab\0\0");
        file.allocate(3, 5).unwrap();
        assert_eq!(content(&*file), b"ab\0\0\0\0\0\0");
        file.allocate(0, 2).unwrap();
        file.allocate(0, 0).unwrap_or_default();
        assert_eq!(file.len().unwrap(), 8);
        assert!(!file.is_empty().unwrap());
        file.sync_data().unwrap();
    });
}

#[test]
fn a_rename_replaces_and_handles_stay_with_their_file() {
    on_both(|disk, dir| {
        let (a, b) = (dir.join("a"), dir.join("b"));
        let old = create(disk, &b, b"old");
        let new = create(disk, &a, b"new");
        disk.rename(&a, &b).unwrap();
        disk.sync_dir(dir).unwrap();
        assert_eq!(names(disk, dir), [("b".to_owned(), 3)]);
        assert_eq!(read(disk, &b), b"new");
        assert_eq!((content(&*old), content(&*new)), (b"old".to_vec(), b"new".to_vec()));
        disk.rename(&b, &b).unwrap();
        assert_eq!(read(disk, &b), b"new");
        assert_eq!(kind(disk.rename(&a, &b)), ErrorKind::NotFound);
        assert_eq!(kind(disk.rename(&b, &dir.join("no/b"))), ErrorKind::NotFound);
    });
}

#[test]
fn a_link_is_the_same_file_under_another_name() {
    on_both(|disk, dir| {
        let (a, b) = (dir.join("a"), dir.join("b"));
        let file = create(disk, &a, b"one");
        disk.link(&a, &b).unwrap();
        assert_eq!(disk.identity(&a).unwrap(), disk.identity(&b).unwrap());
        file.write_all_at(b"two", 0).unwrap();
        assert_eq!(read(disk, &b), b"two");
        let refused = [disk.link(&a, &b), disk.link(&a, &a), disk.link(&b, dir)];
        assert_eq!(refused.map(kind), [ErrorKind::AlreadyExists; 3]);
        assert_eq!(kind(disk.link(&dir.join("no"), &dir.join("c"))), ErrorKind::NotFound);
        assert_eq!(kind(disk.link(&a, &dir.join("no/c"))), ErrorKind::NotFound);
        disk.remove(&a).unwrap();
        disk.sync_dir(dir).unwrap();
        assert_eq!((names(disk, dir), read(disk, &b)), (vec![("b".to_owned(), 3)], b"two".to_vec()));
    });
}

#[test]
fn who_cannot_link_is_told_from_other_errors() {
    let sim = SimDisk::new();
    create(&sim, Path::new("/a"), b"x");
    sim.set_no_links(true);
    let refused = sim.link(Path::new("/a"), Path::new("/b")).unwrap_err();
    assert!(cannot_link(&refused), "{refused}");
    let taken = sim.link(Path::new("/a"), Path::new("/a")).unwrap_err();
    assert!(!cannot_link(&taken), "{taken}");
}

#[test]
fn a_removed_file_lives_on_in_its_handles() {
    on_both(|disk, dir| {
        let path = dir.join("a");
        let file = create(disk, &path, b"x");
        disk.remove(&path).unwrap();
        disk.sync_dir(dir).unwrap();
        file.write_all_at(b"y", 1).unwrap();
        file.sync_data().unwrap();
        assert_eq!(content(&*file), b"xy");
        assert_eq!(kind(disk.remove(&path)), ErrorKind::NotFound);
        create(disk, &path, b"other");
        assert_eq!(content(&*file), b"xy");
    });
}

#[test]
fn a_list_shows_files_in_order_and_no_directories() {
    on_both(|disk, dir| {
        disk.create_dir_all(&dir.join("m/n")).unwrap();
        disk.create_dir_all(&dir.join("m/n")).unwrap();
        create(disk, &dir.join("z"), b"12");
        create(disk, &dir.join("b"), b"");
        create(disk, &dir.join("m/inner"), b"");
        assert_eq!(names(disk, dir), [("b".to_owned(), 0), ("z".to_owned(), 2)]);
        assert_eq!(names(disk, &dir.join("m/n")), []);
        assert_eq!(kind(disk.list(&dir.join("no"))), ErrorKind::NotFound);
        assert_eq!(kind(disk.sync_dir(&dir.join("no"))), ErrorKind::NotFound);
        assert!(disk.create_dir_all(&dir.join("z")).is_err());
        assert!(disk.create_dir_all(&dir.join("z/y")).is_err());
    });
}

/// As far as the system tells what is mounted where these directories are.
#[test]
fn it_is_known_which_file_systems_write_in_place() {
    use std::os::unix::fs::MetadataExt as _;
    assert!(!RealDisk.writes_in_place(Path::new("/no such directory")));
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let temporary = tempfile::tempdir().unwrap();
    for dir in [temporary.path(), Path::new("/"), Path::new("/proc"), Path::new("/dev/shm")] {
        let Ok(found) = std::fs::metadata(dir) else { continue };
        let (major, minor) = (rustix::fs::major(found.dev()), rustix::fs::minor(found.dev()));
        let device = format!("{major}:{minor}");
        let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&device));
        let Some((_, kind)) = line.and_then(|line| line.split_once(" - ")) else { continue };
        let in_place = ["ext2 ", "ext3 ", "ext4 ", "xfs "].iter().any(|in_place| kind.starts_with(in_place));
        assert_eq!(RealDisk.writes_in_place(dir), in_place, "{}: {kind}", dir.display());
    }
}

#[test]
fn names_that_are_not_utf8_are_left_out() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    on_both(|disk, dir| {
        create(disk, &dir.join(OsStr::from_bytes(b"\xff")), b"");
        assert_eq!(names(disk, dir), []);
    });
}

#[test]
fn a_lock_is_exclusive_until_it_is_dropped() {
    on_both(|disk, dir| {
        let path = dir.join("LOCK");
        let lock = disk.lock(&path).unwrap();
        let refused = disk.lock(&path).err().expect("the lock is held");
        assert_eq!(refused.kind(), ErrorKind::WouldBlock);
        assert!(refused.to_string().contains("is locked"), "{refused}");
        drop(lock);
        disk.lock(&path).unwrap();
    });
}

#[test]
fn the_holder_of_a_real_lock_is_named() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("LOCK");
    let _lock = RealDisk.lock(&path).unwrap();
    let refused = RealDisk.lock(&path).err().expect("the lock is held").to_string();
    assert!(refused.ends_with(&format!("is locked by process {}", std::process::id())), "{refused}");
}

/// One step of a random workload on the files `f0` to `f3`.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Write { file: u8, offset: u64, data: Vec<u8> },
    SetLen { file: u8, len: u64 },
    Allocate { file: u8, offset: u64, len: u64 },
    Read { file: u8, offset: u64, len: usize },
    Rename(u8, u8),
    Link(u8, u8),
    Remove(u8),
    Sync(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (file, offset) = (0..4u8, 0..9000u64);
    let data = prop::collection::vec(any::<u8>(), 0..5000);
    prop_oneof![
        3 => file.clone().prop_map(Step::Create),
        6 => (file.clone(), offset.clone(), data)
            .prop_map(|(file, offset, data)| Step::Write { file, offset, data }),
        2 => (file.clone(), offset.clone()).prop_map(|(file, len)| Step::SetLen { file, len }),
        2 => (file.clone(), offset.clone(), 1..5000u64)
            .prop_map(|(file, offset, len)| Step::Allocate { file, offset, len }),
        4 => (file.clone(), offset, 0..6000usize)
            .prop_map(|(file, offset, len)| Step::Read { file, offset, len }),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Link(from, to)),
        1 => file.clone().prop_map(Step::Remove),
        2 => file.prop_map(Step::Sync),
    ]
}

fn path(dir: &Path, file: u8) -> PathBuf {
    dir.join(format!("f{file}"))
}

/// Does a step; what it gave, or the error's number.
fn run(disk: &dyn Disk, dir: &Path, step: &Step) -> Result<Vec<u8>, Option<i32>> {
    let open = |file| disk.open(&path(dir, file), OpenMode::ReadWrite);
    let nothing = |()| Vec::new();
    let result = match step {
        Step::Create(file) => disk.open(&path(dir, *file), OpenMode::CreateNew).map(|_| Vec::new()),
        Step::Write { file, offset, data } => {
            open(*file).and_then(|f| f.write_all_at(data, *offset)).map(nothing)
        }
        Step::SetLen { file, len } => open(*file).and_then(|f| f.set_len(*len)).map(nothing),
        Step::Allocate { file, offset, len } => {
            open(*file).and_then(|f| f.allocate(*offset, *len)).map(nothing)
        }
        Step::Read { file, offset, len } => open(*file).and_then(|f| {
            let mut buf = vec![0; *len];
            let n = f.read_at(&mut buf, *offset)?;
            buf.truncate(n);
            Ok(buf)
        }),
        Step::Rename(from, to) => disk.rename(&path(dir, *from), &path(dir, *to)).map(nothing),
        Step::Link(from, to) => disk.link(&path(dir, *from), &path(dir, *to)).map(nothing),
        Step::Remove(file) => disk.remove(&path(dir, *file)).map(nothing),
        Step::Sync(file) => {
            open(*file).and_then(|f| f.sync_data()).and_then(|()| disk.sync_dir(dir)).map(nothing)
        }
    };
    result.map_err(|e| e.raw_os_error())
}

fn all(disk: &dyn Disk, dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = disk.list(dir).unwrap().into_iter();
    entries.map(|entry| (entry.name.clone(), read(disk, &dir.join(entry.name)))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn random_operations_do_the_same_on_both_disks(steps in prop::collection::vec(step(), 1..40)) {
        let temporary = tempfile::tempdir().unwrap();
        let (sim, dir) = (SimDisk::new(), Path::new("/"));
        for step in &steps {
            prop_assert_eq!(run(&sim, dir, step), run(&RealDisk, temporary.path(), step), "{:?}", step);
        }
        prop_assert_eq!(all(&sim, dir), all(&RealDisk, temporary.path()));
    }
}
