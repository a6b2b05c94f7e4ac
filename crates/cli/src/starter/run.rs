//! `pointsman run`: a gateway at once, without a configuration file of one's own.
//!
//! Owns the verb's options and the folder that such a gateway has. Must never return once the server runs: this process
//! becomes its master.

use super::Starter;
use crate::error::{Code, Error, say};
use crate::session::GlobalOptions;
use clap::Args;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Run a gateway that switches between groups of servers, without a configuration file
///
/// Its configuration is written again at each start, to a directory (-p, or one for each listening address); the switch's
/// state there is kept. Ctrl-C ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman run --listen :8080 blue=127.0.0.1:3000 green=127.0.0.1:3001
  pointsman run -p /srv/gateway --listen 80 live=10.0.0.1:80,10.0.0.2:80 next=10.0.1.1:80")]
pub(crate) struct Run {
    #[command(flatten)]
    starter: Starter,
}

/// The first line of a configuration that this verb has written, and may write anew.
const HEADER: &str =
    "# Written by `pointsman run` each time that it starts: to change it, make one with `pointsman init`.\n";

impl Run {
    pub(crate) fn run(&self, global: &GlobalOptions) -> Result<Code, Error> {
        let text = self.starter.text(HEADER, "error_log         stderr  notice;\n")?;
        let folder = match global.configuration().0 {
            Some(prefix) => PathBuf::from(prefix),
            None => usual_folder(self.starter.address()?)?,
        };
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        write(&folder, &text)?;
        let target = self
            .starter
            .groups
            .last()
            .and_then(|group| group.split_once('='))
            .map_or("GROUP", |(name, _)| name);
        say(&format!(
            "clients: {}; in another terminal:\n  pointsman -p {1} switch localhost {target}\n  pointsman -p {1} status\n",
            self.starter.listen,
            folder.display(),
        ))?;
        let program = std::env::current_exe()
            .map_err(|error| Error::usage(format!("the program's own file is not found: {error}"), ""))?;
        let error = Command::new(&program)
            .arg("-p")
            .arg(&folder)
            .args(["-c", "conf/nginx.conf", "-g", "daemon off;"])
            .exec();
        Err(Error::usage(format!("{}: {error}", program.display()), ""))
    }
}

/// Writes the configuration, unless somebody else has written the one that is there.
fn write(folder: &Path, text: &str) -> Result<(), Error> {
    let path = folder.join("conf/nginx.conf");
    let wrong = |error: io::Error| {
        Error::usage(format!("{}: {error}", path.display()), "give a folder that can be written to with -p")
    };
    match fs::read_to_string(&path) {
        Ok(found) if !found.starts_with(HEADER) => {
            return Err(Error::usage(
                format!("{} is a configuration of your own", path.display()),
                format!("start it: pointsman -p {}; or give another folder with -p", folder.display()),
            ));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(wrong(error)),
        _ => {}
    }
    for name in ["conf", "logs"] {
        fs::create_dir_all(folder.join(name)).map_err(wrong)?;
    }
    fs::write(&path, text).map_err(wrong)
}

/// Returns the folder of a gateway that listens there: below /var/lib for root, whose worker runs as another user, else
/// where the XDG base directories have state (`$XDG_STATE_HOME`, `~/.local/state`).
fn usual_folder(listen: &str) -> Result<PathBuf, Error> {
    let name = format!("run-{}", listen.replace(['/', ':'], "-"));
    if nix::unistd::geteuid().is_root() {
        return Ok(Path::new("/var/lib/pointsman").join(name));
    }
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")));
    match state {
        Some(state) => Ok(state.join("pointsman").join(name)),
        None => Err(Error::usage("neither XDG_STATE_HOME nor HOME is set", "give a folder with -p")),
    }
}
