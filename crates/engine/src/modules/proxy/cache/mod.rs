//! `proxy_cache` and its like for application servers: which responses are kept, under which key, and what a request gets
//! of them.
//!
//! Owns the settings and every decision; the server reads and writes the files. The order of its calls, all after
//! [`super::plan`]: [`ask`] says whether the request looks into a zone, and under which name; [`variant_of`] and
//! [`is_by_same_origin`] whether what is there is for it; [`super::accept_head`] makes the client's answer of what is kept
//! as of what an upstream sends; [`begin_store`] says whether that is kept.
//!
//! Must never open a file. Source of behaviour: ngx_http_upstream_cache and
//! <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_cache>.

mod answer;
mod ask;
mod directives;
pub(crate) mod record;
mod zones;

pub(super) use answer::{Caching, heed};
pub use answer::{begin_store, failure_until, may_serve_stale, revalidated};
pub use ask::{ask, is_by_same_origin, variant_of};
pub(super) use ask::{fetches_with_get, hides_conditions};
pub(in crate::modules) use directives::cache_directives;
pub(in crate::modules) use directives::{follows, no_cache, path, use_stale, valid, zone};
pub use record::{CacheRecord, CacheStatus, StoredResponse};
pub(super) use zones::check as check_zones;
pub use zones::{CacheZone, CacheZones, Pace};

use crate::setting::settings;
use crate::template::Template;
use upstream::retry::NextUpstream;

/// Which zone a location looks into.
#[derive(Clone, Debug, Default)]
pub enum ZoneChoice {
    /// None.
    #[default]
    Off,
    /// The one of this number.
    Zone(usize),
    /// The one whose name this comes to, or none where that is empty or `off`.
    Named(Template),
}

/// Methods whose responses are kept, as a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Methods {
    /// `POST` is one of them. `GET` and `HEAD` always are.
    pub post: bool,
}

settings! {
    /// Settings of one level about kept responses.
    pub struct CacheSettings {
        /// `proxy_cache`.
        pub zone: ZoneChoice = ZoneChoice::Off,
        /// `proxy_cache_key`; by default the URL of the upstream.
        pub key: Option<Template> = None,
        /// `proxy_cache_valid`: statuses (0 is any) with how long their responses are fresh, in seconds.
        pub valid: Vec<(u16, u64)> = Vec::new(),
        /// `proxy_cache_use_stale`.
        pub use_stale: NextUpstream = NextUpstream::OFF,
        /// `proxy_cache_methods`.
        pub methods: Methods = Methods { post: false },
        /// `proxy_cache_min_uses`.
        pub min_uses: u64 = 1,
        /// `proxy_cache_lock`.
        pub lock: bool = false,
        /// `proxy_cache_lock_timeout`: how long a request waits for another one, in ms.
        pub lock_timeout_ms: u64 = 5000,
        /// `proxy_cache_lock_age`: after which another request fetches too, in ms.
        pub lock_age_ms: u64 = 5000,
        /// `proxy_cache_background_update`.
        pub background_update: bool = false,
        /// `proxy_cache_revalidate`.
        pub revalidate: bool = false,
        /// `proxy_cache_convert_head`.
        pub convert_head: bool = true,
        /// `proxy_cache_max_range_offset`, in bytes; `None` is without limit.
        pub max_range_offset: Option<u64> = None,
        /// `proxy_cache_bypass`.
        pub bypass: Vec<Template> = Vec::new(),
        /// `proxy_no_cache`.
        pub no_cache: Vec<Template> = Vec::new(),
        /// `proxy_cache_switch`: responses are told apart by the way that switches have chosen.
        pub follows_switches: bool = true,
    }
}

impl CacheSettings {
    /// Returns whether any request may look into a zone.
    #[inline]
    pub fn is_on(&self) -> bool {
        !matches!(*self.zone, ZoneChoice::Off)
    }

    /// Returns for how long a response of this status is fresh, in seconds; 0 if it is not to be kept.
    pub fn valid_s(&self, status: u16) -> u64 {
        let rule = self.valid.iter().find(|(of, _)| *of == 0 || *of == status);
        rule.map_or(0, |(_, seconds)| *seconds)
    }
}
