//! Who is logged in.
//!
//! Owns the sessions: their ids, their CSRF tokens, their ends. They live in memory, so a new process asks everyone to log in
//! again. An id is 256 random bits and known here by its hash alone. Must never outlive what opened it: callers ask the door
//! at each use.

use super::attempts::Attempts;
use super::door::Visitor;
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a session lives without a request.
pub(super) const IDLE: Duration = Duration::from_secs(30 * 60);
/// How long it lives in all.
pub(super) const LONGEST: Duration = Duration::from_secs(12 * 3600);
/// The maximum number of sessions.
const MAX: usize = 1024;
/// The maximum number of one visitor's sessions: one more ends the one that was not used for longest.
const MAX_EACH: usize = 32;

/// Sessions, and attempts at them.
#[derive(Debug, Default)]
pub struct Logins {
    pub(super) sessions: Sessions,
    pub(super) attempts: Attempts,
}

impl Logins {
    /// Returns when a session was last used or begun, if one ever was.
    pub fn last_used(&self) -> Option<Instant> {
        self.sessions.kept().last_used
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// By the hash of the id.
    open: HashMap<Id, Login>,
    last_used: Option<Instant>,
}

/// The hash of a session's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Id([u8; 32]);

impl Id {
    /// Returns the hash of an id as it is sent.
    pub(super) fn of(text: &str) -> Id {
        Id(Sha256::digest(text).into())
    }
}

/// A session.
#[derive(Clone, Debug)]
pub(super) struct Login {
    /// Who has logged in.
    pub(super) visitor: Visitor,
    /// What each act must send.
    pub(super) csrf: String,
    begun: Instant,
    used: Instant,
}

impl Login {
    /// Returns how long it lives at most from now on.
    pub(super) fn left(&self, now: Instant) -> Duration {
        LONGEST.saturating_sub(now.saturating_duration_since(self.begun))
    }

    fn is_over(&self, now: Instant) -> bool {
        self.left(now).is_zero() || now.saturating_duration_since(self.used) >= IDLE
    }
}

impl Sessions {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session. Returns its id, which is not kept, and itself; nothing if there is no randomness.
    pub(super) fn begin(&self, visitor: Visitor, now: Instant) -> Option<(String, Login)> {
        let (id, csrf) = (random()?, random()?);
        let session = Login { visitor, csrf, begun: now, used: now };
        let mut kept = self.kept();
        kept.open.retain(|_, session| !session.is_over(now));
        let name = session.visitor.name.clone();
        let own = kept.open.values().filter(|one| one.visitor.name == name).count();
        if own >= MAX_EACH || kept.open.len() >= MAX {
            let leaves = |one: &Login| own < MAX_EACH || one.visitor.name == name;
            let oldest = kept.open.iter().filter(|(_, one)| leaves(one)).min_by_key(|(_, one)| one.used);
            let oldest = oldest.map(|(id, _)| *id);
            oldest.and_then(|id| kept.open.remove(&id));
        }
        kept.open.insert(Id::of(&id), session.clone());
        kept.last_used = Some(now);
        Some((id, session))
    }

    /// Returns a session that is used now.
    pub(super) fn touch(&self, id: Id, now: Instant) -> Option<Login> {
        let mut kept = self.kept();
        let session = kept.open.get_mut(&id)?;
        if session.is_over(now) {
            kept.open.remove(&id);
            return None;
        }
        session.used = now;
        let session = session.clone();
        kept.last_used = Some(now);
        Some(session)
    }

    /// Returns the visitor of a session that is not over; it is not used by that.
    pub(super) fn visitor(&self, id: Id, now: Instant) -> Option<Visitor> {
        let kept = self.kept();
        kept.open.get(&id).filter(|session| !session.is_over(now)).map(|session| session.visitor.clone())
    }

    /// Ends a session.
    pub(super) fn end(&self, id: Id) {
        self.kept().open.remove(&id);
    }
}

/// Returns 256 random bits in hexadecimal.
fn random() -> Option<String> {
    let mut bits = [0; 32];
    getrandom::fill(&mut bits).ok()?;
    Some(bits.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::modules::control::Role;

    fn visitor(name: &str) -> Visitor {
        Visitor { name: name.into(), role: Role::Viewer, credential: [0; 32] }
    }

    #[test]
    fn session_ends_when_idle_and_at_its_longest() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let (id, _) = sessions.begin(visitor("ann"), start).unwrap();
        assert_eq!(id.len(), 64);
        let id = Id::of(&id);
        let mut now = start;
        while now + IDLE / 2 < start + LONGEST {
            now += IDLE / 2;
            assert!(sessions.touch(id, now).is_some(), "it is used");
        }
        assert!(sessions.visitor(id, start + LONGEST).is_none());
        assert!(sessions.touch(id, start + LONGEST).is_none(), "used or not");
        let (id, _) = sessions.begin(visitor("ann"), start).unwrap();
        assert!(sessions.visitor(Id::of(&id), start + IDLE - Duration::from_millis(1)).is_some());
        // Looking at it is no use.
        assert!(sessions.touch(Id::of(&id), start + IDLE).is_none());
        assert!(sessions.kept().open.is_empty());
    }

    #[test]
    fn ids_differ_and_are_not_kept() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (a, b) =
            (sessions.begin(visitor("ann"), now).unwrap(), sessions.begin(visitor("ann"), now).unwrap());
        assert!(a.0 != b.0 && a.1.csrf != b.1.csrf && a.0 != a.1.csrf);
        assert!(!format!("{sessions:?}").contains(&a.0));
        assert!(sessions.touch(Id::of(&a.1.csrf), now).is_none());
        sessions.end(Id::of(&a.0));
        assert!(sessions.touch(Id::of(&a.0), now).is_none());
        assert!(sessions.touch(Id::of(&b.0), now).is_some());
    }

    #[test]
    fn one_visitor_leaves_room_for_others() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        let (bob, _) = sessions.begin(visitor("bob"), now).unwrap();
        let (first, _) = sessions.begin(visitor("ann"), now).unwrap();
        for number in 0..MAX_EACH as u64 {
            sessions.begin(visitor("ann"), now + Duration::from_millis(number + 1)).unwrap();
        }
        assert!(sessions.touch(Id::of(&bob), now).is_some());
        assert!(sessions.touch(Id::of(&first), now).is_none(), "the one that was not used for longest");
        for number in 0..MAX {
            sessions.begin(visitor(&format!("c{number}")), now).unwrap();
        }
        assert_eq!(sessions.kept().open.len(), MAX);
    }
}
