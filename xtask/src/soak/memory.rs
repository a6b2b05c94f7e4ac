//! How much memory a process and its children hold, and how much time they took, as Linux counts it.

use std::fs;

/// In KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// Now (`VmRSS`).
    pub(super) resident_kib: u64,
    /// The most it ever was (`VmHWM`), each process by itself, added up.
    pub(super) peak_kib: u64,
}

/// The memory of a process and everything below it.
pub(super) fn of_tree(pid: u32) -> Memory {
    let mut sum = Memory::default();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        sum.resident_kib += line_kib(&status, "VmRSS:");
        sum.peak_kib += line_kib(&status, "VmHWM:");
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        open.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
    }
    sum
}

/// The memory of one process, with its part of what it shares with others (`Pss`).
pub(super) fn proportional_kib(pid: u32) -> u64 {
    line_kib(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(), "Pss:")
}

/// User and system time of a master and its workers so far, in ticks of the system's clock.
pub(super) fn ticks(master: u32) -> Result<u64, String> {
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
    let children = children.map_err(|e| e.to_string())?;
    let mut sum = 0;
    for pid in std::iter::once(master.to_string()).chain(children.split_whitespace().map(str::to_owned)) {
        let path = format!("/proc/{pid}/stat");
        let stat = fs::read_to_string(&path).map_err(|e| format!("{path}: {e}"))?;
        // The name, which may hold blanks, ends with the last parenthesis.
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let time = |n: usize| fields.split_whitespace().nth(n).and_then(|field| field.parse::<u64>().ok());
        sum += time(11).unwrap_or(0) + time(12).unwrap_or(0);
    }
    Ok(sum)
}

fn line_kib(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        assert_eq!(line_kib("Name:\tx\nVmHWM:\t   5120 kB\nVmRSS:\t    400 kB\n", "VmRSS:"), 400);
        assert_eq!(line_kib("Name:\tx\n", "VmRSS:"), 0);
    }

    #[test]
    fn our_own_memory_is_counted() {
        let own = of_tree(std::process::id());
        assert!(own.resident_kib > 100 && own.peak_kib >= own.resident_kib, "{own:?}");
        assert!(proportional_kib(std::process::id()) > 100);
    }
}
