//! Where things are when neither the command line nor the configuration says otherwise.
//!
//! Owns the compiled-in paths. As with nginx's `./configure`, a package sets them when the program is built; here by
//! environment variables.

/// The prefix without `-p`.
pub(crate) const PREFIX: &str = match option_env!("POINTSMAN_PREFIX") {
    Some(prefix) => prefix,
    None => "/usr/local/pointsman",
};
/// The configuration file; below the prefix if it is relative.
pub(crate) const CONF_FILE: &str = match option_env!("POINTSMAN_CONF_PATH") {
    Some(path) => path,
    None => "conf/nginx.conf",
};
/// The error log until the configuration names one; below the prefix if it is relative.
pub(crate) const ERROR_LOG: &str = match option_env!("POINTSMAN_ERROR_LOG_PATH") {
    Some(path) => path,
    None => "logs/error.log",
};
/// The master's pid file, below the prefix.
pub(crate) const PID_FILE: &str = "logs/pointsman.pid";
/// The control socket, below the prefix.
pub(crate) const SOCKET: &str = "run/pointsman.sock";
