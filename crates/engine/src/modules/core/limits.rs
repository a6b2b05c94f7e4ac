//! What is set for request heads: it is asked before the location is known, so it is the server's.

use crate::config::Settings;
use crate::directive::{Args, Contexts, Directive};
use crate::setting::{Setting, inherit};
use conf::Diagnostic;

/// Request heads. nginx takes these from the default server of the address until the host is known.
#[derive(Clone, Debug)]
pub struct HeadSettings {
    /// How long a head may take, in ms.
    pub timeout_ms: Setting<u64>,
    /// The buffer for an ordinary head, in bytes.
    pub buffer_size: Setting<u64>,
    /// How many buffers a large head may take, and how large one line of it may be.
    pub large_buffers: Setting<(u64, u64)>,
    /// How many fields a head may have.
    pub max_fields: Setting<u64>,
    /// Fields with odd names are dropped, not refused.
    pub ignore_invalid: Setting<bool>,
    /// Fields with `_` in their names are kept.
    pub underscores: Setting<bool>,
    /// `//` in a path is one `/`.
    pub merge_slashes: Setting<bool>,
}

impl Default for HeadSettings {
    fn default() -> Self {
        HeadSettings {
            timeout_ms: Setting::new(60_000),
            buffer_size: Setting::new(1 << 10),
            large_buffers: Setting::new((4, 8 << 10)),
            max_fields: Setting::new(1000),
            ignore_invalid: Setting::new(true),
            underscores: Setting::new(false),
            merge_slashes: Setting::new(true),
        }
    }
}

impl HeadSettings {
    /// Takes what this level does not say from the one around it.
    pub fn inherit(&mut self, outer: &HeadSettings) {
        inherit!(self, outer; timeout_ms, buffer_size, large_buffers, max_fields, ignore_invalid,
            underscores, merge_slashes);
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "client_header_timeout",
        contexts: Contexts::HS,
        args: Args::Exactly(1),
        doc: "How long a client may take to send a request's head.",
        example: "client_header_timeout 20s;",
        apply: |b, d| {
            let ms = b.time_ms(&d.args[0])?;
            b.write(d, |s| &mut s.core.head.timeout_ms, ms)
        },
    },
    Directive {
        name: "client_header_buffer_size",
        contexts: Contexts::HS,
        args: Args::Exactly(1),
        doc: "The buffer for an ordinary request head.",
        example: "client_header_buffer_size 2k;",
        apply: |b, d| {
            let size = b.size(&d.args[0])?;
            b.write(d, |s| &mut s.core.head.buffer_size, size)
        },
    },
    Directive {
        name: "large_client_header_buffers",
        contexts: Contexts::HS,
        args: Args::Exactly(2),
        doc: "How many buffers, and how large, for a request head that does not fit; one line must fit into one.",
        example: "large_client_header_buffers 4 16k;",
        apply: |b, d| {
            let pair = (b.number(&d.args[0])?, b.size(&d.args[1])?);
            if pair.0 == 0 {
                return Err(b.invalid_setting(&d.args[0]).mend("at least one buffer is needed"));
            }
            b.write(d, |s| &mut s.core.head.large_buffers, pair)
        },
    },
    Directive {
        name: "max_headers",
        contexts: Contexts::HS,
        args: Args::Exactly(1),
        doc: "How many header fields a request may have; one with more is refused.",
        example: "max_headers 200;",
        apply: |b, d| {
            let count = b.number(&d.args[0])?;
            b.write(d, |s| &mut s.core.head.max_fields, count)
        },
    },
    Directive {
        name: "ignore_invalid_headers",
        contexts: Contexts::HS,
        args: Args::Flag,
        doc: "Whether header fields with odd names are dropped instead of refused.",
        example: "ignore_invalid_headers off;",
        apply: |b, d| flag(b, d, |s| &mut s.core.head.ignore_invalid),
    },
    Directive {
        name: "underscores_in_headers",
        contexts: Contexts::HS,
        args: Args::Flag,
        doc: "Whether header fields with underscores in their names are kept.",
        example: "underscores_in_headers on;",
        apply: |b, d| flag(b, d, |s| &mut s.core.head.underscores),
    },
    Directive {
        name: "merge_slashes",
        contexts: Contexts::HS,
        args: Args::Flag,
        doc: "Whether several slashes in a path count as one.",
        example: "merge_slashes off;",
        apply: |b, d| flag(b, d, |s| &mut s.core.head.merge_slashes),
    },
];

/// A directive that is `on` or `off` and nothing else.
pub(super) fn flag(
    b: &mut crate::config::Builder<'_>,
    d: &conf::Directive,
    setting: impl FnOnce(&mut Settings) -> &mut Setting<bool>,
) -> Result<(), Diagnostic> {
    let on = b.flag(d)?;
    b.write(d, setting, on)
}
