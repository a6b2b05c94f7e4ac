//! PCRE2's errors with the texts and numbers of PCRE 1, on which ngx_lua 0.10.23 is built: Lua code compares with them.

/// Returns PCRE 1's number for an error of a match.
pub(super) fn exec_number(pcre2: i32) -> i32 {
    match pcre2 {
        pcre2_sys::PCRE2_ERROR_MATCHLIMIT => -8,
        pcre2_sys::PCRE2_ERROR_DEPTHLIMIT => -21,
        // The errors for invalid UTF-8.
        -23..=-3 => -10,
        pcre2_sys::PCRE2_ERROR_BADUTFOFFSET => -11,
        pcre2_sys::PCRE2_ERROR_BADOFFSET => -24,
        pcre2_sys::PCRE2_ERROR_NULL => -2,
        pcre2_sys::PCRE2_ERROR_BADOPTION => -3,
        pcre2_sys::PCRE2_ERROR_BADMAGIC => -4,
        pcre2_sys::PCRE2_ERROR_NOMEMORY | pcre2_sys::PCRE2_ERROR_HEAPLIMIT => -6,
        pcre2_sys::PCRE2_ERROR_INTERNAL => -14,
        pcre2_sys::PCRE2_ERROR_DFA_UITEM => -16,
        pcre2_sys::PCRE2_ERROR_DFA_UCOND => -17,
        pcre2_sys::PCRE2_ERROR_DFA_WSSIZE => -19,
        pcre2_sys::PCRE2_ERROR_DFA_RECURSE => -20,
        pcre2_sys::PCRE2_ERROR_RECURSELOOP => -26,
        pcre2_sys::PCRE2_ERROR_JIT_STACKLIMIT => -27,
        other => other,
    }
}

/// Returns PCRE 1's text for an error of a compilation, if it differs from PCRE2's.
pub(super) fn compile_text(pcre2: i32) -> Option<&'static [u8]> {
    Some(match pcre2 {
        109 => b"nothing to repeat",
        114 => b"missing )",
        122 => b"unmatched parentheses",
        143 => b"two named subpatterns have the same name",
        _ => return None,
    })
}
