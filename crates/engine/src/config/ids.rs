//! The numbers by which a configuration's servers, locations and logs are known.

/// A server's number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerId(pub u32);

/// A location's number. Every server's own scope is a location too, so that a request always is in one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LocationId(pub u32);

/// The number of a log file or other log destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogId(pub u32);
