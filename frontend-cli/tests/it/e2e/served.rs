//! The daemon, and clients that speak BuildKit's API with it over a real socket.

mod builds;
mod client;
mod daemon;
mod definitions;
mod failures;
mod files;
mod lost;
mod proofs;
mod real_clients;
mod services;
