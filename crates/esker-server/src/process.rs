//! Figures of this process, from /proc.

/// What the system says of this process.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ProcessFigures {
    pub(crate) resident_bytes: u64,
    pub(crate) open_files: u64,
    pub(crate) threads: u64,
    pub(crate) cpu_seconds: f64,
}

/// The figures; `None` where there is no /proc to tell them.
#[expect(clippy::disallowed_methods, reason = "/proc is no part of the store's disk")]
pub(crate) fn figures() -> Option<ProcessFigures> {
    let stat = std::fs::read("/proc/self/stat").ok()?;
    let open_files = std::fs::read_dir("/proc/self/fd").ok()?.count() as u64;
    let figures = parse(std::str::from_utf8(&stat).ok()?)?;
    Some(ProcessFigures { open_files, ..figures })
}

/// Reads `stat` of proc(5). The second field, the command in parentheses, may itself hold spaces.
fn parse(stat: &str) -> Option<ProcessFigures> {
    /// proc(5) numbers the fields from 1; the first two are cut off.
    const CUT: usize = 3;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - CUT)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)?;
    Some(ProcessFigures {
        resident_bytes: field(24)? * rustix::param::page_size() as u64,
        open_files: 0,
        threads: field(20)?,
        cpu_seconds: ticks as f64 / rustix::param::clock_ticks_per_second() as f64,
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_figures() {
        let figures = figures().unwrap();
        assert!(figures.resident_bytes > 100_000 && figures.threads >= 1 && figures.open_files >= 3);
    }

    #[test]
    fn a_command_with_spaces_is_no_trouble() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 0 0 0 0 0 100 50 0 0 20 0 9 0 5 4096 3 0";
        let figures = parse(stat).unwrap();
        assert_eq!((figures.threads, figures.resident_bytes), (9, 3 * rustix::param::page_size() as u64));
    }
}
