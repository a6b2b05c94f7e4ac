//! `pointsman cache`: zones of kept responses, and purges.
//!
//! Owns the verb's options and the form of the list. Must never touch a file of a zone: the server does.

use crate::client::{Call, encoded};
use crate::error::{Code, Error, say, say_json};
use crate::format::{self, Table};
use crate::order_options::{self, ActorOption};
use crate::session::Session;
use clap::{Args, Subcommand};
use control::api::types::{Cache, Caches, PurgeOrder, PurgedCache};
use hyper::Method;
use std::time::Duration;

/// Time limit for the answer: longer than the server's own.
const ANSWER: Duration = Duration::from_secs(130);

/// List cache zones (proxy_cache), and purge cached responses
#[derive(Debug, Args)]
#[command(after_help = "\
A key is the value of proxy_cache_key; without that directive, the URL of the upstream: http://backend/page. A purge \
removes all variants of the key, whichever target of a switch they came from. It is recorded in the journal.

Examples:
  pointsman cache purge pages http://backend/news
  pointsman cache purge pages --all")]
pub(crate) struct CacheCommand {
    #[command(subcommand)]
    act: Option<Act>,
}

/// The action.
#[derive(Debug, Subcommand)]
enum Act {
    /// Remove responses from the cache, and their files
    Purge(Purge),
    /// Show all zones (the default)
    List,
}

#[derive(Debug, Args)]
struct Purge {
    /// Zone: the name of keys_zone
    zone: String,
    /// Key of the responses
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    key: Vec<String>,
    /// All responses of the zone
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    actor: ActorOption,
}

impl CacheCommand {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        match &self.act {
            None | Some(Act::List) => list(session),
            Some(Act::Purge(purge)) => purge.run(session),
        }
    }
}

impl Purge {
    fn run(&self, session: &Session) -> Result<Code, Error> {
        let order = PurgeOrder { keys: self.key.clone(), all: self.all };
        let path = format!("/v1/caches/{}/purge", encoded(&self.zone));
        let mut call: Call = order_options::order_call(Method::POST, path, &order, &self.actor);
        call.limit = ANSWER;
        let (purged, body) = session.client.ask::<PurgedCache>(&call)?;
        match session.json {
            true => say_json(&body)?,
            false => {
                let count = format::count(purged.responses, "response");
                say(&format!("{}: {count} purged\n", purged.name))?;
            }
        }
        Ok(Code::Done)
    }
}

fn list(session: &Session) -> Result<Code, Error> {
    let (found, body) = session.client.ask::<Caches>(&Call::get("/v1/caches"))?;
    match session.json {
        true => say_json(&body)?,
        false => say(&text(&found.caches))?,
    }
    Ok(Code::Done)
}

/// Returns the zones for people.
fn text(caches: &[Cache]) -> String {
    if caches.is_empty() {
        return "no zones: proxy_cache_path makes them\n".to_owned();
    }
    let mut table = Table::new(&["zone", "for", "responses", "at most", "bytes", "at most", "folder"]);
    for cache in caches {
        table.row([
            cache.name.clone(),
            format!("{}_cache", cache.family),
            cache.entries.to_string(),
            cache.max_entries.to_string(),
            cache.bytes.to_string(),
            cache.max_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string()),
            cache.path.clone(),
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_shown_with_what_they_hold() {
        let cache = Cache {
            name: "pages".into(),
            family: "fastcgi".into(),
            path: "/var/cache/pages".into(),
            entries: 3,
            max_entries: 80,
            bytes: 8192,
            max_bytes: None,
        };
        let text = text(&[cache]);
        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(row, ["pages", "fastcgi_cache", "3", "80", "8192", "-", "/var/cache/pages"]);
        assert!(super::text(&[]).contains("proxy_cache_path"));
    }
}
