//! Whole builds by the real program, with steps that run: what comes out, what runs again, what is
//! left behind.
//!
//! They need namespaces. Small ones build on a busybox of this machine, those in `examples`, `shapes`
//! and `rootless` on a Debian that `scripts/debian-base` makes. What is not available here is reported,
//! and the test that needs it is skipped.

mod actions_cache;
mod actions_service;
mod again;
mod bucket_cache;
mod builder;
mod cache_mounts;
mod callers;
mod changed;
mod ci;
mod cloud_access;
mod contexts;
mod copies;
mod devices;
mod edited;
mod engine_tls;
mod engines;
mod escapes;
mod example;
mod examples;
mod failures;
mod foreign_cache;
mod forms;
mod git;
mod git_contexts;
#[path = "../../../git-client/tests/it/origin.rs"]
mod git_origin;
#[expect(dead_code, reason = "some answers are for the tests of `git-client` alone")]
#[path = "../../../git-client/tests/it/server.rs"]
mod git_server;
mod git_ssh;
mod http;
mod inputs;
mod interrupts;
mod keys;
mod left_out;
mod leftovers;
mod limits;
mod matrix;
mod mistakes;
mod mounts;
mod object_store;
mod oci_documents;
mod outcome;
mod outputs;
mod platforms;
mod process_one;
mod pushed;
mod result;
mod rootless;
mod runc;
mod secrets;
mod served;
mod shapes;
mod shared_cache;
mod shared_mounts;
mod sharing;
mod ssh;
mod targets;
mod times;
mod tls;
mod traces;
mod warm;
pub(crate) mod web;

/// Says why a test does nothing here.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn skip(why: &str) {
    eprintln!("SKIPPED: {why}");
}
