//! A request's part in switches: the tables that it has pinned, and the choices made for it.
//!
//! Owns that it is one publication for the whole life of a request, and that noting a choice allocates nothing once a
//! connection is warm. Names are copied rather than shared: a count of references that all threads change for every
//! request would cost more than the few bytes.

use std::rc::Rc;
use switch::Tables;

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
    /// The way in which it was found.
    pub matched: Matched,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SwitchRecord {
    tables: Option<Rc<Tables>>,
    /// The first `made` are of this request; the others are kept for their buffers.
    choices: Vec<Choice>,
    made: usize,
    /// Switches whose hold has let this request go.
    passed: Vec<u16>,
    /// The switch whose hold it waits for.
    awaited: Option<u16>,
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

/// Keys longer than this were exceptions: their memory is given back.
const KEPT_BYTES: usize = 512;

impl SwitchRecord {
    /// Pins the tables that hold for this request from now on: right before its phases begin, and again when a hold
    /// lets
    /// it go. Without switches there are none.
    pub fn pin(&mut self, tables: Option<Rc<Tables>>) {
        self.tables = tables;
    }

    /// Returns the tables that hold for this request.
    pub fn tables(&self) -> Option<&Rc<Tables>> {
        self.tables.as_ref()
    }

    /// Returns the choices so far, in the order in which they were made; one for each switch that was asked.
    pub fn choices(&self) -> &[Choice] {
        &self.choices[..self.made]
    }

    /// Returns the choice of one switch.
    pub fn choice_of(&self, switch: usize) -> Option<&Choice> {
        self.choices().iter().find(|choice| usize::from(choice.switch) == switch)
    }

    /// Notes a choice. A switch that was asked before is noted anew.
    pub(super) fn note(&mut self, switch: usize, key: &[u8], target: &str, revision: u64, matched: Matched) {
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
        choice.matched = matched;
    }

    /// Forgets the choices after the first so many, and says whose they were.
    pub(super) fn forget_after(&mut self, made: usize) -> impl Iterator<Item = usize> {
        let from = made.min(self.made);
        let forgotten = from..self.made;
        self.made = from;
        self.choices[forgotten].iter().map(|choice| usize::from(choice.switch))
    }

    /// Notes that the request waits for a hold of this switch.
    pub(super) fn wait_for(&mut self, switch: usize) {
        self.awaited = Some(switch as u16);
    }

    /// Ends the wait of a request, whether its hold has released it or not. Returns `false` if it did not wait.
    pub(super) fn woken(&mut self) -> bool {
        let awaited = self.awaited.take();
        self.passed.extend(awaited);
        awaited.is_some()
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
        self.tables = None;
        self.awaited = None;
        self.refused = false;
        self.passed.clear();
        self.issued.clear();
        for choice in &mut self.choices[..self.made] {
            choice.key.clear();
            choice.key.shrink_to(KEPT_BYTES);
        }
        self.made = 0;
        for room in [&mut self.rooms.key, &mut self.rooms.text] {
            room.clear();
            room.shrink_to(KEPT_BYTES);
        }
    }
}
