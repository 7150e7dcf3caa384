//! Who builds: the one worker there is.

use oci::Platform;

use crate::wire::pb;
use crate::wire::types::{BuildkitVersion, WorkerRecord};

/// The API that is spoken is that of this version; clients compare it.
const API: &str = "v0.31.0";
const LABEL: &str = "org.mobyproject.buildkit.worker";

/// What is said of it. The first platform is what a build gets that asks for none.
pub(crate) fn record() -> WorkerRecord {
    let label = |name: &str, value: &str| (format!("{LABEL}.{name}"), value.to_owned());
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    WorkerRecord {
        id: "mybuild".to_owned(),
        labels: [
            label("executor", "oci"),
            label("hostname", &hostname),
            label("snapshotter", "overlayfs"),
        ]
        .into(),
        platforms: vec![platform(&Platform::host())],
        buildkit_version: Some(version()),
        ..WorkerRecord::default()
    }
}

/// What this program calls itself.
pub(crate) fn version() -> BuildkitVersion {
    BuildkitVersion {
        package: "mybuild".to_owned(),
        version: API.to_owned(),
        revision: env!("CARGO_PKG_VERSION").to_owned(),
        dockerfile_version: String::new(),
    }
}

/// A platform on the wire.
pub(crate) fn platform(platform: &Platform) -> pb::Platform {
    pb::Platform {
        architecture: platform.architecture.clone(),
        os: platform.os.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
    }
}
