//! A window of flow control (RFC 9113 §5.2, §6.9).

/// The most that a window may be.
pub(crate) const MAX_WINDOW: u32 = (1 << 31) - 1;

/// The size of a window before anything changes it, and of the connection's always.
pub(crate) const INITIAL_WINDOW: u32 = 65_535;

/// How many bytes may be sent still. Below zero after a SETTINGS frame that made all windows smaller (RFC 9113 §6.9.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowWindow(i32);

/// The window would exceed 2^31−1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WindowOverflow;

impl FlowWindow {
    pub(crate) const fn new(bytes: u32) -> FlowWindow {
        FlowWindow(if bytes > MAX_WINDOW { MAX_WINDOW as i32 } else { bytes as i32 })
    }

    /// Returns how many bytes may be sent.
    pub(crate) fn bytes(self) -> u32 {
        u32::try_from(self.0).unwrap_or(0)
    }

    /// Makes it wider, by a WINDOW_UPDATE.
    pub(crate) fn open(&mut self, by: u32) -> Result<(), WindowOverflow> {
        self.shift(i64::from(by))
    }

    /// Changes it, by a new SETTINGS_INITIAL_WINDOW_SIZE.
    pub(crate) fn shift(&mut self, by: i64) -> Result<(), WindowOverflow> {
        let bytes = i64::from(self.0) + by;
        if bytes > i64::from(MAX_WINDOW) {
            return Err(WindowOverflow);
        }
        self.0 = i32::try_from(bytes).map_err(|_| WindowOverflow)?;
        Ok(())
    }

    /// Uses some of it; returns false if there is less, and leaves it then.
    pub(crate) fn take(&mut self, bytes: u32) -> bool {
        if bytes > self.bytes() {
            return bytes == 0;
        }
        self.0 -= bytes as i32;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_may_fall_below_zero_but_not_exceed_the_maximum() {
        let mut window = FlowWindow::new(INITIAL_WINDOW);
        assert!(window.take(65_535) && !window.take(1) && window.take(0));
        window.shift(-65_535).unwrap();
        assert_eq!(window.bytes(), 0);
        window.open(70_000).unwrap();
        assert_eq!(window.bytes(), 4_465);
        assert_eq!(window.open(MAX_WINDOW), Err(WindowOverflow));
        assert_eq!(window.bytes(), 4_465, "a refused change changes nothing");
        assert_eq!(FlowWindow::new(u32::MAX).bytes(), MAX_WINDOW);
    }
}
