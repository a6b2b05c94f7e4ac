//! The cores of a run: one for the servers, and one for the load and the origin.
//!
//! The calling thread is pinned; a process that it starts inherits that.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The cores of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Cores {
    /// The servers under test run here, alone.
    pub(crate) server: usize,
    /// The load and the origin run here.
    pub(crate) load: usize,
}

impl Cores {
    /// Chooses two of the cores that this process may use; two halves of one physical core only if there is no other.
    pub(crate) fn choose() -> Result<Cores, String> {
        let allowed = sched_getaffinity(Pid::from_raw(0)).map_err(|e| format!("sched_getaffinity: {e}"))?;
        let cores: Vec<usize> =
            (0..CpuSet::count()).filter(|core| allowed.is_set(*core).unwrap_or(false)).collect();
        choose_of(&cores, &siblings)
            .ok_or_else(|| "the benchmark needs two cores: one for the server alone".to_owned())
    }

    /// Runs a function on these cores, where processes that it starts stay; the thread returns to the core of the load.
    pub(crate) fn with<T>(&self, cores: &[usize], act: impl FnOnce() -> T) -> Result<T, String> {
        pin(cores)?;
        let result = act();
        pin(&[self.load])?;
        Ok(result)
    }
}

/// Pins the calling thread to these cores.
pub(crate) fn pin(cores: &[usize]) -> Result<(), String> {
    let mut set = CpuSet::new();
    for core in cores {
        set.set(*core).map_err(|e| format!("core {core}: {e}"))?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(|e| format!("sched_setaffinity: {e}"))
}

fn choose_of(cores: &[usize], siblings: &dyn Fn(usize) -> Vec<usize>) -> Option<Cores> {
    let (server, others) = cores.split_first()?;
    let same = siblings(*server);
    let load = others.iter().find(|core| !same.contains(core)).or(others.first())?;
    Some(Cores { server: *server, load: *load })
}

/// Returns the logical cores that share a physical core with this one, including itself.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let ranges = text.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_a_core_are_chosen_last() {
        let pairs = |core: usize| vec![core / 2 * 2, core / 2 * 2 + 1];
        assert_eq!(choose_of(&[0, 1, 2, 3], &pairs), Some(Cores { server: 0, load: 2 }));
        assert_eq!(choose_of(&[4, 5], &pairs), Some(Cores { server: 4, load: 5 }));
        assert_eq!(choose_of(&[4], &pairs), None);
    }
}
