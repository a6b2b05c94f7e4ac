//! One setting of a module at one level of the configuration: its value, and whether this level wrote it.
//!
//! nginx's rule of inheritance is the same for every directive: a level that does not write it takes the value of
//! the level around it, and one that writes it replaces that value whole. `Setting` is that rule, once.

use std::fmt;
use std::ops::Deref;

/// A value with its default built in, and a mark whether the configuration wrote it at this level.
#[derive(Clone)]
pub struct Setting<T> {
    value: T,
    written: bool,
}

/// The directive is given twice at one level.
#[derive(Debug, PartialEq, Eq)]
pub struct Duplicate;

impl<T> Setting<T> {
    /// Returns a setting that holds its default until it is written or inherited.
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

    /// Returns whether the configuration wrote this setting at this very level.
    pub fn written(&self) -> bool {
        self.written
    }

    /// Returns the value in force at this level.
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

/// Shows the value in force, so that a default that is written out looks like one that is not.
impl<T: fmt::Debug> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Declares a module's settings at one level: each field with its type and default, and what a level does with the
/// level around it.
///
/// ```text
/// settings! {
///     /// What is set at one level.
///     pub struct ExampleSettings {
///         /// `example_timeout`, in ms.
///         pub timeout_ms: u64 = 60_000,
///     }
///     nested {
///         /// Settings of the same kind in a struct of their own.
///         pub body: BodySettings,
///     }
///     not inherited {
///         /// Holds at the level that writes it.
///         pub content: Option<Handler> = None,
///     }
///     not a setting {
///         /// No directive's value.
///         pub compiled: Arc<Compiled> = Arc::default(),
///     }
/// }
/// ```
///
/// Makes the struct with a [`Setting`] for each field (but for the last section), its `Default`, and
/// `inherit(&mut self, outer: &Self)`.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        $vis:vis struct $name:ident {
            $($(#[$field_doc:meta])* $field_vis:vis $field:ident: $type:ty = $default:expr,)*
        }
        $(nested {
            $($(#[$nested_doc:meta])* $nested_vis:vis $nested:ident: $nested_type:ty,)+
        })?
        $(not inherited {
            $($(#[$own_doc:meta])* $own_vis:vis $own:ident: $own_type:ty = $own_default:expr,)+
        })?
        $(not a setting {
            $($(#[$plain_doc:meta])* $plain_vis:vis $plain:ident: $plain_type:ty = $plain_default:expr,)+
        })?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $($(#[$field_doc])* $field_vis $field: $crate::setting::Setting<$type>,)*
            $($($(#[$nested_doc])* $nested_vis $nested: $nested_type,)+)?
            $($($(#[$own_doc])* $own_vis $own: $crate::setting::Setting<$own_type>,)+)?
            $($($(#[$plain_doc])* $plain_vis $plain: $plain_type,)+)?
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    $($field: $crate::setting::Setting::new($default),)*
                    $($($nested: Default::default(),)+)?
                    $($($own: $crate::setting::Setting::new($own_default),)+)?
                    $($($plain: $plain_default,)+)?
                }
            }
        }

        impl $name {
            /// Takes from the level around this one what this one does not write.
            #[allow(dead_code, reason = "the settings of the whole file have no level around them")]
            pub(crate) fn inherit(&mut self, outer: &Self) {
                let _ = outer;
                $(self.$field.inherit(&outer.$field);)*
                $($(self.$nested.inherit(&outer.$nested);)+)?
            }
        }
    };
}
pub(crate) use settings;

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
