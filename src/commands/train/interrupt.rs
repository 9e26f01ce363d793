//! Ctrl-C: the first asks to stop after the step, the second leaves at once.

use crate::commands::output;
use std::sync::atomic::{AtomicBool, Ordering};

static STOPPING: AtomicBool = AtomicBool::new(false);

/// Whether the user wants to stop. Where signals cannot be watched, Ctrl-C ends the program as it always does.
pub fn watch() -> impl Fn() -> bool {
    let _ = ctrlc::set_handler(|| {
        if STOPPING.swap(true, Ordering::Relaxed) {
            std::process::exit(output::INTERRUPTED.into());
        }
        output::tell("stopping; Ctrl-C again leaves at once");
    });
    || STOPPING.load(Ordering::Relaxed)
}
