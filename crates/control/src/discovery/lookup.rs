//! One look at a place.

use super::file::FileLookup;
use super::looked_up::{FoundServers, LookedUp};
use super::name::NameLookup;
use super::url::UrlLookup;
use engine::modules::upstream::{FoundServer, Place};
use std::time::Duration;

/// Looks at one place again and again.
pub(crate) enum Lookup {
    /// Name servers.
    Name(NameLookup),
    /// A file.
    File(FileLookup),
    /// A URL.
    Url(UrlLookup),
}

impl Lookup {
    /// Returns a look at this place that has not begun.
    pub(crate) fn new(place: &Place) -> Lookup {
        match place {
            Place::Name(place) => Lookup::Name(NameLookup::new(place)),
            Place::File(place) => Lookup::File(FileLookup::new(place)),
            Place::Url(place) => Lookup::Url(UrlLookup::new(place)),
        }
    }

    /// Looks. `believed` is what was found there before.
    pub(crate) async fn look(&mut self, believed: &[FoundServer]) -> LookedUp {
        match self {
            Lookup::Name(name) => name.look(believed).await,
            Lookup::File(file) => file.look().await,
            Lookup::Url(url) => url.look().await,
        }
    }
}

/// Looks at places once, all at a time, for as long as `limit`. Returns what was found by then.
pub(crate) async fn first_looks(places: Vec<Place>, limit: Duration) -> Vec<(Place, FoundServers)> {
    let mut looks = tokio::task::JoinSet::new();
    for place in places {
        looks.spawn_local(async move {
            let looked_up = Lookup::new(&place).look(&[]).await;
            (place, looked_up)
        });
    }
    let mut found = Vec::new();
    let all = async {
        while let Some(looked) = looks.join_next().await {
            if let Ok((place, LookedUp::Found(servers))) = looked {
                found.push((place, servers));
            }
        }
    };
    // What comes later is taken when it comes.
    let _ = tokio::time::timeout(limit, all).await;
    found
}
