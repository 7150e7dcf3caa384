//! Tests of the engine: trees, file operations, and the rules of the house.

mod building;
mod context;
mod copying;
mod editing;
mod exporting;
mod files;
mod reuse;
mod rooms;
mod solving;
mod stacking;
mod world;
mod writing;
