//! A bug of ours is told in one line, with what a report needs.

use std::io::Write as _;

/// Replaces Rust's message for panics.
pub fn install_hook() {
    std::panic::set_hook(Box::new(|info| {
        let message = crate::terminal::harmless(&payload(info));
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

fn payload(info: &std::panic::PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_default()
}
