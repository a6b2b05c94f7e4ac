//! The phases in which Lua runs, and sets of them.
//!
//! The bits are ngx_lua's own, so that `ngx.get_raw_phase` and code that knows them agree. Every API function names
//! the set in which it is allowed; the check itself is made in Lua.

/// The directive that a script runs for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Phase {
    /// `set_by_lua*`
    Set = 0x1,
    /// `rewrite_by_lua*`
    Rewrite = 0x2,
    /// `access_by_lua*`
    Access = 0x4,
    /// `content_by_lua*`
    Content = 0x8,
    /// `log_by_lua*`
    Log = 0x10,
    /// `header_filter_by_lua*`
    HeaderFilter = 0x20,
    /// `body_filter_by_lua*`
    BodyFilter = 0x40,
    /// A timer.
    Timer = 0x80,
    /// `init_worker_by_lua*`
    InitWorker = 0x100,
    /// `balancer_by_lua*`
    Balancer = 0x200,
    /// `ssl_certificate_by_lua*`
    SslCertificate = 0x400,
    /// `ssl_client_hello_by_lua*`
    SslClientHello = 0x4000,
    /// `server_rewrite_by_lua*`
    ServerRewrite = 0x8000,
    /// `exit_worker_by_lua*`
    ExitWorker = 0x2000,
    /// `init_by_lua*`, before any request; ngx_lua has no bit for it.
    Init = 0x1_0000,
}

/// Every phase, with its name for `ngx.get_phase` and the one in error messages.
pub const PHASES: [(Phase, &str, &str); 15] = [
    (Phase::Set, "set", "set_by_lua*"),
    (Phase::Rewrite, "rewrite", "rewrite_by_lua*"),
    (Phase::Access, "access", "access_by_lua*"),
    (Phase::Content, "content", "content_by_lua*"),
    (Phase::Log, "log", "log_by_lua*"),
    (Phase::HeaderFilter, "header_filter", "header_filter_by_lua*"),
    (Phase::BodyFilter, "body_filter", "body_filter_by_lua*"),
    (Phase::Timer, "timer", "ngx.timer"),
    (Phase::InitWorker, "init_worker", "init_worker_by_lua*"),
    (Phase::SslClientHello, "ssl_client_hello", "ssl_client_hello_by_lua*"),
    (Phase::SslCertificate, "ssl_cert", "ssl_certificate_by_lua*"),
    (Phase::ServerRewrite, "server_rewrite", "server_rewrite_by_lua*"),
    (Phase::Balancer, "balancer", "balancer_by_lua*"),
    (Phase::ExitWorker, "exit_worker", "exit_worker_by_lua*"),
    (Phase::Init, "init", "init_by_lua*"),
];

impl Phase {
    /// Returns the name in error messages: the directive's with a star.
    pub fn directive(self) -> &'static str {
        PHASES.iter().find(|(phase, _, _)| *phase == self).map_or("(unknown)", |(_, _, directive)| directive)
    }
}

/// A set of phases.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Phases(pub u32);

impl Phases {
    /// All phases.
    pub const ALL: Phases = Phases(u32::MAX);

    /// The phases with a request.
    pub const REQUEST: Phases = Phases::of(&[
        Phase::Set,
        Phase::ServerRewrite,
        Phase::Rewrite,
        Phase::Access,
        Phase::Content,
        Phase::HeaderFilter,
        Phase::BodyFilter,
        Phase::Log,
        Phase::Balancer,
    ]);
    /// The phases in which a script may write the answer, and may wait.
    pub const OUTPUT: Phases =
        Phases::of(&[Phase::ServerRewrite, Phase::Rewrite, Phase::Access, Phase::Content]);

    /// The phases of a handshake, before there is a request.
    pub const HANDSHAKE: Phases = Phases::of(&[Phase::SslClientHello, Phase::SslCertificate]);
    /// The phases whose scripts are called from the server and may wait.
    pub const WAITING: Phases = Phases(Phases::OUTPUT.0 | Phases::HANDSHAKE.0);
    /// The phases in which a script may have threads, sockets and sleep.
    pub const EVENTS: Phases = Phases(Phases::WAITING.0 | Phase::Timer as u32);

    /// Returns the set without a phase.
    pub const fn without(self, phase: Phase) -> Phases {
        Phases(self.0 & !(phase as u32))
    }

    /// Makes a set of these phases.
    pub const fn of(phases: &[Phase]) -> Phases {
        let mut bits = 0;
        let mut at = 0;
        while at < phases.len() {
            bits |= phases[at] as u32;
            at += 1;
        }
        Phases(bits)
    }

    /// Returns whether `phase` is in the set.
    pub const fn has(self, phase: Phase) -> bool {
        self.0 & phase as u32 != 0
    }
}
