//! The two families of directives for one upstream: `proxy_…` and `grpc_…`.
//!
//! Both have the same settings, with other defaults. What serves a location follows the family of its `…_pass`, so that nothing
//! at run time asks which that is.

use super::{ProxySettings, RequestSettings};
use crate::config::Settings;
use crate::modules::upstream;
use crate::setting::Setting;
use http::Version;

/// A family of directives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassKind {
    /// `proxy_…`.
    #[default]
    Proxy,
    /// `grpc_…`.
    Grpc,
}

/// The beginning of a URL: its text, whether it means TLS, and its port.
type Scheme = (&'static [u8], bool, u16);

/// nginx knows no usual port of gRPC.
const NO_PORT: u16 = 0;

impl PassKind {
    /// Both.
    pub const ALL: [PassKind; 2] = [PassKind::Proxy, PassKind::Grpc];

    /// Returns what the names of its directives begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            PassKind::Proxy => "proxy",
            PassKind::Grpc => "grpc",
        }
    }

    /// Returns the settings of this family at one level.
    pub fn settings(self, settings: &mut Settings) -> &mut ProxySettings {
        match self {
            PassKind::Proxy => &mut settings.proxy,
            PassKind::Grpc => &mut settings.grpc.0,
        }
    }

    /// The same, to read.
    pub(super) fn of(self, settings: &Settings) -> &ProxySettings {
        match self {
            PassKind::Proxy => &settings.proxy,
            PassKind::Grpc => &settings.grpc.0,
        }
    }

    /// Returns the schemes of its URLs, the one with TLS last.
    pub(super) fn schemes(self) -> [Scheme; 2] {
        match self {
            PassKind::Proxy => {
                [(b"http://", false, upstream::DEFAULT_PORT), (b"https://", true, upstream::DEFAULT_TLS_PORT)]
            }
            PassKind::Grpc => [(b"grpc://", false, NO_PORT), (b"grpcs://", true, NO_PORT)],
        }
    }

    /// Returns the text after the scheme, which may be in either case, whether it means TLS, and its port. gRPC does not need
    /// one.
    pub(super) fn without_scheme(self, text: &[u8]) -> Option<(&[u8], bool, u16)> {
        let found = self.schemes().into_iter().find_map(|(scheme, over_tls, port)| {
            let (start, rest) = text.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some((rest, over_tls, port))
        });
        match self {
            PassKind::Proxy => found,
            PassKind::Grpc => found.or(Some((text, false, NO_PORT))),
        }
    }
}

/// Settings of one level for `grpc_pass`: those of `proxy_pass`, and what nginx's gRPC module has instead of a directive.
#[derive(Clone, Debug)]
pub struct GrpcSettings(pub ProxySettings);

impl Default for GrpcSettings {
    fn default() -> Self {
        let mut settings = ProxySettings {
            request: RequestSettings {
                buffering: Setting::new(false),
                version: Setting::new(Version::Http2),
                ..RequestSettings::default()
            },
            ..ProxySettings::default()
        };
        settings.buffers.buffering = Setting::new(false);
        settings.response.pass_trailers = Setting::new(true);
        GrpcSettings(settings)
    }
}
