//! What is known of a request's user.

/// The identifier of a user, as it is in the cookie.
pub type Identifier = [u8; 16];

/// The cookie that names a request's user.
#[derive(Debug, Default)]
pub struct UserIdRecord {
    /// The cookie was looked for.
    pub(super) looked: bool,
    /// The identifier that the client has sent.
    pub(super) got: Option<Identifier>,
    /// The cookie's value as it came.
    pub(super) cookie: Vec<u8>,
    /// The identifier that the client is to get.
    pub(super) given: Option<Identifier>,
    /// It takes the place of the one that came (`$uid_reset`).
    pub(super) is_reset: bool,
    /// `$uid_reset`.
    pub(crate) reset: Vec<u8>,
}

impl UserIdRecord {
    /// Forgets it.
    pub(crate) fn reset(&mut self) {
        self.looked = false;
        self.got = None;
        self.cookie.clear();
        self.given = None;
        self.is_reset = false;
        self.reset.clear();
    }
}
