//! What the kernel says about a process and its children: CPU time and resident memory (proc(5)).

use std::fs;

/// Clock ticks per second in `/proc`: 100 on every Linux that we know.
const TICKS: f64 = 100.0;

/// Page size in bytes.
const PAGE: u64 = 4096;

/// The process and its direct children (nginx: master and workers).
fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_ascii_whitespace().filter_map(|child| child.parse().ok());
    std::iter::once(pid).chain(children).collect()
}

/// utime + stime in seconds.
pub(crate) fn cpu(pid: u32) -> f64 {
    let ticks = |pid: u32| -> Option<u64> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field is the name in parentheses and may hold spaces.
        let rest = stat.rsplit_once(')')?.1;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
    };
    family(pid).into_iter().filter_map(ticks).sum::<u64>() as f64 / TICKS
}

/// Resident memory in bytes.
pub(crate) fn memory(pid: u32) -> u64 {
    let pages = |pid: u32| -> Option<u64> {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        statm.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    family(pid).into_iter().filter_map(pages).sum::<u64>() * PAGE
}

/// How many files this process and what it starts may have open at once.
pub(crate) fn open_files() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    line.and_then(|line| line.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(1_024)
}
