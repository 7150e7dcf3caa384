//! Names of signals, for `STOPSIGNAL`.

/// Signals of Linux without `SIG`, the aliases included.
const NAMES: [&str; 37] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    "UNUSED",
];

/// Whether `text` is a number other than 0, or a name with or without `SIG`, in any case.
pub(super) fn is_known(text: &str) -> bool {
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let counted = |prefix: &str, range: std::ops::RangeInclusive<u32>| {
        let digits = name.strip_prefix(prefix);
        digits.and_then(|digits| digits.parse().ok()).is_some_and(|n| range.contains(&n))
    };
    NAMES.contains(&name) || counted("RTMIN+", 1..=15) || counted("RTMAX-", 1..=14)
}

#[cfg(test)]
mod tests {
    use super::is_known;

    #[test]
    fn signals_are_known_by_number_and_by_name() {
        for text in ["9", "SIGTERM", "term", "SIGRTMIN+3", "rtmax-14", "-1"] {
            assert!(is_known(text), "{text}");
        }
        for text in ["0", "", "SIG", "SIGFOO", "RTMIN+16", "RTMIN+", "TERM "] {
            assert!(!is_known(text), "{text}");
        }
    }
}
