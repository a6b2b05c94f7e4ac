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
        "Where gRPC requests go: a group, host:port or unix:/path, perhaps behind grpc:// or, for TLS, grpcs://; or all of it in \
         variables. Bodies and trailers are passed on both ways as they come.",
    )
    .example("grpc_pass grpc://blue;"),
    Directive::new("grpc_set_header", Contexts::HSL, Args::Exactly(2), "field value", |b, d| {
        set_header(b, d, PassKind::Grpc)
    })
    .doc(
        "A field sent to the gRPC server, in the place of the client's; an empty value sends none, and `Host` sets \
         :authority. Fields written at one level replace all of the outer one's.",
    )
    .example("grpc_set_header X-Real-IP $remote_addr;"),
];
