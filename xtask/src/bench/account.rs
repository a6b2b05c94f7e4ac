//! What the kernel says a server costs: CPU time and memory of all its processes, and what else ran on its core.
//!
//! Reads files below `/proc` and nothing else. Whatever a server says of itself is not asked.

use std::collections::HashMap;
use std::fs;

/// The unit of `/proc/PID/stat` and `/proc/stat`: USER_HZ, which is 100 on every Linux that this runs on.
const TICK_NS: u64 = 10_000_000;

/// CPU time used so far by all processes of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Cpu {
    user_ticks: u64,
    system_ticks: u64,
    /// Each thread's time on a CPU, to the nanosecond, where the kernel keeps it.
    threads_ns: HashMap<u32, u64>,
}

/// CPU time used between two accounts, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spent {
    pub(super) total_ns: u64,
    /// How much of it in user mode, as a share; sampled by the kernel's clock tick.
    pub(super) user_share: f64,
}

impl Cpu {
    /// The account of a process and its descendants.
    pub(super) fn of(root: u32) -> Cpu {
        let mut cpu = Cpu::default();
        for pid in tree(root) {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Behind the name, which may hold anything: state is the first field, utime the 12th, stime the 13th.
            let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
            let mut times = fields.split_whitespace().skip(11).map(|ticks| ticks.parse().unwrap_or(0));
            cpu.user_ticks += times.next().unwrap_or(0);
            cpu.system_ticks += times.next().unwrap_or(0);
            for thread in threads(pid) {
                let path = format!("/proc/{pid}/task/{thread}/schedstat");
                let text = fs::read_to_string(path).unwrap_or_default();
                if let Some(ns) = text.split_whitespace().next().and_then(|ns| ns.parse().ok()) {
                    cpu.threads_ns.insert(thread, ns);
                }
            }
        }
        cpu
    }

    /// What was spent since an earlier account.
    pub(super) fn since(&self, before: &Cpu) -> Spent {
        let user = self.user_ticks.saturating_sub(before.user_ticks);
        let system = self.system_ticks.saturating_sub(before.system_ticks);
        // A thread that has ended takes its nanoseconds along, but its ticks stay with its process.
        let all_there = before.threads_ns.keys().all(|thread| self.threads_ns.contains_key(thread));
        let total_ns = match all_there && !self.threads_ns.is_empty() {
            true => {
                let before_ns = |thread| before.threads_ns.get(thread).copied().unwrap_or(0);
                self.threads_ns.iter().map(|(thread, ns)| ns.saturating_sub(before_ns(thread))).sum()
            }
            false => (user + system) * TICK_NS,
        };
        let user_share = if user + system > 0 { user as f64 / (user + system) as f64 } else { 0.0 };
        Spent { total_ns, user_share }
    }
}

/// Memory of all processes of a server, in KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Memory {
    /// What is in memory now, pages that processes share counted once (Pss).
    pub(super) pss_kib: u64,
    /// The most each process ever had (VmHWM), added up; shared pages count in each.
    pub(super) peak_rss_kib: u64,
}

impl Memory {
    /// The memory of a process and its descendants.
    pub(super) fn of(root: u32) -> Memory {
        let field = |pid: u32, file: &str, name: &str| {
            let text = fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
            line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0)
        };
        let pids = tree(root);
        Memory {
            pss_kib: pids.iter().map(|pid| field(*pid, "smaps_rollup", "Pss:")).sum(),
            peak_rss_kib: pids.iter().map(|pid| field(*pid, "status", "VmHWM:")).sum(),
        }
    }
}

/// The time that a core has worked so far, for anybody, in nanoseconds; what a hypervisor took away counts too.
pub(super) fn core_busy_ns(core: usize) -> u64 {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    let name = format!("cpu{core} ");
    let fields = text.lines().find_map(|line| line.strip_prefix(&name)).unwrap_or_default().to_owned();
    // user nice system idle iowait irq softirq steal; guests are within user.
    let times = fields.split_whitespace().take(8).map(|ticks| ticks.parse::<u64>().unwrap_or(0));
    times.enumerate().filter(|(at, _)| !matches!(at, 3 | 4)).map(|(_, ticks)| ticks * TICK_NS).sum()
}

/// A process and all its descendants that are there now.
pub(super) fn tree(root: u32) -> Vec<u32> {
    let mut pids = vec![root];
    let mut at = 0;
    while let Some(pid) = pids.get(at).copied() {
        at += 1;
        // Any thread may have started a child.
        for thread in threads(pid) {
            let children =
                fs::read_to_string(format!("/proc/{pid}/task/{thread}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    pids
}

/// The threads of a process.
pub(super) fn threads(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn our_own_time_is_counted() {
        let before = Cpu::of(std::process::id());
        let mut sum = 0u64;
        loop {
            sum = std::hint::black_box(sum.wrapping_add(1));
            // Both accounts: the threads' nanoseconds, and the ticks behind the share.
            if sum.is_multiple_of(1 << 22) {
                let spent = Cpu::of(std::process::id()).since(&before);
                if spent.total_ns > 2 * TICK_NS && spent.user_share > 0.0 {
                    return;
                }
            }
        }
    }

    #[test]
    fn a_thread_that_ended_is_counted_by_its_processes_ticks() {
        let account = |user_ticks, threads: &[(u32, u64)]| Cpu {
            user_ticks,
            system_ticks: 0,
            threads_ns: threads.iter().copied().collect(),
        };
        let before = account(10, &[(1, 5), (2, 6)]);
        assert_eq!(account(12, &[(1, 15), (2, 7), (3, 1)]).since(&before).total_ns, 12);
        assert_eq!(account(12, &[(1, 15)]).since(&before).total_ns, 2 * TICK_NS);
        assert!(!Cpu::of(std::process::id()).threads_ns.is_empty());
    }

    #[test]
    fn a_child_belongs_to_its_parent_and_has_memory() {
        let mut child =
            Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("cat is there");
        let pids = tree(std::process::id());
        assert!(pids.contains(&std::process::id()) && pids.contains(&child.id()), "{pids:?}");
        let own = Memory::of(std::process::id());
        assert!(own.pss_kib > 100 && own.peak_rss_kib > own.pss_kib / 2, "{own:?}");
        drop(child.stdin.take());
        child.wait().expect("it ends with its input");
        assert!(!tree(std::process::id()).contains(&child.id()));
    }

    #[test]
    fn the_first_core_has_worked_since_the_machine_started() {
        assert!(core_busy_ns(0) > 0);
        assert_eq!(core_busy_ns(99_999), 0);
    }
}
