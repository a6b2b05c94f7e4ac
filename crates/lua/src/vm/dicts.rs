//! The shared dicts of a process.

use std::sync::Arc;

use engine::modules::lua::SharedDict;

use crate::shdict::Zone;

/// All shared dicts of a process; a clone is another handle on the same.
#[derive(Clone, Default)]
pub struct Dicts(Arc<[Arc<Zone>]>);

impl Dicts {
    /// The dicts of a configuration. One that `previous` has under the same name and size is carried over with all
    /// that is in it. `seed` makes the order of new dicts' tables unguessable.
    ///
    /// # Errors
    /// A dict is too small for its own records.
    pub fn new(wanted: &[SharedDict], previous: Option<&Dicts>, seed: u64) -> Result<Dicts, String> {
        let known = previous.map_or(&[][..], |dicts| &dicts.0);
        let mut all = Vec::with_capacity(wanted.len());
        for dict in wanted {
            let size_bytes = usize::try_from(dict.size).unwrap_or(usize::MAX);
            let is_same = |zone: &&Arc<Zone>| {
                zone.name() == dict.name.as_bytes() && zone.capacity_bytes() == size_bytes
            };
            match known.iter().find(is_same) {
                Some(zone) => all.push(zone.clone()),
                None => match Zone::new(dict.name.as_bytes(), size_bytes, seed ^ all.len() as u64) {
                    Some(zone) => all.push(Arc::new(zone)),
                    None => return Err(format!("lua_shared_dict \"{}\" is too small: no memory", dict.name)),
                },
            }
        }
        Ok(Dicts(all.into()))
    }

    /// The zone of a name: for those who look into dicts from outside of Lua.
    pub fn zone(&self, name: &str) -> Option<&Arc<Zone>> {
        self.0.iter().find(|zone| zone.name() == name.as_bytes())
    }

    /// The zones that a configuration declares.
    pub(super) fn zones_of(&self, wanted: &[SharedDict]) -> Vec<Arc<Zone>> {
        wanted.iter().filter_map(|dict| self.zone(&dict.name).cloned()).collect()
    }
}
