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
    let text = format!("error: {words}: {}\n", plain(reason));
    // Once: what the kernel refuses now it may refuse for ever.
    let _ = rustix::io::write(std::io::stderr(), text.as_bytes());
    std::process::exit(Exit::Failed.code().into())
}

/// What a library says of a system's error, in words: its number is all that counts.
fn plain(reason: &str) -> String {
    let number = reason.split_once("code: ").map(|(_, rest)| rest);
    let number = number.and_then(|rest| rest[..rest.find([',', ' '])?].parse().ok());
    match number {
        Some(number) => std::io::Error::from_raw_os_error(number).to_string(),
        None => reason.trim_start_matches(": ").to_owned(),
    }
}

fn payload(info: &std::panic::PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_told_in_words() {
        let debug = format!(": {:?}", std::io::Error::from_raw_os_error(4));
        for (reason, expected) in [
            (debug.as_str(), "Interrupted system call (os error 4)"),
            (": out of luck", "out of luck"),
            (": code: many", "code: many"),
            ("", ""),
        ] {
            assert_eq!(plain(reason), expected, "{reason}");
        }
    }
}
