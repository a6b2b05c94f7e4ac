//! `cargo xtask soak`: a long run under load, and what it must not cost.
//!
//! `switches` sends a million requests while the group is switched under them: no request may fail, each must be
//! answered by the group that was current, and memory must not grow. `bodies` sends bodies of 2 GiB past slow peers:
//! memory must stay small. It talks to 127.0.0.1 alone, sends a bounded number of requests and ends by itself.

mod bodies;
mod client;
mod load;
mod memory;
mod switches;

use crate::server::Program;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask soak [switches] [bodies] [--binary PATH] [--nginx] [--conf FILE] [--requests N] [--mebibytes N]\n\
    \x20 switches         1,000,000 requests at 256 connections with 50 switches under way\n\
    \x20 bodies           bodies of 2 GiB, both ways, with a slow peer on either side\n\
    \x20 --binary PATH    what to run; without it target/release/pointsman\n\
    \x20 --nginx          it is nginx: load ndk and ngx_lua\n\
    \x20 --conf FILE      for switches: a configuration with the ports 80 and 8081 to 8084, run as it is\n\
    \x20 --requests N, --mebibytes N   other sizes";

/// What to run, and how much of it.
struct Plan {
    program: Program,
    conf: Option<PathBuf>,
    requests: u64,
    body_bytes: u64,
}

/// Runs the verb.
pub(crate) fn main(args: &[String]) -> ExitCode {
    let (plan, parts) = match parse(args) {
        Ok(parsed) => parsed,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let (mut passed, mut failed) = (0, 0);
    let mut end = |name: &str, result: Result<String, String>| match result {
        Ok(figures) => {
            passed += 1;
            println!("{name}: {figures}");
        }
        Err(error) => {
            failed += 1;
            println!("{name}: FAILED: {error}");
        }
    };
    if parts.contains(&"switches") {
        end("switches", switches::run(&plan));
    }
    if parts.contains(&"bodies") {
        end("bodies", bodies::run(&plan));
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(args: &[String]) -> Result<(Plan, Vec<&str>), String> {
    let mut plan = Plan { program: Program::own(), conf: None, requests: 1_000_000, body_bytes: 2 << 30 };
    let mut parts = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            "switches" | "bodies" => parts.push(arg.as_str()),
            "--binary" => plan.program.binary = value()?.into(),
            "--nginx" => plan.program.is_nginx = true,
            "--conf" => plan.conf = Some(value()?.into()),
            "--requests" => plan.requests = number(value()?)?,
            "--mebibytes" => plan.body_bytes = number(value()?)? << 20,
            _ => return Err(format!("what is {arg}?")),
        }
    }
    if parts.is_empty() {
        parts = vec!["switches", "bodies"];
    }
    Ok((plan, parts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_read() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let args = words("bodies --mebibytes 8 --binary a/b --requests 5");
        let (plan, parts) = parse(&args).expect("good");
        assert_eq!((plan.body_bytes, plan.requests, parts), (8 << 20, 5, vec!["bodies"]));
        assert_eq!(plan.program.binary, PathBuf::from("a/b"));
        assert_eq!(parse(&[]).expect("good").1, ["switches", "bodies"]);
        assert!(parse(&words("--requests many")).is_err());
        assert!(parse(&words("--requests")).is_err());
        assert!(parse(&words("sleep")).is_err());
    }
}
