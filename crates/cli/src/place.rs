//! Where the server that is to be spoken to listens.
//!
//! Owns the way from `-p`, `-c`, `-g` and `--control` to an address. It reads the configuration as text and takes only
//! the `control` directive from it, so that a configuration somebody is just editing stands in nobody's way. Must
//! never check one.

use crate::fault::{Code, Fault};
use crate::flags;
use bstr::ByteSlice;
use server::process::Disk;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Below the prefix, where no `control` directive says otherwise.
const SOCKET: &str = "run/pointsman.sock";

/// Where a server listens for orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its control socket.
    Socket(PathBuf),
    /// A location with `control_api`.
    Http {
        /// Host and port, to connect to.
        authority: String,
        /// What stands before `/v1`, without a slash at the end.
        base: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Socket(path) => write!(f, "{}", path.display()),
            Place::Http { authority, base } => write!(f, "http://{authority}{base}"),
        }
    }
}

/// Finds the place: what `--control` says, or else the configuration.
pub(crate) fn find(
    control: Option<&str>,
    prefix: Option<&OsStr>,
    conf_file: Option<&OsStr>,
    globals: Option<&OsStr>,
) -> Result<Place, Fault> {
    let prefix = std::path::absolute(prefix.unwrap_or(OsStr::new(flags::PREFIX)))
        .map_err(|error| Fault::usage(format!("there is no current folder: {error}"), ""))?;
    if let Some(text) = control {
        // On the command line a relative path is below the current folder, as everywhere in a shell.
        return written(text, Path::new(""));
    }
    let conf_file = prefix.join(conf_file.map_or(OsString::from(flags::CONF_FILE), OsString::from));
    let parsed = conf::parse_with_option(&conf_file, globals.map(OsStrExt::as_bytes), &Disk);
    let directive = parsed.tree.directives.iter().rev().find(|directive| directive.name.value == "control");
    let place = match directive.and_then(|directive| directive.args.first()) {
        Some(word) if word.value == "off" => {
            return Err(Fault::usage(
                format!("the control socket is off in {}", conf_file.display()),
                "use --control with the address of a location that has control_api: --control http://HOST:PORT/PATH",
            ));
        }
        Some(word) => Place::Socket(prefix.join(socket(&word.value.to_os_str_lossy()))),
        None => Place::Socket(prefix.join(SOCKET)),
    };
    // Without the file the socket's place is a guess, which is fine if somebody is there.
    let guessed = directive.is_none() && parsed.has_errors();
    match &place {
        Place::Socket(path) if guessed && !path.exists() => Err(Fault::new(
            Code::Unreachable,
            "no_configuration",
            format!("{} cannot be read, and there is no {}", conf_file.display(), path.display()),
            "say where the configuration is with -p and -c, or where the socket is with --control",
        )),
        _ => Ok(place),
    }
}

/// What `--control` may say: a socket with or without `unix:`, or an http address.
fn written(text: &str, folder: &Path) -> Result<Place, Fault> {
    if let Some(rest) = text.strip_prefix("http://") {
        let (authority, base) = rest.split_once('/').map_or((rest, String::new()), |(authority, base)| {
            (authority, format!("/{}", base.trim_end_matches('/')))
        });
        let base = if base == "/" { String::new() } else { base };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:80") };
        return Ok(Place::Http { authority, base });
    }
    if text.starts_with("https://") {
        return Err(Fault::usage(
            "--control speaks no TLS",
            "use the control socket, or a tunnel to it: ssh -L ./pointsman.sock:/path/to/pointsman.sock HOST",
        ));
    }
    Ok(Place::Socket(folder.join(socket(OsStr::new(text)))))
}

fn socket(text: &OsStr) -> PathBuf {
    let bytes = text.as_bytes();
    PathBuf::from(OsStr::from_bytes(bytes.strip_prefix(b"unix:").unwrap_or(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(conf: &str, globals: Option<&str>) -> Result<Place, Fault> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.conf"), conf).unwrap();
        let place =
            find(None, Some(folder.path().as_os_str()), Some(OsStr::new("a.conf")), globals.map(OsStr::new))?;
        let Place::Socket(path) = place else { panic!("{place}") };
        Ok(Place::Socket(path.strip_prefix(folder.path()).map_or(path.clone(), PathBuf::from)))
    }

    #[test]
    fn the_configuration_says_where() {
        let socket = |path: &str| Place::Socket(path.into());
        assert_eq!(found("events {}\n", None).unwrap(), socket("run/pointsman.sock"));
        assert_eq!(found("control unix:a.sock mode=0660;\n", None).unwrap(), socket("a.sock"));
        assert_eq!(found("control /run/x.sock;", None).unwrap(), socket("/run/x.sock"));
        assert_eq!(found("", Some("control g.sock;")).unwrap(), socket("g.sock"));
        assert_eq!(found("control off;", None).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_file_that_is_being_edited_is_no_obstacle() {
        let place = found("control a.sock;\nhttp { server { listen 80", None).unwrap();
        assert_eq!(place, Place::Socket("a.sock".into()));
        let none = find(None, Some(OsStr::new("/nonexistent")), None, None).unwrap_err();
        assert_eq!(none.code, Code::Unreachable);
        assert!(none.problem.text.contains("/nonexistent/conf/nginx.conf"), "{}", none.problem.text);
    }

    #[test]
    fn a_place_can_be_written() {
        let place = |text: &str| find(Some(text), None, None, None).unwrap();
        assert_eq!(place("unix:run/a.sock"), Place::Socket("run/a.sock".into()));
        assert_eq!(place("/a.sock"), Place::Socket("/a.sock".into()));
        let http =
            |authority: &str, base: &str| Place::Http { authority: authority.into(), base: base.into() };
        assert_eq!(place("http://127.0.0.1:8080/control/"), http("127.0.0.1:8080", "/control"));
        assert_eq!(place("http://gateway"), http("gateway:80", ""));
        assert_eq!(place("http://[::1]/"), http("[::1]:80", ""));
        assert_eq!(find(Some("https://a"), None, None, None).unwrap_err().code, Code::Usage);
    }
}
