//! Tests of the daemon.

mod corpus;
mod definition;
