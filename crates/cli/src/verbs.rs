//! The verbs: what can be asked of a running server, one file for each.
//!
//! Owns the list, and what all verbs have in common: how the server is found and how the answer is shown. Must never
//! read nginx's flags: without a verb the command line is [`crate::flags`]'.

use crate::client::{self, Call, Client};
use crate::fault::{CODES, Code, Fault};
use crate::place;
use crate::{
    compare, completions, confirm, history, hold, list, man, release, reload, show, split, status, switch,
    top, undo, upgrade, watch,
};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use control::api::types::{Switch, Switches};
use std::ffi::{OsStr, OsString};
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
    after_help = CODES
)]
pub(crate) struct Line {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    verb: Verb,
}

/// How the server is found, and how it is answered.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which server")]
pub(crate) struct Reach {
    /// Where relative paths start from, as when the server was started
    #[arg(short = 'p', value_name = "PREFIX", global = true)]
    prefix: Option<OsString>,
    /// The configuration file, as when the server was started
    #[arg(short = 'c', value_name = "FILE", global = true)]
    conf_file: Option<OsString>,
    /// Directives in front of the configuration file, as when the server was started
    #[arg(short = 'g', value_name = "DIRECTIVES", global = true, allow_hyphen_values = true)]
    globals: Option<OsString>,
    /// The control socket (unix:PATH), or the http:// address of a location that has control_api; the environment
    /// variable POINTSMAN_TOKEN holds the token for the latter
    #[arg(long, value_name = "PLACE", global = true)]
    control: Option<String>,
    /// Which switch, if there are several
    #[arg(long, value_name = "NAME", global = true)]
    switch: Option<String>,
    /// Show the API's answer as it is
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

/// All verbs.
#[derive(Debug, Subcommand)]
enum Verb {
    Switch(switch::Switch),
    Split(split::Split),
    Undo(undo::Undo),
    Confirm(confirm::Confirm),
    Hold(hold::Hold),
    Release(release::Release),
    List(list::List),
    Show(show::Show),
    History(history::History),
    Watch(watch::Watch),
    Status(status::Status),
    Top(top::Top),
    Compare(compare::Compare),
    Reload(reload::Reload),
    Upgrade(upgrade::Upgrade),
    Completions(completions::Completions),
    Man(man::Man),
}

/// A server that can be spoken to, and the switch that is meant.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) json: bool,
    switch: Option<String>,
}

impl Reach {
    /// `-p`, `-c` and `-g`, as they were given.
    pub(crate) fn configuration(&self) -> (Option<&OsStr>, Option<&OsStr>, Option<&OsStr>) {
        (self.prefix.as_deref(), self.conf_file.as_deref(), self.globals.as_deref())
    }

    /// A session with the server; nothing is sent yet.
    pub(crate) fn session(&self) -> Result<Session, Fault> {
        let place = place::find(
            self.control.as_deref(),
            self.prefix.as_deref(),
            self.conf_file.as_deref(),
            self.globals.as_deref(),
        )?;
        let token = std::env::var("POINTSMAN_TOKEN").ok().filter(|token| !token.is_empty());
        let client = Client::new(place, token)?;
        Ok(Session { client, json: self.json, switch: self.switch.clone() })
    }
}

impl Session {
    /// The switch that was named.
    pub(crate) fn switch_name(&self) -> Option<&str> {
        self.switch.as_deref()
    }

    /// All switches, or the one that was named.
    pub(crate) fn switches(&self) -> Result<Vec<Switch>, Fault> {
        match &self.switch {
            Some(name) => {
                let path = format!("/v1/switches/{}", client::encoded(name));
                Ok(vec![self.client.ask(&Call::get(path))?.0])
            }
            None => Ok(self.client.ask::<Switches>(&Call::get("/v1/switches"))?.0.switches),
        }
    }

    /// The path of the one switch that is meant: the one that was named, or the only one.
    pub(crate) fn switch_path(&self) -> Result<String, Fault> {
        let name = match &self.switch {
            Some(name) => name.clone(),
            None => {
                let names: Vec<String> = self.switches()?.into_iter().map(|switch| switch.name).collect();
                match &names[..] {
                    [one] => one.clone(),
                    [] => {
                        return Err(Fault::new(
                            Code::Refused,
                            "no_switch",
                            "the configuration has no switch",
                            "declare one: switch $host $live { default …; }",
                        ));
                    }
                    several => {
                        return Err(Fault::usage(
                            "there are several switches",
                            format!("say which one with --switch: {}", several.join(", ")),
                        ));
                    }
                }
            }
        };
        Ok(format!("/v1/switches/{}", client::encoded(&name)))
    }
}

/// Does the command line have a verb? nginx's flags may stand before it.
pub(crate) fn are_meant(arguments: &[OsString]) -> bool {
    let mut words = arguments.iter().skip(1);
    while let Some(word) = words.next() {
        match word.as_bytes() {
            // nginx knows no long options.
            b"--help" | b"--json" => return true,
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
            }
            verb => return verb == b"help" || names().any(|name| name.as_bytes() == verb),
        }
    }
    false
}

/// The names of all verbs.
pub(crate) fn names() -> impl Iterator<Item = String> {
    let command = Line::command();
    let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
    names.into_iter()
}

/// The verbs with a line about each, for the help of the flags.
pub(crate) fn overview() -> String {
    let mut text = String::from("Verbs:\n");
    for verb in Line::command().get_subcommands() {
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("  {:<12} {about}\n", verb.get_name()));
    }
    text.push_str("`pointsman VERB --help` says more about each.\n");
    text
}

/// Does what the command line asks for, and answers the exit code.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let line = match Line::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Help that was asked for goes to standard output, complaints do not; a closed output is nobody's fault.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp => Code::Done as u8,
                _ => Code::Usage as u8,
            };
        }
    };
    match act(&line) {
        Ok(code) => code as u8,
        Err(fault) if fault.code == Code::Done => Code::Done as u8,
        Err(fault) => {
            fault.tell(line.reach.json);
            fault.code as u8
        }
    }
}

fn act(line: &Line) -> Result<Code, Fault> {
    let reach = &line.reach;
    match &line.verb {
        Verb::Switch(verb) => verb.run(reach),
        Verb::Split(verb) => verb.run(reach),
        Verb::Undo(verb) => verb.run(&reach.session()?),
        Verb::Confirm(verb) => verb.run(&reach.session()?),
        Verb::Hold(verb) => verb.run(&reach.session()?),
        Verb::Release(verb) => verb.run(&reach.session()?),
        Verb::List(verb) => verb.run(&reach.session()?),
        Verb::Show(verb) => verb.run(&reach.session()?),
        Verb::History(verb) => verb.run(&reach.session()?),
        Verb::Watch(verb) => verb.run(&reach.session()?),
        Verb::Status(verb) => verb.run(&reach.session()?),
        Verb::Top(verb) => verb.run(reach),
        Verb::Compare(verb) => verb.run(&reach.session()?),
        Verb::Reload(verb) => verb.run(&reach.session()?),
        Verb::Upgrade(verb) => verb.run(reach),
        Verb::Completions(verb) => verb.run(),
        Verb::Man(verb) => verb.run(),
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
    fn nginx_flags_stay_what_they_are() {
        for line in
            ["", "-t", "-p switch", "-pswitch -t", "-s reload", "-tqc list", "-V", "-h", "start", "--version"]
        {
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
        ] {
            assert!(meant(line), "{line}");
        }
    }

    #[test]
    fn the_definitions_are_sound() {
        Line::command().debug_assert();
        assert_eq!(names().count(), 17);
    }
}
