//! What the command line makes of words, events and errors.

mod arguments;
mod binary;
mod building;
mod drawing;
mod graphs;
mod results;
mod screen;
mod shown;
mod standard_input;
