//! `pointsman man`: the manual pages, from the same definitions as `--help`.
//!
//! Owns the verb's words and the pages' file names. Must never say what the definitions do not.

use crate::fault::{Code, Fault, say};
use crate::verbs::Line;
use clap::{Args, Command, CommandFactory};
use clap_mangen::Man as Page;
use std::path::{Path, PathBuf};

/// Write the manual pages into a folder, or the first one to standard output
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman man | man -l -
  pointsman man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// The folder
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self) -> Result<Code, Fault> {
        let mut command = Line::command();
        command.build();
        let Some(folder) = &self.folder else {
            say(&String::from_utf8_lossy(&page(command)?))?;
            return Ok(Code::Done);
        };
        let verbs: Vec<Command> =
            command.get_subcommands().filter(|verb| verb.get_name() != "help").cloned().collect();
        write(&folder.join("pointsman.1"), command)?;
        for verb in verbs {
            let name = format!("pointsman-{}", verb.get_name());
            write(&folder.join(format!("{name}.1")), verb)?;
        }
        Ok(Code::Done)
    }
}

fn page(command: Command) -> Result<Vec<u8>, Fault> {
    let mut text = Vec::new();
    Page::new(command).render(&mut text).map_err(|error| Fault::usage(error.to_string(), ""))?;
    Ok(text)
}

fn write(path: &Path, command: Command) -> Result<(), Fault> {
    let text = page(command)?;
    std::fs::write(path, text).map_err(|error| {
        Fault::usage(format!("{}: {error}", path.display()), "the folder must be there, and yours to write")
    })
}
