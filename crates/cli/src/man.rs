//! `pointsman man`: the manual pages, from the same definitions as `--help`.
//!
//! Owns the verb's options and the pages' file names. Must never add to the definitions.

use crate::error::{Code, Error, say};
use clap::{Args, Command};
use clap_mangen::Man as Page;
use std::path::{Path, PathBuf};

/// Write the manual pages to a directory, or print the first one
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman man | man -l -
  pointsman man /usr/local/share/man/man1")]
pub(crate) struct Man {
    /// Directory
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Man {
    pub(crate) fn run(&self, mut command: Command) -> Result<Code, Error> {
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

fn page(command: Command) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    Page::new(command).render(&mut text).map_err(|error| Error::usage(error.to_string(), ""))?;
    Ok(text)
}

fn write(path: &Path, command: Command) -> Result<(), Error> {
    let text = page(command)?;
    std::fs::write(path, text).map_err(|error| {
        Error::usage(format!("{}: {error}", path.display()), "the directory must exist and be writable")
    })
}
