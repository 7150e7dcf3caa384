//! Tests of the solver: graphs as text, a scripted worker, no clocks.

mod drive;
mod graph;
mod scheduler;
mod slots;
