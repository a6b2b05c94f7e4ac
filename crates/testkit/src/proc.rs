//! Processes as the kernel's `/proc` shows them: descendants, CPU time, memory, descriptors.
//!
//! Reads files below `/proc` and nothing else.

use std::collections::HashMap;
use std::fs;

/// The unit of `/proc/PID/stat` and `/proc/stat` in nanoseconds: USER_HZ is 100 on every Linux that this runs on.
const TICK_NS: u64 = 10_000_000;

/// The CPU time that a process and its descendants have used so far.
#[derive(Clone, Debug, Default)]
pub struct CpuTime {
    user_ticks: u64,
    system_ticks: u64,
    /// The time of each thread, to the nanosecond, where the kernel keeps it.
    threads_ns: HashMap<u32, u64>,
}

/// The CPU time used between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CpuUse {
    /// All of it.
    pub total_ns: u64,
    /// The share spent in user mode, as sampled by the kernel's clock tick.
    pub user_share: f64,
}

impl CpuTime {
    /// Reads the times of a process and its descendants.
    pub fn of(root: u32) -> CpuTime {
        let mut cpu = CpuTime::default();
        for pid in tree(root) {
            let fields = stat_fields(pid);
            let ticks = |at: usize| fields.get(at).and_then(|ticks| ticks.parse::<u64>().ok()).unwrap_or(0);
            cpu.user_ticks += ticks(11);
            cpu.system_ticks += ticks(12);
            for thread in threads(pid) {
                let text = read(&format!("/proc/{pid}/task/{thread}/schedstat"));
                if let Some(ns) = text.split_whitespace().next().and_then(|ns| ns.parse().ok()) {
                    cpu.threads_ns.insert(thread, ns);
                }
            }
        }
        cpu
    }

    /// Returns the time used since an earlier reading.
    pub fn since(&self, before: &CpuTime) -> CpuUse {
        let user = self.user_ticks.saturating_sub(before.user_ticks);
        let system = self.system_ticks.saturating_sub(before.system_ticks);
        // The nanoseconds of a thread end with it, but its ticks stay with its process.
        let all_there = before.threads_ns.keys().all(|thread| self.threads_ns.contains_key(thread));
        let total_ns = match all_there && !self.threads_ns.is_empty() {
            true => {
                let before_ns = |thread| before.threads_ns.get(thread).copied().unwrap_or(0);
                self.threads_ns.iter().map(|(thread, ns)| ns.saturating_sub(before_ns(thread))).sum()
            }
            false => (user + system) * TICK_NS,
        };
        let user_share = if user + system > 0 { user as f64 / (user + system) as f64 } else { 0.0 };
        CpuUse { total_ns, user_share }
    }
}

/// The memory of a process and its descendants, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// In memory now, with pages that processes share counted once (Pss).
    pub pss_kib: u64,
    /// In memory now (VmRSS), added up.
    pub rss_kib: u64,
    /// The most that each process ever had (VmHWM), added up.
    pub peak_rss_kib: u64,
}

impl Memory {
    /// Reads the memory of a process and its descendants.
    pub fn of(root: u32) -> Memory {
        let mut sum = Memory::default();
        for pid in tree(root) {
            let status = read(&format!("/proc/{pid}/status"));
            sum.pss_kib += pss_kib(pid);
            sum.rss_kib += field_kib(&status, "VmRSS:");
            sum.peak_rss_kib += field_kib(&status, "VmHWM:");
        }
        sum
    }
}

/// Returns the memory of one process, with its part of the pages that it shares (Pss), in KiB.
pub fn pss_kib(pid: u32) -> u64 {
    field_kib(&read(&format!("/proc/{pid}/smaps_rollup")), "Pss:")
}

fn field_kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

/// Returns the time that a core has worked so far, for any process, in nanoseconds; time that a hypervisor took counts too.
pub fn core_busy_ns(core: usize) -> u64 {
    let text = read("/proc/stat");
    let name = format!("cpu{core} ");
    let fields = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default();
    // user nice system idle iowait irq softirq steal; guests are within user.
    let times = fields.split_whitespace().take(8).map(|ticks| ticks.parse::<u64>().unwrap_or(0));
    times.enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks * TICK_NS).sum()
}

/// Returns a process and all its descendants that exist now.
pub fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let mut at = 0;
    while let Some(pid) = pids.get(at).copied() {
        at += 1;
        for child in children(pid) {
            if !pids.contains(&child) {
                pids.push(child);
            }
        }
    }
    pids
}

/// Returns the children of a process, started by any of its threads.
pub fn children(pid: u32) -> Vec<u32> {
    let of = |thread| read(&format!("/proc/{pid}/task/{thread}/children"));
    let lists: Vec<String> = threads(pid).into_iter().map(of).collect();
    lists.iter().flat_map(|list| list.split_whitespace()).filter_map(|child| child.parse().ok()).collect()
}

/// Returns the threads of a process.
pub fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Returns true while a process has a thread that runs. While one of its threads is on its way out of the kernel, its
/// sockets are open though the process is shown as a zombie already.
pub fn is_running(pid: u32) -> bool {
    let is_zombie = stat_fields(pid).first().is_none_or(|state| state == "Z" || state == "X");
    threads(pid).len() > 1 || !is_zombie
}

/// Returns the command line of a process, which servers use as their title.
pub fn title(pid: u32) -> String {
    read(&format!("/proc/{pid}/cmdline")).replace('\0', " ")
}

/// Returns when a process began, in ticks of the system's clock.
pub fn started_at(pid: u32) -> u64 {
    stat_fields(pid).get(19).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// Returns the process group of a process.
pub fn group(pid: u32) -> Option<i32> {
    stat_fields(pid).get(2)?.parse().ok()
}

/// Returns the number of open descriptors of a process.
pub fn descriptors(pid: u32) -> u64 {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, |fds| fds.count() as u64)
}

/// Returns the fields of `/proc/PID/stat` behind the name, which may hold anything: the first is the state
/// (proc_pid_stat(5)).
fn stat_fields(pid: u32) -> Vec<String> {
    let stat = read(&format!("/proc/{pid}/stat"));
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    fields.split_whitespace().map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn own_time_is_counted() {
        let before = CpuTime::of(std::process::id());
        let mut sum = 0u64;
        loop {
            sum = std::hint::black_box(sum.wrapping_add(1));
            // Both the nanoseconds of the threads and the ticks behind the share.
            if sum.is_multiple_of(1 << 22) {
                let spent = CpuTime::of(std::process::id()).since(&before);
                if spent.total_ns > 2 * TICK_NS && spent.user_share > 0.0 {
                    return;
                }
            }
        }
    }

    #[test]
    fn ticks_count_for_a_thread_that_has_ended() {
        let reading = |user_ticks, threads: &[(u32, u64)]| CpuTime {
            user_ticks,
            system_ticks: 0,
            threads_ns: threads.iter().copied().collect(),
        };
        let before = reading(10, &[(1, 5), (2, 6)]);
        assert_eq!(reading(12, &[(1, 15), (2, 7), (3, 1)]).since(&before).total_ns, 12);
        assert_eq!(reading(12, &[(1, 15)]).since(&before).total_ns, 2 * TICK_NS);
        assert!(!CpuTime::of(std::process::id()).threads_ns.is_empty());
    }

    #[test]
    fn a_child_belongs_to_its_parent_and_has_memory() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat is there");
        let pids = tree(std::process::id());
        assert!(pids.contains(&std::process::id()) && pids.contains(&child.id()), "{pids:?}");
        let own = Memory::of(std::process::id());
        assert!(own.pss_kib > 100 && own.peak_rss_kib >= own.rss_kib && own.rss_kib > 100, "{own:?}");
        assert!(is_running(child.id()) && descriptors(child.id()) >= 3 && started_at(child.id()) > 0);
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
        assert!(!tree(std::process::id()).contains(&child.id()));
        assert!(!is_running(child.id()));
    }

    #[test]
    fn the_first_core_has_worked_since_the_machine_started() {
        assert!(core_busy_ns(0) > 0);
        assert_eq!(core_busy_ns(99_999), 0);
    }

    #[test]
    fn memory_is_read_from_its_field() {
        assert_eq!(field_kib("Name:\tx\nVmHWM:\t   5120 kB\nVmRSS:\t    400 kB\n", "VmRSS:"), 400);
        assert_eq!(field_kib("Name:\tx\n", "VmRSS:"), 0);
    }
}
