//! The name of this process, under which it leaves orders that are under way in a store, and whether another one lives.
//!
//! Owns that a name is of one process for all times: a number is used again, and a container's are few.

use nix::unistd::getpid;
use std::sync::LazyLock;

/// `BOOT:PID:START`: the start in ticks since the boot.
static OWN: LazyLock<String> = LazyLock::new(|| {
    let pid = getpid().as_raw();
    format!("{}:{pid}:{}", boot(), started(pid).unwrap_or_default())
});

/// Returns the name of this process.
pub(super) fn own() -> String {
    #[cfg(test)]
    if let Some(name) = super::simulation::process_name() {
        return name;
    }
    OWN.clone()
}

/// Returns true if the process of this name lives.
pub(super) fn is_alive(name: &str) -> bool {
    #[cfg(test)]
    if let Some(is_alive) = super::simulation::is_alive(name) {
        return is_alive;
    }
    let mut parts = name.rsplitn(3, ':');
    let (Some(start), Some(pid), Some(boot_then)) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let found = pid.parse().ok().and_then(started);
    boot_then == boot() && found.is_some_and(|found| found == start)
}

fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Returns when a process started, if it lives (proc_pid_stat(5), fields 3 and 22).
fn started(pid: i32) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X" | "x");
    if is_dead { None } else { fields.nth(18).map(str::to_owned) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_lives_until_it_has_ended() {
        assert!(is_alive(&own()));
        for name in ["", "1:2", "0:1:1", &format!("{}:{}:1", boot(), getpid())] {
            assert!(!is_alive(name), "{name}");
        }
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = child.id() as i32;
        let name = format!("{}:{pid}:{}", boot(), started(pid).unwrap());
        assert!(is_alive(&name));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_alive(&name));
    }
}
