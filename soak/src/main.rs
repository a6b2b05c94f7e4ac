//! `cargo xtask soak`: long runs under load, and the limits that they must keep.
//!
//! Each test is one module with a `run` function; the help text lists them. Everything stays on 127.0.0.1, sends a
//! bounded number of requests and ends by itself.

mod bodies;
mod body;
mod checks;
mod client;
mod connection;
mod control;
mod cost;
mod durations;
mod frames;
mod gaps;
mod gateway;
mod groups;
mod instructions;
mod keys;
mod kills;
mod load;
mod mixed;
mod native_switches;
mod origin;
mod origins;
mod overhead;
mod race;
mod server;
mod servers;
mod slow;
mod statistics;
mod switches;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use server::Program;

/// Long runs under load: no request may fail, every answer comes from the right group, and memory does not grow.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask soak")]
struct Plan {
    /// The tests to run
    #[arg(value_enum, default_values_t = [Test::Switches, Test::Bodies])]
    tests: Vec<Test>,
    /// The server to run
    #[arg(long, default_value_os_t = root().join("target/release/pointsman"))]
    binary: PathBuf,
    /// The server is nginx: load ndk and ngx_lua
    #[arg(long)]
    nginx: bool,
    /// For `switches`: a configuration with the ports 80 and 8081 to 8084, used as it is
    #[arg(long, value_name = "FILE")]
    conf: Option<PathBuf>,
    /// Requests of `switches`, `native-switches` and `statistics`
    #[arg(long, default_value_t = 1_000_000)]
    requests: u64,
    /// The size of a body of `bodies`
    #[arg(long, default_value_t = 2048, value_name = "MIB")]
    mebibytes: u64,
    /// Kills of `kills` and `server-kills` (500), of each kind in `gaps` (30), `mixed` (20) and `long` (one every two minutes)
    #[arg(long)]
    kills: Option<u64>,
    /// Tries of `race`
    #[arg(long, default_value_t = 10_000)]
    tries: u64,
    /// Keys of `keys`
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(4..))]
    keys: u64,
    /// Reloads of `mixed` (100) and `long` (six a minute)
    #[arg(long)]
    reloads: Option<u64>,
    /// Binary upgrades of `mixed` (20) and `long` (one every two minutes)
    #[arg(long)]
    upgrades: Option<u64>,
    /// Changes of `servers` (1,000), switches of `mixed` (1,000) and `long` (as many as fit)
    #[arg(long)]
    switches: Option<u64>,
    /// Connections of `mixed` and `servers` (256) and `long` (128)
    #[arg(long)]
    connections: Option<u64>,
    /// Minutes of `long`
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
}

impl Plan {
    fn program(&self) -> Program {
        Program { binary: self.binary.clone(), is_nginx: self.nginx }
    }
}

/// A test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Test {
    /// Requests at 256 connections with 50 switches of a Lua script under way
    Switches,
    /// Bodies of 2 GiB, both ways, with a slow peer on either side
    Bodies,
    /// Requests at 256 connections with 1,000 native switches under way
    NativeSwitches,
    /// All processes are killed while they switch
    Kills,
    /// A thousand changes of a group's servers under requests, long polls and WebSockets
    Servers,
    /// All processes are killed while servers are changed
    ServerKills,
    /// The servers of a thousand groups are changed one by one: their cost
    Groups,
    /// The CPU time of 200 health checks a second beside HAProxy's, and what they do to the traffic
    Checks,
    /// The time without an answer after kills of the worker and of the master, beside nginx
    Gaps,
    /// Two writers give orders that expect a revision
    Race,
    /// Many keys in one switch
    Keys,
    /// All statistics are compared with independent counts
    Statistics,
    /// How soon a slow server and a slow group show in the statistics
    Slow,
    /// The cost of keeping statistics
    Overhead,
    /// Connections of all kinds with reloads, upgrades, switches and kills
    Mixed,
    /// That for minutes with broken servers and hostile clients: memory and descriptors stay flat
    Long,
}

fn main() -> ExitCode {
    let plan = Plan::parse();
    let (mut passed, mut failed) = (0, 0);
    for test in &plan.tests {
        let run = match test {
            Test::Switches => switches::run,
            Test::Bodies => bodies::run,
            Test::NativeSwitches => native_switches::run,
            Test::Kills => kills::run,
            Test::Servers => servers::run,
            Test::ServerKills => servers::kills::run,
            Test::Groups => groups::run,
            Test::Checks => checks::run,
            Test::Gaps => gaps::run,
            Test::Race => race::run,
            Test::Keys => keys::run,
            Test::Statistics => statistics::run,
            Test::Slow => slow::run,
            Test::Overhead => overhead::run,
            Test::Mixed => mixed::run,
            Test::Long => mixed::long::run,
        };
        let name = test.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned());
        match run(&plan) {
            Ok(summary) => {
                passed += 1;
                println!("{name}: {summary}");
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

/// Returns the root of the repository.
fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.parent().map_or(own.clone(), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_read() {
        let parse = |text: &str| Plan::try_parse_from(format!("soak {text}").split_whitespace());
        let plan = parse("bodies --mebibytes 8 --binary a/b --requests 5").expect("valid");
        assert_eq!((plan.mebibytes, plan.requests, plan.tests.as_slice()), (8, 5, &[Test::Bodies][..]));
        assert_eq!(plan.program().binary, PathBuf::from("a/b"));
        assert_eq!(parse("").expect("valid").tests, [Test::Switches, Test::Bodies]);
        for wrong in ["--requests many", "--requests", "sleep", "--minutes 0"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
