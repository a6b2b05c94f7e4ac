//! One setting of a module at one level of the configuration: its value, and whether this level wrote it.
//!
//! nginx's rule of inheritance is the same for every directive: a level that does not write it takes the value of
//! the level around it, and one that writes it replaces that value whole. `Setting` is that rule, once.

use std::ops::Deref;

/// A value with its default built in, and a mark whether the configuration wrote it at this level.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    value: T,
    written: bool,
}

/// The directive stands twice at one level.
#[derive(Debug, PartialEq, Eq)]
pub struct Duplicate;

impl<T> Setting<T> {
    /// A setting that holds its default until it is written or inherited.
    pub const fn new(default: T) -> Self {
        Setting { value: default, written: false }
    }

    /// Writes the value at this level; a second time is the fault nginx calls "is duplicate".
    pub fn write(&mut self, value: T) -> Result<(), Duplicate> {
        if self.written {
            return Err(Duplicate);
        }
        self.replace(value);
        Ok(())
    }

    /// Writes the value whether or not it was written before.
    pub fn replace(&mut self, value: T) {
        self.value = value;
        self.written = true;
    }

    /// Did the configuration write this setting at this very level?
    pub fn written(&self) -> bool {
        self.written
    }

    /// The value in force at this level.
    pub fn get(&self) -> &T {
        &self.value
    }
}

impl<T: Clone> Setting<T> {
    /// Takes the outer level's value unless this level wrote one.
    pub fn inherit(&mut self, outer: &Setting<T>) {
        if !self.written {
            self.value = outer.value.clone();
        }
    }
}

impl<T> Setting<Vec<T>> {
    /// Adds to a list directive (`add_header`, `access_log`): the first entry at a level replaces what is inherited.
    pub fn push(&mut self, item: T) {
        if !self.written {
            self.value.clear();
            self.written = true;
        }
        self.value.push(item);
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Inherits the named fields, one after another: `inherit!(self, outer; root, index)`.
macro_rules! inherit {
    ($inner:expr, $outer:expr; $($field:ident),+ $(,)?) => { $($inner.$field.inherit(&$outer.$field);)+ };
}
pub(crate) use inherit;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwritten_level_takes_the_outer_value_and_a_written_one_keeps_its_own() {
        let mut outer = Setting::new(1);
        outer.write(2).unwrap();
        let mut bare = Setting::new(1);
        let mut own = Setting::new(1);
        own.write(3).unwrap();
        bare.inherit(&outer);
        own.inherit(&outer);
        assert_eq!((*bare, *own), (2, 3));
        assert!(!bare.written());
        assert_eq!(own.write(4), Err(Duplicate));
    }

    #[test]
    fn a_list_written_at_a_level_replaces_the_inherited_one() {
        let mut outer = Setting::new(vec![]);
        outer.push("a");
        let mut inner = Setting::new(vec![]);
        inner.push("b");
        inner.inherit(&outer);
        assert_eq!(*inner, ["b"]);
    }
}
