//! Identifiers of scripts: their number, and the phase that they run in.

/// A script's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScriptId(pub u32);

/// The phase that a script runs in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ScriptPhase {
    /// `init_by_lua`.
    #[default]
    Init,
    /// `init_worker_by_lua`.
    InitWorker,
    /// `exit_worker_by_lua`.
    ExitWorker,
    /// `ssl_client_hello_by_lua`.
    SslClientHello,
    /// `ssl_certificate_by_lua`.
    SslCertificate,
    /// `server_rewrite_by_lua`.
    ServerRewrite,
    /// `set_by_lua`.
    Set,
    /// `rewrite_by_lua`.
    Rewrite,
    /// `access_by_lua`.
    Access,
    /// `content_by_lua`.
    Content,
    /// `header_filter_by_lua`.
    HeaderFilter,
    /// `body_filter_by_lua`.
    BodyFilter,
    /// `log_by_lua`.
    Log,
    /// `balancer_by_lua`.
    Balancer,
    /// `ngx.timer` callbacks.
    Timer,
}

impl ScriptPhase {
    /// Returns the directive's name without `_block` or `_file`, as it appears in messages (`content_by_lua*`) and
    /// chunk names.
    pub fn directive(self) -> &'static str {
        match self {
            ScriptPhase::Init => "init_by_lua",
            ScriptPhase::InitWorker => "init_worker_by_lua",
            ScriptPhase::ExitWorker => "exit_worker_by_lua",
            ScriptPhase::SslClientHello => "ssl_client_hello_by_lua",
            ScriptPhase::SslCertificate => "ssl_certificate_by_lua",
            ScriptPhase::ServerRewrite => "server_rewrite_by_lua",
            ScriptPhase::Set => "set_by_lua",
            ScriptPhase::Rewrite => "rewrite_by_lua",
            ScriptPhase::Access => "access_by_lua",
            ScriptPhase::Content => "content_by_lua",
            ScriptPhase::HeaderFilter => "header_filter_by_lua",
            ScriptPhase::BodyFilter => "body_filter_by_lua",
            ScriptPhase::Log => "log_by_lua",
            ScriptPhase::Balancer => "balancer_by_lua",
            ScriptPhase::Timer => "ngx.timer",
        }
    }
}
