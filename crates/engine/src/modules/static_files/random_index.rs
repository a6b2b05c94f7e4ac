//! `random_index`: any file of a directory is its index (ngx_http_random_index_module).

use super::autoindex;
use crate::exchange::Exchange;
use crate::host::Env;
use crate::phase::{self, Verdict};

/// Returns the handler of the content phase, before that of `index`.
pub(super) fn handle(exchange: &mut Exchange, env: &mut Env<'_>) -> Verdict {
    let settings = &exchange.settings(env.config).static_files.listing;
    if !*settings.random
        || exchange.request.uri.last() != Some(&b'/')
        || !matches!(exchange.method(), b"GET" | b"HEAD" | b"POST")
    {
        return Verdict::Next;
    }
    let mut entries = match autoindex::read(exchange, env) {
        Ok(entries) => entries,
        Err(status) => return Verdict::Refuse(status),
    };
    entries.retain(|entry| entry.is_file && !entry.name.starts_with(b"."));
    if entries.is_empty() {
        return Verdict::Next;
    }
    // In the order of names, so that a seed chooses the same one.
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let chosen = (env.host.random() % entries.len() as u64) as usize;
    let uri = [&exchange.request.uri[..], &entries[chosen].name[..]].concat();
    let args = std::mem::take(&mut exchange.request.args);
    match phase::redirect_internally(exchange, env, &uri, &args) {
        Ok(()) => Verdict::Restart(exchange.route.cursor.phase),
        Err(status) => Verdict::Refuse(status),
    }
}
