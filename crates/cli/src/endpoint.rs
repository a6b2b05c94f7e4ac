//! Where the server listens for orders.
//!
//! Owns the way from `-p`, `-c`, `-g` and `--control` to an address. It parses the configuration and takes only the
//! `control` directive from it, so that a configuration that is being edited is no obstacle. Must never check one.

use crate::defaults;
use crate::error::{Code, Error};
use bstr::ByteSlice;
use server::process::Disk;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The address of a control API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// Its control socket.
    Socket(PathBuf),
    /// A location with `control_api`.
    Http {
        /// Host and port, to connect to.
        authority: String,
        /// The path before `/v1`, without a slash at the end.
        base: String,
        /// It is `https`.
        over_tls: bool,
    },
}

impl Endpoint {
    /// Returns true if what is sent can be read on the way there: not on this machine, and not encrypted.
    pub(crate) fn is_exposed(&self) -> bool {
        match self {
            Endpoint::Http { authority, over_tls: false, .. } => {
                let host = host_of(authority);
                let address = host.parse::<std::net::IpAddr>();
                !host.eq_ignore_ascii_case("localhost")
                    && !address.is_ok_and(|it| it.to_canonical().is_loopback())
            }
            Endpoint::Http { .. } | Endpoint::Socket(_) => false,
        }
    }
}

/// Returns the host of an authority with a port, without brackets.
pub(crate) fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
    host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Socket(path) => write!(f, "{}", path.display()),
            Endpoint::Http { authority, base, over_tls } => {
                write!(f, "http{}://{authority}{base}", if *over_tls { "s" } else { "" })
            }
        }
    }
}

/// Where packages put the configuration.
const PACKAGED: &str = "/etc/pointsman";

/// Returns the prefix without `-p`: the compiled-in one, or that of a package if the configuration is only there.
fn usual_prefix(conf_file: &OsStr, compiled_in: &Path, packaged: &Path) -> PathBuf {
    let has = |prefix: &Path| prefix.join(conf_file).exists();
    if !has(compiled_in) && has(packaged) { packaged.to_owned() } else { compiled_in.to_owned() }
}

/// Returns the address given with `--control`, or else that of the configuration.
pub(crate) fn find(
    control: Option<&str>,
    prefix: Option<&OsStr>,
    conf_file: Option<&OsStr>,
    globals: Option<&OsStr>,
) -> Result<Endpoint, Error> {
    if let Some(text) = control {
        // On the command line a relative path starts at the current directory, as everywhere in a shell.
        return written(text, Path::new(""));
    }
    let conf_file = conf_file.unwrap_or(OsStr::new(defaults::CONF_FILE));
    let usual = || usual_prefix(conf_file, Path::new(defaults::PREFIX), Path::new(PACKAGED));
    let prefix = std::path::absolute(prefix.map_or_else(usual, PathBuf::from))
        .map_err(|error| Error::usage(format!("cannot find the current directory: {error}"), ""))?;
    let conf_file = prefix.join(conf_file);
    let parsed = conf::parse_with_option(&conf_file, globals.map(OsStrExt::as_bytes), &Disk);
    let directive = parsed.tree.directives.iter().rev().find(|directive| directive.name.value == "control");
    let endpoint = match directive.and_then(|directive| directive.args.first()) {
        Some(word) if word.value == "off" => {
            return Err(Error::usage(
                format!("the control socket is off in {}", conf_file.display()),
                "use --control with the address of a location that has control_api: --control http://HOST:PORT/PATH",
            ));
        }
        Some(word) => Endpoint::Socket(prefix.join(socket(&word.value.to_os_str_lossy()))),
        None => Endpoint::Socket(prefix.join(defaults::SOCKET)),
    };
    // Without the file the path of the socket is a guess, which is fine if the socket exists.
    let guessed = directive.is_none() && parsed.has_errors();
    match &endpoint {
        Endpoint::Socket(path) if guessed && !path.exists() => Err(Error::new(
            Code::Unreachable,
            "no_configuration",
            format!("cannot read {}, and {} does not exist", conf_file.display(), path.display()),
            "give the configuration with -p and -c, or the socket with --control",
        )),
        _ => Ok(endpoint),
    }
}

/// Parses the value of `--control`: a socket with or without `unix:`, or an http or https address.
fn written(text: &str, folder: &Path) -> Result<Endpoint, Error> {
    for (scheme, port, over_tls) in [("http://", 80, false), ("https://", 443, true)] {
        let Some(rest) = text.strip_prefix(scheme) else { continue };
        let (authority, base) = rest.split_once('/').map_or((rest, String::new()), |(authority, base)| {
            (authority, format!("/{}", base.trim_end_matches('/')))
        });
        let base = if base == "/" { String::new() } else { base };
        let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { authority.to_owned() } else { format!("{authority}:{port}") };
        return Ok(Endpoint::Http { authority, base, over_tls });
    }
    Ok(Endpoint::Socket(folder.join(socket(OsStr::new(text)))))
}

fn socket(text: &OsStr) -> PathBuf {
    let bytes = text.as_bytes();
    PathBuf::from(OsStr::from_bytes(bytes.strip_prefix(b"unix:").unwrap_or(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(conf: &str, globals: Option<&str>) -> Result<Endpoint, Error> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.conf"), conf).unwrap();
        let endpoint =
            find(None, Some(folder.path().as_os_str()), Some(OsStr::new("a.conf")), globals.map(OsStr::new))?;
        let Endpoint::Socket(path) = endpoint else { panic!("{endpoint}") };
        Ok(Endpoint::Socket(path.strip_prefix(folder.path()).map_or(path.clone(), PathBuf::from)))
    }

    #[test]
    fn the_configuration_names_the_socket() {
        let socket = |path: &str| Endpoint::Socket(path.into());
        assert_eq!(found("events {}\n", None).unwrap(), socket("run/pointsman.sock"));
        assert_eq!(found("control unix:a.sock mode=0660;\n", None).unwrap(), socket("a.sock"));
        assert_eq!(found("control /run/x.sock;", None).unwrap(), socket("/run/x.sock"));
        assert_eq!(found("", Some("control g.sock;")).unwrap(), socket("g.sock"));
        assert_eq!(found("control off;", None).unwrap_err().code, Code::Usage);
    }

    #[test]
    fn a_package_has_a_place_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let (compiled_in, packaged) = (folder.path().join("local"), folder.path().join("etc"));
        let usual = || usual_prefix(OsStr::new("nginx.conf"), &compiled_in, &packaged);
        assert_eq!(usual(), compiled_in);
        for (place, expected) in [(&packaged, &packaged), (&compiled_in, &compiled_in)] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("nginx.conf"), "").unwrap();
            assert_eq!(&usual(), expected);
        }
    }

    #[test]
    fn a_file_that_is_being_edited_is_no_obstacle() {
        let endpoint = found("control a.sock;\nhttp { server { listen 80", None).unwrap();
        assert_eq!(endpoint, Endpoint::Socket("a.sock".into()));
        let none = find(None, Some(OsStr::new("/nonexistent")), None, None).unwrap_err();
        assert_eq!(none.code, Code::Unreachable);
        assert!(none.problem.text.contains("/nonexistent/conf/nginx.conf"), "{}", none.problem.text);
    }

    #[test]
    fn a_place_can_be_written() {
        let endpoint = |text: &str| find(Some(text), None, None, None).unwrap();
        assert_eq!(endpoint("unix:run/a.sock"), Endpoint::Socket("run/a.sock".into()));
        assert_eq!(endpoint("/a.sock"), Endpoint::Socket("/a.sock".into()));
        let at = |authority: &str, base: &str, over_tls| Endpoint::Http {
            authority: authority.into(),
            base: base.into(),
            over_tls,
        };
        let http = |authority: &str, base: &str| at(authority, base, false);
        assert_eq!(endpoint("http://127.0.0.1:8080/control/"), http("127.0.0.1:8080", "/control"));
        assert_eq!(endpoint("http://gateway"), http("gateway:80", ""));
        assert_eq!(endpoint("http://[::1]/"), http("[::1]:80", ""));
        assert_eq!(endpoint("https://gateway/x/"), at("gateway:443", "/x", true));
        assert_eq!(endpoint("https://gateway/x/").to_string(), "https://gateway:443/x");
    }

    #[test]
    fn clear_text_to_another_machine_is_exposed() {
        let exposed = |text: &str| find(Some(text), None, None, None).unwrap().is_exposed();
        for text in [
            "http://gateway/",
            "http://192.0.2.1:80",
            "http://[2001:db8::1]:80",
            "http://localhost.evil.example/",
        ] {
            assert!(exposed(text), "{text}");
        }
        for text in
            ["http://LocalHost/", "http://127.8.0.1:80/x", "http://[::1]/", "https://gateway/", "/run/a.sock"]
        {
            assert!(!exposed(text), "{text}");
        }
    }
}
