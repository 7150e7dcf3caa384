//! What is said before the numbers.

pub fn before(count: usize) -> String {
    format!("{count} numbers in order:")
}
