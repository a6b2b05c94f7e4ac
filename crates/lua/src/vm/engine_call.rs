//! The loan of the engine to one call into Lua: the request, its configuration and the host.
//!
//! They are held as raw pointers, because a script that writes its answer makes the engine call in again (header and
//! body filters); the inner call lends what the outer one lent it.

use std::rc::Rc;

use engine::host::{Host, Level};
use engine::modules::lua::ScriptPhase;
use engine::{Config, Env, Exchange, LocationId, log_line};

use super::timers::TimerOrigin;

/// The engine's loan; see the module.
pub(crate) struct EngineCall {
    exchange: *mut Exchange,
    config: *const Config,
    host: *mut (dyn Host + 'static),
    /// The origin of the timer whose function runs.
    origin: Option<Rc<TimerOrigin>>,
}

impl EngineCall {
    /// Notes what was lent, which must outlive the call.
    pub(super) fn new(
        host: &mut dyn Host,
        config: &Config,
        exchange: Option<&mut Exchange>,
        origin: Option<Rc<TimerOrigin>>,
    ) -> EngineCall {
        let host: *mut (dyn Host + '_) = host;
        EngineCall {
            exchange: exchange.map_or(std::ptr::null_mut(), std::ptr::from_mut),
            config,
            // SAFETY: only the lifetime changes; the users see to it that the call goes first (see above).
            host: unsafe { std::mem::transmute::<*mut (dyn Host + '_), *mut (dyn Host + 'static)>(host) },
            origin,
        }
    }

    /// Returns the request, if one runs.
    ///
    /// # Safety
    /// The call must be going on, and nothing else may refer to the request while the result is in use.
    #[inline]
    pub(super) unsafe fn exchange<'a>(&self) -> Option<&'a mut Exchange> {
        // SAFETY: the caller vouches for it.
        unsafe { self.exchange.as_mut() }
    }

    /// Returns the configuration and the host.
    ///
    /// # Safety
    /// The call must be going on, and nothing else may refer to the host while the result is in use.
    #[inline]
    pub(super) unsafe fn env<'a>(&self) -> Env<'a> {
        // SAFETY: the caller vouches for it.
        unsafe { Env { config: &*self.config, host: &mut *self.host } }
    }

    /// Returns the location whose settings count: the request's, or that of the one which made the timer.
    ///
    /// # Safety
    /// As for [`EngineCall::exchange`].
    pub(super) unsafe fn location(&self) -> LocationId {
        // SAFETY: the caller vouches for it.
        match unsafe { self.exchange() } {
            Some(exchange) => exchange.route.location,
            None => LocationId(self.origin.as_ref().map_or(0, |origin| origin.location)),
        }
    }

    /// Returns the origin of the timer whose function runs.
    pub(super) fn origin(&self) -> Option<Rc<TimerOrigin>> {
        self.origin.clone()
    }

    /// Writes to the error log about the request, or else about the timer or the worker.
    ///
    /// # Safety
    /// The call must be going on, and nothing else may refer to what was lent.
    pub(super) unsafe fn log(&self, level: Level, line: &[u8]) {
        // SAFETY: the caller vouches for it; logging runs no Lua.
        let (exchange, mut env) = unsafe { (self.exchange(), self.env()) };
        let env = &mut env;
        match exchange {
            Some(exchange) if exchange.script.phase == ScriptPhase::Log => {
                log_line::script_error(exchange, env, level, &[line, b" while logging request"].concat());
            }
            Some(exchange) if exchange.script.phase == ScriptPhase::Balancer => {
                let line = [line, b" while connecting to upstream"].concat();
                log_line::script_error(exchange, env, level, &line);
            }
            Some(exchange)
                if matches!(
                    exchange.script.phase,
                    ScriptPhase::SslClientHello | ScriptPhase::SslCertificate
                ) =>
            {
                let context = format!("{}*", exchange.script.phase.directive());
                log_line::handshake_script(exchange, env, level, line, &context);
            }
            Some(exchange) => log_line::script_error(exchange, env, level, line),
            None => match &self.origin {
                Some(origin) => log_line::worker_error(env, level, &[line, &origin.text].concat()),
                None => log_line::worker_error(env, level, line),
            },
        }
    }
}
