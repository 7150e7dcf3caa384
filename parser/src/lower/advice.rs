//! Advice about what was lowered: see [`crate::check::advice`].

use oci::Reference;

use super::Lowering;
use super::options::ImageRequest;
use super::stage::{Origin, StageId, StageState};
use crate::check::advice;
use crate::instruction::Dockerfile;

impl Lowering<'_> {
    /// Gives it, where it is asked for.
    pub(super) fn advise(&mut self, dockerfile: &Dockerfile, target: StageId) {
        if !self.options.advice {
            return;
        }
        advice::unknown_checks(dockerfile, &mut self.reporter);
        advice::secrets(dockerfile, &mut self.reporter);
        for stage in &self.stages {
            if let Some(reference) = registry_image(stage) {
                let place = stage.origin.place();
                advice::base_image(&stage.base_name, &reference, place, &mut self.reporter);
            }
            if let Origin::From(stage) = stage.origin {
                advice::copies(stage, &mut self.reporter);
            }
        }
        // What stays in other stages is not in the image.
        let mut next = Some(target);
        while let Some(id) = next {
            if let Origin::From(stage) = self.stages[id].origin {
                advice::package_lists(stage, &mut self.reporter);
            }
            next = self.stages[id].base;
        }
    }
}

/// The image of a registry that a stage or source starts from, as it is written: no named context
/// stands in for it.
fn registry_image(stage: &StageState<'_>) -> Option<Reference> {
    let request = stage.image.as_ref().filter(|_| stage.base.is_none())?;
    let reference = Reference::parse_normalized(&stage.base_name).ok()?;
    let asked = ImageRequest::of_registry(&reference.with_default_tag(), request.platform.clone());
    (asked == *request).then_some(reference)
}
