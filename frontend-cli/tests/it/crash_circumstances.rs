//! What differs from one killed build to the next: who starts it, with which times, and who else is at
//! work in its store.

use std::path::Path;
use std::process::Command;

use crate::crash_world::{World, must_succeed, run_by};

#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances {
    umask: &'static str,
    /// Whether it has the epoch that the build after it has.
    is_dated: bool,
    /// Whether another builder and a prune are at work beside it.
    has_company: bool,
}

impl Circumstances {
    /// Those of a point of a sweep; every combination is among eighteen.
    pub(crate) fn of(number: usize) -> Self {
        Self {
            umask: ["022", "077"][number % 2],
            is_dated: (number / 2).is_multiple_of(2),
            has_company: number % 5 == 2,
        }
    }

    /// The same build, started so.
    pub(crate) fn start(self, build: &Command) -> Command {
        let script = format!("umask {}; exec \"$@\"", self.umask);
        let mut build = run_by("sh", &["-c", &script, "sh"], build);
        if !self.is_dated {
            build.env_remove("SOURCE_DATE_EPOCH");
        }
        build
    }

    /// Does `killing` beside the others at work. They get to their ends, and to `image`.
    pub(crate) fn in_company<T>(
        self,
        world: &World,
        root: &Path,
        image: &[u8],
        killing: impl FnOnce() -> T,
    ) -> T {
        if !self.has_company {
            return killing();
        }
        std::thread::scope(|scope| {
            let beside = scope.spawn(|| work_beside(world, root, image));
            let killed = killing();
            beside.join().unwrap();
            killed
        })
    }
}

/// Another builder, and prunes until it is done.
fn work_beside(world: &World, root: &Path, expected: &[u8]) {
    let image = &root.with_extension("beside");
    std::thread::scope(|scope| {
        let builder = scope.spawn(|| must_succeed(&mut world.build(root, image)));
        while !builder.is_finished() {
            must_succeed(world.mybuild(root).args(["prune", "-a", "-f"]));
        }
    });
    assert!(
        std::fs::read(image).unwrap() == expected,
        "{}: the image is another one",
        image.display()
    );
}
