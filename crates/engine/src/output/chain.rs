//! Body filters one behind another, and what waits between them.
//!
//! Owns the order of bytes, and how much of them may wait. It must never know what a filter does: [`super::body`] runs
//! them.

use super::decoder::Decoder;
use crate::modules::charset::recoder::Recoder;
use crate::modules::slice::record::SliceBody;
use crate::modules::ssi::machine::SsiMachine;
use crate::modules::sub_filter::search::Substitution;
use crate::subrequest::wanted::Subrequest;

/// A filter of the body, with its state.
#[derive(Debug)]
pub(crate) enum BodyFilter {
    /// `slice`.
    Slice(SliceBody),
    /// `gunzip`.
    Gunzip(Box<Decoder>),
    /// `charset` with a `charset_map`.
    Recode(Recoder),
    /// `sub_filter`.
    Substitute(Box<Substitution>),
    /// `ssi`.
    Ssi(Box<SsiMachine>),
}

/// The reason why a filter stops.
#[derive(Debug)]
pub(crate) enum Flow {
    /// It has taken all that it was given; at the body's end it has made all that it will make.
    Dry,
    /// It has made enough for now.
    Full,
    /// The answer to this request comes next.
    Include(Box<Include>),
}

/// A request inside the present one whose answer belongs into the body.
#[derive(Debug)]
pub struct Include {
    /// The request; what is kept of its body goes to the filter that has asked for it.
    pub request: Subrequest,
    /// Its body is a part of this body, and is not kept.
    pub is_shown: bool,
}

/// How a request inside the present one has ended.
#[derive(Debug, Default)]
pub struct Included {
    /// The status.
    pub status: u16,
    /// The body, if it was to be kept.
    pub body: Vec<u8>,
    /// It was refused.
    pub failed: bool,
    /// It was not made, because requests are too deep inside each other.
    pub too_deep: bool,
}

/// The next step for the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyStep {
    /// Nothing until more of it comes.
    Nothing,
    /// Sending what is in the wire; then there is more.
    More,
    /// The same, and then serving the request that [`super::Output::take_include`] gives.
    Include,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinkState {
    /// It waits for input.
    Dry,
    /// It has something to do.
    Ready,
    /// It has seen the end.
    Done,
}

/// A filter, and what it was given and has not taken.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) filter: BodyFilter,
    input: Vec<u8>,
    taken: usize,
    is_last: bool,
    state: LinkState,
}

impl Link {
    fn give(&mut self, data: &[u8], is_last: bool) {
        if self.state == LinkState::Done || data.is_empty() && !is_last {
            return;
        }
        self.input.drain(..self.taken);
        self.taken = 0;
        self.input.extend_from_slice(data);
        self.is_last |= is_last;
        self.state = LinkState::Ready;
    }

    /// Returns what it has not taken, and if that is the end of the body.
    pub(super) fn input(&mut self) -> (&mut BodyFilter, &[u8], bool) {
        (&mut self.filter, &self.input[self.taken..], self.is_last)
    }

    /// Notes what it has taken and said.
    pub(super) fn took(&mut self, count: usize, is_dry: bool) {
        self.taken += count;
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        self.state = match (is_dry, self.is_last) {
            (true, true) => LinkState::Done,
            (true, false) => LinkState::Dry,
            (false, _) => LinkState::Ready,
        };
    }
}

/// The filters of one body.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    links: Vec<Link>,
    /// The request whose answer comes before the body, until it was asked for.
    before: Option<Box<Subrequest>>,
    /// The one whose answer comes behind it.
    after: Option<Box<Subrequest>>,
    /// What is to be served next.
    wanted: Option<Box<Include>>,
    /// The filter that waits for what is served.
    waiter: Option<usize>,
    /// What came while there is no filter to take it.
    held: Vec<u8>,
    /// There is, or was, anything in it.
    is_used: bool,
    is_last: bool,
    is_ended: bool,
}

impl Chain {
    /// Returns true if the body goes past it.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_used
    }

    /// Returns true if SSI commands are looked for.
    pub(super) fn looks_for_commands(&self) -> bool {
        self.links.iter().any(|link| matches!(link.filter, BodyFilter::Ssi(_)))
    }

    /// Adds a filter behind the others.
    pub(crate) fn push(&mut self, filter: BodyFilter) {
        self.is_used = true;
        let state = LinkState::Dry;
        self.links.push(Link { filter, input: Vec::new(), taken: 0, is_last: false, state });
    }

    /// Puts the answers to requests before and behind the body.
    pub(crate) fn surround(&mut self, before: Option<Subrequest>, after: Option<Subrequest>) {
        self.is_used |= before.is_some() || after.is_some();
        self.before = before.map(Box::new);
        self.after = after.map(Box::new);
    }

    /// Takes bytes of the body. Behind its end there are none.
    pub(super) fn give(&mut self, data: &[u8], is_last: bool) {
        if self.is_last {
            return;
        }
        self.is_last = is_last;
        match self.links.first_mut() {
            Some(first) => first.give(data, is_last),
            None => self.held.extend_from_slice(data),
        }
    }

    /// Returns the filter furthest down the chain that has something to do.
    pub(super) fn ready(&mut self) -> Option<(usize, &mut Link)> {
        let at = self.links.iter().rposition(|link| link.state == LinkState::Ready)?;
        Some((at, &mut self.links[at]))
    }

    /// Hands on what a filter has made; returns true if that is out of the chain.
    pub(super) fn pass(&mut self, from: usize, made: &[u8]) -> bool {
        let is_last = self.links[from].state == LinkState::Done;
        match self.links.get_mut(from + 1) {
            Some(next) => next.give(made, is_last),
            None => return true,
        }
        false
    }

    /// Notes that a filter wants this request.
    pub(super) fn want(&mut self, from: usize, include: Box<Include>) {
        self.waiter = Some(from);
        self.wanted = Some(include);
    }

    /// Returns true if a request is to be served before anything else, the one before the body first.
    pub(super) fn wants_include(&mut self) -> bool {
        if self.wanted.is_none()
            && let Some(request) = self.before.take()
        {
            self.waiter = None;
            self.wanted = Some(Box::new(Include { request: *request, is_shown: true }));
        }
        self.wanted.is_some()
    }

    /// Returns the filter that waited for what was served.
    pub(super) fn waiter(&mut self) -> Option<&mut BodyFilter> {
        let at = self.waiter.take()?;
        self.links.get_mut(at).map(|link| &mut link.filter)
    }

    /// Returns the request that is to be served.
    pub(super) fn take_include(&mut self) -> Option<Box<Include>> {
        self.wanted.take()
    }

    /// Returns what came while no filter takes it.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Returns true the first time that all of the body is through and nothing is left but to end it.
    pub(super) fn may_end(&mut self) -> bool {
        if !self.is_last || self.is_ended {
            return false;
        }
        if let Some(request) = self.after.take() {
            self.waiter = None;
            self.wanted = Some(Box::new(Include { request: *request, is_shown: true }));
            return false;
        }
        self.is_ended = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoder() -> BodyFilter {
        BodyFilter::Gunzip(Box::default())
    }

    fn given(link: &mut Link) -> (Vec<u8>, bool) {
        let (_, data, is_last) = link.input();
        (data.to_vec(), is_last)
    }

    #[test]
    fn the_last_filter_runs_first_and_each_passes_the_end_on() {
        let mut chain = Chain::default();
        assert!(chain.is_empty());
        chain.push(decoder());
        chain.push(decoder());
        chain.give(b"abc", true);
        chain.give(b"too late", true);
        let (at, link) = chain.ready().unwrap();
        assert_eq!((at, given(link)), (0, (b"abc".to_vec(), true)));
        link.took(2, false);
        assert!(!chain.pass(0, b"AB"));
        let (at, link) = chain.ready().unwrap();
        assert_eq!((at, given(link)), (1, (b"AB".to_vec(), false)));
        link.took(2, true);
        assert!(chain.pass(1, b"xy"), "what the last one makes is out of the chain");
        let (at, link) = chain.ready().unwrap();
        assert_eq!((at, given(link).0), (0, b"c".to_vec()));
        link.took(1, true);
        assert!(!chain.pass(0, b""));
        let (at, link) = chain.ready().unwrap();
        assert_eq!((at, given(link)), (1, (b"".to_vec(), true)));
        link.took(0, true);
        assert!(chain.pass(1, b""));
        assert!(chain.ready().is_none());
        assert!(chain.may_end());
        assert!(!chain.may_end());
    }

    #[test]
    fn answers_come_before_and_behind_a_body() {
        let request = |uri: &[u8]| Subrequest { uri: uri.to_vec(), ..Subrequest::default() };
        let mut chain = Chain::default();
        chain.surround(Some(request(b"/a")), Some(request(b"/b")));
        chain.give(b"body", true);
        assert!(chain.wants_include());
        assert_eq!(chain.take_include().unwrap().request.uri, b"/a");
        assert!(!chain.wants_include());
        assert_eq!(chain.take_held(), b"body");
        assert!(!chain.may_end());
        assert!(chain.wants_include());
        assert_eq!(chain.take_include().unwrap().request.uri, b"/b");
        assert!(chain.may_end());
    }
}
