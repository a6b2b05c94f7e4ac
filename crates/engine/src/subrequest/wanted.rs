//! A request inside another one, as it is asked for.

/// A request to be made inside another one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subrequest {
    /// Its URI, decoded, as `$uri` has it.
    pub uri: Vec<u8>,
    /// Its arguments.
    pub args: Vec<u8>,
    /// Its method; GET if it has none.
    pub method: Option<Vec<u8>>,
    /// Its body.
    pub body: SubrequestBody,
    /// The most bytes of its answer's body that are kept; 0 is that its head alone is wanted.
    pub kept: usize,
    /// Which variables it sees.
    pub variables: Variables,
    /// The variables that get a value before it begins, by their names.
    pub set: Vec<(String, Vec<u8>)>,
    /// Its refusals have a status and no page: `error_page` has no say in them (a script's capture).
    pub bare: bool,
    /// Its answer is a script's (a capture): filters that change a body do not see it, as in ngx_lua.
    pub captured: bool,
    /// It is the request around it once more, where that has come to its upstream: no phase before that runs.
    pub again: bool,
    /// The body to use if its answer has none.
    pub stub: Option<Vec<u8>>,
    /// The number of the table that a script gives it as its context; 0 for none.
    pub ctx: u64,
}

/// The body of a subrequest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SubrequestBody {
    /// None.
    #[default]
    None,
    /// The same as that of the request around it, which was read.
    Outer,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// The variables of a subrequest that live in the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variables {
    /// Those of the request around it: what one of them sets, both see.
    #[default]
    Shared,
    /// A copy of them.
    Copied,
    /// Its own, with no value yet.
    Own,
}
