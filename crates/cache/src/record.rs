//! The bytes of a kept response.
//!
//! A file is a **record** of fixed length, the texts that it tells the lengths of (key, origin, vary, tag, head), and the
//! body. The record is written last, and its own checksum and that of the texts are in it: a file that was not finished has
//! none, and one that was cut or overwritten is recognised. The body's length must be the file's. The body's checksum is not
//! looked at while serving; it is for files that were written before the system's last start, whose bytes may not have
//! reached the disk in their order: the thread that fills a zone at the start compares it, and puts the new start's mark there.

use crate::key::KeyHash;
use std::fmt;
use std::hash::BuildHasher;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// The length of the record.
pub const RECORD_BYTES: usize = 152;
/// The most that a record and its texts may take: heads and keys are bounded by buffers far below.
pub const MAX_META_BYTES: usize = 1 << 20;
/// Names the format and its version.
const MAGIC: &[u8; 8] = b"pmcache1";
/// The flag of a response to HEAD, which has no body.
const BODILESS: u32 = 1;
/// The flag of a response with Last-Modified.
const HAS_MODIFIED: u32 = 2;

/// One switch's choice that a response came by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// Switches, keys and targets, each ended by a zero byte.
    pub names: Vec<u8>,
    /// The newest commit that may have changed where each leads.
    pub revisions: Vec<u64>,
}

impl Provenance {
    /// Adds a choice.
    pub fn push(&mut self, switch: &[u8], key: &[u8], target: &[u8], revision: u64) {
        for part in [switch, key, target] {
            self.names.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.names.extend_from_slice(part);
        }
        self.revisions.push(revision);
    }

    /// Returns a number for the revisions, in this process: after a move it is another one.
    pub fn moves(&self) -> u64 {
        foldhash::fast::FixedState::default().hash_one(&self.revisions)
    }
}

/// The times of a kept response that a revalidation changes, in seconds since the epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// When it was fetched or found to be still good.
    pub date_s: u64,
    /// Until when it is fresh.
    pub valid_until_s: u64,
    /// How long after that it may be served while it is fetched anew, in seconds.
    pub stale_updating_s: u64,
    /// How long after that it may be served if it cannot be fetched, in seconds.
    pub stale_error_s: u64,
}

/// The data kept beside a response's body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredMeta {
    /// Its key, whole.
    pub key: Vec<u8>,
    /// By which way it came, if a switch chose its upstream.
    pub origin: Provenance,
    /// The fields of requests that it depends on.
    pub vary: Vec<u8>,
    /// The hash of their values.
    pub variant: KeyHash,
    /// Its entity tag, for revalidation.
    pub etag: Vec<u8>,
    /// Its time of change, for revalidation.
    pub last_modified_s: Option<u64>,
    /// Status line and fields, as they came.
    pub head: Vec<u8>,
    /// Its times.
    pub times: Times,
    /// It answers HEAD alone.
    pub is_bodiless: bool,
    /// The length of its body.
    pub body_len: u64,
    /// The checksum of its body.
    pub body_hash: u64,
    /// The start of the system in which it was written or last verified.
    pub boot: u64,
}

/// Why bytes are no kept response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaFault {
    /// They are not of this format, or were not finished.
    Foreign,
    /// They end too early: so many are needed.
    Short(usize),
    /// They are not what was written.
    Damaged,
}

impl fmt::Display for MetaFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            MetaFault::Foreign => "it is not of this format",
            MetaFault::Short(_) => "it is too short",
            MetaFault::Damaged => "its checksum is wrong",
        })
    }
}

/// Writes numbers one behind another.
struct Writer(Vec<u8>);

impl Writer {
    fn u32(&mut self, number: u32) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn u64(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_le_bytes());
    }
}

/// Reads them again.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], MetaFault> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(MetaFault::Damaged)?;
        self.0 = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, MetaFault> {
        let bytes = self.bytes(4)?.try_into().map_err(|_| MetaFault::Damaged)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, MetaFault> {
        let bytes = self.bytes(8)?.try_into().map_err(|_| MetaFault::Damaged)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn text(&mut self, len: u32) -> Result<Vec<u8>, MetaFault> {
        self.bytes(len as usize).map(<[u8]>::to_vec)
    }
}

impl StoredMeta {
    /// Returns the texts as they follow the record.
    pub fn texts(&self) -> Vec<u8> {
        let mut out = Writer(Vec::new());
        for text in [&self.key, &self.origin.names, &self.vary, &self.etag, &self.head] {
            out.0.extend_from_slice(text);
        }
        self.origin.revisions.iter().for_each(|revision| out.u64(*revision));
        out.0
    }

    /// Returns how much of the file comes before the body.
    pub fn body_start(&self) -> u64 {
        let texts = [&self.key, &self.origin.names, &self.vary, &self.etag, &self.head];
        let len = texts.iter().map(|text| text.len()).sum::<usize>() + self.origin.revisions.len() * 8;
        (RECORD_BYTES + len) as u64
    }

    /// Returns the record. `texts` is what [`StoredMeta::texts`] has returned.
    pub fn record(&self, texts: &[u8]) -> Vec<u8> {
        let mut out = Writer(MAGIC.to_vec());
        let flags =
            u32::from(self.is_bodiless) * BODILESS + u32::from(self.last_modified_s.is_some()) * HAS_MODIFIED;
        out.u32(flags);
        for text in [&self.key, &self.origin.names, &self.vary, &self.etag, &self.head] {
            out.u32(text.len() as u32);
        }
        out.u32(self.origin.revisions.len() as u32);
        out.u32(0);
        out.0.extend_from_slice(&self.variant.0);
        let times = &self.times;
        for number in [
            self.last_modified_s.unwrap_or_default(),
            times.date_s,
            times.valid_until_s,
            times.stale_updating_s,
            times.stale_error_s,
            self.body_len,
            self.body_hash,
            self.boot,
            xxh3_64(texts),
        ] {
            out.u64(number);
        }
        out.0.resize(RECORD_BYTES - 8, 0);
        let hash = xxh3_64(&out.0);
        out.u64(hash);
        out.0
    }

    /// Reads the beginning of a file.
    ///
    /// # Errors
    /// See [`MetaFault`]; after [`MetaFault::Short`] it may be called again with so many bytes.
    pub fn read(bytes: &[u8]) -> Result<StoredMeta, MetaFault> {
        if bytes.len() < RECORD_BYTES {
            return Err(MetaFault::Short(RECORD_BYTES));
        }
        let (record, rest) = bytes.split_at(RECORD_BYTES);
        let (content, sum) = record.split_at(RECORD_BYTES - 8);
        if !content.starts_with(MAGIC) {
            return Err(MetaFault::Foreign);
        }
        if xxh3_64(content).to_le_bytes() != sum {
            return Err(MetaFault::Damaged);
        }
        let mut from = Reader(&content[MAGIC.len()..]);
        let flags = from.u32()?;
        let mut lens = [0; 5];
        for len in &mut lens {
            *len = from.u32()?;
        }
        let revisions = from.u32()?;
        from.u32()?;
        let mut variant = [0; 16];
        variant.copy_from_slice(from.bytes(16)?);
        let modified_s = from.u64()?;
        let times = Times {
            date_s: from.u64()?,
            valid_until_s: from.u64()?,
            stale_updating_s: from.u64()?,
            stale_error_s: from.u64()?,
        };
        let (body_len, body_hash, boot, texts_hash) = (from.u64()?, from.u64()?, from.u64()?, from.u64()?);
        let texts = lens.iter().map(|len| *len as usize).sum::<usize>() + revisions as usize * 8;
        if RECORD_BYTES + texts > MAX_META_BYTES {
            return Err(MetaFault::Damaged);
        }
        let texts = rest.get(..texts).ok_or(MetaFault::Short(RECORD_BYTES + texts))?;
        if xxh3_64(texts) != texts_hash {
            return Err(MetaFault::Damaged);
        }
        let mut from = Reader(texts);
        let [key, names, vary, etag, head] = lens;
        let (key, names, vary) = (from.text(key)?, from.text(names)?, from.text(vary)?);
        let (etag, head) = (from.text(etag)?, from.text(head)?);
        let revisions = (0..revisions).map(|_| from.u64()).collect::<Result<_, _>>()?;
        Ok(StoredMeta {
            key,
            origin: Provenance { names, revisions },
            vary,
            variant: KeyHash(variant),
            etag,
            last_modified_s: (flags & HAS_MODIFIED != 0).then_some(modified_s),
            head,
            times,
            is_bodiless: flags & BODILESS != 0,
            body_len,
            body_hash,
            boot,
        })
    }

    /// Returns whether a file of this length can be this response.
    pub fn fits(&self, file_len: u64) -> bool {
        self.body_start().checked_add(self.body_len) == Some(file_len)
    }

    /// Returns the name under which it is kept: that of its key, by its way, or of its variant.
    pub fn is_named(&self, name: KeyHash) -> bool {
        let main = self.main_name();
        name == main || !self.vary.is_empty() && name == self.variant
    }

    /// Returns the name of its key, by its way.
    pub fn main_name(&self) -> KeyHash {
        KeyHash::of(&self.key).with_origin(&self.origin.names)
    }
}

/// The checksum of a body, as its bytes come.
#[derive(Clone, Default)]
pub struct BodyHash(Xxh3);

impl BodyHash {
    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the checksum of all so far.
    pub fn finish(&self) -> u64 {
        self.0.digest()
    }
}

impl fmt::Debug for BodyHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("BodyHash")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta() -> StoredMeta {
        let mut origin = Provenance::default();
        origin.push(b"backend", b"shop", b"blue", 7);
        StoredMeta {
            key: b"http://shop/".to_vec(),
            origin,
            vary: b"Accept-Encoding".to_vec(),
            variant: KeyHash::of(b"variant"),
            etag: b"\"a\"".to_vec(),
            last_modified_s: Some(5),
            head: b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n".to_vec(),
            times: Times { date_s: 1, valid_until_s: 2, stale_updating_s: 3, stale_error_s: 4 },
            is_bodiless: false,
            body_len: 3,
            body_hash: xxh3_64(b"abc"),
            boot: 9,
        }
    }

    fn bytes(meta: &StoredMeta) -> Vec<u8> {
        let texts = meta.texts();
        [meta.record(&texts), texts].concat()
    }

    #[test]
    fn written_records_are_read_back() {
        let meta = meta();
        let bytes = bytes(&meta);
        assert_eq!(bytes.len() as u64, meta.body_start());
        assert_eq!(StoredMeta::read(&bytes), Ok(meta.clone()));
        assert!(meta.fits(bytes.len() as u64 + 3) && !meta.fits(bytes.len() as u64 + 2));
        assert!(meta.is_named(meta.main_name()) && meta.is_named(KeyHash::of(b"variant")));
        assert!(!meta.is_named(KeyHash::of(b"http://shop/")), "it came by way of a switch");
        assert_eq!(StoredMeta::read(&bytes[..60]), Err(MetaFault::Short(RECORD_BYTES)));
        assert_eq!(StoredMeta::read(&bytes[..RECORD_BYTES + 4]), Err(MetaFault::Short(bytes.len())));
    }

    #[test]
    fn an_unfinished_file_is_not_a_kept_response() {
        let meta = meta();
        let unfinished = [vec![0; RECORD_BYTES], meta.texts()].concat();
        assert_eq!(StoredMeta::read(&unfinished), Err(MetaFault::Foreign));
    }

    /// Every single byte that is not as it was written is noticed.
    #[test]
    fn no_changed_byte_passes() {
        let whole = bytes(&meta());
        for at in 0..whole.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = whole.clone();
                changed[at] ^= change;
                assert!(StoredMeta::read(&changed).is_err(), "byte {at}");
            }
        }
        for len in 0..whole.len() {
            assert!(StoredMeta::read(&whole[..len]).is_err(), "{len} bytes");
        }
    }
}
