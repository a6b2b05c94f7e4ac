//! `pointsman completions`: scripts by which shells complete verbs and options.
//!
//! Owns the verb's options. Must never write anywhere but to standard output.

use crate::error::{Code, Error, say};
use clap::{Args, Command};
use clap_complete::{Shell, generate};

/// Print a shell's completion script
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman completions bash > /usr/share/bash-completion/completions/pointsman
  pointsman completions fish > ~/.config/fish/completions/pointsman.fish")]
pub(crate) struct Completions {
    /// Shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, mut command: Command) -> Result<Code, Error> {
        let mut text = Vec::new();
        generate(self.shell, &mut command, "pointsman", &mut text);
        say(&String::from_utf8_lossy(&text))?;
        Ok(Code::Done)
    }
}
