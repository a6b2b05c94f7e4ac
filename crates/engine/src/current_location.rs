//! The location that a request is in now, and its settings.

use crate::config::{Config, Location, Settings};
use crate::exchange::Exchange;

impl Exchange {
    /// Returns the location that the request is in now: the server's own scope before one is found.
    #[inline]
    pub fn location<'c>(&self, config: &'c Config) -> &'c Location {
        config.location(self.route.location)
    }

    /// Returns the settings of the location that the request is in now.
    #[inline]
    pub fn settings<'c>(&self, config: &'c Config) -> &'c Settings {
        &self.location(config).settings
    }
}
