//! A bug of ours is told in one line, with what a report needs. Some panics are none: libraries have no
//! other way to say that the system refuses them a thread, or to wake one.

use std::io::Write as _;

use crate::exit::Exit;

/// How their messages start (tokio's, Rust's own and rayon's), and what has happened.
const REFUSALS: [(&str, &str); 4] = [
    ("failed to wake I/O driver", "the system did not let one thread wake another"),
    ("failed to spawn thread", NO_THREAD),
    ("OS can't spawn worker thread", NO_THREAD),
    ("The global thread pool has not been initialized", NO_THREAD),
];
const NO_THREAD: &str = "the system lets this program start no further thread (see `ulimit -u` and \
                         the control group's `pids.max`)";

/// Replaces Rust's message for panics.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        let message = crate::terminal::harmless(&payload(info));
        for (start, words) in REFUSALS {
            if let Some(reason) = message.strip_prefix(start) {
                end_refused(words, reason);
            }
        }
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = std::backtrace::Backtrace::capture();
        let mut stderr = anstream::stderr().lock();
        let _ = writeln!(
            stderr,
            "error: this is a bug in mybuild {}: {message} ({place}); please report this line \
             and the command (more with RUST_BACKTRACE=1)",
            env!("CARGO_PKG_VERSION"),
        );
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            let _ = writeln!(stderr, "{backtrace}");
        }
    }));
}

/// Ends the program at once: others would wait for ever for what this thread was about to do. What is
/// left is what a killed program leaves, and removed by the next.
fn end_refused(words: &str, reason: &str) -> ! {
    let reason = reason.trim_start_matches(": ");
    let text = format!("error: {words}: {reason}\n");
    // Once: what the kernel refuses now it may refuse for ever.
    let _ = rustix::io::write(std::io::stderr(), text.as_bytes());
    std::process::exit(Exit::Failed.code().into())
}

fn payload(info: &std::panic::PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
