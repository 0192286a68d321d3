//! What the machine has: the one home of asking for it.

use std::path::{Path, PathBuf};

/// The memory that the process may take, in bytes: what the machine has, or its control group if that has less.
pub fn memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    let machine = (info.totalram as u64).saturating_mul(u64::from(info.mem_unit));
    cgroup_limit().map_or(machine, |limit| machine.min(limit))
}

/// The least limit of the process's control group and those it is in, if there is one.
fn cgroup_limit() -> Option<u64> {
    let groups = read("/proc/self/cgroup".as_ref())?;
    let v2 = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let v2 = v2.into_iter().flat_map(|group| {
        let root = PathBuf::from("/sys/fs/cgroup");
        let parts = group.split('/').scan(root.clone(), |path, part| {
            path.push(part);
            Some(path.clone())
        });
        let all: Vec<_> = std::iter::once(root).chain(parts).collect();
        all.into_iter().map(|path| path.join("memory.max"))
    });
    let v1 = PathBuf::from("/sys/fs/cgroup/memory/memory.limit_in_bytes");
    v2.chain([v1]).filter_map(|path| parse_limit(&read(&path)?)).min()
}

/// A limit as the kernel writes it; none if it says `max`.
fn parse_limit(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// A file of the kernel's; none if it cannot be read, as where there are no control groups.
fn read(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_memory() {
        assert!(memory_bytes() > 1 << 20);
    }

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        assert_eq!(parse_limit("536870912\n"), Some(512 << 20));
        assert_eq!(parse_limit("max\n"), None);
    }
}
