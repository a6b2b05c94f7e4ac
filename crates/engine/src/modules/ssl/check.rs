//! Requests that the terms of TLS refuse (ngx_http_set_virtual_server, ngx_http_process_request).

use crate::exchange::Exchange;
use crate::host::{Env, Level};
use crate::log_line;
use crate::modules::core;
use crate::tls_session::{TlsSession, Verified, VerifyClient};
use std::rc::Rc;

/// Checks a request whose server is chosen against its connection.
///
/// # Errors
/// The status to answer, already logged.
pub fn check(exchange: &mut Exchange, env: &mut Env<'_>) -> Result<(), u16> {
    let config = env.config;
    let Some(tls) = &exchange.connection.tls else {
        let listener = config.listeners.get(exchange.connection.listener);
        if listener.is_some_and(|listener| listener.servers_at(exchange.connection.local).ssl) {
            let text = b"client sent plain HTTP request to HTTPS port";
            log_line::error(exchange, env, Level::Info, text);
            return Err(497);
        }
        return Ok(());
    };
    let server = config.server(exchange.route.server);
    if server.ssl.terms.verify == VerifyClient::Off {
        return Ok(());
    }
    let tls = Rc::clone(tls);
    let is_other_name = tls.server_name.as_ref().is_some_and(|name| **name != *exchange.request.host);
    // Without a certificate there is nothing that other terms could have accepted.
    let has_other_terms = tls.certificate.is_some() && tls.terms != server.ssl.terms;
    if is_other_name || has_other_terms {
        // What is answered is the matter of the server that the client asked for in the handshake.
        let negotiated = tls.server_name.as_deref().unwrap_or_default().to_vec();
        let host = std::mem::replace(&mut exchange.request.host, negotiated);
        core::choose_server(exchange, env);
        exchange.request.host = host;
        let text = b"client attempted to request the server name different from the one that was negotiated";
        log_line::error(exchange, env, Level::Info, text);
        return Err(421);
    }
    verified(exchange, env, &tls, server.ssl.terms.verify)
}

fn verified(
    exchange: &Exchange,
    env: &mut Env<'_>,
    tls: &TlsSession,
    verify: VerifyClient,
) -> Result<(), u16> {
    match tls.verified {
        Verified::Failed { code, text }
            // ngx_ssl_verify_error_optional: the authority alone is not known.
            if verify != VerifyClient::OptionalNoCa || !matches!(code, 18..=21 | 27) =>
        {
            let text = format!("client SSL certificate verify error: ({code}:{text})");
            log_line::error(exchange, env, Level::Info, text.as_bytes());
            Err(495)
        }
        Verified::None if verify == VerifyClient::On => {
            log_line::error(exchange, env, Level::Info, b"client sent no required SSL certificate");
            Err(496)
        }
        _ => Ok(()),
    }
}
