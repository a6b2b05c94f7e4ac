//! Memory that is free and not yet the system's again.
//!
//! The allocator gives free pages back when it next has to do with some, which may be never: a server that was busy once
//! would look as if it were for ever.

/// Gives this thread's free pages back. It looks at all pages, some microseconds for each megabyte in use.
pub(crate) fn give_back() {
    // SAFETY: the allocator's own function, for any thread at any time; it touches nothing that is in use. In a program
    // with another allocator it finds nothing.
    #[allow(unsafe_code)]
    unsafe {
        libmimalloc_sys::mi_collect(false);
    }
}
