//! The directive `fleet`: the etcd in which several nodes keep the tables of their switches.
//!
//! Owns its grammar. Must never reach etcd.

use crate::config::{Builder, invalid_parameter};
use conf::{Diagnostic, Word};
use std::fmt;
use std::path::{Path, PathBuf};

/// The fleet that this node is to be in.
#[derive(Clone, PartialEq, Eq)]
pub struct FleetSpec {
    /// The members of etcd: `http://HOST:PORT`.
    pub urls: Vec<String>,
    /// The prefix of the fleet's keys.
    pub prefix: String,
    /// The node's name.
    pub node: String,
    /// The user, with the password, if etcd asks for one.
    pub user: Option<(String, String)>,
}

impl fmt::Debug for FleetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FleetSpec { urls, prefix, node, user } = self;
        let user = user.as_ref().map(|(name, _)| name);
        write!(f, "FleetSpec {{ urls: {urls:?}, prefix: {prefix:?}, node: {node:?}, user: {user:?} }}")
    }
}

/// Returns the folder in which a node keeps its copies of the fleet's tables.
pub fn fleet_folder(prefix: &Path) -> PathBuf {
    prefix.join("state/fleet")
}

/// Returns the file of a switch's copy.
pub(super) fn copy_file(prefix: &Path, switch: &str) -> PathBuf {
    fleet_folder(prefix).join(format!("{switch}.db"))
}

/// The most bytes of a name, and of a prefix.
const LONGEST: usize = 200;

/// Reads the directive.
pub(super) fn directive(b: &mut Builder<'_>, d: &conf::Directive) -> Result<(), Diagnostic> {
    if b.draft.control.fleet.is_some() {
        return Err(Diagnostic::error(d.name.span, "\"fleet\" directive is duplicate")
            .help("a node is in one fleet: remove one of the two"));
    }
    if d.args[0].text() != "etcd" {
        return Err(Diagnostic::error(
            d.args[0].span,
            format!("unknown store of a fleet \"{}\"", d.args[0].text()),
        )
        .help("for example: fleet etcd http://10.0.0.1:2379 node=a;"));
    }
    let mut spec =
        FleetSpec { urls: Vec::new(), prefix: "/pointsman".to_owned(), node: String::new(), user: None };
    let mut user: Option<(String, &Word)> = None;
    let mut password: Option<(String, &Word)> = None;
    for word in &d.args[1..] {
        let text = word.str()?;
        match text.split_once('=') {
            Some(("prefix", prefix)) => spec.prefix = checked_prefix(word, prefix)?,
            Some(("node", node)) => spec.node = checked_name(word, node)?,
            Some(("user", name)) if !name.is_empty() => user = Some((name.to_owned(), word)),
            Some(("password_file", file)) if !file.is_empty() => {
                password = Some((read_password(b, word, file)?, word));
            }
            _ if text.starts_with("https://") => {
                return Err(Diagnostic::error(word.span, "TLS to etcd is not supported by pointsman yet")
                    .help("reach etcd over a private network or a local TLS proxy: fleet etcd http://127.0.0.1:2379 node=a;"));
            }
            _ if text.starts_with("http://") => spec.urls.push(checked_url(word, text)?),
            _ => {
                return Err(invalid_parameter(word).help(
                    "fleet etcd http://HOST:PORT … [prefix=/PATH] node=NAME [user=NAME password_file=FILE];",
                ));
            }
        }
    }
    let missing = |what: &str, help: &str| Err(Diagnostic::error(d.name.span, what).help(help));
    if spec.urls.is_empty() {
        return missing("no etcd in \"fleet\"", "name its members: fleet etcd http://10.0.0.1:2379 node=a;");
    }
    if spec.node.is_empty() {
        return missing("no name of this node in \"fleet\"", "each node has one of its own: node=a");
    }
    spec.user = match (user, password) {
        (None, None) => None,
        (Some((name, _)), Some((password, _))) => Some((name, password)),
        (Some((_, word)), None) => {
            return Err(Diagnostic::error(word.span, "a user without a password")
                .help("put the password into a file: password_file=etcd.password"));
        }
        (None, Some((_, word))) => {
            return Err(Diagnostic::error(word.span, "a password without a user").help("add user=NAME"));
        }
    };
    b.draft.control.fleet = Some(spec);
    Ok(())
}

fn checked_url(word: &Word, text: &str) -> Result<String, Diagnostic> {
    let place = text.strip_prefix("http://").unwrap_or_default().trim_end_matches('/');
    let port = place.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse::<u16>().ok()?)));
    let is_good = port.is_some_and(|(host, port)| {
        let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        port > 0
            && !plain.is_empty()
            && plain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:_".contains(&byte))
    });
    if !is_good {
        return Err(Diagnostic::error(word.span, format!("invalid address of etcd \"{text}\""))
            .help("give host and port alone, as in http://10.0.0.1:2379"));
    }
    Ok(format!("http://{place}"))
}

fn checked_prefix(word: &Word, prefix: &str) -> Result<String, Diagnostic> {
    let prefix = prefix.trim_end_matches('/');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte);
    if !prefix.starts_with('/') || prefix.len() > LONGEST || !prefix.bytes().all(is_plain) {
        return Err(invalid_parameter(word)
            .help("a path of letters, digits, dots, hyphens and underscores: prefix=/pointsman/shop"));
    }
    Ok(prefix.to_owned())
}

fn checked_name(word: &Word, name: &str) -> Result<String, Diagnostic> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty() || name.len() > LONGEST || !name.bytes().all(is_plain) {
        return Err(
            invalid_parameter(word).help("letters, digits, dots, hyphens and underscores: node=gateway-1")
        );
    }
    Ok(name.to_owned())
}

fn read_password(b: &Builder<'_>, word: &Word, file: &str) -> Result<String, Diagnostic> {
    let path = b.inputs.file.parent().unwrap_or(Path::new("")).join(file);
    let wrong = |what: String| Diagnostic::error(word.span, format!("{}: {what}", path.display()));
    let bytes = b.inputs.loader.read_private(&path).map_err(|error| {
        wrong(format!("cannot be read: {error}")).help("let the master read it, and no one else")
    })?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is no text".to_owned()))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() {
        return Err(wrong("is empty".to_owned()).help("put the password into its first line"));
    }
    Ok(password.to_owned())
}
