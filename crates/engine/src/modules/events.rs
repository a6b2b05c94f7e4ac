//! `events {}`: it may come before or after `http`.

use super::Module;
use crate::config::{number, once};
use crate::directive::{Args, Contexts, Directive};
use conf::Diagnostic;

/// The module.
pub static MODULE: Module = Module::new("events", &[DIRECTIVES]);

const DIRECTIVES: &[Directive] = &[
    Directive::new("events", Contexts::MAIN, Args::Block(0, 0), "{ … }", |b, d| {
        if std::mem::replace(&mut b.draft.main.has_events, true) {
            return once(Err(crate::setting::Duplicate), d);
        }
        b.block(d, Contexts::EVENTS);
        Ok(())
    })
    .doc("Contains the settings of the event loop.")
    .example("events { worker_connections 1024; }"),
    Directive::new("worker_connections", Contexts::EVENTS, Args::Exactly(1), "number", |b, d| {
        let word = &d.args[0];
        let count = number(word.text())
            .filter(|count| *count > 0)
            .ok_or_else(|| Diagnostic::error(word.span, format!("invalid number \"{}\"", word.text())))?
            as usize;
        once(b.draft.main.worker_connections.write(count), d)
    })
    .default("512")
    .doc("The maximum number of open connections of a thread, to clients and upstreams together.")
    .example("worker_connections 1024;"),
    Directive::flag("multi_accept", Contexts::EVENTS, |b| &mut b.draft.main.multi_accept)
        .default("off")
        .doc("Whether a thread accepts all pending connections at once.")
        .example("multi_accept on;"),
    Directive::flag("accept_mutex", Contexts::EVENTS, |b| &mut b.draft.main.accept_mutex)
        .default("off")
        .doc("Has no effect: the kernel wakes a single thread for each connection.")
        .example("accept_mutex off;"),
    Directive::new("use", Contexts::EVENTS, Args::Exactly(1), "epoll", |b, d| {
        if !["epoll", "poll", "select"].iter().any(|known| d.args[0].text() == *known) {
            let shown = d.args[0].text();
            return Err(Diagnostic::error(d.args[0].span, format!("invalid event type \"{shown}\""))
                .help("epoll is the one event method there is: remove the line"));
        }
        once(b.draft.main.event_method.write(Some("epoll".to_owned())), d)
    })
    .default("epoll")
    .doc("The event method. `poll` and `select` are accepted, and epoll is used all the same.")
    .example("use epoll;"),
];
