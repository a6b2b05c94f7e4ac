//! The shared dicts of a process.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use engine::Config;
use engine::modules::lua::SharedDict;
use engine::modules::switch::SwitchSpec;

use crate::shdict::DictZone;

/// All shared dicts of a process; a clone is another handle on the same.
#[derive(Clone, Default)]
pub struct Dicts(Arc<[Arc<DictZone>]>);

impl Dicts {
    /// Makes the dicts of a configuration. One that `previous` has under the same name and size is carried over with its
    /// entries.
    pub fn new(wanted: &[SharedDict], previous: Option<&Dicts>) -> Dicts {
        let known = previous.map_or(&[][..], |dicts| &dicts.0);
        let carry = |dict: &SharedDict| {
            let (name, size_bytes) = (dict.name.as_bytes(), usize::try_from(dict.size).unwrap_or(usize::MAX));
            let same = known.iter().find(|zone| zone.name() == name && zone.capacity_bytes() == size_bytes);
            // As in a HashMap, the seed keeps clients from choosing keys that collide.
            same.cloned().unwrap_or_else(|| {
                Arc::new(DictZone::new(name, size_bytes, RandomState::new().hash_one(name)))
            })
        };
        Dicts(wanted.iter().map(carry).collect())
    }

    /// Returns the zone of a name, for readers outside of Lua.
    pub(crate) fn zone(&self, name: &str) -> Option<&Arc<DictZone>> {
        self.0.iter().find(|zone| zone.name() == name.as_bytes())
    }

    /// Returns the zones that a configuration declares.
    pub(super) fn zones_of(&self, wanted: &[SharedDict]) -> Vec<Arc<DictZone>> {
        wanted.iter().filter_map(|dict| self.zone(&dict.name).cloned()).collect()
    }
}

/// Returns, for each dict of the configuration, the switch that it is the face of.
pub(super) fn faces(config: &Config) -> Vec<Option<u32>> {
    let face_of = |name: &str| {
        let is_its = |spec: &SwitchSpec| spec.dict.as_deref() == Some(name);
        config.switches.iter().position(is_its).and_then(|number| u32::try_from(number).ok())
    };
    config.lua.dicts.iter().map(|dict| face_of(&dict.name)).collect()
}
