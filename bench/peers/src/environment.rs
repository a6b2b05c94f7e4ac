//! The environment of a run: versions, kernel, processor, the commit of ours. Nothing names a person or a machine.

use std::fs;
use std::process::Command;

use crate::cores::Cores;
use crate::peer::{Kind, Peer};
use crate::rounds::Pace;

/// Returns the facts of a run by name, in the order of the report.
pub(crate) fn facts(peers: &[Peer], cores: Cores, pace: Pace) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    for peer in peers {
        let mut text = peer.version.clone();
        if peer.kind == Kind::Pointsman
            && let Some(commit) = commit()
        {
            text.push_str(&format!(" ({commit})"));
        }
        facts.push((peer.name.clone(), text));
    }
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    facts.push(("kernel".to_owned(), format!("Linux {}", read("/proc/sys/kernel/osrelease"))));
    facts.push(("processor".to_owned(), processor(&read("/proc/cpuinfo"))));
    facts.push((
        "cores".to_owned(),
        format!("servers on {}, load and origin on {}", cores.server, cores.load),
    ));
    facts.push((
        "rounds".to_owned(),
        format!(
            "{} at the highest rate and {} at the offered rate, {} ms each",
            pace.rounds,
            pace.offered_rounds,
            pace.round.as_millis()
        ),
    ));
    facts
}

/// Returns the commit that is checked out, and whether there are changes on top of it; the binary should be built of it.
fn commit() -> Option<String> {
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(crate::root()).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short", "HEAD"])?;
    let changed = git(&["status", "--porcelain", "--untracked-files=no", "crates"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit} with changes") })
}

fn processor(cpuinfo: &str) -> String {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let count = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {count} logical cores")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_found() {
        let text =
            "processor\t: 0\nmodel name\t: Some CPU @ 2\n\nprocessor\t: 1\nmodel name\t: Some CPU @ 2\n";
        assert_eq!(processor(text), "Some CPU @ 2, 2 logical cores");
        assert_eq!(processor(""), "unknown, 0 logical cores");
    }
}
