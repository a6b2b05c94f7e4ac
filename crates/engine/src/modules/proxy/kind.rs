//! The families of directives for one upstream: `proxy_…`, `grpc_…`, `fastcgi_…`, `uwsgi_…`, `scgi_…`.
//!
//! All have the same settings, with other defaults; [`PassKind::row`] is the one table of what differs. What serves a location
//! follows the family of its `…_pass`, so that nothing at run time asks which that is, but for how requests are written.

use super::ProxySettings;
use crate::config::Settings;
use crate::modules::upstream;
use crate::setting::Setting;
use http::cgi::Gateway;
use http::{Known, Version};
use std::sync::{Arc, LazyLock};

/// A family of directives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PassKind {
    /// `proxy_…`.
    #[default]
    Proxy,
    /// `grpc_…`.
    Grpc,
    /// `fastcgi_…`.
    FastCgi,
    /// `uwsgi_…`.
    Uwsgi,
    /// `scgi_…`.
    Scgi,
}

/// The protocol of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// FastCGI: a response in records.
    FastCgi,
    /// uwsgi or SCGI: a response is a CGI head, and what follows up to the end of the connection.
    Cgi,
}

/// The beginning of a URL: its text, whether it means TLS, and its port.
type Scheme = (&'static [u8], bool, u16);

/// nginx knows no usual port of gRPC, nor of application servers.
const NO_PORT: u16 = 0;

/// The differences between the families.
#[derive(Debug)]
pub(in crate::modules) struct Row {
    /// The prefix of its directives' names.
    pub(in crate::modules) prefix: &'static str,
    /// The schemes of its URLs in logs, the one with TLS last.
    pub(super) schemes: [Scheme; 2],
    /// Whether its `…_pass` takes a scheme.
    takes_scheme: SchemeUse,
    /// Fields of the upstream that are its own affair, or addressed to us.
    pub(super) hidden: &'static [Known],
    /// The upstream's `Server` and `Date`, present or not, stand for its own.
    pub(super) keeps_absent_server: bool,
    /// The application server's protocol, if it is one.
    pub(super) gateway: Option<Gateway>,
    /// Words of `…_next_upstream` that the others have and this one has not.
    pub(super) never_retries: &'static [&'static str],
}

#[derive(Debug, PartialEq, Eq)]
enum SchemeUse {
    Needed,
    Possible,
    None,
}

const OF_PROXY: [Known; 8] = [
    Known::Date,
    Known::Server,
    Known::XPad,
    Known::XAccelExpires,
    Known::XAccelRedirect,
    Known::XAccelLimitRate,
    Known::XAccelBuffering,
    Known::XAccelCharset,
];

const OF_CGI: [Known; 6] = [
    Known::Status,
    Known::XAccelExpires,
    Known::XAccelRedirect,
    Known::XAccelLimitRate,
    Known::XAccelBuffering,
    Known::XAccelCharset,
];

/// nginx's list for uwsgi lacks `Status`.
const OF_UWSGI: [Known; 5] = [
    Known::XAccelExpires,
    Known::XAccelRedirect,
    Known::XAccelLimitRate,
    Known::XAccelBuffering,
    Known::XAccelCharset,
];

const GATEWAYS_NEVER_RETRY: [&str; 2] = ["http_502", "http_504"];

/// The table, in the order of [`PassKind::ALL`].
static ROWS: [Row; 5] = [
    Row {
        prefix: "proxy",
        schemes: [
            (b"http://", false, upstream::DEFAULT_PORT),
            (b"https://", true, upstream::DEFAULT_TLS_PORT),
        ],
        takes_scheme: SchemeUse::Needed,
        hidden: &OF_PROXY,
        keeps_absent_server: true,
        gateway: None,
        never_retries: &[],
    },
    Row {
        prefix: "grpc",
        schemes: [(b"grpc://", false, NO_PORT), (b"grpcs://", true, NO_PORT)],
        takes_scheme: SchemeUse::Possible,
        hidden: &OF_PROXY,
        keeps_absent_server: true,
        gateway: None,
        never_retries: &[],
    },
    Row {
        prefix: "fastcgi",
        schemes: [(b"fastcgi://", false, NO_PORT); 2],
        takes_scheme: SchemeUse::None,
        hidden: &OF_CGI,
        keeps_absent_server: false,
        gateway: Some(Gateway::FastCgi),
        never_retries: &GATEWAYS_NEVER_RETRY,
    },
    Row {
        prefix: "uwsgi",
        schemes: [(b"uwsgi://", false, NO_PORT), (b"suwsgi://", true, NO_PORT)],
        takes_scheme: SchemeUse::Possible,
        hidden: &OF_UWSGI,
        keeps_absent_server: false,
        gateway: Some(Gateway::Uwsgi),
        never_retries: &GATEWAYS_NEVER_RETRY,
    },
    Row {
        prefix: "scgi",
        schemes: [(b"scgi://", false, NO_PORT); 2],
        takes_scheme: SchemeUse::None,
        hidden: &OF_CGI,
        keeps_absent_server: false,
        gateway: Some(Gateway::Scgi),
        never_retries: &GATEWAYS_NEVER_RETRY,
    },
];

impl PassKind {
    /// All of them.
    pub const ALL: [PassKind; 5] =
        [PassKind::Proxy, PassKind::Grpc, PassKind::FastCgi, PassKind::Uwsgi, PassKind::Scgi];

    /// Returns what the names of its directives begin with.
    pub fn prefix(self) -> &'static str {
        self.row().prefix
    }

    /// Returns what differs between this family and the others.
    pub(in crate::modules) fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }

    /// Returns the settings of this family at one level.
    pub fn settings(self, settings: &mut Settings) -> &mut ProxySettings {
        match self {
            PassKind::Proxy => &mut settings.proxy,
            other => settings.families.get_mut(other),
        }
    }

    /// Returns the same, to read.
    pub(crate) fn of(self, settings: &Settings) -> &ProxySettings {
        match self {
            PassKind::Proxy => &settings.proxy,
            other => &settings.families.0[other as usize - 1],
        }
    }

    /// Returns the protocol of application servers that this family speaks, if it speaks one.
    pub fn gateway(self) -> Option<Gateway> {
        self.row().gateway
    }

    /// Returns the text after the scheme, which may be in either case, whether it means TLS, and its port.
    pub(super) fn without_scheme(self, text: &[u8]) -> Option<(&[u8], bool, u16)> {
        let row = self.row();
        let found = row.schemes.into_iter().find_map(|(scheme, over_tls, port)| {
            let (start, rest) = text.split_at_checked(scheme.len())?;
            start.eq_ignore_ascii_case(scheme).then_some((rest, over_tls, port))
        });
        match row.takes_scheme {
            SchemeUse::Needed => found,
            SchemeUse::Possible => found.or(Some((text, false, NO_PORT))),
            SchemeUse::None => Some((text, false, NO_PORT)),
        }
    }

    /// Returns true if a text with variables that begins like this may mean TLS: a scheme in a variable may be any.
    pub(super) fn may_mean_tls(self, text: &[u8]) -> bool {
        let row = self.row();
        let named = row.schemes.iter().find(|(scheme, ..)| {
            text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
        match named {
            Some((_, over_tls, _)) => *over_tls,
            None => row.takes_scheme != SchemeUse::None,
        }
    }

    /// Returns true if `text`, the constant beginning of a `…_pass` with variables, is no part of the host: what follows is.
    pub(in crate::modules) fn is_before_host(self, text: &[u8]) -> bool {
        let row = self.row();
        let is_scheme = row.schemes.iter().any(|(scheme, ..)| text.eq_ignore_ascii_case(scheme));
        match row.takes_scheme {
            SchemeUse::Needed => is_scheme,
            SchemeUse::Possible => is_scheme || text.is_empty(),
            SchemeUse::None => text.is_empty(),
        }
    }
}

/// Settings of the families but `proxy_…` at one level. A level that writes none of a family shares them with the level around
/// it: few locations have any.
#[derive(Clone, Debug)]
pub struct Families([Arc<ProxySettings>; PassKind::ALL.len() - 1]);

/// What nothing has written.
static DEFAULTS: LazyLock<Families> = LazyLock::new(|| {
    let mut kinds = PassKind::ALL[1..].iter().map(|kind| Arc::new(defaults(*kind)));
    Families(std::array::from_fn(|_| kinds.next().unwrap_or_default()))
});

impl Default for Families {
    fn default() -> Families {
        DEFAULTS.clone()
    }
}

impl Families {
    fn get_mut(&mut self, kind: PassKind) -> &mut ProxySettings {
        Arc::make_mut(&mut self.0[kind as usize - 1])
    }

    /// Takes a family from the level around this one, if this one writes nothing of it. Returns false if it does.
    pub(super) fn share(&mut self, outer: &Families, kind: PassKind) -> bool {
        let at = kind as usize - 1;
        let (own, outer) = (&mut self.0[at], &outer.0[at]);
        if !Arc::ptr_eq(own, &DEFAULTS.0[at]) {
            return Arc::ptr_eq(own, outer);
        }
        *own = Arc::clone(outer);
        if own.pass.is_some() {
            // What serves a location is not inherited.
            Arc::make_mut(own).pass = None;
        }
        true
    }

    /// Returns true if nothing has written any setting of a family.
    pub(super) fn is_default(&self, kind: PassKind) -> bool {
        Arc::ptr_eq(&self.0[kind as usize - 1], &DEFAULTS.0[kind as usize - 1])
    }

    /// Takes from the level around this one what this one does not write.
    pub(crate) fn inherit(&mut self, outer: &Families) {
        for kind in &PassKind::ALL[1..] {
            if !self.share(outer, *kind) {
                self.get_mut(*kind).inherit(&outer.0[*kind as usize - 1]);
            }
        }
    }
}

/// Returns the settings of a family that nothing has written: those of `proxy_pass`, and what nginx's module has instead of a
/// directive.
fn defaults(kind: PassKind) -> ProxySettings {
    let mut settings = ProxySettings { kind, ..ProxySettings::default() };
    match kind {
        PassKind::Grpc => {
            settings.request.buffering = Setting::new(false);
            settings.request.version = Setting::new(Version::Http2);
            settings.buffers.buffering = Setting::new(false);
            settings.response.pass_trailers = Setting::new(true);
        }
        // Like HTTP/1.0, they cannot say where a body without a length ends.
        PassKind::Uwsgi | PassKind::Scgi => settings.request.version = Setting::new(Version::Http10),
        PassKind::Proxy | PassKind::FastCgi => {}
    }
    super::compile::compile_defaults(&mut settings);
    settings
}
