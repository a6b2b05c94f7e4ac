//! Calls of the API that may stay open for long: event streams, and orders that wait for a drain.
//!
//! Owns how many each caller and all together may have, so that no caller can occupy the connections of the others. Must
//! never hold a call up: one too many is refused at once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use switch::{Code, Refusal};

/// The maximum of all callers together.
const MAX: usize = 64;
/// The maximum of one caller.
const MAX_EACH: usize = 16;

/// The open long calls.
#[derive(Debug, Default)]
pub(crate) struct LongCalls {
    /// How many each caller has; without those that have none.
    open: Mutex<HashMap<String, usize>>,
}

/// One of them; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct LongCall {
    calls: Arc<LongCalls>,
    caller: String,
}

impl LongCalls {
    /// Begins a long call of this caller.
    pub(crate) fn begin(self: &Arc<LongCalls>, caller: &str) -> Result<LongCall, Refusal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(caller).copied().unwrap_or_default();
        if own >= MAX_EACH {
            return Err(Refusal::new(
                Code::TooManyCalls,
                format!(
                    "{caller} has too many event streams and waiting orders open: at most {MAX_EACH} at a time"
                ),
                "close one of them (pointsman watch, --wait drained), or give each program a token of its own",
            ));
        }
        if open.values().sum::<usize>() >= MAX {
            return Err(Refusal::new(
                Code::Busy,
                format!(
                    "too many event streams and waiting orders are open: at most {MAX} of all callers together"
                ),
                "close one of them (pointsman watch, --wait drained), or retry later",
            ));
        }
        open.insert(caller.to_owned(), own + 1);
        Ok(LongCall { calls: Arc::clone(self), caller: caller.to_owned() })
    }
}

impl Drop for LongCall {
    fn drop(&mut self) {
        let mut open = self.calls.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get_mut(&self.caller) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(open.remove(&self.caller)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_leaves_room_for_others() {
        let calls = Arc::<LongCalls>::default();
        let mut open: Vec<LongCall> = (0..MAX_EACH).map(|_| calls.begin("ann").unwrap()).collect();
        assert_eq!(calls.begin("ann").unwrap_err().code, Code::TooManyCalls);
        open.push(calls.begin("bob").unwrap());
        open.remove(0);
        open.push(calls.begin("ann").unwrap());
        for number in open.len()..MAX {
            open.push(calls.begin(&format!("c{number}")).unwrap());
        }
        assert_eq!(calls.begin("dora").unwrap_err().code, Code::Busy);
        drop(open);
        assert!(calls.open.lock().unwrap().is_empty(), "no caller is remembered");
    }
}
