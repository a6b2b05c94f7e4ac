//! pointsman's command line.
//!
//! Owns the arguments, and the conversation with a running server; what the flags ask for is done by the crates below.
//! Without a verb the flags are nginx's: [`flags`] parses them, [`version`] answers `-v` and `-V`. A verb asks a running
//! server for something: [`verbs`] lists them, and each has its own file. Must never start a thread before the server
//! has forked its worker process.

mod backup;
mod cache;
mod certificate;
mod check;
mod client;
mod commits;
mod compare;
mod completions;
mod confirm;
mod dashboard;
mod defaults;
mod diff;
mod endpoint;
mod error;
mod explain;
mod flags;
mod fleet;
mod format;
mod group;
mod history;
mod hold;
mod journal;
mod list;
mod man;
mod order_options;
mod progress;
mod receipt;
mod release;
mod reload;
mod restore;
mod server_verb;
mod session;
mod show;
mod split;
mod starter;
mod status;
mod switch;
mod time_option;
mod timeline;
mod tls_options;
mod top;
mod undo;
mod upgrade;
mod verbs;
mod version;
mod wait;
mod watch;

use flags::{Asked, Flags};
use server::process;
use server::{Identity, Pointsman};
use std::ffi::OsString;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if verbs::are_meant(&arguments) {
        return ExitCode::from(verbs::run(arguments));
    }
    let flags = match Flags::read(arguments) {
        Ok(flags) => flags,
        Err(message) => {
            eprintln!("{}: {message}", process::PROGRAM);
            return ExitCode::FAILURE;
        }
    };
    let source = match flags.source() {
        Ok(source) => source,
        Err(error) => {
            eprintln!("{}: [emerg] getcwd() failed ({error})", process::PROGRAM);
            return ExitCode::FAILURE;
        }
    };
    let app = Pointsman { identity: identity(), ..Pointsman::default() };
    let code = match flags.asked() {
        Asked::Help => {
            print!("{}", Flags::help());
            0
        }
        Asked::Version { build } => {
            eprint!("{}", version::text(build));
            0
        }
        Asked::Test { version, dump } => {
            if let Some(build) = version {
                eprint!("{}", version::text(build));
            }
            let code = process::test(&app, &source, flags.quiet, dump, |built| {
                check::check(built.config(), flags.strict)
            });
            explain::say(&source, flags.explain, flags.quiet);
            code
        }
        Asked::Signal(what) => process::signal_master(&app, &source, what),
        Asked::Run => process::run(&app, &source),
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Returns the name and version that the server gives itself: `POINTSMAN_IDENTITY=NAME/VERSION` sets them, for test
/// suites and clients that expect nginx.
fn identity() -> Identity {
    let wanted = std::env::var("POINTSMAN_IDENTITY").ok();
    match wanted.as_deref().and_then(|wanted| wanted.split_once('/')) {
        Some((name, version)) => Identity::new(name, version),
        None => Identity::default(),
    }
}
