//! Tests of the parser from outside.

#![expect(clippy::print_stdout, reason = "a test that is skipped says so")]

mod advice;
mod builds;
mod conformance;
mod corpus;
mod diagnostics;
mod fix;
mod ignore;
mod lint;
mod lower;
mod outline;
mod page;
mod properties;
mod shell;
mod syntax;
