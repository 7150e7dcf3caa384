//! Dockerfile text to typed stages, and on to the instruction DAG.
//!
//! [`parse()`] takes the text and gives back as much of the file as was understood and a
//! [`Diagnostic`] for each thing that was not. The crate reads no files, knows no network and no
//! clock: it is handed text, options and the configs of base images.
//!
//! For syntax read `parse`, then `line` (continuations, and where joined text came from),
//! [`tree`] (the words of each instruction, here-documents), [`typed`] (what the words mean) and
//! [`instruction`] (the result). [`expand`] comes into play only when values are known.
//!
//! ```
//! let parsed = parser::parse("FROM alpine AS base\nRUN --mount=type=cache,target=/c make\n");
//! assert!(parsed.diagnostics.is_empty());
//! assert_eq!(parsed.dockerfile.stages[0].instructions.len(), 1);
//! ```

mod parse;

pub mod check;
pub mod diagnostic;
pub mod fix;
pub mod ignore;
pub mod instruction;
pub mod lower;
pub mod span;

mod command;
pub mod credentials;
pub mod csv;
pub mod device;
pub mod directive;
pub mod duration;
pub mod expand;
pub mod flag;
pub mod frontend;
pub mod glob;
pub mod heredoc;
pub mod json_form;
mod line;
pub mod mount;
mod path;
pub mod pattern;
mod pragma;
pub mod quote;
pub mod suggest;
pub mod tree;
pub mod typed;
mod words;

pub use diagnostic::{Diagnostic, Severity};
pub use expand::{ExpandError, Expanded, Expander, Variables};
pub use instruction::Dockerfile;
pub use line::MAX_LINE;
pub use parse::{Parse, parse, parse_bytes, parse_onbuild, parse_tree};
pub use span::{Lines, Span, Text};
