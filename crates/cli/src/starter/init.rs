//! `pointsman init`: a first configuration, in a folder of its own.
//!
//! Owns the verb's options and its questions. Must never overwrite a file.

use super::Starter;
use crate::error::{Code, Error, say};
use clap::Args;
use std::fs::{self, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

/// Write a first configuration: a gateway that switches between groups of servers
///
/// On a terminal, it asks for what is missing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  pointsman init
  pointsman init --dir /srv/gateway --listen 8080 blue=127.0.0.1:3000 green=127.0.0.1:3001
  pointsman init --listen 443 --tls-certificate site.pem --tls-key site.key blue=10.0.0.1:80,10.0.0.2:80 green=10.0.1.1:80")]
pub(crate) struct Init {
    /// Directory to write to, as conf/nginx.conf; use it as the prefix (-p) later
    #[arg(long = "dir", value_name = "DIR", default_value = "pointsman")]
    folder: PathBuf,
    #[command(flatten)]
    starter: Starter,
}

impl Init {
    pub(crate) fn run(&self) -> Result<Code, Error> {
        let mut starter = self.starter.clone();
        if starter.groups.is_empty() && io::stdin().is_terminal() {
            starter = asked(starter)?;
        }
        let header = "# Made by `pointsman init`, to be changed: `pointsman -t` tests it, `pointsman reload` applies it.\n";
        let text = starter.text(header, "error_log         logs/error.log  notice;\n")?;
        let path = self.folder.join("conf/nginx.conf");
        let wrong = |error: io::Error| {
            let remedy = match error.kind() {
                io::ErrorKind::AlreadyExists => "it is left as it is; give another folder with --dir",
                _ => "the folder must be writable",
            };
            Error::usage(format!("{}: {error}", path.display()), remedy)
        };
        for folder in ["conf", "logs"] {
            fs::create_dir_all(self.folder.join(folder)).map_err(wrong)?;
        }
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(wrong)?;
        file.write_all(text.as_bytes()).map_err(wrong)?;
        let folder = self.folder.display();
        let target =
            starter.groups.last().and_then(|group| group.split_once('=')).map_or("GROUP", |(name, _)| name);
        say(&format!(
            "{} is written. Next:\n  pointsman -t -p {folder}\n  pointsman -p {folder}\n  pointsman -p {folder} switch localhost {target}\n",
            path.display()
        ))?;
        Ok(Code::Done)
    }
}

/// Asks for what a starter needs; an empty answer takes what is in brackets.
fn asked(starter: Starter) -> Result<Starter, Error> {
    let listen = ask("Where do clients connect", &starter.listen)?;
    let blue = ask("Servers of the group blue", "127.0.0.1:3000")?;
    let green = ask("Servers of the group green", "127.0.0.1:3001")?;
    let group = |name: &str, servers: &str| {
        let servers: Vec<&str> = servers.split([',', ' ']).filter(|server| !server.is_empty()).collect();
        format!("{name}={}", servers.join(","))
    };
    Ok(Starter { listen, groups: vec![group("blue", &blue), group("green", &green)], ..starter })
}

fn ask(question: &str, usual: &str) -> Result<String, Error> {
    let failed = |error: io::Error| {
        Error::usage(format!("no answer could be read: {error}"), "give the groups as arguments")
    };
    let mut out = io::stdout();
    write!(out, "{question} [{usual}]: ").and_then(|()| out.flush()).map_err(failed)?;
    let mut line = String::new();
    if io::stdin().read_line(&mut line).map_err(failed)? == 0 {
        return Err(Error::usage("the answers ended", "give the groups as arguments"));
    }
    let answer = line.trim();
    Ok(if answer.is_empty() { usual } else { answer }.to_owned())
}
