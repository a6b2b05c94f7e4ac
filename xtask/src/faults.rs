//! `cargo xtask faults [--server nginx] [FILTER…]`: the fault matrix.
//!
//! Without a filter it runs every cell on our own debug build and on the installed nginx, and writes the results to
//! `docs/fault-matrix.md`. With a filter, or on nginx alone, it only reports. An unexpected result of ours is never
//! written.

use std::process::ExitCode;

use testkit::faults::{Cell, Seen, cells, document, run, run_each_byte};
use testkit::{Binary, Kind};

use crate::programs::{self, build, exit_code, version};

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    exit_code(faults(args))
}

/// Returns true if all cells are as expected.
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
        summarise(&run(&chosen, &nginx()?, None, &report)?);
        return Ok(true);
    }
    let own = Binary { path: build()?, kind: Kind::Pointsman };
    let seen = run(&chosen, &own, None, &report)?;
    summarise(&seen);
    let mut expected = seen.iter().all(|seen| seen.faults.is_empty());
    if filters.is_empty() {
        for (way, faults) in run_each_byte(&own)? {
            expected &= faults.is_empty();
            faults.iter().for_each(|fault| println!("{}: {fault}", way.name()));
        }
        if expected {
            let nginx = nginx()?;
            let name = format!("nginx {}", version(&nginx.path).unwrap_or_default());
            let page = crate::root().join("docs/fault-matrix.md");
            let text = document(&seen, &run(&chosen, &nginx, None, &|_| {})?, &name);
            std::fs::write(&page, text).map_err(|e| format!("{}: {e}", page.display()))?;
            println!("wrote {}", page.display());
        }
    }
    Ok(expected)
}

fn report(seen: &Seen) {
    if !seen.faults.is_empty() {
        println!("{}\n  {}", seen.cell.name(), seen.faults.join("\n  "));
    }
}

fn summarise(seen: &[Seen]) {
    let unexpected = seen.iter().filter(|seen| !seen.faults.is_empty()).count();
    println!("{} cells, {unexpected} of them not as expected", seen.len());
}

fn nginx() -> Result<Binary, String> {
    let path = programs::nginx().ok_or("nginx is not installed (set NGINX to its path)")?;
    Ok(Binary { path, kind: Kind::Nginx })
}
