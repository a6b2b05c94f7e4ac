//! Replays every kept case and every finding.
//!
//! One test for each target. A corpus is `fuzz/corpus/TARGET.pack`, findings are files in `fuzz/found/TARGET/`.

use pointsman_fuzz_targets::{TARGETS, read_pack, run, write_pack};
use std::fs;
use std::path::{Path, PathBuf};

fn fuzz() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs a target with all of its kept cases; a failure names the case.
fn replay(target: &str) {
    let pack = fs::read(fuzz().join(format!("corpus/{target}.pack"))).expect("a corpus");
    let cases = read_pack(&pack).expect("a whole pack");
    assert!(cases.len() >= 5, "a corpus of only {} cases", cases.len());
    let kept =
        cases.into_iter().enumerate().map(|(number, case)| (format!("case {number} of the corpus"), case));
    let found = found(target)
        .into_iter()
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a finding")));
    for (name, case) in kept.chain(found) {
        let quiet = std::panic::catch_unwind(|| run(target, &case));
        assert!(quiet.is_ok(), "{target}: {name}: {}", case.escape_ascii());
    }
}

fn found(target: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(fuzz().join("found").join(target)) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

macro_rules! replayed {
    ($($target:ident)*) => {
        $(#[test]
        fn $target() {
            replay(stringify!($target));
        })*
    };
}

replayed! {
    bundle cache_files chunked config_text fastcgi_records field_values h2_frames header_list hpack key_route lua_block messages name_reply
    proxy_protocol range request_head response_head uri values
}

#[cfg(feature = "whole")]
replayed! {
    api charset_maps config_build gzip_input live_store paths ssi_text store template tls_files tls_records
}

#[test]
fn every_target_is_replayed() {
    let replayed = include_str!("replay.rs");
    for (name, _) in TARGETS {
        let file = fuzz().join(format!("fuzz_targets/{name}.rs"));
        assert!(file.is_file(), "{} is missing", file.display());
        let lists = replayed.split("\nreplayed! {").skip(1).filter_map(|list| list.split('}').next());
        assert_eq!(lists.flat_map(str::split_whitespace).filter(|word| word == name).count(), 1, "{name}");
    }
    for folder in fs::read_dir(fuzz().join("found")).into_iter().flatten() {
        let name = folder.expect("an entry").file_name();
        let file = fuzz().join("fuzz_targets").join(&name).with_extension("rs");
        assert!(file.is_file(), "{name:?} is not a target");
    }
}

#[test]
fn a_pack_is_read_back_and_a_broken_one_is_not() {
    let cases = vec![b"b".to_vec(), Vec::new(), b"aa".to_vec(), b"b".to_vec()];
    let bytes = write_pack(&cases);
    assert_eq!(read_pack(&bytes).expect("its own bytes"), [b"".to_vec(), b"b".to_vec(), b"aa".to_vec()]);
    assert_eq!(read_pack(&bytes[..bytes.len() - 1]), None);
    assert_eq!(read_pack(b"x"), None);
}
