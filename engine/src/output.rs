//! From layers to images, and to what the user wants of them.

pub(crate) mod assemble;
pub(crate) mod export;
pub(crate) mod redate;
