//! What a vertex takes in, as digests.

use std::sync::Arc;

use llb::{Op, VertexId};
use oci::Digest;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::file_op::{self, FileOpError, TakenIn, digest_of_all, digest_of_taken_in};
use crate::step::files::{Files, Outputs};
use crate::step::missing;
use crate::step::process::bind_digest;
use crate::step::worker::BuildWorker;
use crate::tree::View;

impl BuildWorker {
    /// Digests what a vertex reads from its inputs.
    pub(super) async fn digest_inputs(
        &self,
        vertex: VertexId,
        reads: &[bool],
        inputs: &[Option<Outputs>],
    ) -> Result<Vec<Option<Digest>>, BuildError> {
        let numbers = self.definition.inputs(vertex);
        let mut digests = Vec::with_capacity(inputs.len());
        for (number, (read, outputs)) in reads.iter().zip(inputs).enumerate() {
            if !read {
                digests.push(None);
                continue;
            }
            let outputs = outputs.as_ref().expect("what is read is available");
            let tree = &outputs[numbers[number].output];
            let view = self.view(tree).await?;
            let (definition, read) = (self.definition.clone(), view.clone());
            let is_context = matches!(tree, Files::Context(_));
            let wanted = self.shared.foreign.wanted(&self.definition, vertex, number);
            let digest = blocking(move || {
                // What cannot be read is told below.
                let foreign = wanted.and_then(|selectors| {
                    let tree = read.descriptor().map(|_| &*read);
                    buildkit_cache::content::digest(&selectors, tree).ok()
                });
                let mut copied = None;
                let digest = match &definition.vertex(vertex).op {
                    Op::File(op) => file_op::taken_in(op, number, &read).map(|taken_in| {
                        let digest = taken_in.as_deref().map(digest_of_taken_in);
                        copied = taken_in;
                        digest
                    }),
                    Op::Exec(op) => bind_digest(op, number, &read).map(Some).map_err(Into::into),
                    // Other ops take in whole trees.
                    _ => Ok(None),
                };
                // A directory of the client has no key of its own.
                let digest = match digest {
                    Ok(None) if is_context => digest_of_all(&read).map(Some),
                    digest => digest,
                };
                Ok(digest.map(|digest| (digest, copied, foreign)))
            });
            let (digest, verified) = tokio::join!(digest, self.layers.verify(tree.layers()));
            // What is not there may have been taken away.
            verified?;
            let digest = match digest? {
                Ok((digest, copied, foreign)) => {
                    self.note_copied(vertex, number, copied);
                    if let Some(foreign) = foreign {
                        self.shared.foreign.digested(vertex, number, foreign);
                    }
                    digest
                }
                Err(error) => {
                    return self.unreadable(vertex, numbers[number].vertex, view, error).await;
                }
            };
            digests.push(digest);
        }
        Ok(digests)
    }

    /// Notes for the step's record what it copies from input `number`.
    fn note_copied(&self, vertex: VertexId, number: usize, copied: Option<Vec<TakenIn>>) {
        if let Some(copied) = copied {
            let mut all = self.copied.lock().expect("no panic while held");
            all.entry(vertex).or_default().insert(number, copied);
        }
    }

    /// What `vertex` names could not be read from `input`.
    async fn unreadable<T: Send + 'static>(
        &self,
        vertex: VertexId,
        input: VertexId,
        view: Arc<View>,
        error: FileOpError,
    ) -> Result<T, BuildError> {
        let definition = self.definition.clone();
        let told =
            blocking(move || Err(missing::read_error(error, &definition, (vertex, input), &view)));
        told.await
    }
}
