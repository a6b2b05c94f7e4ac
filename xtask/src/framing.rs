//! `cargo xtask framing [OPTION…]`: sends the hostile messages of `cases/hostile/` to pointsman, nginx and HAProxy, or
//! random ones that no two of them may read differently.
//!
//! Without `--random` it writes `docs/framing.md`. testkit judges; this only runs it.

use std::path::PathBuf;
use std::process::ExitCode;

use testkit::hostile::{Family, NamedProgram, Program, load, page, random};
use testkit::{Binary, Kind};

use crate::programs::{build, exit_code, haproxy, nginx, version};

const USAGE: &str = "usage: cargo xtask framing [OPTION…]\n\
    \x20 --binary PATH      pointsman (default: a debug build)\n\
    \x20 --random N SEED    instead of the page, send N random messages each way through pointsman to the others\n\
    \x20 --check            write nothing; fail if docs/framing.md is stale";

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    exit_code(run(args))
}

fn run(args: &[String]) -> Result<bool, String> {
    let (mut binary, mut rounds, mut check) = (None, None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse::<u64>().ok()).ok_or(USAGE);
        match arg.as_str() {
            "--random" => rounds = Some((number()?, number()?)),
            "--binary" => binary = Some(PathBuf::from(args.next().ok_or(USAGE)?)),
            "--check" => check = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let own = match binary {
        Some(path) if !path.is_file() => return Err(format!("{}: no such program", path.display())),
        Some(path) => path,
        None => build()?,
    };
    let reads_nginx_conf = |path, kind| Program::Nginx(Binary { path, kind });
    let named = |name: &str, program: Program| NamedProgram { name: name.to_owned(), program };
    let with_version = |name: &str, path: &PathBuf| match version(path) {
        Some(version) => format!("{name} {version}"),
        None => name.to_owned(),
    };
    let own = named("pointsman", reads_nginx_conf(own, Kind::Pointsman));
    let nginx =
        nginx().map(|path| named(&with_version("nginx", &path), reads_nginx_conf(path.clone(), Kind::Nginx)));
    let haproxy =
        haproxy().map(|path| named(&with_version("HAProxy", &path), Program::HaProxy(path.clone())));
    let others: Vec<NamedProgram> = nginx.into_iter().chain(haproxy).collect();
    let mut families: Vec<Family> = load(&crate::root().join("cases/hostile"))?;
    // Messages of clients go before messages of origins.
    families.sort_by_key(|family| family.title.starts_with("Answers"));
    match rounds {
        Some((rounds, seed)) => random::run(&families, &own, &others, rounds, seed),
        None if others.len() < 2 => {
            println!("skipped: the page needs nginx and haproxy beside pointsman");
            Ok(true)
        }
        None => page::run(&families, &own, &others, &crate::root().join("docs/framing.md"), check),
    }
}
