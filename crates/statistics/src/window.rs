//! The time windows of a summary.
//!
//! Owns: their lengths, their names, and the slots that each is made of. Must never: hold a number.

/// A stretch of time up to now.
///
/// A window is made of slots and slides by one slot: it covers its own length and up to one slot more. Its present
/// length is [`crate::Summary::span_ms`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Window {
    /// `10s`, in slots of 1 s.
    TenSeconds,
    /// `1m`, in slots of 5 s.
    #[default]
    Minute,
    /// `5m`, in slots of 30 s.
    FiveMinutes,
    /// `1h`, in slots of 5 min.
    Hour,
}

impl Window {
    /// From the shortest to the longest.
    pub const ALL: [Window; 4] = [Window::TenSeconds, Window::Minute, Window::FiveMinutes, Window::Hour];

    /// Returns its name, `10s`.
    pub fn name(self) -> &'static str {
        match self {
            Window::TenSeconds => "10s",
            Window::Minute => "1m",
            Window::FiveMinutes => "5m",
            Window::Hour => "1h",
        }
    }

    /// Returns the window of that name.
    pub fn parse(name: &str) -> Option<Window> {
        Window::ALL.into_iter().find(|window| window.name() == name)
    }

    /// Returns its length.
    pub(crate) fn length_ms(self) -> u64 {
        1_000
            * match self {
                Window::TenSeconds => 10,
                Window::Minute => 60,
                Window::FiveMinutes => 300,
                Window::Hour => 3_600,
            }
    }

    /// Returns the length of one of its slots.
    pub(crate) fn slot_ms(self) -> u64 {
        1_000
            * match self {
                Window::TenSeconds => 1,
                Window::Minute => 5,
                Window::FiveMinutes => 30,
                Window::Hour => 300,
            }
    }

    /// Returns the number of the oldest slot in it. Slot `n` begins at `n` times [`Window::slot_ms`].
    pub(crate) fn oldest_slot(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.length_ms()) / self.slot_ms()
    }
}
