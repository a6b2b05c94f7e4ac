//! Certificates whose names have variables: each handshake works the names out, and has the files read.
//!
//! Owns the cache of them (`ssl_certificate_cache` and its kin). Must never read a file: a [`HandshakeFiles`] does.

use crate::certificates::{self, Pair};
use ::aws_lc_rs::digest;
use engine::modules::ssl::{CertificateCache, HandshakeFile, HandshakePair};
use engine::ssl_file::SslFile;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The parts of a file's metadata that change with its contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    /// The number of its inode.
    pub inode: u64,
    /// Its length in bytes.
    pub len: u64,
    /// The time of its last change, in ns since the epoch.
    pub modified_ns: i128,
}

/// The files that handshakes need.
pub trait HandshakeFiles {
    /// Reads a file.
    ///
    /// # Errors
    /// Fails with what the error log says behind the file's name: `open() failed (2: No such file or directory)`.
    fn read(&mut self, path: &[u8]) -> Result<(Vec<u8>, FileStamp), String>;
    /// Returns the file's stamp, if there is such a file.
    fn stamp(&mut self, path: &[u8]) -> Option<FileStamp>;
    /// Returns the time, in ms of a clock that never goes back.
    fn now_ms(&self) -> u64;
}

/// The name of a pair in a cache: a digest, as it may be the contents themselves.
type PairName = [u8; 32];

/// A pair that is kept.
struct Kept {
    pair: Arc<CertifiedKey>,
    stamps: [Option<FileStamp>; 2],
    checked_ms: u64,
    used_ms: u64,
}

/// The certificates of a server, or of locations with equal settings, that handshakes name.
pub(crate) struct LatePairs {
    passwords: Option<SslFile>,
    provider: CryptoProvider,
    cache: Option<CertificateCache>,
    kept: Mutex<HashMap<PairName, Kept>>,
}

impl fmt::Debug for LatePairs {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("LatePairs").field("cache", &self.cache).finish_non_exhaustive()
    }
}

impl LatePairs {
    /// Prepares to load them.
    pub(crate) fn new(passwords: Option<SslFile>, cache: Option<CertificateCache>) -> LatePairs {
        LatePairs { passwords, provider: aws_lc_rs::default_provider(), cache, kept: Mutex::default() }
    }

    /// Returns the certificate and key of these names.
    ///
    /// # Errors
    /// Fails if they cannot be read or used; the text is for the error log.
    pub(crate) fn load(
        &self,
        names: &HandshakePair,
        files: &mut dyn HandshakeFiles,
    ) -> Result<Arc<CertifiedKey>, String> {
        let Some(cache) = self.cache else { return self.read(names, files).map(|(pair, _)| pair) };
        let (name, now_ms) = (name_of(names), files.now_ms());
        if let Some(pair) = self.known(&name, names, files, cache, now_ms) {
            return Ok(pair);
        }
        let (pair, stamps) = self.read(names, files)?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, entry| now_ms.saturating_sub(entry.used_ms) <= cache.inactive_ms);
        if kept.len() >= cache.max && !kept.contains_key(&name) {
            let oldest = kept.iter().min_by_key(|(_, entry)| entry.used_ms).map(|(name, _)| *name);
            oldest.and_then(|oldest| kept.remove(&oldest));
        }
        kept.insert(name, Kept { pair: Arc::clone(&pair), stamps, checked_ms: now_ms, used_ms: now_ms });
        Ok(pair)
    }

    /// Returns a pair that is kept, if it may be used still.
    fn known(
        &self,
        name: &PairName,
        names: &HandshakePair,
        files: &mut dyn HandshakeFiles,
        cache: CertificateCache,
        now_ms: u64,
    ) -> Option<Arc<CertifiedKey>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = kept.get_mut(name)?;
        let since = |then_ms: u64| now_ms.saturating_sub(then_ms);
        let is_good = since(entry.used_ms) <= cache.inactive_ms
            && (since(entry.checked_ms) < cache.valid_ms
                || entry.stamps == [&names.0, &names.1].map(|file| stamp(file, files)));
        if !is_good {
            kept.remove(name);
            return None;
        }
        if since(entry.checked_ms) >= cache.valid_ms {
            entry.checked_ms = now_ms;
        }
        entry.used_ms = now_ms;
        Some(Arc::clone(&entry.pair))
    }

    fn read(
        &self,
        (certificate, key): &HandshakePair,
        files: &mut dyn HandshakeFiles,
    ) -> Result<(Arc<CertifiedKey>, [Option<FileStamp>; 2]), String> {
        let (certificate, first) = whole(certificate, "certificate", files)?;
        certificates::load_chain(&certificate).map_err(|fault| fault.text)?;
        let (key, second) = whole(key, "certificate key", files)?;
        match certificates::load(&certificate, &key, self.passwords.as_ref(), &self.provider) {
            Ok(Pair { key, .. }) => Ok((key, [first, second])),
            Err(fault) => Err(fault.text),
        }
    }
}

fn stamp(file: &HandshakeFile, files: &mut dyn HandshakeFiles) -> Option<FileStamp> {
    match file {
        HandshakeFile::Path(path) => files.stamp(path),
        HandshakeFile::Known(_) | HandshakeFile::Data(_) => None,
    }
}

/// Returns a file with its bytes, and its stamp if they were read.
fn whole(
    file: &HandshakeFile,
    what: &str,
    files: &mut dyn HandshakeFiles,
) -> Result<(SslFile, Option<FileStamp>), String> {
    match file {
        HandshakeFile::Known(file) => Ok((file.clone(), None)),
        HandshakeFile::Data(data) => Ok((SslFile::of_handshake("data:...", data.to_vec()), None)),
        HandshakeFile::Path(path) => {
            let name = String::from_utf8_lossy(path);
            let (bytes, stamp) =
                files.read(path).map_err(|why| format!("cannot load {what} \"{name}\": {why}"))?;
            Ok((SslFile::of_handshake(&name, bytes), Some(stamp)))
        }
    }
}

/// Returns a digest of the names of a pair, or of the contents that stand in their place.
pub fn name_of((certificate, key): &HandshakePair) -> PairName {
    let mut context = digest::Context::new(&digest::SHA256);
    for file in [certificate, key] {
        let (kind, bytes): (u8, &[u8]) = match file {
            HandshakeFile::Known(file) => (0, file.bytes()),
            HandshakeFile::Path(path) => (1, path),
            HandshakeFile::Data(data) => (2, data),
        };
        context.update(&[kind]);
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    /// Files in memory, how often they were read, and the time.
    #[derive(Default)]
    struct Files {
        known: HashMap<Vec<u8>, (Vec<u8>, i128)>,
        reads: usize,
        now_ms: u64,
    }

    impl Files {
        fn put(&mut self, name: &str) {
            let key = KeyPair::generate().unwrap();
            let made = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
            let changes = self.known.len() as i128 + self.now_ms as i128;
            self.known.insert(format!("/{name}.crt").into(), (made.pem().into(), changes));
            self.known.insert(format!("/{name}.key").into(), (key.serialize_pem().into(), changes));
        }
    }

    impl HandshakeFiles for Files {
        fn read(&mut self, path: &[u8]) -> Result<(Vec<u8>, FileStamp), String> {
            self.reads += 1;
            let stamp = self.stamp(path).ok_or("open() failed (2: No such file or directory)")?;
            Ok((self.known[path].0.clone(), stamp))
        }

        fn stamp(&mut self, path: &[u8]) -> Option<FileStamp> {
            let (bytes, modified_ns) = self.known.get(path)?;
            Some(FileStamp { inode: 1, len: bytes.len() as u64, modified_ns: *modified_ns })
        }

        fn now_ms(&self) -> u64 {
            self.now_ms
        }
    }

    fn names(name: &str) -> HandshakePair {
        let file = |kind: &str| HandshakeFile::Path(format!("/{name}.{kind}").into());
        (file("crt"), file("key"))
    }

    #[test]
    fn pairs_are_kept_while_they_are_asked_for_and_their_files_stay() {
        let cache = CertificateCache { max: 2, inactive_ms: 100, valid_ms: 250 };
        let (late, mut files) = (LatePairs::new(None, Some(cache)), Files::default());
        ["a", "b", "c"].iter().for_each(|name| files.put(name));
        let reads = |late: &LatePairs, files: &mut Files, name: &str, now_ms: u64| {
            (files.now_ms, files.reads) = (now_ms, 0);
            late.load(&names(name), files).unwrap();
            files.reads
        };
        assert_eq!(reads(&late, &mut files, "a", 0), 2);
        assert_eq!(reads(&late, &mut files, "a", 100), 0);
        assert_eq!(reads(&late, &mut files, "a", 201), 2, "not asked for in time");
        for now_ms in [300, 400, 460] {
            assert_eq!(reads(&late, &mut files, "a", now_ms), 0, "looked at again at 460: unchanged");
        }
        files.put("a");
        assert_eq!(reads(&late, &mut files, "a", 560), 0, "not looked at yet");
        for now_ms in [650, 700] {
            assert_eq!(reads(&late, &mut files, "a", now_ms), 0);
        }
        assert_eq!(reads(&late, &mut files, "a", 710), 2, "changed");
        assert_eq!(reads(&late, &mut files, "b", 711), 2);
        assert_eq!(reads(&late, &mut files, "a", 712), 0);
        assert_eq!(reads(&late, &mut files, "c", 713), 2);
        assert_eq!(reads(&late, &mut files, "a", 714), 0);
        assert_eq!(reads(&late, &mut files, "b", 715), 2, "had to make room");
    }

    #[test]
    fn faults_name_the_file_and_never_its_contents() {
        let (late, mut files) = (LatePairs::new(None, None), Files::default());
        files.put("a");
        files.put("b");
        let missing = late.load(&names("none"), &mut files).unwrap_err();
        assert_eq!(
            missing,
            "cannot load certificate \"/none.crt\": open() failed (2: No such file or directory)"
        );
        let crossed = (names("a").0, names("b").1);
        let crossed = late.load(&crossed, &mut files).unwrap_err();
        assert_eq!(crossed, "the key \"/b.key\" does not match the certificate \"/a.crt\"");
        let data = |text: &str| HandshakeFile::Data(Arc::new(text.as_bytes().to_vec().into()));
        let secret = (names("a").0, data("secret"));
        assert_eq!(format!("{secret:?}"), "(/a.crt, data:...)");
        let text = late.load(&secret, &mut files).unwrap_err();
        assert_eq!(text, "cannot load certificate key \"data:...\": there is no private key in it");
        let whole = |path: &str| String::from_utf8(files.known[path.as_bytes()].0.clone()).unwrap();
        let inline = (data(&whole("/a.crt")), data(&whole("/a.key")));
        assert!(late.load(&inline, &mut Files::default()).is_ok());
    }
}
