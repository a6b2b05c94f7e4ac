//! `pointsman restore`: a backup takes the place of a switch's store.
//!
//! Owns the verb's options, and the way to the file of the store. Works on the files themselves, so that it can be used when
//! no server runs; one that runs takes the store up by a reload.

use crate::client::Call;
use crate::error::{Code, Error, say};
use crate::order_options::{self, ActorOption};
use crate::session::{GlobalOptions, Session};
use clap::Args;
use control::api::types;
use control::store::{RestoreOrder, Restored, restore};
use hyper::Method;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time limit for the answer of a reload: longer than the server's own.
const ANSWER: Duration = Duration::from_secs(70);

/// Replace a switch's store by a backup, or accept a store that cannot be verified
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup
    #[arg(required_unless_present = "accept")]
    file: Option<PathBuf>,
    /// Accept the store as it is, because its second file is lost or damaged
    #[arg(long, conflicts_with = "file")]
    accept: bool,
    /// File of the store, if no server is running; otherwise the server names it, and reloads
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Why, for the history
    #[arg(long, short = 'm', value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    actor: ActorOption,
}

impl Restore {
    pub(crate) fn run(&self, global: &GlobalOptions) -> Result<Code, Error> {
        let (path, session) = match &self.state {
            Some(path) => (path.clone(), None),
            None => {
                let session = global.session()?;
                (state_of(&session)?, Some(session))
            }
        };
        let order = RestoreOrder {
            actor: text("actor", self.actor.name())?,
            reason: self.reason.clone().map(|reason| text("reason", reason)).transpose()?,
            now_ms: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64),
        };
        let restored = restore(&path, self.file.as_deref(), &order)
            .map_err(|fault| Error::new(Code::Refused, "restore_failed", fault.text, fault.remedy))?;
        let Restored { from, revision, hash, epoch, replaced, kept } = &restored;
        let mut out = format!(
            "restored revision {from} in place of revision {replaced}: now revision {revision}, epoch {epoch}, last hash {hash}\n"
        );
        if let Some(kept) = kept {
            out.push_str(&format!("the old file is kept as {}\n", kept.display()));
        }
        let reloaded = session.map(|session| reload(&session, &self.actor));
        out.push_str(match &reloaded {
            Some(Ok(())) => "the server has reloaded, and follows it\n",
            Some(Err(_)) => "the store is replaced, but the server has refused to reload:\n",
            None => "start the server; one that runs takes it up with: pointsman reload\n",
        });
        if global.json {
            let line = serde_json::json!({
                "restored_revision": from, "replaced_revision": replaced, "revision": revision, "epoch": epoch,
                "hash": hash.to_string(), "kept": kept.as_ref().map(|kept| kept.display().to_string()),
            });
            out = format!("{line}\n");
        }
        say(&out)?;
        reloaded.transpose()?;
        Ok(Code::Done)
    }
}

/// Returns the file of the store that is meant.
fn state_of(session: &Session) -> Result<PathBuf, Error> {
    let path = session.switch_path()?;
    let switch = session.client.ask::<types::Switch>(&Call::get(path))?.0;
    if switch.state == "memory" {
        return Err(Error::usage(
            format!("switch \"{}\" keeps its table in memory", switch.name),
            "name a file in its `state`",
        ));
    }
    Ok(switch.state.into())
}

fn reload(session: &Session, actor: &ActorOption) -> Result<(), Error> {
    let order = types::ReloadOrder { force: false };
    let mut call = order_options::order_call(Method::POST, "/v1/reload".to_owned(), &order, actor);
    call.limit = ANSWER;
    session.client.ask::<types::Reloaded>(&call).map(drop)
}

/// Checks a text of the history, which is shown in terminals and logs: one line, without escape sequences.
fn text(what: &str, text: String) -> Result<String, Error> {
    if text.chars().any(char::is_control) || text.len() > 4096 {
        return Err(Error::usage(
            format!("invalid {what}: it is too long or contains a control character"),
            "",
        ));
    }
    Ok(text)
}
