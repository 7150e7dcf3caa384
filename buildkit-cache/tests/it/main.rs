//! Tests of the crate, also against caches that BuildKit wrote (`testdata`).

mod config;
mod context;
mod corpus;
mod export;
mod recorded;
