//! Kept responses (`proxy_cache`): what may be kept and for how long, under which name, in which bytes, and what a zone
//! knows of them.
//!
//! Owns the rules of freshness ([`freshness`]), keys and variants ([`key`]), the file format ([`record`]) and the index of a
//! zone ([`zone`]). Must never open a file, read a clock or wait: bytes and time are arguments, and who waits for a lock
//! leaves a waker.
//!
//! Source of behaviour: <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache>. The file format is our own.

pub mod freshness;
pub mod key;
pub mod record;
pub mod zone;

pub use freshness::{Freshness, range_begins_before};
pub use key::{KeyHash, Levels, variant};
pub use record::{BodyHash, MAX_META_BYTES, MetaFault, Provenance, RECORD_BYTES, StoredMeta, Times};
pub use zone::{Purged, Removal, Zone, ZoneLimits, ZoneLookup, ZoneQuery, ZoneUse};
