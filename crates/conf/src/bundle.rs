//! Where texts come from: the [`Loader`] argument, and a record of everything that one parse has read.
//!
//! The crate itself opens nothing. A [`Bundle`] carries the bytes that one process has parsed to another (the master
//! reads, the worker parses the same), so that a file that changes in between cannot make them disagree.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Reads configuration files.
pub trait Loader {
    /// Returns the bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Returns the bytes of a file that is no configuration text, such as a key: a loader that shows what it has read
    /// must not show these.
    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.read(path)
    }
    /// Returns the files that fit a pattern of `glob(3)`, sorted as it sorts them; none is not an error.
    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>>;
}

/// A loader without files, for text that names none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl Loader for NoFiles {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// A recorded answer: the value, or the system's error number.
type Recorded<T> = Result<T, i32>;

/// Everything that one parse has read: a loader that gives the same answers again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    files: BTreeMap<PathBuf, Recorded<Vec<u8>>>,
    globs: BTreeMap<PathBuf, Recorded<Vec<PathBuf>>>,
}

/// Passes every question on to another loader and records the answers. A repeated question is answered from the
/// record, so that one parse never sees two versions of a file.
pub struct RecordingLoader<'a> {
    inner: &'a dyn Loader,
    bundle: RefCell<Bundle>,
}

impl<'a> RecordingLoader<'a> {
    /// Creates an empty recorder.
    pub fn new(inner: &'a dyn Loader) -> Self {
        RecordingLoader { inner, bundle: RefCell::default() }
    }

    /// Returns the record.
    pub fn into_bundle(self) -> Bundle {
        self.bundle.into_inner()
    }
}

impl Loader for RecordingLoader<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bundle = self.bundle.borrow_mut();
        let kept = bundle.files.entry(path.to_owned()).or_insert_with(|| keep(self.inner.read(path)));
        kept.clone().map_err(io::Error::from_raw_os_error)
    }

    fn read_private(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut bundle = self.bundle.borrow_mut();
        let kept = bundle.files.entry(path.to_owned()).or_insert_with(|| keep(self.inner.read_private(path)));
        kept.clone().map_err(io::Error::from_raw_os_error)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let mut bundle = self.bundle.borrow_mut();
        let kept = bundle.globs.entry(pattern.to_owned()).or_insert_with(|| keep(self.inner.glob(pattern)));
        kept.clone().map_err(io::Error::from_raw_os_error)
    }
}

impl Loader for Bundle {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let kept = self.files.get(path).cloned().unwrap_or(Err(ENOENT));
        kept.map_err(io::Error::from_raw_os_error)
    }

    fn glob(&self, pattern: &Path) -> io::Result<Vec<PathBuf>> {
        let kept = self.globs.get(pattern).cloned().unwrap_or(Err(ENOENT));
        kept.map_err(io::Error::from_raw_os_error)
    }
}

/// "No such file or directory", the same number on every Unix.
const ENOENT: i32 = 2;
/// "Input/output error", for a loader's error that has no number of its own.
const EIO: i32 = 5;
/// The first bytes of a bundle, with its version.
const MAGIC: &[u8] = b"pointsman-bundle-1\n";

fn keep<T>(result: io::Result<T>) -> Recorded<T> {
    result.map_err(|error| {
        error.raw_os_error().unwrap_or(if error.kind() == io::ErrorKind::NotFound { ENOENT } else { EIO })
    })
}

impl Bundle {
    /// Encodes the bundle for another process. Lengths are 64-bit little-endian numbers before what they count.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        put_number(&mut out, self.files.len() as u64);
        for (path, recorded) in &self.files {
            put_bytes(&mut out, path.as_os_str().as_bytes());
            put_recorded(&mut out, recorded, |out, text| put_bytes(out, text));
        }
        put_number(&mut out, self.globs.len() as u64);
        for (pattern, recorded) in &self.globs {
            put_bytes(&mut out, pattern.as_os_str().as_bytes());
            put_recorded(&mut out, recorded, |out, paths| {
                put_number(out, paths.len() as u64);
                paths.iter().for_each(|path| put_bytes(out, path.as_os_str().as_bytes()));
            });
        }
        out
    }

    /// Decodes the bytes of [`Bundle::to_bytes`]; `None` if they are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Bundle> {
        let mut rest = bytes.strip_prefix(MAGIC)?;
        let mut bundle = Bundle::default();
        for _ in 0..take_number(&mut rest)? {
            let path = take_path(&mut rest)?;
            let recorded = take_recorded(&mut rest, |rest| take_bytes(rest).map(<[u8]>::to_vec))?;
            bundle.files.insert(path, recorded);
        }
        for _ in 0..take_number(&mut rest)? {
            let pattern = take_path(&mut rest)?;
            let recorded = take_recorded(&mut rest, |rest| {
                let count = take_number(rest)?;
                (0..count).map(|_| take_path(rest)).collect()
            })?;
            bundle.globs.insert(pattern, recorded);
        }
        rest.is_empty().then_some(bundle)
    }
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_recorded<T>(out: &mut Vec<u8>, recorded: &Recorded<T>, put: impl Fn(&mut Vec<u8>, &T)) {
    // An error number is never 0, so 0 says that a value follows.
    put_number(out, recorded.as_ref().map_or_else(|errno| *errno as u32 as u64, |_| 0));
    if let Ok(value) = recorded {
        put(out, value);
    }
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let (number, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(u64::from_le_bytes(*number))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_number(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

fn take_path(rest: &mut &[u8]) -> Option<PathBuf> {
    take_bytes(rest).map(|bytes| PathBuf::from(OsString::from_vec(bytes.to_vec())))
}

fn take_recorded<T>(rest: &mut &[u8], take: impl Fn(&mut &[u8]) -> Option<T>) -> Option<Recorded<T>> {
    match take_number(rest)? {
        0 => take(rest).map(Ok),
        errno => Some(Err(u32::try_from(errno).ok()? as i32)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Shelf;
    impl Loader for Shelf {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            match path.to_str() {
                Some("/a.conf") => Ok(b"include b/*;\0\xff".to_vec()),
                _ => Err(io::Error::from_raw_os_error(13)),
            }
        }
        fn glob(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
            Ok(vec!["/b/1".into(), "/b/2".into()])
        }
    }

    #[test]
    fn a_decoded_bundle_answers_as_the_loader_did() {
        let recorder = RecordingLoader::new(&Shelf);
        assert!(recorder.read(Path::new("/a.conf")).is_ok());
        assert!(recorder.read(Path::new("/secret")).is_err());
        assert_eq!(recorder.glob(Path::new("/b/*")).unwrap().len(), 2);
        let bundle = recorder.into_bundle();
        let bytes = bundle.to_bytes();
        let again = Bundle::from_bytes(&bytes).unwrap();
        assert_eq!(again, bundle);
        assert_eq!(again.read(Path::new("/a.conf")).unwrap(), b"include b/*;\0\xff");
        assert_eq!(again.read(Path::new("/secret")).unwrap_err().raw_os_error(), Some(13));
        assert_eq!(again.read(Path::new("/never")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(again.glob(Path::new("/b/*")).unwrap(), [Path::new("/b/1"), Path::new("/b/2")]);
        for len in 0..bytes.len() {
            assert!(
                Bundle::from_bytes(&bytes[..len]).is_none(),
                "{len} bytes were accepted as a whole bundle"
            );
        }
        let mut huge = MAGIC.to_vec();
        put_number(&mut huge, u64::MAX);
        put_number(&mut huge, u64::MAX);
        assert!(Bundle::from_bytes(&huge).is_none());
    }
}
