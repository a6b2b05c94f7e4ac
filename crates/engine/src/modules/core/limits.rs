//! Settings of request heads: they are needed before the location is known, so they are the server's.

use crate::directive::{Args, Contexts, Directive};
use crate::setting::settings;

settings! {
    /// Request heads. nginx takes these from the default server of the address until the host is known.
    pub struct HeadSettings {
        /// The longest time for a head, in ms.
        pub timeout_ms: u64 = 60_000,
        /// The buffer for an ordinary head, in bytes.
        pub buffer_size: u64 = 1 << 10,
        /// The number of buffers for a large head, and the size of each, which is the longest line.
        pub large_buffers: (u64, u64) = (4, 8 << 10),
        /// The most fields in a head.
        pub max_fields: u64 = 1000,
        /// Fields with odd names are dropped, not refused.
        pub ignore_invalid: bool = true,
        /// Fields with `_` in their names are kept.
        pub underscores: bool = false,
        /// `//` in a path is one `/`.
        pub merge_slashes: bool = true,
    }
}

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive::time("client_header_timeout", Contexts::HS, |b| &mut b.settings().core.head.timeout_ms)
        .default("60s")
        .doc("The longest time for reading a request's head.")
        .example("client_header_timeout 20s;"),
    Directive::size("client_header_buffer_size", Contexts::HS, |b| &mut b.settings().core.head.buffer_size)
        .default("1k")
        .doc(
            "The size of the buffer for a request's head; a head that does not fit uses \
             large_client_header_buffers.",
        )
        .example("client_header_buffer_size 2k;"),
    Directive::new("large_client_header_buffers", Contexts::HS, Args::Exactly(2), "number size", |b, d| {
        let pair = (b.number(&d.args[0])?, b.size(&d.args[1])?);
        if pair.0 == 0 {
            return Err(b.invalid_setting(&d.args[0]).help("at least one buffer is needed"));
        }
        b.write(d, |s| &mut s.core.head.large_buffers, pair)
    })
    .default("4 8k")
    .doc("The number and size of buffers for a large request head; each line must fit into one buffer.")
    .example("large_client_header_buffers 4 16k;"),
    Directive::number("max_headers", Contexts::HS, |b| &mut b.settings().core.head.max_fields)
        .default("1000")
        .doc("The maximum number of header fields in a request; a request with more is refused.")
        .example("max_headers 200;"),
    Directive::flag("ignore_invalid_headers", Contexts::HS, |b| &mut b.settings().core.head.ignore_invalid)
        .default("on")
        .doc("Whether header fields with invalid names are ignored; otherwise they are passed on.")
        .example("ignore_invalid_headers off;"),
    Directive::flag("underscores_in_headers", Contexts::HS, |b| &mut b.settings().core.head.underscores)
        .default("off")
        .doc("Whether header fields may have underscores in their names; otherwise such names are invalid.")
        .example("underscores_in_headers on;"),
    Directive::flag("merge_slashes", Contexts::HS, |b| &mut b.settings().core.head.merge_slashes)
        .default("on")
        .doc("Whether adjacent slashes in a path are merged into one.")
        .example("merge_slashes off;"),
];
