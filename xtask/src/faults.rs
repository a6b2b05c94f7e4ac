//! `cargo xtask faults [--server nginx] [FILTER…]`: the fault matrix.
//!
//! Without a filter it runs every cell on our own debug build and on the nginx that is installed, and writes what came
//! of them to `docs/fault-matrix.md`. With one, or on nginx alone, it only tells. A fault of our own is never written.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use testkit::faults::{Cell, Seen, cells, document, run, run_each_byte};
use testkit::{Binary, Kind};

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    match faults(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether all is as it must be.
fn faults(args: &[String]) -> Result<bool, String> {
    let mut filters = Vec::new();
    let mut nginx_alone = false;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--server" => nginx_alone = args.next().is_some_and(|server| server == "nginx"),
            filter => filters.push(filter.to_owned()),
        }
    }
    let wanted = |cell: &Cell| filters.is_empty() || filters.iter().any(|f| cell.name().contains(f.as_str()));
    let chosen: Vec<Cell> = cells().into_iter().filter(wanted).collect();
    if nginx_alone {
        let (nginx, _) = nginx()?;
        let seen = run(&chosen, &nginx, None, &tell)?;
        sum_up(&seen);
        return Ok(true);
    }
    let own = Binary { path: build()?, kind: Kind::Pointsman };
    let seen = run(&chosen, &own, None, &tell)?;
    sum_up(&seen);
    let mut well = seen.iter().all(|seen| seen.faults.is_empty());
    if filters.is_empty() {
        for (way, faults) in run_each_byte(&own)? {
            well &= faults.is_empty();
            faults.iter().for_each(|fault| println!("{}: {fault}", way.name()));
        }
        if well {
            let (nginx, version) = nginx()?;
            let page = crate::root().join("docs/fault-matrix.md");
            let text = document(&seen, &run(&chosen, &nginx, None, &|_| {})?, &version);
            std::fs::write(&page, text).map_err(|e| format!("{}: {e}", page.display()))?;
            println!("wrote {}", page.display());
        }
    }
    Ok(well)
}

fn tell(seen: &Seen) {
    if !seen.faults.is_empty() {
        println!("{}\n  {}", seen.cell.name(), seen.faults.join("\n  "));
    }
}

fn sum_up(seen: &[Seen]) {
    let other = seen.iter().filter(|seen| !seen.faults.is_empty()).count();
    println!("{} cells, {other} of them otherwise than expected", seen.len());
}

/// Builds our own program; answers where it is.
fn build() -> Result<PathBuf, String> {
    let built = Command::new("cargo").args(["build", "--quiet", "--package", "pointsman"]).status();
    if !built.map_err(|e| format!("cargo: {e}"))?.success() {
        return Err("pointsman does not build".to_owned());
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    Ok(target.join("debug/pointsman"))
}

/// The installed nginx, and what it calls itself.
fn nginx() -> Result<(Binary, String), String> {
    let path = crate::oracle::nginx().ok_or("nginx is not installed (set NGINX to its path)")?;
    let told = Command::new(&path).arg("-v").output().map_err(|e| format!("{}: {e}", path.display()))?;
    let told = String::from_utf8_lossy(&told.stderr).into_owned();
    let version = told.trim().rsplit(": ").next().unwrap_or_default().replace('/', " ");
    Ok((Binary { path, kind: Kind::Nginx }, version))
}
