//! Fields set and cleared in answers and in requests (the headers-more module of OpenResty).
//!
//! Owns the order of commands: those of the level around come first. What a command does to an answer is [`output`]'s,
//! to a request [`input`]'s.

mod directives;
mod input;
mod output;
#[cfg(test)]
mod tests;

use super::Module;
use crate::phase::Phase;
use crate::setting::settings;
use crate::template::Template;

/// The module.
pub static MODULE: Module = Module {
    handlers: &[(Phase::Rewrite, input::handle)],
    header_filter: Some(output::filter),
    filters_subrequests: true,
    filters_captures: true,
    is_needed: Some(|_, settings| !settings.filters.headers_more.commands.is_empty()),
    ..Module::new("headers_more", &[directives::DIRECTIVES])
};

/// One directive.
#[derive(Clone, Debug)]
pub struct Command {
    /// It is about the request.
    pub is_input: bool,
    /// The fields, in order.
    pub fields: Vec<FieldCommand>,
    /// `-s`: the statuses of answers that it is for; empty is any.
    pub statuses: Vec<u16>,
    /// `-t`: the types of bodies that it is for, as they are written; empty is any.
    pub types: Vec<Box<[u8]>>,
}

/// The effect of one directive on one field.
#[derive(Clone, Debug)]
pub struct FieldCommand {
    /// The name as written, with the `*`.
    pub name: Box<[u8]>,
    /// The name ends in `*`: it is for all fields whose names begin so.
    pub is_wildcard: bool,
    /// The value; the field is cleared if it comes to nothing.
    pub value: Template,
    /// `-a`: another field of this name is added.
    pub appends: bool,
    /// `-r`: only a field that is there is set.
    pub replaces: bool,
}

impl FieldCommand {
    /// Returns true if it is for fields of this name.
    fn matches(&self, name: &[u8]) -> bool {
        match self.is_wildcard {
            true => {
                let start = &self.name[..self.name.len() - 1];
                name.len() >= start.len() && name[..start.len()].eq_ignore_ascii_case(start)
            }
            false => name.eq_ignore_ascii_case(&self.name),
        }
    }
}

settings! {
    /// Settings of one level.
    pub struct HeadersMoreSettings {
    }
    not inherited {
        /// `more_set_headers` and the three others.
        pub commands: Vec<Command> = Vec::new(),
    }
}

impl HeadersMoreSettings {
    /// Puts the commands of the level around this one before its own.
    pub fn inherit_commands(&mut self, outer: &HeadersMoreSettings) {
        if outer.commands.is_empty() {
            return;
        }
        let mut commands = outer.commands.get().clone();
        commands.extend(self.commands.iter().cloned());
        self.commands.replace(commands);
    }
}
