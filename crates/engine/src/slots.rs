//! The variables that live in a request: what `set`, captures and cached maps have given a value.

/// The value of one variable that lives in the request.
#[derive(Clone, Debug, Default)]
pub struct Slot {
    /// The state of the value.
    pub state: SlotState,
    /// The value, if it is found.
    pub value: Vec<u8>,
}

/// The state of a variable's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlotState {
    /// Never asked for and never set.
    #[default]
    Unset,
    /// Being worked out at this moment: who asks for it now asks in a circle.
    Working,
    /// Known not to be there.
    NotFound,
    /// There.
    Found,
}

/// The variables that live in the request.
#[derive(Clone, Debug, Default)]
pub struct Slots(Vec<Slot>);

impl Slots {
    /// Forgets all values and makes room for the configuration's number of slots.
    pub fn reset(&mut self, count: usize) {
        self.0.resize_with(count, Slot::default);
        for slot in &mut self.0 {
            slot.state = SlotState::Unset;
            slot.value.clear();
        }
    }

    /// Returns the bytes of all values.
    pub fn used_bytes(&self) -> usize {
        self.0.iter().map(|slot| slot.value.len()).sum()
    }

    /// Returns one slot.
    pub fn get(&self, slot: u32) -> &Slot {
        &self.0[slot as usize]
    }

    /// Gives a slot a value.
    pub fn set(&mut self, slot: u32, value: &[u8]) {
        let slot = &mut self.0[slot as usize];
        slot.state = SlotState::Found;
        slot.value.clear();
        slot.value.extend_from_slice(value);
    }

    /// Takes a slot's buffer out, to be filled and put back with [`Slots::put`]: no copy.
    pub fn take(&mut self, slot: u32) -> Vec<u8> {
        let mut value = std::mem::take(&mut self.0[slot as usize].value);
        value.clear();
        value
    }

    /// Puts a filled buffer into a slot.
    pub fn put(&mut self, slot: u32, value: Vec<u8>, state: SlotState) {
        self.0[slot as usize] = Slot { state, value };
    }

    /// Says that a slot's value is being worked out.
    pub fn begin(&mut self, slot: u32) {
        self.0[slot as usize].state = SlotState::Working;
    }

    /// Forgets one value, so that it is worked out anew.
    pub fn forget(&mut self, slot: u32) {
        self.0[slot as usize].state = SlotState::Unset;
    }
}
