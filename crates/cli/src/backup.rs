//! `pointsman backup`: a copy of a switch's store, with its history.
//!
//! Owns the verb's options, and that a file that is there is whole. Must never leave half a file under the name that was
//! asked for.

use crate::client::Call;
use crate::error::{Code, Error, say};
use crate::session::Session;
use clap::Args;
use control::store::verify_backup;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Time limit for the answer: a store may have a million keys.
const ANSWER: Duration = Duration::from_secs(300);

/// Save a switch's table and its whole history to a file, and verify it
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Destination; an existing file is overwritten
    file: PathBuf,
}

impl Backup {
    pub(crate) fn run(&self, session: &Session) -> Result<Code, Error> {
        let mut call = Call::get(format!("{}/backup", session.switch_path()?));
        call.limit = ANSWER;
        let bytes = session.client.send(&call)?;
        let mut draft = self.file.as_os_str().to_owned();
        draft.push(format!(".new.{}", std::process::id()));
        let draft = PathBuf::from(draft);
        let saved = write(&draft, &bytes).map_err(|error| failed(&self.file, &error)).and_then(|()| {
            let chain = verify_backup(&draft).map_err(|fault| {
                Error::new(Code::Refused, "bad_backup", fault.text, "make the backup again")
            })?;
            fs::rename(&draft, &self.file).map_err(|error| failed(&self.file, &error))?;
            Ok(chain)
        });
        if saved.is_err() {
            let _ = fs::remove_file(&draft);
        }
        let chain = saved?;
        if session.json {
            let shown = self.file.display().to_string();
            let (revision, hash) = (chain.revision, chain.hash.to_string());
            let line = serde_json::json!({ "file": shown, "revision": revision, "hash": hash });
            say(&format!("{line}\n"))?;
        } else {
            say(&format!("saved revision {}, last hash {}\n", chain.revision, chain.hash))?;
        }
        Ok(Code::Done)
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let text = format!("cannot write {}: {error}", path.display());
    Error::new(Code::Refused, "system", text, "choose a file in a folder that can be written")
}
