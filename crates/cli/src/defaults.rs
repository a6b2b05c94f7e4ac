//! Where things are when neither the command line nor the configuration says otherwise.
//!
//! Owns the compiled-in paths, which nginx has too.

/// The prefix without `-p`; set when the program is built, as with nginx.
pub(crate) const PREFIX: &str = match option_env!("POINTSMAN_PREFIX") {
    Some(prefix) => prefix,
    None => "/usr/local/pointsman",
};
/// The configuration file, below the prefix.
pub(crate) const CONF_FILE: &str = "conf/nginx.conf";
/// The error log until the configuration names one, below the prefix.
pub(crate) const ERROR_LOG: &str = "logs/error.log";
/// The master's pid file, below the prefix.
pub(crate) const PID_FILE: &str = "logs/pointsman.pid";
/// The control socket, below the prefix.
pub(crate) const SOCKET: &str = "run/pointsman.sock";
