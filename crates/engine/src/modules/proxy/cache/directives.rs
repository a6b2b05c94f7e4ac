//! The directives about kept responses, which all families but that of gRPC have, and how they are read.

use super::{CacheZone, ZoneChoice};
use crate::config::{Builder, invalid_choice, invalid_parameter, invalid_value, once};
use crate::modules::proxy::PassKind;
use crate::setting::Setting;
use crate::template::Template;
use cache::{Levels, Zone, ZoneLimits};
use conf::{Diagnostic, Word};
use std::sync::Arc;
use upstream::retry::NextUpstream;

/// The directives of one family; `$key` is an example of a key.
macro_rules! cache_directives {
    ($prefix:literal, $kind:expr, $default_key:literal) => {{
        use crate::config::once;
        use crate::directive::{Args, Contexts, Directive};
        use crate::modules::proxy::cache;
        const DIRECTIVES: &[Directive] = &[
            Directive::new(
                concat!($prefix, "_cache_path"),
                Contexts::HTTP,
                Args::AtLeast(2),
                "path keys_zone=name:size [levels=levels] [use_temp_path=on|off] [inactive=time] [max_size=size] \
                 [min_free=size] [loader_files=number] [loader_sleep=time] [loader_threshold=time] \
                 [manager_files=number] [manager_sleep=time] [manager_threshold=time]",
                |b, d| cache::path(b, d, $kind),
            )
            .doc(
                "A directory for cached responses, and the zone that indexes them, with 128 bytes for each response. \
                 Responses that are not used within `inactive` are removed, and the least recently used ones beyond \
                 `max_size`.",
            )
            .example(concat!($prefix, "_cache_path ", $prefix, "_cache levels=1:2 keys_zone=kept:10m max_size=1g;")),
            Directive::new(concat!($prefix, "_cache"), Contexts::HSL, Args::Exactly(1), "zone | off", |b, d| {
                cache::zone(b, d, $kind)
            })
            .default("off")
            .doc("The zone in which responses are cached; may contain variables.")
            .example(concat!($prefix, "_cache kept; ", $prefix, "_cache_key $scheme$host$request_uri;")),
            Directive::template(concat!($prefix, "_cache_key"), Contexts::HSL, "string", |b| {
                &mut $kind.settings(b.settings()).cache.key
            })
            .doc($default_key)
            .example(concat!($prefix, "_cache_key $scheme$host$request_uri;")),
            Directive::new(
                concat!($prefix, "_cache_valid"),
                Contexts::HSL,
                Args::AtLeast(1),
                "[status ... | any] time",
                |b, d| cache::valid(b, d, $kind),
            )
            .doc(
                "How long responses with these statuses are fresh if they do not say so themselves (X-Accel-Expires, \
                 Cache-Control, Expires); without a status, 200, 301 and 302. Others are not cached.",
            )
            .example(concat!($prefix, "_cache_valid 200 302 10m;")),
            Directive::new(
                concat!($prefix, "_cache_use_stale"),
                Contexts::HSL,
                Args::AtLeast(1),
                "error | timeout | invalid_header | updating | http_500 | http_503 | http_403 | http_404 | http_429 | off ...",
                |b, d| cache::use_stale(b, d, $kind),
            )
            .default("off")
            .doc("When a stale response is served: if fetching it fails in one of these ways, or while it is fetched \
                 (updating).")
            .example(concat!($prefix, "_cache_use_stale error timeout updating;")),
            Directive::new(
                concat!($prefix, "_cache_methods"),
                Contexts::HSL,
                Args::AtLeast(1),
                "GET | HEAD | POST ...",
                |b, d| {
                    let mut methods = cache::Methods { post: false };
                    for word in &d.args {
                        match &**word.text() {
                            b"GET" | b"HEAD" => {}
                            b"POST" => methods.post = true,
                            _ => return Err(crate::config::invalid_value(word).help("GET, HEAD or POST")),
                        }
                    }
                    once($kind.settings(b.settings()).cache.methods.write(methods), d)
                },
            )
            .default("GET HEAD")
            .doc("The methods whose responses are cached; GET and HEAD always are.")
            .example(concat!($prefix, "_cache_methods GET HEAD POST;")),
            Directive::number(concat!($prefix, "_cache_min_uses"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).cache.min_uses
            })
            .default("1")
            .doc("The number of requests after which a response is cached.")
            .example(concat!($prefix, "_cache_min_uses 2;")),
            Directive::flag(concat!($prefix, "_cache_lock"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).cache.lock
            })
            .default("off")
            .doc("Whether only one request at a time fetches a response that is not in the cache, while others wait \
                 for it.")
            .example(concat!($prefix, "_cache_lock on;")),
            Directive::time(concat!($prefix, "_cache_lock_timeout"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).cache.lock_timeout_ms
            })
            .default("5s")
            .doc("How long a request waits for the one that fetches its response; after that it is sent too, and its \
                 response is not cached.")
            .example(concat!($prefix, "_cache_lock_timeout 10s;")),
            Directive::time(concat!($prefix, "_cache_lock_age"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).cache.lock_age_ms
            })
            .default("5s")
            .doc("How long fetching may take before one more request is sent for the same response.")
            .example(concat!($prefix, "_cache_lock_age 10s;")),
            Directive::flag(concat!($prefix, "_cache_background_update"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).cache.background_update
            })
            .default("off")
            .doc(
                "Whether a stale response is updated by a background request while the client gets the stale one, \
                 where _cache_use_stale updating or the response itself allows that.",
            )
            .example(concat!($prefix, "_cache_background_update on;")),
            Directive::flag(concat!($prefix, "_cache_revalidate"), Contexts::HSL, |b| {
                &mut $kind.settings(b.settings()).cache.revalidate
            })
            .default("off")
            .doc("Whether stale responses are revalidated with If-Modified-Since and If-None-Match.")
            .example(concat!($prefix, "_cache_revalidate on;")),
            Directive::new(
                concat!($prefix, "_cache_max_range_offset"),
                Contexts::HSL,
                Args::Exactly(1),
                "number",
                |b, d| {
                    let limit = b.size(&d.args[0])?;
                    once($kind.settings(b.settings()).cache.max_range_offset.write(Some(limit)), d)
                },
            )
            .doc("Ranges that begin here or later are passed to the upstream, and the responses are not cached.")
            .example(concat!($prefix, "_cache_max_range_offset 10m;")),
            Directive::new(concat!($prefix, "_cache_bypass"), Contexts::HSL, Args::AtLeast(1), "string ...", |b, d| {
                cache::no_cache(b, d, |b| &mut $kind.settings(b.settings()).cache.bypass)
            })
            .doc("If one of these is neither empty nor 0, no cached response is served.")
            .example(concat!($prefix, "_cache_bypass $cookie_nocache $arg_nocache;")),
            Directive::new(concat!($prefix, "_no_cache"), Contexts::HSL, Args::AtLeast(1), "string ...", |b, d| {
                cache::no_cache(b, d, |b| &mut $kind.settings(b.settings()).cache.no_cache)
            })
            .doc("If one of these is neither empty nor 0, the response is not cached.")
            .example(concat!($prefix, "_no_cache $http_pragma;")),
            Directive::new(
                concat!($prefix, "_cache_switch"),
                Contexts::HSL,
                Args::Exactly(1),
                "follow | ignore",
                |b, d| {
                    let follows = cache::follows(d)?;
                    once($kind.settings(b.settings()).cache.follows_switches.write(follows), d)
                },
            )
            .default("follow")
            .doc(
                "pointsman's own: whether the cache keeps responses of different targets of a switch apart. With \
                 `follow`, a \
                 response of another target, or one from before the last move to this one, is not served \
                 ($upstream_cache_status is SWITCHED).",
            )
            .example(concat!($prefix, "_cache_switch ignore;")),
        ];
        DIRECTIVES
    }};
}
pub(in crate::modules) use cache_directives;

/// nginx's smallest zone.
const MIN_ZONE_BYTES: u64 = 8192;

/// Reads `proxy_cache_path`.
pub(in crate::modules) fn path(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let path = b.path(&d.args[0])?;
    if d.args[0].text().is_empty() {
        return Err(invalid_value(&d.args[0]));
    }
    let mut zone = CacheZone { path, is_declared: true, ..CacheZone::named("", kind, d.words_span()) };
    for word in &d.args[1..] {
        let text = word.str()?;
        let (name, value) = text.split_once('=').ok_or_else(|| invalid_parameter(word))?;
        let wrong = |what: &str| Diagnostic::error(word.span, format!("invalid {what} \"{text}\""));
        let size = || conf::value::parse_size(value.as_bytes());
        let number = || conf::value::parse_number(value.as_bytes());
        let time_ms = || conf::value::parse_time_ms(value.as_bytes());
        match name {
            "levels" => {
                zone.levels = Levels::read(value.as_bytes()).ok_or_else(|| wrong("\"levels\""))?;
            }
            "use_temp_path" => {
                zone.uses_temp_path =
                    conf::value::parse_flag(value.as_bytes()).ok_or_else(|| wrong("use_temp_path value"))?;
            }
            "keys_zone" => {
                let parts = value.split_once(':');
                let parts =
                    parts.and_then(|(name, size)| Some((name, conf::value::parse_size(size.as_bytes())?)));
                let Some((name, size)) = parts.filter(|(name, _)| !name.is_empty()) else {
                    return Err(
                        wrong("keys zone size").help("a zone has a name and a size: keys_zone=kept:10m")
                    );
                };
                if size < MIN_ZONE_BYTES {
                    let text = format!("invalid keys zone size \"{text}\"");
                    return Err(Diagnostic::error(word.span, text).help("a zone has 8k or more"));
                }
                zone.name = name.into();
                zone.limits.entries = ZoneLimits::entries_in(size);
            }
            "inactive" => {
                zone.limits.inactive_s =
                    time_ms().map(|ms| ms / 1000).ok_or_else(|| wrong("inactive value"))?;
            }
            "max_size" => zone.limits.max_bytes = size().ok_or_else(|| wrong("max_size value"))?,
            "min_free" => zone.min_free = size().ok_or_else(|| wrong("min_free value"))?,
            "loader_files" => zone.filling.files = number().ok_or_else(|| wrong("loader_files value"))?,
            "loader_sleep" => zone.filling.sleep_ms = time_ms().ok_or_else(|| wrong("loader_sleep value"))?,
            "loader_threshold" => {
                zone.filling.threshold_ms = time_ms().ok_or_else(|| wrong("loader_threshold value"))?;
            }
            "manager_files" => zone.clearing.files = number().ok_or_else(|| wrong("manager_files value"))?,
            "manager_sleep" => {
                zone.clearing.sleep_ms = time_ms().ok_or_else(|| wrong("manager_sleep value"))?
            }
            "manager_threshold" => {
                zone.clearing.threshold_ms = time_ms().ok_or_else(|| wrong("manager_threshold value"))?;
            }
            "purger" | "purger_files" | "purger_sleep" | "purger_threshold" => {
                return Err(
                    invalid_parameter(word).help("nginx's open edition has no purger either; leave it out, and purge with `pointsman cache purge`")
                );
            }
            _ => return Err(invalid_parameter(word)),
        }
    }
    if zone.name.is_empty() {
        let text = format!("\"{}\" must have \"keys_zone\" parameter", d.name.text());
        return Err(Diagnostic::error(d.span, text).help("keys_zone=NAME:10m"));
    }
    zone.zone = Arc::new(Zone::new(zone.limits));
    b.draft.http.caches.declare(zone)
}

/// Reads `proxy_cache`.
pub(in crate::modules) fn zone(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let word = &d.args[0];
    let choice = match word.text() == "off" {
        true => ZoneChoice::Off,
        false => {
            let template = b.template(word)?;
            match template.constant() {
                Some(_) => ZoneChoice::Zone(b.draft.http.caches.number(kind, word.str()?, word.span)),
                None => ZoneChoice::Named(template),
            }
        }
    };
    once(kind.settings(b.settings()).cache.zone.write(choice), d)
}

/// Reads `proxy_cache_valid`.
pub(in crate::modules) fn valid(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let Some((time, statuses)) = d.args.split_last() else { return Err(invalid_value(&d.name)) };
    let valid_s = conf::value::parse_time_s(time.text()).ok_or_else(|| {
        Diagnostic::error(time.span, format!("invalid time value \"{}\"", time.text()))
            .help("a time is a number of seconds, or with units: 30s, 10m, 1h")
    })?;
    let mut rules = Vec::new();
    for word in statuses {
        rules.push(match &**word.text() {
            b"any" => (0, valid_s),
            text => match crate::config::number(text) {
                Some(status @ 100..=599) => (status as u16, valid_s),
                _ => {
                    let text = format!("invalid status \"{}\"", word.text());
                    return Err(Diagnostic::error(word.span, text).help("a status, or any"));
                }
            },
        });
    }
    if rules.is_empty() {
        rules.extend([200, 301, 302].map(|status| (status, valid_s)));
    }
    let setting = &mut kind.settings(b.settings()).cache.valid;
    rules.into_iter().for_each(|rule| setting.push(rule));
    Ok(())
}

/// Reads `proxy_cache_use_stale`.
pub(in crate::modules) fn use_stale(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    kind: PassKind,
) -> Result<(), Diagnostic> {
    let words: Vec<Vec<u8>> = d.args.iter().map(|word| word.text().to_vec()).collect();
    let unknown = |word: &Word| {
        Diagnostic::error(word.span, format!("invalid value \"{}\"", word.text())).help(
            "error, timeout, invalid_header, updating, http_500, http_502, http_503, http_504, http_403, http_404, \
             http_429 or off",
        )
    };
    let set =
        NextUpstream::from_words(words.iter().map(Vec::as_slice)).map_err(|place| unknown(&d.args[place]))?;
    if let Some(place) = words.iter().position(|word| word == b"non_idempotent") {
        return Err(unknown(&d.args[place]));
    }
    once(kind.settings(b.settings()).cache.use_stale.write(set), d)
}

/// Reads conditions: each that is written at one level counts.
pub(in crate::modules) fn no_cache(
    b: &mut Builder<'_>,
    d: &conf::Directive,
    setting: for<'a, 'b> fn(&'a mut Builder<'b>) -> &'a mut Setting<Vec<Template>>,
) -> Result<(), Diagnostic> {
    for word in &d.args {
        let template = b.template(word)?;
        setting(b).push(template);
    }
    Ok(())
}

/// Reads `proxy_cache_switch`.
pub(in crate::modules) fn follows(d: &conf::Directive) -> Result<bool, Diagnostic> {
    match &**d.args[0].text() {
        b"follow" => Ok(true),
        b"ignore" => Ok(false),
        _ => Err(invalid_choice(&d.args[0]).help("follow, or ignore")),
    }
}
