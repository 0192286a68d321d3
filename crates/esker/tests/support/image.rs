//! An ext4 file system of a test's own, on a loop device. It can lose its power, be filled by somebody else, and hang.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::pause;

fn succeeds(program: &str, args: &[&str]) -> bool {
    let status = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn is_there(program: &str) -> bool {
    succeeds("sh", &["-c", &format!("command -v {program}")])
}

/// See the module. Unmounted when dropped, also by a panic.
pub(crate) struct Image {
    file: String,
    mount: PathBuf,
    mounted: bool,
    _dir: TempDir,
}

impl Image {
    /// One of so many MiB; `None`, which is told, where this machine cannot do it or lacks one of `programs`.
    pub(crate) fn or_skip(mib: u64, programs: &[&str]) -> Option<Self> {
        let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
        let image = if missing.is_empty() { Self::new(mib) } else { None };
        if image.is_none() {
            eprintln!("SKIPPED: this needs root, loop devices, mkfs.ext4 {programs:?}");
        }
        image
    }

    fn new(mib: u64) -> Option<Self> {
        let dir = tempfile::Builder::new().prefix("esker-image-").tempdir().expect("a directory");
        let file = dir.path().join("image").display().to_string();
        let mount = dir.path().join("mount");
        // Nothing is kept back for root, who runs this: full is full.
        let prepared = succeeds("mkdir", &[mount.to_str().expect("plain")])
            && succeeds("truncate", &["-s", &format!("{mib}M"), &file])
            && succeeds("mkfs.ext4", &["-q", "-F", "-m", "0", &file]);
        let mut image = Self { file, mount, mounted: false, _dir: dir };
        (prepared && image.mount()).then_some(image)
    }

    /// Where a store goes.
    pub(crate) fn data(&self) -> PathBuf {
        self.mount.join("data")
    }

    fn mount(&mut self) -> bool {
        self.mounted = succeeds("mount", &["-o", "loop", &self.file, self.path()]);
        self.mounted
    }

    fn path(&self) -> &str {
        self.mount.to_str().expect("plain")
    }

    /// The power goes off, and comes back: what is not on the platter is gone.
    pub(crate) fn lose_power(&mut self) {
        assert!(succeeds("xfs_io", &["-x", "-c", "shutdown", self.path()]), "xfs_io shutdown");
        self.unmount();
        assert!(!self.mounted, "umount");
        assert!(self.mount(), "mounting again");
    }

    /// The disk hangs until what this gives is dropped: writes and syncs wait, what is in the page cache can be read.
    pub(crate) fn freeze(&self) -> Frozen<'_> {
        assert!(succeeds("fsfreeze", &["-f", self.path()]), "fsfreeze -f");
        Frozen(self)
    }

    fn foreign(&self) -> PathBuf {
        self.mount.join("foreign")
    }

    /// A file of somebody else's takes all space that there is, and more of it each time.
    pub(crate) fn fill(&self) {
        let foreign = self.foreign();
        let foreign = foreign.to_str().expect("plain");
        // Both end when there is no space left: the second takes what is too little for the first.
        for block in ["1M", "4k"] {
            let output = format!("of={foreign}");
            let size = format!("bs={block}");
            let fits = succeeds(
                "dd",
                &["if=/dev/zero", &output, &size, "oflag=append", "conv=notrunc", "status=none"],
            );
            assert!(!fits, "it never gets full");
        }
    }

    /// That file goes.
    pub(crate) fn free(&self) {
        assert!(succeeds("rm", &[self.foreign().to_str().expect("plain")]), "rm");
    }

    /// Tries for a while: the kernel may still be closing the files of a process that was just killed.
    fn unmount(&mut self) {
        for _ in 0..50 {
            if succeeds("umount", &[self.path()]) {
                self.mounted = false;
                return;
            }
            pause(Duration::from_millis(20));
        }
    }
}

/// A disk that hangs. To be dropped before whoever uses it is waited for: a process that waits for such a disk cannot end.
pub(crate) struct Frozen<'a>(&'a Image);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        assert!(succeeds("fsfreeze", &["-u", self.0.path()]), "fsfreeze -u");
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if self.mounted {
            self.unmount();
        }
        if self.mounted {
            // Better gone from the tree and freed later than left behind.
            let _detached = succeeds("umount", &["-l", self.path()]);
        }
    }
}
