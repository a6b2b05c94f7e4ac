//! Variables: their names, what they mean in this configuration, and their values in a request.
//!
//! A built-in variable is one entry in the table of its origin (`core.rs`, `request.rs`, …). A configuration names
//! variables by id; an id is resolved to its [`Definition`] once, at load.

use crate::exchange::{Exchange, SlotState};
use crate::host::{Env, Level};
use crate::{log_line, modules};
use conf::Span;
use std::borrow::Cow;
use std::collections::HashMap;

mod absent;
mod access;
mod acme;
mod connection;
mod fastcgi;
mod process;
mod proxy_protocol;
mod request;
mod response;
mod secure_link;
mod ssi;
mod ssl;
mod switch;
mod upstream;
mod userid;
pub(crate) mod write;

pub use process::NGINX_VERSION;
pub(crate) use request::basic_credentials;
pub(crate) use response::status;

/// Appends a variable's value; `false` if the variable has none (then nothing is appended).
pub type Get = fn(&mut Exchange, &mut Env<'_>, &mut Vec<u8>) -> bool;

/// Appends the value of one of a family (`$http_NAME`); the name is what follows the prefix.
pub type GetFamily = fn(&mut Exchange, &mut Env<'_>, name: &str, &mut Vec<u8>) -> bool;

/// Takes a new value (`set $args …`).
pub type Set = fn(&mut Exchange, &[u8]);

/// A built-in variable.
#[derive(Debug)]
pub struct Variable {
    /// Its name, without `$`.
    pub name: &'static str,
    /// One line for `docs/variables.md`.
    pub doc: &'static str,
    /// Its value.
    pub get: Get,
    /// The function that sets it, if it can be set.
    pub set: Option<Set>,
}

/// A family of built-in variables with a common prefix.
#[derive(Debug)]
pub struct Family {
    /// The prefix, without `$`.
    pub prefix: &'static str,
    /// One line for `docs/variables.md`.
    pub doc: &'static str,
    /// The value of one of them.
    pub get: GetFamily,
}

/// All built-in variables, by origin.
pub static VARIABLES: &[&[Variable]] = &[
    absent::VARIABLES,
    acme::VARIABLES,
    access::VARIABLES,
    connection::VARIABLES,
    fastcgi::VARIABLES,
    process::VARIABLES,
    proxy_protocol::VARIABLES,
    request::VARIABLES,
    response::VARIABLES,
    secure_link::VARIABLES,
    ssi::VARIABLES,
    ssl::VARIABLES,
    switch::VARIABLES,
    upstream::VARIABLES,
    userid::VARIABLES,
];

/// Returns a built-in variable that cannot be set.
const fn read(name: &'static str, doc: &'static str, get: Get) -> Variable {
    Variable { name, doc, get, set: None }
}

/// All families.
pub static FAMILIES: &[&[Family]] =
    &[proxy_protocol::FAMILIES, request::FAMILIES, response::FAMILIES, upstream::FAMILIES];

/// A variable's number in one configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct VariableId(pub u32);

/// A name that another variable has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameTaken {
    /// nginx's words.
    pub text: String,
    /// The first mention of the other one, if it is not built in.
    pub other: Option<Span>,
}

/// The definition of a variable in one configuration.
#[derive(Clone, Debug)]
pub enum Definition {
    /// Named, but not (yet) defined by anything.
    Undefined,
    /// Built in.
    BuiltIn(&'static Variable),
    /// One of a family, with the name after the prefix.
    OfFamily(&'static Family, Box<str>),
    /// It lives in the request: `set`, named captures.
    Slot(u32),
    /// Worked out when it is first asked for, then kept in the slot: `map`, `geo`, `split_clients`, `switch`.
    Computed {
        /// The slot of the value.
        slot: u32,
        /// Which one: an index into [`crate::Config::computed`].
        index: usize,
        /// `set` and scripts may give it another value; not that of a `switch`.
        settable: bool,
    },
}

/// One variable of a configuration.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name, without `$`, in lower case as nginx has it.
    pub name: Box<str>,
    /// Its definition.
    pub definition: Definition,
    /// The span of its first mention, for the diagnostic if nothing defines it.
    pub first_named: Option<Span>,
    /// `set` defines it: using it before that is worth a warning.
    pub by_set: bool,
}

/// All variables that a configuration names or defines.
#[derive(Clone, Debug, Default)]
pub struct VariableTable {
    entries: Vec<Entry>,
    by_name: HashMap<Box<str>, VariableId>,
    slots: u32,
}

impl VariableTable {
    /// Returns the id of a name, which is entered if it is new. Built-in names are resolved at once.
    pub fn id(&mut self, name: &str, span: Option<Span>) -> VariableId {
        let name = name.to_ascii_lowercase();
        if let Some(id) = self.by_name.get(&*name) {
            return *id;
        }
        let id = VariableId(self.entries.len() as u32);
        let definition = built_in(&name);
        self.by_name.insert(name.clone().into(), id);
        self.entries.push(Entry { name: name.into(), definition, first_named: span, by_set: false });
        id
    }

    /// Defines a variable that lives in the request (`set`, a named capture) and gives its id.
    ///
    /// # Errors
    /// `Err` with nginx's words if the name is taken by a variable that cannot be set.
    fn define_slot(&mut self, name: &str, span: Span) -> Result<VariableId, String> {
        let id = self.id(name, Some(span));
        match &self.entries[id.0 as usize].definition {
            Definition::Undefined => {
                let slot = self.new_slot();
                self.entries[id.0 as usize].definition = Definition::Slot(slot);
                Ok(id)
            }
            Definition::Slot(_) => Ok(id),
            Definition::Computed { settable: true, .. } => Ok(id),
            Definition::Computed { .. } => Err(format!("the duplicate \"{name}\" variable")),
            Definition::BuiltIn(variable) if variable.set.is_some() => Ok(id),
            // nginx lets `set` hide the variables of a family ($http_…, $arg_…).
            Definition::OfFamily(..) => {
                let slot = self.new_slot();
                self.entries[id.0 as usize].definition = Definition::Slot(slot);
                Ok(id)
            }
            Definition::BuiltIn(_) => Err(format!("the duplicate \"{name}\" variable")),
        }
    }

    /// Defines a variable that a named group of a regular expression, or `auth_request_set`, gives its value.
    ///
    /// # Errors
    /// As [`Table::define_slot`].
    pub fn define_capture(&mut self, name: &str, span: Span) -> Result<VariableId, String> {
        self.define_slot(name, span)
    }

    /// Defines a variable that `set` gives its value.
    ///
    /// # Errors
    /// As [`Table::define_slot`].
    pub fn define_set(&mut self, name: &str, span: Span) -> Result<VariableId, String> {
        let id = self.define_slot(name, span)?;
        self.entries[id.0 as usize].by_set = true;
        Ok(id)
    }

    /// Defines a variable that `map`, `geo` or `split_clients` works out. A later one of the same name wins, as in
    /// nginx.
    ///
    /// # Errors
    /// As [`Table::define_slot`].
    pub fn define_computed(&mut self, name: &str, index: usize, span: Span) -> Result<VariableId, String> {
        let id = self.id(name, Some(span));
        let slot = match &self.entries[id.0 as usize].definition {
            Definition::Slot(slot) | Definition::Computed { slot, settable: true, .. } => *slot,
            Definition::BuiltIn(Variable { set: None, .. }) | Definition::Computed { .. } => {
                return Err(format!("the duplicate \"{name}\" variable"));
            }
            _ => self.new_slot(),
        };
        self.entries[id.0 as usize].definition = Definition::Computed { slot, index, settable: true };
        Ok(id)
    }

    /// Defines the variable of a `switch`, and gives its slot. Nothing else may define it, before or after.
    ///
    /// # Errors
    /// The name is taken.
    pub fn define_switch(&mut self, name: &str, index: usize, span: Span) -> Result<u32, NameTaken> {
        let id = self.id(name, Some(span));
        let entry = &self.entries[id.0 as usize];
        if !matches!(entry.definition, Definition::Undefined) {
            let text = format!("the duplicate \"{name}\" variable");
            return Err(NameTaken { text, other: entry.first_named });
        }
        let slot = self.new_slot();
        self.entries[id.0 as usize].definition = Definition::Computed { slot, index, settable: false };
        Ok(slot)
    }

    fn new_slot(&mut self) -> u32 {
        self.slots += 1;
        self.slots - 1
    }

    /// Returns the number of slots that a request needs.
    pub fn slot_count(&self) -> usize {
        self.slots as usize
    }

    /// Returns the id of a name that this configuration already knows; for names that come at run time
    /// (`ngx.var[name]`).
    pub fn find(&self, name: &str) -> Option<VariableId> {
        self.by_name.get(name).copied()
    }

    /// Returns the definition of a name that comes at run time.
    pub fn definition(&self, name: &str) -> Option<Cow<'_, Definition>> {
        match self.find(name) {
            Some(id) => Some(Cow::Borrowed(&self.entry(id).definition)),
            None => lookup_built_in(name).map(Cow::Owned),
        }
    }

    /// Returns one entry.
    pub fn entry(&self, id: VariableId) -> &Entry {
        &self.entries[id.0 as usize]
    }

    /// Returns all entries.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

fn built_in(name: &str) -> Definition {
    match lookup_built_in(name) {
        Some(definition) => definition,
        None => Definition::Undefined,
    }
}

/// Returns the definition of a name without any configuration: for `ngx.var`, which may use variables that no directive
/// names.
pub fn lookup_built_in(name: &str) -> Option<Definition> {
    if let Some(variable) = VARIABLES.iter().flat_map(|table| table.iter()).find(|v| v.name == name) {
        return Some(Definition::BuiltIn(variable));
    }
    FAMILIES
        .iter()
        .flat_map(|table| table.iter())
        .find_map(|family| Some((family, name.strip_prefix(family.prefix)?)))
        .map(|(family, rest)| Definition::OfFamily(family, rest.into()))
}

/// Appends a variable's value; `false` if it has none.
pub fn append(exchange: &mut Exchange, env: &mut Env<'_>, id: VariableId, out: &mut Vec<u8>) -> bool {
    let config = env.config;
    let entry = config.variables.entry(id);
    if let Definition::BuiltIn(variable) = &entry.definition {
        return (variable.get)(exchange, env, out);
    }
    if let (Definition::Slot(slot), true) = (&entry.definition, entry.by_set)
        && exchange.slots.get(*slot).state == SlotState::Unset
    {
        warn_unset(exchange, env, &entry.name);
    }
    append_defined(exchange, env, &entry.definition, out)
}

/// A variable of `set` is used before it is set: empty, and worth a line (`uninitialized_variable_warn`).
#[cold]
fn warn_unset(exchange: &mut Exchange, env: &mut Env<'_>, name: &str) {
    if *exchange.settings(env.config).rewrite.warn_unset {
        let text = format!("using uninitialized \"{name}\" variable");
        crate::log_line::error(exchange, env, Level::Warn, text.as_bytes());
    }
}

/// Appends the value of a variable by its definition; `false` if it has none.
pub fn append_defined(
    exchange: &mut Exchange,
    env: &mut Env<'_>,
    definition: &Definition,
    out: &mut Vec<u8>,
) -> bool {
    match definition {
        Definition::Undefined => false,
        Definition::BuiltIn(variable) => (variable.get)(exchange, env, out),
        Definition::OfFamily(family, name) => (family.get)(exchange, env, name, out),
        Definition::Slot(slot) => append_slot(exchange, *slot, out),
        Definition::Computed { slot, index, .. } => {
            let config = env.config;
            let computed = &config.computed[*index];
            let state = exchange.slots.get(*slot).state;
            if state == SlotState::Working {
                cycle(exchange, env, *slot);
                return false;
            }
            if state == SlotState::Unset || computed.is_volatile() {
                let mut value = exchange.slots.take(*slot);
                exchange.slots.begin(*slot);
                let found = computed.append(exchange, env, &mut value);
                let state = if found { SlotState::Found } else { SlotState::NotFound };
                exchange.slots.put(*slot, value, state);
            }
            append_slot(exchange, *slot, out)
        }
    }
}

/// A variable's value needs itself: it is not there, and the log says so.
fn cycle(exchange: &Exchange, env: &mut Env<'_>, asked: u32) {
    let is_asked =
        |entry: &&Entry| matches!(entry.definition, Definition::Computed { slot, .. } if slot == asked);
    let name = env.config.variables.entries().iter().find(is_asked).map_or("", |entry| &*entry.name);
    let text = format!("cycle while evaluating variable \"{name}\"");
    log_line::error(exchange, env, Level::Error, text.as_bytes());
}

fn append_slot(exchange: &Exchange, slot: u32, out: &mut Vec<u8>) -> bool {
    let slot = exchange.slots.get(slot);
    if slot.state == SlotState::Found {
        out.extend_from_slice(&slot.value);
    }
    slot.state == SlotState::Found
}

/// Writes a variable: `set`, `set_by_lua`, `ngx.var.name = value`. `false` if it cannot be written.
pub fn assign(exchange: &mut Exchange, definition: &Definition, value: &[u8]) -> bool {
    match definition {
        Definition::Slot(slot) | Definition::Computed { slot, settable: true, .. } => {
            exchange.slots.set(*slot, value);
        }
        Definition::BuiltIn(Variable { set: Some(set), .. }) => set(exchange, value),
        _ => return false,
    }
    true
}

/// A variable that is worked out from others by a module.
pub use modules::map::Computed;

#[cfg(test)]
mod tests;
