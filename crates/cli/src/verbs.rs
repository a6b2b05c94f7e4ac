//! The verbs: what can be asked of a running server, one file for each.
//!
//! Owns the list. Must never read nginx's flags: without a verb the command line is for [`crate::flags`].

use crate::error::{CODES, Code, Error};
use crate::session::GlobalOptions;
use crate::{
    backup, cache, certificate, compare, completions, confirm, dashboard, diff, fleet, group, history, hold,
    list, man, receipt, release, reload, restore, server_verb, show, split, starter, status, switch, top,
    undo, upgrade, wait, watch,
};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, CommandFactory, Parser, Subcommand};
use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

/// A command line with a verb.
#[derive(Debug, Parser)]
#[command(
    name = "pointsman",
    disable_version_flag = true,
    subcommand_required = true,
    subcommand_value_name = "VERB",
    subcommand_help_heading = "Verbs",
    disable_help_subcommand = false,
    about = "Switches live traffic between upstream groups",
    long_about = None,
    version,
    after_help = CODES
)]
pub(crate) struct Line {
    /// Print the version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
    #[command(flatten)]
    global: GlobalOptions,
    #[command(subcommand)]
    verb: Verb,
}

/// All verbs.
#[derive(Debug, Subcommand)]
enum Verb {
    Init(starter::Init),
    Run(starter::Run),
    Switch(switch::Switch),
    Split(split::Split),
    Undo(undo::Undo),
    Confirm(confirm::Confirm),
    Server(server_verb::ServerArgs),
    Group(group::GroupCommand),
    Cache(cache::CacheCommand),
    Certificate(certificate::CertificateCommand),
    Fleet(fleet::FleetCommand),
    Hold(hold::HoldArgs),
    Release(release::Release),
    List(list::List),
    Wait(wait::WaitArgs),
    Receipt(receipt::ShowReceipt),
    Show(show::Show),
    History(history::History),
    Diff(diff::Diff),
    Watch(watch::WatchArgs),
    Status(status::Status),
    Top(top::Top),
    Dashboard(dashboard::Dashboard),
    Compare(compare::Compare),
    Reload(reload::Reload),
    Upgrade(upgrade::Upgrade),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Completions(completions::Completions),
    Man(man::Man),
}

/// Returns whether the command line has a verb, or is meant to have one. nginx's flags may come before it.
pub(crate) fn are_meant(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1);
    // A flag that no verb takes has come.
    let mut of_nginx = false;
    while let Some(word) = words.next() {
        match word.as_bytes() {
            // nginx knows no long options.
            b"--help" | b"--version" | b"--json" => return true,
            [b'-', b'-', long @ ..] => {
                let name = long.split(|byte| *byte == b'=').next().unwrap_or_default();
                return [&b"control"[..], b"switch"].contains(&name);
            }
            [b'-', flags @ ..] => {
                // The first one that takes a value takes the rest of the word, or else the next word.
                let taker = flags.iter().position(|flag| b"pcegs".contains(flag));
                if taker.is_some_and(|at| at + 1 == flags.len()) {
                    words.next();
                }
                let own = &flags[..taker.map_or(flags.len(), |at| at + 1)];
                of_nginx |= own.iter().any(|flag| !b"pcg".contains(flag));
            }
            // nginx knows no words either: without one of its own flags before it, this was to be a verb.
            verb => {
                return !of_nginx || verb == b"help" || names().any(|name| name.as_bytes() == verb);
            }
        }
    }
    false
}

/// Returns the names of all verbs.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let command = Line::command();
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    names.into_iter()
}

/// Returns a line about each verb, for the help of the flags.
pub(crate) fn overview() -> String {
    let mut text = String::from("Verbs:\n");
    for verb in Line::command().get_subcommands() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("  {:<12} {about}\n", verb.get_name()));
    }
    text.push_str(
        "`pointsman VERB --help` describes each of them; `pointsman --help` lists their common options.\n",
    );
    text
}

/// Runs the verb and returns the exit code.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            if error.kind() == ErrorKind::InvalidSubcommand {
                unknown(&error).print(false);
                return Code::Usage as u8;
            }
            // Help that was asked for goes to standard output, errors to standard error; either may be closed.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Code::Done as u8,
                _ => Code::Usage as u8,
            };
        }
    };
    match act(&line) {
        Ok(code) => code as u8,
        Err(error) if error.code == Code::Done => Code::Done as u8,
        Err(error) => {
            error.print(line.global.json);
            error.code as u8
        }
    }
}

/// nginx's words for what to do with a running server, with what means the same here.
const SIGNALS: [(&str, &str); 5] = [
    ("stop", "pointsman -s stop"),
    ("quit", "pointsman -s quit"),
    ("reopen", "pointsman -s reopen"),
    ("start", "pointsman, without a verb"),
    ("test", "pointsman -t"),
];

/// Returns the error for a word that is no verb.
fn unknown(error: &clap::Error) -> Error {
    let word = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => word.as_str(),
        _ => "",
    };
    let names: Vec<String> = names().collect();
    let meant = SIGNALS.iter().find(|(signal, _)| *signal == word).map(|(_, meant)| (*meant).to_owned());
    let meant = meant.or_else(|| {
        conf::nearest(word, names.iter().map(String::as_str)).map(|verb| format!("pointsman {verb}"))
    });
    let remedy = match meant {
        Some(meant) => format!("did you mean: {meant}? `pointsman --help` lists the verbs"),
        None => "`pointsman --help` lists the verbs, `pointsman -h` nginx's options".to_owned(),
    };
    Error::usage(format!("unknown verb \"{word}\""), remedy)
}

fn act(line: &Line) -> Result<Code, Error> {
    let global = &line.global;
    match &line.verb {
        Verb::Init(verb) => verb.run(),
        Verb::Run(verb) => verb.run(global),
        Verb::Switch(verb) => verb.run(global),
        Verb::Split(verb) => verb.run(global),
        Verb::Undo(verb) => verb.run(&global.session()?),
        Verb::Confirm(verb) => verb.run(&global.session()?),
        Verb::Server(verb) => verb.run(&global.session()?),
        Verb::Group(verb) => verb.run(&global.session()?),
        Verb::Cache(verb) => verb.run(&global.session()?),
        Verb::Certificate(verb) => verb.run(&global.session()?),
        Verb::Fleet(verb) => verb.run(&global.session()?),
        Verb::Hold(verb) => verb.run(&global.session()?),
        Verb::Release(verb) => verb.run(&global.session()?),
        Verb::List(verb) => verb.run(&global.session()?),
        Verb::Wait(verb) => verb.run(&global.session()?),
        Verb::Receipt(verb) => verb.run(&global.session()?),
        Verb::Show(verb) => verb.run(&global.session()?),
        Verb::History(verb) => verb.run(&global.session()?),
        Verb::Diff(verb) => verb.run(&global.session()?),
        Verb::Watch(verb) => verb.run(&global.session()?),
        Verb::Status(verb) => verb.run(&global.session()?),
        Verb::Top(verb) => verb.run(global),
        Verb::Dashboard(verb) => verb.run(global.session()?),
        Verb::Compare(verb) => verb.run(&global.session()?),
        Verb::Reload(verb) => verb.run(&global.session()?),
        Verb::Upgrade(verb) => verb.run(global),
        Verb::Backup(verb) => verb.run(&global.session()?),
        Verb::Restore(verb) => verb.run(global),
        Verb::Completions(verb) => verb.run(Line::command()),
        Verb::Man(verb) => verb.run(Line::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(line: &str) -> bool {
        let words: Vec<OsString> =
            std::iter::once("pointsman").chain(line.split_whitespace()).map(OsString::from).collect();
        are_meant(&words)
    }

    #[test]
    fn nginx_flags_are_no_verbs() {
        for line in ["", "-t", "-p switch", "-pswitch -t", "-s reload", "-tqc list", "-V", "-h", "-t start"] {
            assert!(!meant(line), "{line}");
        }
    }

    #[test]
    fn a_verb_is_seen_behind_flags() {
        for line in [
            "switch a b",
            "-p /srv/x -c a.conf list",
            "-p/srv/x status",
            "--json list",
            "--control=x list",
            "help",
            "--help",
            "--version",
            "start",
        ] {
            assert!(meant(line), "{line}");
        }
    }

    #[test]
    fn an_unknown_verb_names_the_nearest() {
        for (word, meant) in [
            ("swtch", "did you mean: pointsman switch?"),
            ("stop", "did you mean: pointsman -s stop?"),
            ("frobnicate", "`pointsman --help` lists the verbs, `pointsman -h` nginx's options"),
        ] {
            let error = Line::try_parse_from(["pointsman", word, "a"]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSubcommand, "{word}");
            let error = unknown(&error);
            assert_eq!(error.problem.text, format!("unknown verb \"{word}\""));
            assert!(error.problem.remedy.starts_with(meant), "{}", error.problem.remedy);
        }
    }

    #[test]
    fn the_definitions_are_sound() {
        Line::command().debug_assert();
        assert_eq!(names().count(), 30);
    }
}
