//! A configuration of several files from one input: a line `=== NAME` begins another file, the text before the first is the
//! main one. It reads no real file.

use bstr::ByteSlice;
use conf::Loader;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The path of the main file; the others are beside it.
pub(crate) const MAIN: &str = "/c/nginx.conf";
/// The most files of an input.
const MOST: usize = 16;

/// The files of an input.
pub(crate) struct Files(BTreeMap<PathBuf, Vec<u8>>);

/// Returns the main text, and the files.
pub(crate) fn split(data: &[u8]) -> (Vec<u8>, Files) {
    let mut files = BTreeMap::new();
    let mut path = PathBuf::from(MAIN);
    let mut text = Vec::new();
    for line in data.lines_with_terminator() {
        match line.strip_prefix(b"=== ") {
            Some(name) if files.len() < MOST => {
                let next = Path::new("/c").join(OsStr::from_bytes(name.trim_ascii()));
                files.insert(std::mem::replace(&mut path, next), std::mem::take(&mut text));
            }
            _ => text.extend_from_slice(line),
        }
    }
    files.insert(path, text);
    let main = files.get(Path::new(MAIN)).cloned().unwrap_or_default();
    (main, Files(files))
}

impl Loader for Files {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.get(path).cloned().ok_or_else(|| io::Error::from_raw_os_error(libc::ENOENT))
    }

    /// Returns a star matches anything; other characters match themselves.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let pattern = pattern.as_os_str().as_bytes();
        let (before, after) = pattern.split_once_str(b"*").unwrap_or((pattern, b""));
        let fits = |path: &&PathBuf| {
            let path = path.as_os_str().as_bytes();
            path.len() >= before.len() + after.len() && path.starts_with(before) && path.ends_with(after)
        };
        Ok(self.0.keys().filter(fits).cloned().collect())
    }
}
