//! `cargo xtask framing [OPTION…]`: the hostile messages of `cases/hostile/` put to pointsman, nginx and HAProxy, and
//! random ones that no two of them may read differently.
//!
//! Without `--random` it writes `docs/framing.md`. The judgement is the testkit's; this only runs and tells.

mod mutant;
mod page;
mod random;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use testkit::hostile::{Family, Program};
use testkit::{Binary, Kind};

const USAGE: &str = "usage: cargo xtask framing [OPTION…]\n\
    \x20 --binary PATH      pointsman; without it what cargo built for debugging\n\
    \x20 --random N SEED    instead of the page: N random messages each way, through pointsman to the others\n\
    \x20 --check            fails if docs/framing.md is not what it would write, and writes nothing";

/// A server and what the page calls it.
struct Server {
    name: String,
    program: Program,
}

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    match run(args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &[String]) -> Result<bool, String> {
    let (mut binary, mut random, mut check) = (None, None, false);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || args.next().and_then(|text| text.parse::<u64>().ok()).ok_or(USAGE);
        match arg.as_str() {
            "--random" => random = Some((number()?, number()?)),
            "--binary" => binary = Some(PathBuf::from(args.next().ok_or(USAGE)?)),
            "--check" => check = true,
            _ => return Err(USAGE.to_owned()),
        }
    }
    let path = binary.unwrap_or_else(built);
    if !path.is_file() {
        return Err(format!("{} is not there: cargo build -p pointsman, or --binary PATH", path.display()));
    }
    let own = Server {
        name: "pointsman".to_owned(),
        program: Program::Nginx(Binary { path, kind: Kind::Pointsman }),
    };
    let mut families: Vec<Family> = testkit::hostile::load(&crate::root().join("cases/hostile"))?;
    // What clients send goes before what origins answer.
    families.sort_by_key(|family| family.title.starts_with("Answers"));
    let others = others();
    match random {
        Some((rounds, seed)) => random::run(&families, &own, &others, rounds, seed),
        None if others.len() < 2 => {
            println!("skipped: the page needs nginx and haproxy beside pointsman");
            Ok(true)
        }
        None => page::run(&families, &own, &others, check),
    }
}

/// Where cargo puts what it builds for debugging.
fn built() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| crate::root().join("target"), PathBuf::from);
    target.join("debug/pointsman")
}

/// nginx and HAProxy, as far as they are installed.
fn others() -> Vec<Server> {
    let nginx = named("NGINX", "/usr/sbin/nginx").map(|path| Server {
        name: version(&path, "nginx/").map_or("nginx".to_owned(), |version| format!("nginx {version}")),
        program: Program::Nginx(Binary { path, kind: Kind::Nginx }),
    });
    let haproxy = named("HAPROXY", "/usr/sbin/haproxy").map(|path| Server {
        name: version(&path, "version ").map_or("HAProxy".to_owned(), |version| format!("HAProxy {version}")),
        program: Program::HaProxy(path),
    });
    nginx.into_iter().chain(haproxy).collect()
}

fn named(variable: &str, usual: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map_or_else(|| PathBuf::from(usual), PathBuf::from);
    path.is_file().then_some(path)
}

/// The numbers behind `mark` in what `-v` prints.
fn version(path: &Path, mark: &str) -> Option<String> {
    let output = Command::new(path).arg("-v").output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    let rest = text.split_once(mark)?.1;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
    Some(rest[..end].to_owned())
}
