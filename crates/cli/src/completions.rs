//! `pointsman completions`: what a shell needs to complete verbs and options.
//!
//! Owns the verb's words. Must never write anywhere but to standard output.

use crate::fault::{Code, Fault, say};
use crate::verbs::Line;
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

/// Write a shell's completions to standard output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman completions bash > /usr/share/bash-completion/completions/pointsman
  pointsman completions fish > ~/.config/fish/completions/pointsman.fish")]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<Code, Fault> {
        let mut text = Vec::new();
        generate(self.shell, &mut Line::command(), "pointsman", &mut text);
        say(&String::from_utf8_lossy(&text))?;
        Ok(Code::Done)
    }
}
