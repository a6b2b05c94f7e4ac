//! The systemd unit of the packages, as systemd's own tool judges it.

use super::*;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging/pointsman.service");

/// Exposure as `systemd-analyze security` counts it, from 0 to 10: what is left is what a proxy needs, and what each
/// place has to decide (addresses, a private view of /proc).
const MOST_EXPOSURE: f64 = 4.0;

fn analyze(words: &[&str]) -> Option<Output> {
    Command::new("systemd-analyze").args(words).output().ok()
}

#[test]
fn the_unit_is_whole_and_hardened() {
    let name = "the_unit_is_whole_and_hardened";
    let Some(version) = analyze(&["--version"]) else {
        eprintln!("{name}: skipped, needs systemd-analyze");
        return;
    };
    assert!(version.status.success());
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("pointsman.service");
    let text = std::fs::read_to_string(UNIT).unwrap();
    // It looks whether the program is there.
    let text = text.replace("/usr/sbin/pointsman", env!("CARGO_BIN_EXE_pointsman"));
    std::fs::write(&unit, &text).unwrap();
    let unit = unit.display().to_string();
    let verified = analyze(&["verify", &unit]).unwrap();
    let told = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !told.contains("pointsman.service:"), "{told}");
    // LuaJIT makes machine code as it runs.
    assert!(text.lines().any(|line| line == "MemoryDenyWriteExecute=no"));
    let judged = analyze(&["security", "--offline=true", "--no-pager", &unit]).unwrap();
    let told = String::from_utf8_lossy(&judged.stdout).into_owned();
    let Some(line) = told.lines().find(|line| line.contains("Overall exposure level")) else {
        eprintln!(
            "{name}: the exposure is skipped, this systemd-analyze judges no unit that is not installed"
        );
        return;
    };
    let words: Vec<_> = line.split_whitespace().collect();
    let exposure: f64 = words.iter().find_map(|word| word.parse().ok()).unwrap();
    assert!(exposure <= MOST_EXPOSURE, "{told}");
}
