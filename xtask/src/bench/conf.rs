//! The files that a side is started with: its configuration from `bench/conf`, and what that serves.
//!
//! Placeholders (`{front}`, `{origin}`, …) are left for whoever starts it.

use super::names;
use super::peer::{Kind, Peer};

/// Files below the server's folder, with their texts.
pub(super) fn files(peer: &Peer, conf: &str) -> Result<Vec<(&'static str, String)>, String> {
    let extension = if peer.kind == Kind::Haproxy { "haproxy.cfg" } else { "conf" };
    let path = crate::root().join(format!("bench/conf/{conf}.{extension}"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text = text.replace("{servers}", &names::servers()).replace("{backends}", &names::backends());
    let mut files = vec![(peer.conf_file(), text)];
    match (conf, peer.kind) {
        ("names", Kind::Haproxy) => files.push(("conf/hosts.map", names::map())),
        ("static" | "lua", _) => {
            files.push(("html/1k.bin", "x".repeat(1 << 10)));
            files.push(("html/100k.bin", "x".repeat(100 << 10)));
        }
        _ => {}
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::workload::WORKLOADS;
    use super::*;

    #[test]
    fn every_side_has_its_files() {
        for workload in &WORKLOADS {
            for side in workload.sides {
                let peer = super::super::peer::of_kind(side.kind, PathBuf::new());
                let files = files(&peer, side.conf).expect("it is in bench/conf");
                let text = &files[0].1;
                assert!(text.contains("{front}"), "{}", side.conf);
                if let Some((placeholder, _)) = side.with {
                    assert!(text.contains(placeholder), "{}", side.conf);
                }
            }
        }
    }
}
