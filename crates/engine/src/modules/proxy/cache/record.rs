//! A request's part in kept responses.

use cache::{KeyHash, Provenance, StoredMeta, ZoneUse};
use http::Headers;
use std::fs::File;
use std::rc::Rc;

/// The zone's status for a request (`$upstream_cache_status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheStatus {
    /// There was nothing.
    #[default]
    Miss,
    /// It did not look (`proxy_cache_bypass`).
    Bypass,
    /// The kept response is too old.
    Expired,
    /// The kept response is too old, and was served because no other could be fetched.
    Stale,
    /// The same, because it is being fetched.
    Updating,
    /// The kept response is too old, and the upstream says that it is still good.
    Revalidated,
    /// It was served from what there was.
    Hit,
    /// The kept response came by another way than the one that a switch has now.
    Switched,
}

impl CacheStatus {
    /// Returns its word.
    pub fn word(self) -> &'static str {
        match self {
            CacheStatus::Miss => "MISS",
            CacheStatus::Bypass => "BYPASS",
            CacheStatus::Expired => "EXPIRED",
            CacheStatus::Stale => "STALE",
            CacheStatus::Updating => "UPDATING",
            CacheStatus::Revalidated => "REVALIDATED",
            CacheStatus::Hit => "HIT",
            CacheStatus::Switched => "SWITCHED",
        }
    }

    /// Returns whether what is served was kept.
    pub fn is_kept(self) -> bool {
        use CacheStatus::{Hit, Revalidated, Stale, Updating};
        matches!(self, Hit | Stale | Updating | Revalidated)
    }
}

/// A kept response, open.
#[derive(Clone, Debug)]
pub struct StoredResponse {
    /// The data kept beside its body.
    pub meta: StoredMeta,
    /// Its file.
    pub file: Rc<File>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct CacheRecord {
    /// Which zone: a number in [`crate::Config::caches`].
    pub zone: usize,
    /// How many purges the zone has had when the request asked it.
    pub purges: u64,
    /// The key.
    pub key: Vec<u8>,
    /// Its hash.
    pub main: KeyHash,
    /// The name for responses that came by this request's way.
    pub name: KeyHash,
    /// The way: what switches have chosen.
    pub origin: Provenance,
    /// The zone's status for it.
    pub status: CacheStatus,
    /// The response that comes may be kept.
    pub may_store: bool,
    /// A HEAD is sent as a GET.
    pub fetches_with_get: bool,
    /// It fetches anew what another request was served.
    pub is_background: bool,
    /// The entry that it uses.
    pub used: Option<ZoneUse>,
    /// The kept response, which is too old.
    pub stale: Option<StoredResponse>,
    /// The head of what is to be kept.
    pub(super) head: Vec<u8>,
    /// What its fields say about keeping it.
    pub(super) freshness: Option<cache::Freshness>,
}

impl CacheRecord {
    /// Returns a record for the request that fetches anew what this one was served. The lock goes with it.
    pub fn for_update(&mut self) -> CacheRecord {
        CacheRecord {
            zone: self.zone,
            purges: self.purges,
            key: self.key.clone(),
            main: self.main,
            name: self.name,
            origin: self.origin.clone(),
            status: CacheStatus::Expired,
            may_store: true,
            fetches_with_get: self.fetches_with_get,
            is_background: true,
            used: self.used.take(),
            stale: self.stale.clone(),
            head: Vec::new(),
            freshness: None,
        }
    }

    /// Returns whether what comes from the upstream may be kept.
    pub(crate) fn is_storing(&self) -> bool {
        self.may_store && !self.status.is_kept()
    }

    /// Returns the entity tag with which what there is may be revalidated.
    pub(crate) fn etag(&self) -> Option<&[u8]> {
        let stale = self.stale.as_ref().filter(|_| self.status == CacheStatus::Expired)?;
        Some(&stale.meta.etag).filter(|etag| !etag.is_empty()).map(Vec::as_slice)
    }

    /// Returns the time of change with which what there is may be revalidated.
    pub(crate) fn last_modified_s(&self) -> Option<u64> {
        let stale = self.stale.as_ref().filter(|_| self.status == CacheStatus::Expired)?;
        stale.meta.last_modified_s
    }
}

/// Returns the text in which a head is kept: as a peer of HTTP/1.1 sends it.
pub(super) fn head_text(status_line: &[u8], headers: &Headers) -> Vec<u8> {
    let mut text = [b"HTTP/1.1 ", status_line, b"\r\n"].concat();
    headers.append_to(&mut text, |_, _, _| true);
    text.extend_from_slice(b"\r\n");
    text
}
