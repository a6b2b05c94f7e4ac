//! First configurations: `pointsman init` writes one, `pointsman run` starts with one at once.
//!
//! Owns what such a configuration says. Must never overwrite one that somebody may have changed.

mod init;
mod run;

pub(crate) use init::Init;
pub(crate) use run::Run;

use crate::error::Error;
use clap::Args;
use std::path::PathBuf;

/// The inputs of a gateway of two groups.
#[derive(Debug, Clone, Args)]
pub(crate) struct Starter {
    /// Address to listen on: PORT, :PORT or ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub(crate) listen: String,
    /// Certificate (PEM), to serve clients over TLS and HTTP/2
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// Private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Groups, each a name with the addresses of its servers: blue=127.0.0.1:3000,127.0.0.1:3002
    #[arg(value_name = "NAME=SERVER[,SERVER]")]
    pub(crate) groups: Vec<String>,
}

/// A group as it was written.
struct Group<'a> {
    name: &'a str,
    servers: Vec<&'a str>,
}

impl Starter {
    /// Returns the configuration; `header` is its first comment and `logs` its lines about logs.
    ///
    /// # Errors
    /// A group without a name or a server, a name twice, and text that would mean something else in a configuration.
    pub(crate) fn text(&self, header: &str, logs: &str) -> Result<String, Error> {
        let groups = self.groups()?;
        let Some(first) = groups.first() else {
            return Err(Error::usage(
                "no group is named",
                "name two, with their servers: blue=127.0.0.1:3000 green=127.0.0.1:3001",
            ));
        };
        let mut text = format!(
            "{header}\nworker_processes  auto;\n{logs}\nevents {{\n    worker_connections  1024;\n}}\n\n"
        );
        text.push_str("http {\n    access_log  off;\n\n    # WebSockets pass; other connections to the servers are kept.\n");
        text.push_str("    map $http_upgrade $connection_upgrade {\n        default  upgrade;\n        ''       '';\n    }\n\n");
        for group in &groups {
            text.push_str(&format!("    upstream {0} {{\n        zone       {0}  64k;\n", group.name));
            group.servers.iter().for_each(|server| text.push_str(&format!("        server     {server};\n")));
            text.push_str("        keepalive  32;\n    }\n\n");
        }
        let names: Vec<&str> = groups.iter().map(|group| group.name).collect();
        text.push_str(&format!(
            "    # Where each Host goes. `pointsman switch HOST {}` moves one, '*' all that have no entry of their own.\n",
            names.last().unwrap_or(&first.name)
        ));
        text.push_str(&format!(
            "    switch $host $live {{\n        default  {};\n        targets  {};\n        gate     healthy=1 timeout=1s uri=/;\n    }}\n\n",
            first.name,
            names.join(" ")
        ));
        text.push_str(&self.server()?);
        text.push_str("}\n");
        Ok(text)
    }

    fn server(&self) -> Result<String, Error> {
        let listen = self.address()?;
        let mut text = match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (absolute(certificate)?, absolute(key)?);
                format!(
                    "    server {{\n        listen  {listen} ssl;\n        http2   on;\n        ssl_certificate      {certificate};\n        ssl_certificate_key  {key};\n\n"
                )
            }
            _ => format!("    server {{\n        listen  {listen};\n\n"),
        };
        text.push_str("        location / {\n            proxy_pass          http://$live;\n            proxy_http_version  1.1;\n");
        for (name, value) in [
            ("Host", "$host"),
            ("X-Forwarded-For", "$proxy_add_x_forwarded_for"),
            ("X-Forwarded-Proto", "$scheme"),
            ("Upgrade", "$http_upgrade"),
            ("Connection", "$connection_upgrade"),
        ] {
            text.push_str(&format!("            proxy_set_header    {name:<17} {value};\n"));
        }
        text.push_str("        }\n    }\n");
        Ok(text)
    }

    /// Returns the address to listen on as a configuration has it.
    pub(crate) fn address(&self) -> Result<&str, Error> {
        let address = self.listen.strip_prefix(':').unwrap_or(&self.listen);
        let port = address.rsplit_once(':').map_or(address, |(_, port)| port);
        if !is_word(address) || port.parse::<u16>().is_err() {
            return Err(Error::usage(
                format!("\"{}\" is no address to listen on", self.listen),
                "give a port (8080), or an address with one (127.0.0.1:8080, [::1]:8080)",
            ));
        }
        Ok(address)
    }

    fn groups(&self) -> Result<Vec<Group<'_>>, Error> {
        let mut groups: Vec<Group<'_>> = Vec::new();
        for text in &self.groups {
            let wrong = |what: &str| {
                Err(Error::usage(
                    format!("\"{text}\" {what}"),
                    "a group is NAME=SERVER[,SERVER]: blue=127.0.0.1:3000",
                ))
            };
            let Some((name, servers)) = text.split_once('=') else { return wrong("has no server") };
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_name) {
                return wrong("has no name of letters, digits, \"_\", \"-\" and \".\"");
            }
            if groups.iter().any(|group| group.name == name) {
                return wrong("names a group a second time");
            }
            let servers: Vec<&str> = servers.split(',').collect();
            if !servers.iter().all(|server| is_word(server)) {
                return wrong("has a server that is no address");
            }
            groups.push(Group { name, servers });
        }
        Ok(groups)
    }
}

/// Returns true for text that is one word in a configuration, and no variable.
fn is_word(text: &str) -> bool {
    !text.is_empty()
        && !text.bytes().any(|byte| byte <= b' ' || b"\"'{};$\\#".contains(&byte) || byte == 0x7f)
}

/// Returns the path of a file, which begins at the current directory, for a configuration.
fn absolute(path: &PathBuf) -> Result<String, Error> {
    let path = std::path::absolute(path)
        .map_err(|error| Error::usage(format!("{}: {error}", path.display()), ""))?;
    match path.to_str() {
        Some(text) if is_word(text) => Ok(text.to_owned()),
        _ => Err(Error::usage(
            format!("\"{}\" cannot be written into a configuration as it is", path.display()),
            "use a path without spaces, quotes and variables",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starter(listen: &str, groups: &[&str]) -> Starter {
        Starter {
            listen: listen.to_owned(),
            tls_certificate: None,
            tls_key: None,
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
        }
    }

    #[test]
    fn groups_become_upstreams_and_targets() {
        let text = starter(":8080", &["blue=127.0.0.1:3000,127.0.0.1:3002", "green=[::1]:3001"])
            .text("# x", "")
            .unwrap();
        for line in [
            "server     127.0.0.1:3002;",
            "server     [::1]:3001;",
            "default  blue;",
            "targets  blue green;",
            "listen  8080;",
        ] {
            assert!(text.lines().any(|found| found.trim() == line), "{line}: {text}");
        }
    }

    #[test]
    fn groups_and_addresses_with_another_meaning_are_refused() {
        for (listen, groups, expected) in [
            ("8080", &["blue"][..], "\"blue\" has no server"),
            (
                "8080",
                &["=127.0.0.1:1"],
                "\"=127.0.0.1:1\" has no name of letters, digits, \"_\", \"-\" and \".\"",
            ),
            ("8080", &["a=1;b"], "\"a=1;b\" has a server that is no address"),
            ("8080", &["a=1", "a=2"], "\"a=2\" names a group a second time"),
            ("8080", &["a=1,"], "\"a=1,\" has a server that is no address"),
            ("80 80", &["a=1"], "\"80 80\" is no address to listen on"),
            ("http", &["a=1"], "\"http\" is no address to listen on"),
            ("8080", &[], "no group is named"),
        ] {
            let error = starter(listen, groups).text("", "").unwrap_err();
            assert_eq!(error.problem.text, expected);
        }
    }
}
