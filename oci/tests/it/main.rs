//! Tests of the `oci` crate: the field's reference answers where they are at hand, our own cases,
//! and properties.

#![expect(clippy::print_stderr, reason = "a skipped test says so")]

mod conformance;
mod corpus;
mod documents;
mod platforms;
mod properties;
