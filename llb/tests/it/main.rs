//! Tests of the instruction DAG from outside.

mod digests;
mod graph;
mod ops;
mod parts;
mod print;
