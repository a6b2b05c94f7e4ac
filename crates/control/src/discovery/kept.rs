//! The last good sets on disk, for the next start.
//!
//! Owns the file `discovered.json` in the folder of the stores. It is written lazily and replaced as a whole; one that cannot
//! be read is as none. Must never be waited for by anything that serves.

use super::list;
use crate::plain_file;
use engine::Config;
use engine::modules::upstream::FoundServer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use switch::ServerParams;

/// The sets of all groups: by group in lower case, and by the text of the line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    groups: BTreeMap<String, BTreeMap<String, KeptSet>>,
}

/// A set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSet {
    /// When it was last seen, in milliseconds since 1970.
    pub(crate) seen_ms: u64,
    /// Its servers, as words.
    servers: Vec<String>,
}

/// The greatest length of the file, in bytes: what is longer is broken.
const MAX_BYTES: u64 = 256 << 20;

/// The word of a server that is asked when the others are not there.
const SECONDARY: &str = "secondary";

impl KeptSet {
    /// Returns a set to keep.
    pub(crate) fn new(servers: &[FoundServer], seen_ms: u64) -> KeptSet {
        let text = |server: &FoundServer| {
            let secondary = if server.is_secondary { SECONDARY } else { "" };
            let words = [server.address.to_string(), server.params.to_string(), secondary.to_owned()];
            words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
        };
        KeptSet { seen_ms, servers: servers.iter().map(text).collect() }
    }

    /// Returns the servers; none at all if any of them cannot be read.
    pub(crate) fn servers(&self) -> Option<Vec<FoundServer>> {
        self.servers.iter().map(|text| read(text)).collect()
    }
}

/// Reads a file of at most [`MAX_BYTES`].
fn bytes(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    plain_file::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn read(text: &str) -> Option<FoundServer> {
    let mut words = text.split(' ');
    let address = words.next()?;
    let (mut params, mut is_secondary) = (ServerParams::default(), false);
    for word in words {
        match word {
            SECONDARY => is_secondary = true,
            word => params.read(word).ok()?,
        }
    }
    // The port may be that of the line.
    let server = match address.parse() {
        Ok(address) => FoundServer { address: upstream::Address::Inet(address), params, is_secondary },
        Err(_) => list::server(address, params).ok()?,
    };
    Some(FoundServer { is_secondary, ..server })
}

impl Kept {
    /// Returns the file of a configuration.
    pub(crate) fn path(config: &Config) -> PathBuf {
        config.prefix.join("state").join("discovered.json")
    }

    /// Reads a file; one that is not there, or broken, is as one with nothing in it.
    ///
    /// # Errors
    /// The fault, for the log.
    pub(crate) fn read(path: &Path) -> Result<Kept, String> {
        let fault = |text: String| {
            format!("the last good sets of discovered servers in {} cannot be read: {text}", path.display())
        };
        match bytes(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fault(error.to_string())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kept::default()),
            Err(error) => Err(fault(error.to_string())),
        }
    }

    /// Returns the set of a line of a group.
    pub(crate) fn get(&self, group: &str, text: &str) -> Option<&KeptSet> {
        self.groups.get(&group.to_ascii_lowercase())?.get(text)
    }

    /// Adds a set.
    pub(crate) fn put(&mut self, group: &str, text: &str, set: KeptSet) {
        self.groups.entry(group.to_ascii_lowercase()).or_default().insert(text.to_owned(), set);
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// The disk fails; the file is as it was.
    pub(crate) fn write(&self, path: &Path) -> std::io::Result<()> {
        let folder = path.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.as_file().sync_data()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state").join("discovered.json");
        assert_eq!(Kept::read(&path).unwrap(), Kept::default());
        let servers = ["10.0.0.1:0", "[::1]:81 weight=3 backup secondary", "unix:/a.sock down"];
        let servers: Vec<FoundServer> = servers.iter().map(|text| read(text).unwrap()).collect();
        assert!(servers[1].is_secondary && servers[1].params.weight == Some(3));
        let mut kept = Kept::default();
        kept.put("Blue", "app.test resolve", KeptSet::new(&servers, 7));
        kept.write(&path).unwrap();
        let read = Kept::read(&path).unwrap();
        let set = read.get("bluE", "app.test resolve").unwrap();
        assert_eq!((set.seen_ms, set.servers().unwrap()), (7, servers));
        assert!(read.get("blue", "other.test resolve").is_none());
        std::fs::write(&path, "{").unwrap();
        assert!(Kept::read(&path).unwrap_err().contains("cannot be read"));
    }
}
