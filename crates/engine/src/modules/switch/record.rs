//! A request's part in switches: the tables in which it has asked each of them, and the choices made for it.
//!
//! Owns that a switch is asked in one table for the whole life of a request, that of its first question, and that noting
//! a choice allocates nothing once a connection is warm. Names are copied rather than shared: a count of references that all threads change for every
//! request would cost more than the few bytes.

use crate::routing::Routing;
use std::rc::Rc;
use std::sync::Arc;
use switch::Hold;

/// The way in which a request's target was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matched {
    /// By an entry of the table.
    Entry,
    /// By the switch's default: there is no entry.
    #[default]
    Default,
    /// By a tester's own choice (`testers`).
    Tester,
}

/// A client's place in a split.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientPoint {
    /// That of its address.
    #[default]
    Address,
    /// This point.
    Known(u64),
    /// It has none yet: a tester, who chooses, or a client that gets its cookie when something is split.
    Open,
}

/// A switch's choice for a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Which switch: an index into [`crate::Config::switches`].
    pub switch: u16,
    /// The request's key, in its one form.
    pub key: Vec<u8>,
    /// The target.
    pub target: String,
    /// The revision of the table that was asked; 0 before the first commit.
    pub revision: u64,
    /// The newest commit that may have changed what the key gets ([`switch::Table::route_revision`]); 0 for a tester.
    pub route_revision: u64,
    /// The way in which it was found.
    pub matched: Matched,
    /// The client's place in a split, also where nothing is split: a split that comes while the request is under way
    /// moves some clients and leaves others.
    pub client: ClientPoint,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SwitchRecord {
    /// The switches that it has asked, each with the publication of its first question.
    asked: Vec<(u16, Rc<Routing>)>,
    /// The first `made` are of this request; the others are kept for their buffers.
    choices: Vec<Choice>,
    made: usize,
    /// The first of them were made for the request around it, whose values it has.
    inherited: usize,
    /// It goes to an upstream.
    leads: bool,
    /// How many choices had been made when its answer began.
    deciding: Option<usize>,
    /// Switches whose hold has let this request go.
    passed: Vec<u16>,
    /// The switch whose hold it waits for, and the hold.
    awaited: Option<(u16, Arc<Hold>)>,
    /// Names that were given to its client.
    issued: Vec<Issued>,
    /// It has asked a switch whose store is damaged.
    refused: bool,
    rooms: Rooms,
}

/// A client's name that is sent with the response, as a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Issued {
    /// The switch that asked first.
    pub(super) switch: u16,
    pub(super) id: [u64; 2],
}

/// Buffers that are taken out while they are used.
#[derive(Debug, Default)]
pub(super) struct Rooms {
    pub(super) key: Vec<u8>,
    pub(super) text: Vec<u8>,
}

/// How a target was found, and for which client.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) matched: Matched,
    pub(super) client: ClientPoint,
    pub(super) route_revision: u64,
}

/// How much a request has asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    asked: usize,
    made: usize,
}

/// Keys longer than this were exceptions: their memory is given back.
const KEPT_BYTES: usize = 512;

impl SwitchRecord {
    /// Returns the publication in which this request asks a switch. The first question takes what is published now:
    /// whatever the request has waited for before, it cannot reach a side that traffic has left.
    pub(super) fn take_routing(
        &mut self,
        switch: usize,
        published: impl FnOnce() -> Option<Rc<Routing>>,
    ) -> Option<Rc<Routing>> {
        if let Some(routing) = self.routing(switch) {
            return Some(Rc::clone(routing));
        }
        let routing = published()?;
        self.asked.push((switch as u16, Rc::clone(&routing)));
        Some(routing)
    }

    /// Returns the publication in which this request has asked a switch.
    pub fn routing(&self, switch: usize) -> Option<&Rc<Routing>> {
        self.asked.iter().find(|(asked, _)| usize::from(*asked) == switch).map(|(_, routing)| routing)
    }

    /// Lets a subrequest use the tables that the request around it has used, and pass the holds that have let that go.
    pub(crate) fn ask_as(&mut self, outer: &SwitchRecord) {
        self.asked.extend(outer.asked.iter().map(|(switch, routing)| (*switch, Rc::clone(routing))));
        self.passed.extend_from_slice(&outer.passed);
    }

    /// Gives a subrequest the choices of the request around it, with the values that came of them.
    pub(crate) fn inherit(&mut self, outer: &SwitchRecord) {
        self.choose_as(outer);
        self.inherited = self.made;
    }

    /// Gives a request the choices of a subrequest, because it goes on with the values of that one.
    pub(crate) fn take_back(&mut self, inner: &mut SwitchRecord) {
        self.choose_as(inner);
        for (switch, routing) in inner.asked.drain(..) {
            if self.routing(usize::from(switch)).is_none() {
                self.asked.push((switch, routing));
            }
        }
        for switch in inner.passed.drain(..) {
            if !self.has_passed(usize::from(switch)) {
                self.passed.push(switch);
            }
        }
        let known = |issued: &Issued| self.issued.iter().any(|one| one.switch == issued.switch);
        let new: Vec<Issued> = inner.issued.iter().filter(|issued| !known(issued)).copied().collect();
        self.issued.extend(new);
    }

    fn choose_as(&mut self, other: &SwitchRecord) {
        for choice in other.choices() {
            if self.choice_of(usize::from(choice.switch)).is_some() {
                continue;
            }
            if self.made == self.choices.len() {
                self.choices.push(Choice::default());
            }
            self.choices[self.made].clone_from(choice);
            self.made += 1;
        }
    }

    /// Returns the publications in which this request has asked switches.
    pub(crate) fn asked(&self) -> impl Iterator<Item = &Rc<Routing>> {
        self.asked.iter().map(|(_, routing)| routing)
    }

    /// Makes the request read a switch again after an order of its own. The choice that was made for it stays.
    pub fn read_anew(&mut self, switch: usize) {
        self.asked.retain(|(asked, _)| usize::from(*asked) != switch);
    }

    /// Returns the choices so far, in the order in which they were made; one for each switch that was asked.
    pub fn choices(&self) -> &[Choice] {
        &self.choices[..self.made]
    }

    /// Returns how many of the choices were made for the request around this one.
    pub fn inherited(&self) -> usize {
        self.inherited
    }

    /// Notes that the request goes to an upstream now.
    pub(crate) fn lead(&mut self) {
        self.leads = true;
    }

    /// Notes that the answer begins: a choice that is first made by a header or a line of the log has led no one.
    pub(crate) fn begin_answer(&mut self) {
        self.deciding.get_or_insert(self.made);
    }

    /// Returns the number of choices, the first ones, that the request has taken to an upstream. Its answer is that of a target,
    /// or what became of it on the way there.
    pub fn led(&self) -> usize {
        match self.leads {
            true => self.deciding.map_or(self.made, |deciding| deciding.min(self.made)),
            false => 0,
        }
    }

    /// Returns the choices that were made for this request itself and that it has taken to an upstream.
    pub fn led_choices(&self) -> &[Choice] {
        &self.choices[self.inherited..self.led().max(self.inherited)]
    }

    /// Returns the choice of one switch.
    pub fn choice_of(&self, switch: usize) -> Option<&Choice> {
        self.choices().iter().find(|choice| usize::from(choice.switch) == switch)
    }

    /// Notes a choice. A switch that was asked before is noted anew.
    pub(super) fn note(&mut self, switch: usize, key: &[u8], target: &str, revision: u64, found: Found) {
        let known = self.choices().iter().position(|choice| usize::from(choice.switch) == switch);
        let place = known.unwrap_or(self.made);
        if place == self.choices.len() {
            self.choices.push(Choice::default());
        }
        self.made = self.made.max(place + 1);
        let choice = &mut self.choices[place];
        choice.switch = switch as u16;
        choice.key.clear();
        choice.key.extend_from_slice(key);
        choice.target.clear();
        choice.target.push_str(target);
        choice.revision = revision;
        choice.matched = found.matched;
        choice.client = found.client;
        choice.route_revision = found.route_revision;
    }

    /// Returns how much has been asked so far.
    pub(super) fn progress(&self) -> Progress {
        Progress { asked: self.asked.len(), made: self.made }
    }

    /// Forgets what was asked since then, and says whose choices are forgotten.
    pub(super) fn forget_since(&mut self, then: Progress) -> impl Iterator<Item = usize> {
        self.asked.truncate(then.asked);
        let from = then.made.min(self.made);
        let forgotten = from..self.made;
        self.made = from;
        self.choices[forgotten].iter().map(|choice| usize::from(choice.switch))
    }

    /// Notes that the request waits for a hold of this switch.
    pub(super) fn wait_for(&mut self, switch: usize, hold: Arc<Hold>) {
        self.awaited = Some((switch as u16, hold));
    }

    /// Returns the hold that it waits for.
    pub fn awaited(&self) -> Option<&Arc<Hold>> {
        self.awaited.as_ref().map(|(_, hold)| hold)
    }

    /// Ends the wait of a request, whether its hold has released it or not. Returns `false` if it did not wait. A script
    /// that has read other keys of the switch before reads what is published now.
    pub(super) fn woken(&mut self) -> bool {
        let Some((switch, _)) = self.awaited.take() else { return false };
        self.read_anew(usize::from(switch));
        self.passed.push(switch);
        true
    }

    /// Returns whether a hold of this switch has already released the request.
    pub(super) fn has_passed(&self, switch: usize) -> bool {
        self.passed.iter().any(|passed| usize::from(*passed) == switch)
    }

    /// Notes a name that a switch has given to the client.
    pub(super) fn issue(&mut self, switch: usize, id: [u64; 2]) {
        self.issued.push(Issued { switch: switch as u16, id });
    }

    /// Returns the names that were given to the client.
    pub(super) fn issued(&self) -> &[Issued] {
        &self.issued
    }

    /// Notes that the request has asked a switch that has no answer for it.
    pub(super) fn refuse(&mut self) {
        self.refused = true;
    }

    /// Returns true, once, if the request must be refused.
    pub(crate) fn take_refusal(&mut self) -> bool {
        std::mem::take(&mut self.refused)
    }

    pub(super) fn take_rooms(&mut self) -> Rooms {
        std::mem::take(&mut self.rooms)
    }

    pub(super) fn put_rooms(&mut self, rooms: Rooms) {
        self.rooms = rooms;
    }

    /// Lets go of the tables and of all choices; the buffers stay, as far as they are of usual size.
    pub(crate) fn reset(&mut self) {
        self.asked.clear();
        self.awaited = None;
        self.refused = false;
        (self.leads, self.deciding) = (false, None);
        self.passed.clear();
        self.issued.clear();
        for choice in &mut self.choices[..self.made] {
            choice.key.clear();
            choice.key.shrink_to(KEPT_BYTES);
        }
        (self.made, self.inherited) = (0, 0);
        for room in [&mut self.rooms.key, &mut self.rooms.text] {
            room.clear();
            room.shrink_to(KEPT_BYTES);
        }
    }
}
