//! Definitions that clients send.

mod ops;
mod recorded;
mod refused;
