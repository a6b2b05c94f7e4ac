//! Where a configuration comes from.
//!
//! Owns [`Source`] (which files to load) and the only way in which their text reaches the program. Must never cache:
//! each load sees the files as they are.

use crate::log::LogTarget;
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Which configuration to load: the command line, made absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The directory that relative paths of the configuration start from (`-p`).
    pub prefix: PathBuf,
    /// The configuration file (`-c`).
    pub conf_file: PathBuf,
    /// The error log until the configuration names one, and after that if it names none (`-e`).
    pub error_log: LogTarget,
    /// Directives in front of the configuration file (`-g`).
    pub globals: Option<Vec<u8>>,
    /// Whether findings are drawn in colour.
    pub colour: bool,
}

/// Reads files from the disk; patterns are expanded by `glob(3)`, as nginx does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl conf::Loader for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = CString::new(pattern.as_os_str().as_bytes())?;
        // SAFETY: glob_t is plain data for which all zeroes is the documented start. The pattern is a C string that
        // outlives the call; on success gl_pathv holds gl_pathc C strings, each copied before globfree releases
        // them, which is called exactly once whatever glob returned.
        #[allow(unsafe_code)]
        unsafe {
            let mut found: libc::glob_t = std::mem::zeroed();
            let result = libc::glob(pattern.as_ptr(), 0, None, &mut found);
            let mut paths = Vec::new();
            if result == 0 {
                for at in 0..found.gl_pathc {
                    let path = CStr::from_ptr(*found.gl_pathv.add(at));
                    paths.push(PathBuf::from(OsString::from_vec(path.to_bytes().to_vec())));
                }
            }
            libc::globfree(&mut found);
            match result {
                0 | libc::GLOB_NOMATCH => Ok(paths),
                libc::GLOB_NOSPACE => Err(io::Error::from_raw_os_error(libc::ENOMEM)),
                _ => Err(io::Error::from_raw_os_error(libc::EIO)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use conf::Loader;

    #[test]
    fn glob_returns_matches_in_order() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.conf", "a.conf", "c.txt", ".hidden.conf"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let found = Disk.glob(&folder.path().join("*.conf")).unwrap();
        assert_eq!(found, [folder.path().join("a.conf"), folder.path().join("b.conf")]);
        assert_eq!(Disk.glob(&folder.path().join("*.none")).unwrap(), [] as [PathBuf; 0]);
        assert_eq!(Disk.read(&found[0]).unwrap(), b"a.conf");
    }
}
