//! A limit to how often the log repeats itself, for what strangers can cause.
//!
//! Pure: time is an argument.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many entries one period may have…
const ENTRIES_MAX: u32 = 10;
/// …and how long it is.
const PERIOD: Duration = Duration::from_secs(10);

/// Lets the first few through in each period, and counts the others.
#[derive(Debug, Default)]
pub struct LogGate {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    began: Duration,
    let_through: u32,
    held_back: u64,
}

impl LogGate {
    /// Asks to write an entry at `now` on a monotonic clock. Returns how many were held back since
    /// the last one that was written, or `None` if this one is to be held back too.
    pub fn pass(&self, now: Duration) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_sub(window.began) >= PERIOD {
            window.began = now;
            window.let_through = 0;
        }
        if window.let_through >= ENTRIES_MAX {
            window.held_back += 1;
            return None;
        }
        window.let_through += 1;
        Some(std::mem::take(&mut window.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_with_the_next_entry() {
        let gate = LogGate::default();
        let at = Duration::from_secs;
        let passed = (0..100).filter(|_| gate.pass(at(1)).is_some()).count();
        assert_eq!(passed, ENTRIES_MAX as usize);
        assert_eq!(gate.pass(at(9)), None);
        assert_eq!(gate.pass(at(11)), Some(91));
        assert_eq!(gate.pass(at(11)), Some(0));
    }
}
