//! The files of a side: its configuration from `bench/conf`, and the files that it serves.
//!
//! Placeholders (`{port:front}`, `{origin}`, …) are filled in when it is started.

use crate::many_names;
use crate::peer::{Kind, Peer};

/// Returns the files below the server's directory, with their texts.
pub(crate) fn files(peer: &Peer, conf: &str) -> Result<Vec<(&'static str, String)>, String> {
    let extension = if peer.kind == Kind::Haproxy { "haproxy.cfg" } else { "conf" };
    let path = crate::root().join(format!("bench/conf/{conf}.{extension}"));
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let text =
        text.replace("{servers}", &many_names::servers()).replace("{backends}", &many_names::backends());
    let mut files = vec![(peer.conf_file(), text)];
    match (conf, peer.kind) {
        ("names", Kind::Haproxy) => files.push(("conf/hosts.map", many_names::map())),
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

    use super::*;
    use crate::workload::WORKLOADS;

    #[test]
    fn every_side_has_its_placeholders() {
        for workload in &WORKLOADS {
            for side in workload.sides {
                let peer = crate::peer::of_kind(side.kind, PathBuf::new());
                let files = files(&peer, side.conf).expect("it is in bench/conf");
                let text = &files[0].1;
                assert!(text.contains("{port:front}"), "{}", side.conf);
                if let Some((placeholder, _)) = side.with {
                    assert!(text.contains(placeholder), "{}", side.conf);
                }
            }
        }
    }
}
