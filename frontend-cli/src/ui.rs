//! The two ways out: data on standard output, everything else on standard error.

use std::io::{self, Write as _};

/// Writes data for the user's next program.
pub(crate) fn data(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

/// Writes data for a person's eyes, without colours where standard output does not want them.
pub(crate) fn styled_data(text: &str) -> io::Result<()> {
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Writes a message for a person, without colours where standard error does not want them.
pub(crate) fn error(text: &str) {
    // If it cannot be written, the exit code still says it.
    let _ = anstream::stderr().lock().write_all(text.as_bytes());
}

/// One line of warning.
pub(crate) fn warning(text: &str) {
    error(&crate::diagnostics::warning(text));
}
