//! A process and its descendants, as `/proc` shows them.
//!
//! Owns their identity: the number of a process may be given to another one, a number with a start time may not. Must
//! never signal a process by anything but both.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The fields of proc_pid_stat(5) about a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pid: Pid,
    parent: Pid,
    /// Clock ticks between the start of the machine and that of the process.
    started: u64,
    /// It has ended, and its parent has not noticed yet.
    zombie: bool,
}

impl ProcessStat {
    /// Reads it; `None` if there is no such process.
    pub(crate) fn of(pid: Pid) -> Option<ProcessStat> {
        ProcessStat::parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    fn parse(pid: Pid, stat: &str) -> Option<ProcessStat> {
        // The name may contain anything; the state, which is field 3, follows it.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(ProcessStat {
            pid,
            parent: Pid::from_raw(field(4)?.parse().ok()?),
            started: field(22)?.parse().ok()?,
            zombie: field(3)?.starts_with(['Z', 'X']),
        })
    }

    /// Returns true if it has not ended.
    pub(crate) fn runs(&self) -> bool {
        !self.zombie
    }

    fn is_same(&self, other: &ProcessStat) -> bool {
        (self.pid, self.started) == (other.pid, other.started)
    }

    fn signal(&self, signal: Signal) {
        if ProcessStat::of(self.pid).is_some_and(|now| now.is_same(self)) {
            // It may have ended since.
            let _ = kill(self.pid, signal);
        }
    }
}

/// A process and its descendants. It remembers those that lose their parent later.
#[derive(Clone, Debug)]
pub struct ProcessTree {
    members: Vec<ProcessStat>,
}

impl ProcessTree {
    /// Returns the tree of a process; empty if there is no such process.
    pub fn of(pid: u32) -> ProcessTree {
        let root = i32::try_from(pid).ok().and_then(|pid| ProcessStat::of(Pid::from_raw(pid)));
        let mut tree = ProcessTree { members: root.into_iter().collect() };
        tree.add_children();
        tree
    }

    /// Kills all of them, and those that they have started since.
    pub fn kill(mut self) {
        let mut stopped = 0;
        while stopped < self.members.len() {
            // A stopped process starts no other one.
            self.members[stopped..].iter().for_each(|member| member.signal(Signal::SIGSTOP));
            stopped = self.members.len();
            self.add_children();
        }
        self.members.iter().for_each(|member| member.signal(Signal::SIGKILL));
    }

    fn add_children(&mut self) {
        let all = all_processes();
        let mut seen = 0;
        while seen < self.members.len() {
            let parent = self.members[seen];
            seen += 1;
            // Its number may belong to another process by now.
            if !all.iter().any(|now| now.is_same(&parent)) {
                continue;
            }
            for child in all.iter().filter(|one| one.parent == parent.pid) {
                if !self.members.iter().any(|known| known.is_same(child)) {
                    self.members.push(*child);
                }
            }
        }
    }
}

fn all_processes() -> Vec<ProcessStat> {
    let names = std::fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    let pids = names.filter_map(|name| name.to_str()?.parse().ok());
    pids.filter_map(|pid| ProcessStat::of(Pid::from_raw(pid))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn a_stat_line_is_read_past_a_hostile_name() {
        let fields = "5 5 5 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 77123 1 2";
        let line = format!("9 (a) R 1 (b) ) Z {fields}");
        let stat = ProcessStat::parse(Pid::from_raw(9), &line).unwrap();
        assert_eq!((stat.parent, stat.started, stat.zombie), (Pid::from_raw(5), 77_123, true));
        assert_eq!(ProcessStat::parse(Pid::from_raw(9), "9 (a) S 1"), None);
    }

    #[test]
    fn a_tree_ends_with_its_orphans_and_nothing_else_does() {
        let mut bystander = Command::new("sleep").arg("100").spawn().unwrap();
        let mut root = Command::new("sh")
            .args(["-c", "sh -c 'sleep 100 & echo $!; wait' & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(root.stdout.take().unwrap()).lines();
        let mut pid = || Pid::from_raw(lines.next().unwrap().unwrap().parse().unwrap());
        let below = [pid(), pid()];
        let tree = ProcessTree::of(root.id());
        assert_eq!(tree.members.len(), 3);
        root.kill().unwrap();
        root.wait().unwrap();
        tree.kill();
        let runs = |pid: Pid| ProcessStat::of(pid).is_some_and(|stat| stat.runs());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while below.into_iter().any(runs) {
            assert!(std::time::Instant::now() < until, "a descendant is alive");
            std::thread::yield_now();
        }
        assert!(runs(Pid::from_raw(bystander.id().cast_signed())));
        bystander.kill().unwrap();
        bystander.wait().unwrap();
    }
}
