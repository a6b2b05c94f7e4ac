//! The programs that chores run: our own debug build, and the installed nginx and HAProxy.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Builds our own program for debugging; returns its path.
pub(crate) fn build() -> Result<PathBuf, String> {
    let built = Command::new("cargo").args(["build", "--quiet", "--package", "pointsman"]).status();
    if !built.map_err(|e| format!("cargo: {e}"))?.success() {
        return Err("pointsman does not build".to_owned());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    Ok(target.join("debug/pointsman"))
}

/// Returns the path of nginx: `$NGINX`, or where packages put it.
pub(crate) fn nginx() -> Option<PathBuf> {
    let usual = ["/usr/sbin/nginx", "/usr/local/nginx/sbin/nginx", "/usr/local/openresty/nginx/sbin/nginx"];
    find("NGINX", &usual)
}

/// Returns the path of HAProxy: `$HAPROXY`, or where packages put it.
pub(crate) fn haproxy() -> Option<PathBuf> {
    find("HAPROXY", &["/usr/sbin/haproxy"])
}

fn find(variable: &str, usual: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os(variable).map(PathBuf::from);
    named.into_iter().chain(usual.iter().map(PathBuf::from)).find(|path| path.is_file())
}

/// Returns the version number that a program prints for `-v`.
pub(crate) fn version(path: &Path) -> Option<String> {
    let output = Command::new(path).arg("-v").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let words = text.split(|c: char| !is_number(c)).map(|word| word.trim_end_matches('.'));
    words.filter(|word| word.contains('.')).map(str::to_owned).next()
}

/// Returns the exit code of a chore that succeeded, found something wrong, or could not run.
pub(crate) fn exit_code(result: Result<bool, String>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
