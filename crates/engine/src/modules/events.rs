//! `events {}`: it may stand before or after `http`.

use super::Module;
use crate::config::{number, once};
use crate::directive::{Args, Contexts, Directive};
use conf::Diagnostic;

/// The module.
pub static MODULE: Module = Module::new("events", &[DIRECTIVES]);

const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "events",
        contexts: Contexts::MAIN,
        args: Args::Block(0, 0),
        doc: "Settings of the event loop.",
        example: "events { worker_connections 1024; }",
        apply: |b, d| {
            if std::mem::replace(&mut b.draft.main.has_events, true) {
                return once(Err(crate::setting::Duplicate), d);
            }
            b.block(d, Contexts::EVENTS);
            Ok(())
        },
    },
    Directive {
        name: "worker_connections",
        contexts: Contexts::EVENTS,
        args: Args::Exactly(1),
        doc: "How many connections, to clients and upstreams together, a thread may have open.",
        example: "worker_connections 1024;",
        apply: |b, d| {
            let word = &d.args[0];
            let count = number(word.text())
                .filter(|count| *count > 0)
                .ok_or_else(|| Diagnostic::error(word.span, format!("invalid number \"{}\"", word.text())))?
                as usize;
            once(b.draft.main.worker_connections.write(count), d)
        },
    },
    Directive {
        name: "multi_accept",
        contexts: Contexts::EVENTS,
        args: Args::Flag,
        doc: "Whether a thread takes all waiting connections at once.",
        example: "multi_accept on;",
        apply: |b, d| {
            let on = b.flag(d)?;
            once(b.draft.main.multi_accept.write(on), d)
        },
    },
    Directive {
        name: "accept_mutex",
        contexts: Contexts::EVENTS,
        args: Args::Flag,
        doc: "In nginx, whether workers take turns in accepting; here the kernel wakes one thread a connection either way.",
        example: "accept_mutex off;",
        apply: |b, d| {
            let on = b.flag(d)?;
            once(b.draft.main.accept_mutex.write(on), d)
        },
    },
    Directive {
        name: "use",
        contexts: Contexts::EVENTS,
        args: Args::Exactly(1),
        doc: "The system's call for readiness; epoll is the one there is.",
        example: "use epoll;",
        apply: |b, d| {
            if d.args[0].text() != "epoll" {
                let shown = d.args[0].text();
                return Err(Diagnostic::error(d.args[0].span, format!("invalid event type \"{shown}\""))
                    .mend("epoll is the one event method there is: remove the line"));
            }
            once(b.draft.main.event_method.write(Some("epoll".to_owned())), d)
        },
    },
];
