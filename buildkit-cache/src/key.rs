//! The digests by which records are found.

use oci::Digest;

/// The digest of the record of a step's output: of the step's own digest and the number of the output.
pub fn of_output(step: &Digest, output: usize) -> Digest {
    Digest::of(format!("{step}@{output}").as_bytes())
}

/// The digest of the record that stands for files that were taken in, whatever they came from.
pub fn of_content(content: &Digest) -> Digest {
    Digest::of(format!("{content}@-1").as_bytes())
}
