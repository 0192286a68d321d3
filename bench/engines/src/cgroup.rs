//! A control group with a memory limit, of whichever version this machine has.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

/// Removed when dropped; by then nothing may run in it.
pub struct MemoryGroup {
    dir: PathBuf,
    /// The file that tells the most that was used.
    peak: &'static str,
}

const V2: &str = "/sys/fs/cgroup";
const V1: &str = "/sys/fs/cgroup/memory";

impl MemoryGroup {
    /// Makes a group whose processes and page cache have `limit` bytes in all. Needs root.
    pub fn new(limit: u64) -> Result<Self> {
        let version2 = fs::read_to_string(Path::new(V2).join("cgroup.controllers"))
            .is_ok_and(|controllers| controllers.split_whitespace().any(|name| name == "memory"));
        let (root, file, peak) = if version2 {
            (V2, "memory.max", "memory.peak")
        } else {
            (V1, "memory.limit_in_bytes", "memory.max_usage_in_bytes")
        };
        if version2 {
            fs::write(Path::new(V2).join("cgroup.subtree_control"), "+memory")
                .context("the memory controller cannot be had for a group")?;
        }
        let dir = Path::new(root).join(format!("esker-bench-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("no control group can be made at {}", dir.display()))?;
        let group = Self { dir, peak };
        fs::write(group.dir.join(file), limit.to_string()).context("the memory limit is refused")?;
        Ok(group)
    }

    /// The most bytes that its processes and their page cache ever had.
    pub fn peak(&self) -> Result<u64> {
        let text =
            fs::read_to_string(self.dir.join(self.peak)).context("the kernel does not tell the peak")?;
        Ok(text.trim().parse()?)
    }

    /// A command for `program` that enters the group before it begins.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo $$ >"$0" && exec "$@""#]).arg(self.dir.join("cgroup.procs")).arg(program);
        command
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.dir) {
            eprintln!("{} stays behind: {error}", self.dir.display());
        }
    }
}
