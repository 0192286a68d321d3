//! What the kernel says of this process and its files.

use std::{os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use rustix::time::{ClockId, clock_gettime};

/// Processor time of all threads, user and system.
pub fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Bytes that this process caused to be sent to the disk. Memory-mapped and buffered writes count when a page is made dirty.
pub fn written_bytes() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

/// Resident memory, in bytes.
pub struct Memory {
    pub rss: u64,
    /// The most there ever was.
    pub peak: u64,
    /// Without the pages of mapped files.
    pub anonymous: u64,
}

pub fn memory() -> Memory {
    let field = |name| field("/proc/self/status", name) << 10;
    Memory { rss: field("VmRSS:"), peak: field("VmHWM:"), anonymous: field("RssAnon:") }
}

/// The number behind `name` in a file of /proc.
fn field(path: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(path).expect("/proc is mounted");
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel has this field");
    line.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
}

/// Bytes that the files in `dir` take up, as allocated. Files that vanish meanwhile do not count.
pub fn disk_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => metadata.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
