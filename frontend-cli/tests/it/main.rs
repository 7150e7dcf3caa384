//! What the command line makes of words, events and errors.

mod arguments;
mod binary;
mod building;
mod conformance;
mod crash_circumstances;
mod crash_kill;
mod crash_order;
mod crash_power;
mod crash_trace;
mod crash_world;
mod damage;
mod drawing;
mod e2e;
mod edits;
mod full_store;
mod guards;
mod images;
mod plain_registry;
mod results;
mod screen;
mod settings;
mod shown;
mod standard_input;

#[path = "../../../http-client/tests/it/server.rs"]
#[expect(dead_code, reason = "some kinds of answers are for the tests of `http-client` alone")]
mod server;

#[path = "../../../registry/tests/it/docker_registry.rs"]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
mod docker_registry;

#[path = "../../../cache/tests/it/loop_device.rs"]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
mod loop_device;
