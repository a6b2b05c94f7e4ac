//! When a place is looked at again. Pure: what came of the last look and a random number are arguments.

use super::looked_up::LookedUp;
use engine::modules::upstream::Place;
use std::time::Duration;

/// The shortest time between two questions to name servers, whatever they say, and the longest.
const NAME_BOUNDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(86_400));
/// The longest time until a name that could not be resolved is asked for again.
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// The longest time until a URL that did not answer is asked again, if its interval is not longer.
const LONGEST_URL_RETRY: Duration = Duration::from_secs(60);

/// The turns of one place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schedule {
    /// Looks in a row that failed.
    failures: u32,
}

impl Schedule {
    /// Returns the time until the next look. `roll` is below 1,000.
    pub(crate) fn pause(&mut self, place: &Place, looked_up: &LookedUp, roll: u32) -> Duration {
        let (holds, has_failed) = match looked_up {
            LookedUp::Found(found) => (found.holds, found.lacks.is_some()),
            LookedUp::Still | LookedUp::Nothing => (None, false),
            LookedUp::Failed(_) => (None, true),
        };
        // That there is nothing does not say for how long.
        let is_empty = matches!(looked_up, LookedUp::Found(found) if found.servers.is_empty());
        let has_failed = has_failed || (is_empty && matches!(place, Place::Name(_)));
        self.failures = if has_failed { self.failures.saturating_add(1) } else { 0 };
        let doubled = |first: Duration, longest: Duration| {
            first.saturating_mul(1 << (self.failures.max(1) - 1).min(16)).min(longest)
        };
        match place {
            Place::Name(_) => {
                let own = holds.map(|holds| holds.clamp(NAME_BOUNDS.0, NAME_BOUNDS.1));
                let retry = has_failed.then(|| jittered(doubled(NAME_BOUNDS.0, LONGEST_RETRY), roll));
                own.into_iter().chain(retry).min().unwrap_or(NAME_BOUNDS.0)
            }
            Place::File(file) => Duration::from_millis(file.interval_ms),
            Place::Url(url) => {
                let interval = Duration::from_millis(url.interval_ms);
                jittered(doubled(interval, LONGEST_URL_RETRY.max(interval)), roll)
            }
        }
    }
}

/// Returns a time of three to five quarters of this one, so that many processes do not ask at once.
fn jittered(time: Duration, roll: u32) -> Duration {
    time.mul_f64(0.75 + f64::from(roll % 1_000) / 2_000.0)
}

#[cfg(test)]
mod tests {
    use super::super::looked_up::FoundServers;
    use super::*;
    use engine::modules::upstream::{FilePlace, FoundServer, NamePlace, UrlPlace};
    use switch::ServerParams;
    use upstream::Address;

    fn name() -> Place {
        let place =
            NamePlace { host: "a".into(), service: None, resolver: Default::default(), timeout_ms: 0 };
        Place::Name(place)
    }

    fn url(interval_ms: u64) -> Place {
        Place::Url(UrlPlace {
            url: "".into(),
            host: "".into(),
            addresses: Vec::new(),
            uri: "".into(),
            interval_ms,
            timeout_ms: 0,
        })
    }

    fn found(holds_s: u64) -> LookedUp {
        let server = FoundServer {
            address: Address::Unix("/a".into()),
            params: ServerParams::default(),
            is_secondary: false,
        };
        LookedUp::Found(FoundServers {
            servers: vec![server],
            holds: Some(Duration::from_secs(holds_s)),
            lacks: None,
        })
    }

    #[test]
    fn a_name_is_asked_for_when_its_answer_ends_and_ever_later_while_it_fails() {
        let mut schedule = Schedule::default();
        let mut pause = |looked_up: LookedUp| schedule.pause(&name(), &looked_up, 500).as_secs_f64();
        assert_eq!((pause(found(60)), pause(found(0)), pause(found(1_000_000))), (60.0, 1.0, 86_400.0));
        let failed = || LookedUp::Failed(String::new());
        let all: Vec<f64> = (0..7).map(|_| pause(failed())).collect();
        assert_eq!(all, [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]);
        // There is no such name: that has no time.
        assert_eq!(pause(LookedUp::Found(FoundServers::default())), 30.0);
        assert_eq!(pause(found(5)), 5.0);
        assert_eq!(pause(LookedUp::Found(FoundServers::default())), 1.0);
        // A part fails: it is asked for again before the rest ends.
        let LookedUp::Found(part) = found(60) else { panic!() };
        assert_eq!(pause(LookedUp::Found(FoundServers { lacks: Some(String::new()), ..part })), 2.0);
    }

    #[test]
    fn files_have_an_interval_and_urls_a_longer_one_while_they_fail() {
        let mut schedule = Schedule::default();
        let file = Place::File(FilePlace { path: "/a".into(), interval_ms: 700 });
        let failed = LookedUp::Failed(String::new());
        for _ in 0..5 {
            assert_eq!(schedule.pause(&file, &failed, 0), Duration::from_millis(700));
        }
        let mut schedule = Schedule::default();
        let mut pause = |place: &Place, looked_up: &LookedUp, roll| schedule.pause(place, looked_up, roll);
        assert_eq!(pause(&url(10_000), &LookedUp::Still, 0), Duration::from_millis(7_500));
        assert_eq!(pause(&url(10_000), &found(1), 999).as_millis(), 12_495);
        let all: Vec<u64> = (0..5).map(|_| pause(&url(10_000), &failed, 500).as_secs()).collect();
        assert_eq!(all, [10, 20, 40, 60, 60]);
        assert_eq!(pause(&url(600_000), &failed, 500).as_secs(), 600);
    }
}
