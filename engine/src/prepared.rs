//! A build up to where nothing is wrong with its Dockerfile and it is known what there is to do.

use std::sync::Arc;

use llb::{Definition, Op, SourceOp, VertexId};
use oci::{ImageConfig, Platform};

use crate::dockerfile::{PlatformPlan, Session};
use crate::request::{BuildRequest, Output};
use crate::shared_cache::SharedCache;

/// A build that can begin.
pub struct Prepared {
    pub(crate) session: Session,
    pub(crate) definition: Definition,
    pub(crate) plans: Vec<PlatformPlan>,
    pub(crate) shared: Arc<SharedCache>,
}

impl Prepared {
    /// The images it will give, as far as that is known: their layers and times are not.
    pub fn images(&self) -> impl Iterator<Item = (&Platform, &ImageConfig)> {
        self.plans.iter().map(|plan| (&plan.platform, &plan.lowered.config))
    }

    /// The steps of all images, and what they are built with.
    pub fn steps(&self) -> (Arc<Definition>, Arc<BuildRequest>) {
        (Arc::new(self.definition.clone()), Arc::new(self.session.request.clone()))
    }

    /// What of the steps the files of each image are; nothing for an empty one.
    pub fn targets(&self) -> impl Iterator<Item = (&Platform, Option<llb::Input>)> {
        self.plans.iter().map(|plan| (&plan.platform, plan.target))
    }

    /// Whether the result is an index over images.
    pub fn is_index(&self) -> bool {
        self.session.request.is_index()
    }

    /// Where the result goes.
    pub fn outputs(&self) -> &[Output] {
        &self.session.request.outputs
    }

    /// Everything it reads, each once.
    pub fn sources(&self) -> impl Iterator<Item = &SourceOp> {
        let targets = self.plans.iter().flat_map(|plan| plan.target.iter().chain(&plan.also));
        let wanted: Vec<VertexId> = targets.map(|target| target.vertex).collect();
        let reached = self.definition.reachable(&wanted).into_iter();
        reached.filter_map(|vertex| match &self.definition.vertex(vertex).op {
            Op::Source(source) => Some(source),
            _ => None,
        })
    }
}
