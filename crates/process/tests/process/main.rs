//! The processes from outside: started, signalled, reloaded, killed.
//!
//! This program is its own server: with `POINTSMAN_TEST_ARGS` set it is the application in `app.rs`. It has a `main`
//! of its own because the master must not have a thread, and libtest's tests have.

#![allow(clippy::unwrap_used)] // A failed test.
#![allow(unreachable_pub)] // A program has no public items.

mod app;
mod master;
mod orphan;
mod paths;
mod single;
mod start;
mod starter;
mod test_server;
mod upgrade;

use libtest_mimic::{Arguments, Failed, Trial};

/// Set for the server that a test starts.
pub const ARGS: &str = "POINTSMAN_TEST_ARGS";

fn main() {
    if let Ok(arguments) = std::env::var(ARGS) {
        std::process::exit(app::main(arguments.split('\n').map(str::to_owned).collect()));
    }
    let arguments = Arguments::from_args();
    let all = [
        start::TESTS,
        starter::TESTS,
        paths::TESTS,
        master::TESTS,
        single::TESTS,
        upgrade::TESTS,
        orphan::TESTS,
    ]
    .concat();
    let trial = |(name, test): (&str, fn())| {
        Trial::test(name, move || {
            test();
            Ok::<(), Failed>(())
        })
    };
    libtest_mimic::run(&arguments, all.into_iter().map(trial).collect()).exit();
}
