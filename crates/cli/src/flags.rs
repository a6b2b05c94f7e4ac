//! nginx's flags.
//!
//! Owns their parsing, their combinations, and the messages about wrong ones, in nginx's words. Must never act on them.

use crate::defaults::{CONF_FILE, ERROR_LOG, PREFIX};
use crate::verbs;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser};
use server::process::log::LogTarget;
use server::process::{MasterCommand, Source};
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A reverse proxy that runs nginx.conf and switches live traffic between upstream groups.
///
/// Without options it starts with the default configuration file. The options are nginx's, and mean what they mean
/// there.
#[derive(Debug, Parser)]
#[command(
    name = "pointsman",
    disable_help_flag = true,
    disable_version_flag = true,
    args_override_self = true,
    after_help = "-V prints pointsman's own version first, then the line and the configure arguments by which tools \
                  and test suites written for nginx tell what they can use: --with-… for each optional module that is \
                  there, --without-… for each module of a plain nginx that is not."
)]
pub(crate) struct Flags {
    /// Print this help
    #[arg(short = 'h', short_alias = '?')]
    help: bool,
    /// Print the version
    #[arg(short = 'v')]
    version: bool,
    /// Print the version and the build options
    #[arg(short = 'V')]
    build: bool,
    /// Test the configuration and exit
    #[arg(short = 't')]
    test: bool,
    /// Test the configuration, print all its files and exit
    #[arg(short = 'T')]
    dump: bool,
    /// Print only errors while testing the configuration
    #[arg(short = 'q')]
    pub(crate) quiet: bool,
    /// With -t: fail too if the stores of switches cannot be checked
    #[arg(long = "strict")]
    pub(crate) strict: bool,
    /// With -t: print what each line means here: it works, it has no effect, or it is refused
    #[arg(long = "explain")]
    pub(crate) explain: bool,
    /// Send a signal to the running master process: stop, quit, reopen, reload
    #[arg(short = 's', value_name = "signal", allow_hyphen_values = true)]
    signal: Option<OsString>,
    /// Prefix for relative paths
    #[arg(short = 'p', value_name = "prefix", allow_hyphen_values = true)]
    prefix: Option<OsString>,
    /// Error log until the configuration names one; "stderr" for standard error
    #[arg(short = 'e', value_name = "filename", allow_hyphen_values = true)]
    error_log: Option<OsString>,
    /// Configuration file
    #[arg(short = 'c', value_name = "filename", allow_hyphen_values = true)]
    conf_file: Option<OsString>,
    /// Directives in front of the configuration file
    #[arg(short = 'g', value_name = "directives", allow_hyphen_values = true)]
    globals: Option<OsString>,
}

/// The action that the flags together ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Help,
    /// `-v`, or with `build` `-V`.
    Version {
        build: bool,
    },
    /// `-t`, or with `dump` `-T`; with a version before it if one was asked for too.
    Test {
        version: Option<bool>,
        dump: bool,
    },
    /// `-s`.
    Signal(MasterCommand),
    Run,
}

impl Flags {
    /// Parses a command line, the program's name first; an error is a sentence in nginx's words.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Flags, String> {
        let flags = Flags::try_parse_from(arguments).map_err(|error| complaint(&error))?;
        match flags.signal.as_deref().map(|signal| (signal, tell(signal))) {
            Some((signal, None)) => Err(format!("invalid option: \"-s {}\"", signal.display())),
            _ => Ok(flags),
        }
    }

    /// Returns the help text.
    pub(crate) fn help() -> String {
        let defaults = format!(
            "Defaults:\n  -p {PREFIX}\n  -c {CONF_FILE}\n  -e {ERROR_LOG}\nRelative file names start at the prefix.\n"
        );
        format!("{}\n{defaults}\n{}", Flags::command().render_help(), verbs::overview())
    }

    /// Returns what is to be done. As with nginx, a version is printed before a test and instead of everything else,
    /// and a test comes before a signal.
    pub(crate) fn asked(&self) -> Asked {
        let version = (self.version || self.build).then_some(self.build);
        match (self.help, self.test || self.dump, version, self.signal.as_deref().and_then(tell)) {
            (true, ..) => Asked::Help,
            (_, true, version, _) => Asked::Test { version, dump: self.dump },
            (_, _, Some(build), _) => Asked::Version { build },
            (_, _, _, Some(what)) => Asked::Signal(what),
            _ => Asked::Run,
        }
    }

    /// Returns the configuration that is meant. The prefix is made absolute with the current directory.
    pub(crate) fn source(&self) -> io::Result<Source> {
        let prefix = std::path::absolute(self.prefix.as_deref().unwrap_or(OsStr::new(PREFIX)))?;
        let conf_file = self.conf_file.as_deref().map_or(PathBuf::from(CONF_FILE), PathBuf::from);
        let error_log = match self.error_log.as_deref() {
            Some(name) if name == "stderr" || name.is_empty() => LogTarget::Stderr,
            Some(name) => LogTarget::File(prefix.join(name)),
            None => LogTarget::File(prefix.join(ERROR_LOG)),
        };
        Ok(Source {
            conf_file: prefix.join(conf_file),
            error_log,
            prefix,
            globals: self.globals.as_deref().map(|globals| globals.as_bytes().to_vec()),
            // A convention of many programs: https://no-color.org
            colour: io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        })
    }
}

fn tell(signal: &OsStr) -> Option<MasterCommand> {
    match signal.as_bytes() {
        b"stop" => Some(MasterCommand::Stop),
        b"quit" => Some(MasterCommand::Quit),
        b"reload" => Some(MasterCommand::Reload),
        b"reopen" => Some(MasterCommand::Reopen),
        _ => None,
    }
}

/// Returns what clap found wrong, in nginx's words.
fn complaint(error: &clap::Error) -> String {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => argument.as_str(),
        _ => "",
    };
    match error.kind() {
        ErrorKind::UnknownArgument => {
            format!("invalid option: \"{}\"", argument.strip_prefix('-').unwrap_or(argument))
        }
        // The only values there are come as they are, so what is wrong with one is that it is missing.
        ErrorKind::InvalidValue => {
            let flag = argument.split(' ').next().unwrap_or_default();
            let wanted = match flag {
                "-p" => "directory name",
                "-c" | "-e" => "file name",
                _ => "parameter",
            };
            format!("option \"{flag}\" requires {wanted}")
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(line: &[&str]) -> Result<Flags, String> {
        Flags::read(std::iter::once("pointsman").chain(line.iter().copied()).map(OsString::from))
    }

    #[test]
    fn flags_are_parsed_as_by_nginx() {
        assert_eq!(read(&[]).unwrap().asked(), Asked::Run);
        assert_eq!(read(&["-tq"]).unwrap().asked(), Asked::Test { version: None, dump: false });
        assert!(read(&["-tq"]).unwrap().quiet);
        assert_eq!(read(&["-t", "-t", "-T"]).unwrap().asked(), Asked::Test { version: None, dump: true });
        assert_eq!(read(&["-Vt"]).unwrap().asked(), Asked::Test { version: Some(true), dump: false });
        assert_eq!(read(&["-v"]).unwrap().asked(), Asked::Version { build: false });
        assert_eq!(read(&["-?"]).unwrap().asked(), Asked::Help);
        for (word, what) in [
            ("stop", MasterCommand::Stop),
            ("quit", MasterCommand::Quit),
            ("reload", MasterCommand::Reload),
            ("reopen", MasterCommand::Reopen),
        ] {
            assert_eq!(read(&["-s", word]).unwrap().asked(), Asked::Signal(what));
        }
        assert_eq!(read(&["-sreload"]).unwrap().asked(), Asked::Signal(MasterCommand::Reload));
    }

    #[test]
    fn file_names_start_at_the_prefix() {
        let source = read(&["-p", "/srv/x/", "-c", "a.conf", "-e", "e.log", "-g", "-daemon off;"]);
        let source = source.unwrap().source().unwrap();
        assert_eq!(source.prefix, Path::new("/srv/x/"));
        assert_eq!(source.conf_file, Path::new("/srv/x/a.conf"));
        assert_eq!(source.error_log, LogTarget::File("/srv/x/e.log".into()));
        assert_eq!(source.globals.as_deref(), Some(&b"-daemon off;"[..]));

        let source = read(&["-p/srv/x", "-c/etc/a.conf", "-e", "stderr"]).unwrap().source().unwrap();
        assert_eq!(source.conf_file, Path::new("/etc/a.conf"));
        assert_eq!(source.error_log, LogTarget::Stderr);

        let source = read(&["-p", "here"]).unwrap().source().unwrap();
        assert_eq!(source.conf_file, std::env::current_dir().unwrap().join("here/conf/nginx.conf"));
        assert_eq!(source.error_log, LogTarget::File(source.prefix.join("logs/error.log")));
    }

    #[test]
    fn wrong_flags_are_refused_in_nginx_words() {
        for (line, message) in [
            (&["-x"][..], "invalid option: \"x\""),
            (&["-tx"], "invalid option: \"x\""),
            (&["start"], "invalid option: \"start\""),
            (&["-p"], "option \"-p\" requires directory name"),
            (&["-tc"], "option \"-c\" requires file name"),
            (&["-e"], "option \"-e\" requires file name"),
            (&["-g"], "option \"-g\" requires parameter"),
            (&["-s"], "option \"-s\" requires parameter"),
            (&["-s", "restart"], "invalid option: \"-s restart\""),
        ] {
            assert_eq!(read(line).unwrap_err(), message, "{line:?}");
        }
    }

    #[test]
    fn the_help_names_every_flag() {
        let help = Flags::help();
        for flag in ["-h", "-v", "-V", "-t", "-T", "-q", "-s", "-p", "-e", "-c", "-g"] {
            assert!(help.contains(&format!("  {flag}")), "{flag}\n{help}");
        }
    }
}
