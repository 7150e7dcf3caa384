//! Tests of `git-client` with the real `git`, against real servers on loopback.

mod fetching;
mod hostile;
mod origin;
mod server;
mod world;
