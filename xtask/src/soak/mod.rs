//! `cargo xtask soak`: a long run under load, and what it must not cost.
//!
//! `switches` sends a million requests while a script's choice of the group is switched under them: no request may
//! fail, each must be answered by the group that was current, and memory must not grow. `bodies` sends bodies of 2 GiB
//! past slow peers: memory must stay small. `points` does as `switches` with the native switch, and measures how soon
//! every worker has taken a switch over. `kills` kills all processes while they switch, `race` lets two writers compete,
//! `keys` fills a table. `figures` holds what is counted against who counted it too, `slow` looks how soon something
//! slow is seen, `recording` what all of that costs. `mixed` drops
//! nothing through reloads, upgrades, switches and kills, and `long` does so for minutes among broken servers. It talks to 127.0.0.1 alone, sends a bounded number of requests and ends by itself.

mod bodies;
mod client;
mod control;
mod figures;
mod gateway;
mod keys;
mod kills;
mod load;
mod memory;
mod mixed;
mod origins;
mod points;
mod race;
mod recording;
mod slow;
mod switches;

use crate::server::Program;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask soak [PART…] [--binary PATH] [--nginx] [--conf FILE] [--requests N] [--mebibytes N] [--kills N] [--tries N] [--keys N]\n\
    \x20 switches         1,000,000 requests at 256 connections with 50 switches of a script under way\n\
    \x20 bodies           bodies of 2 GiB, both ways, with a slow peer on either side\n\
    \x20 points           1,000,000 requests at 256 connections with 1,000 native switches under way\n\
    \x20 kills            500 times all processes killed while they switch\n\
    \x20 race             10,000 tries of two writers that expect a revision\n\
    \x20 keys             1,000,000 keys in one switch\n\
    \x20 figures          1,000,000 requests, and every figure held against those who counted it too\n\
    \x20 slow             how soon a slow server and a slow group are seen\n\
    \x20 recording        what all recording costs\n\
    \x20 mixed            256 connections of all kinds with 100 reloads, 20 upgrades, 1,000 switches and 20 kills\n\
    \x20 long             20 minutes of that with broken servers and hostile clients: memory and descriptors stay flat\n\
    \x20 --binary PATH    what to run; without it target/release/pointsman\n\
    \x20 --nginx          it is nginx: load ndk and ngx_lua\n\
    \x20 --conf FILE      for switches: a configuration with the ports 80 and 8081 to 8084, run as it is\n\
    \x20 --reloads N, --upgrades N, --switches N, --connections N, --minutes N   for mixed and long\n\
    \x20 --requests N and the like   other sizes; without a PART: switches and bodies";

/// What to run, and how much of it.
struct Plan {
    program: Program,
    conf: Option<PathBuf>,
    requests: u64,
    body_bytes: u64,
    kills: u64,
    tries: u64,
    keys: u64,
    mixed: mixed::Amount,
}

/// A part's name and how it is run.
type Part = (&'static str, fn(&Plan) -> Result<String, String>);

const PARTS: [Part; 11] = [
    ("switches", switches::run),
    ("bodies", bodies::run),
    ("points", points::run),
    ("kills", kills::run),
    ("race", race::run),
    ("keys", keys::run),
    ("figures", figures::run),
    ("slow", slow::run),
    ("recording", recording::run),
    ("mixed", mixed::run),
    ("long", mixed::long::run),
];

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
    for (name, run) in PARTS.iter().filter(|(name, _)| parts.contains(name)) {
        match run(&plan) {
            Ok(figures) => {
                passed += 1;
                println!("{name}: {figures}");
            }
            Err(error) => {
                failed += 1;
                println!("{name}: FAILED: {error}");
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(args: &[String]) -> Result<(Plan, Vec<&str>), String> {
    let mut plan = Plan {
        program: Program::own(),
        conf: None,
        requests: 1_000_000,
        body_bytes: 2 << 30,
        kills: 500,
        tries: 10_000,
        keys: 1_000_000,
        mixed: mixed::Amount::default(),
    };
    let mut parts = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} takes a value"));
        let number = |text: &String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match arg.as_str() {
            part if PARTS.iter().any(|(name, _)| *name == part) => parts.push(part),
            "--binary" => plan.program.binary = value()?.into(),
            "--nginx" => plan.program.is_nginx = true,
            "--conf" => plan.conf = Some(value()?.into()),
            "--requests" => plan.requests = number(value()?)?,
            "--kills" => {
                plan.kills = number(value()?)?;
                plan.mixed.kills = Some(plan.kills);
            }
            "--reloads" => plan.mixed.reloads = Some(number(value()?)?),
            "--upgrades" => plan.mixed.upgrades = Some(number(value()?)?),
            "--switches" => plan.mixed.switches = Some(number(value()?)?),
            "--minutes" => plan.mixed.minutes = Some(number(value()?)?.max(1)),
            "--connections" => plan.mixed.connections = Some(number(value()?)?),
            "--tries" => plan.tries = number(value()?)?,
            "--keys" => plan.keys = number(value()?)?.max(4),
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
