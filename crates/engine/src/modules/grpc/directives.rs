//! The directives that the other families lack.

use crate::directive::{Args, Contexts, Directive};
use crate::modules::proxy::{PassKind, read_pass, set_header};

/// See the module.
pub(super) const GRPC: &[Directive] = &[
    Directive::new(
        "grpc_pass",
        Contexts::LOCATION.or(Contexts::LOCATION_IF),
        Args::Exactly(1),
        "address",
        |b, d| read_pass(b, d, PassKind::Grpc),
    )
    .doc(
        "Where gRPC requests are passed to: a group, host:port or unix:/path, optionally with grpc:// or, for TLS, \
         grpcs://; may contain variables. Bodies and trailers are passed on in both directions as they arrive.",
    )
    .example("grpc_pass grpc://blue;"),
    Directive::new("grpc_set_header", Contexts::HSL, Args::Exactly(2), "field value", |b, d| {
        set_header(b, d, PassKind::Grpc)
    })
    .doc(
        "A field sent to the gRPC server instead of the client's; an empty value sends none, and `Host` sets \
         :authority. Fields at one level replace all of those of the outer level.",
    )
    .example("grpc_set_header X-Real-IP $remote_addr;"),
];
