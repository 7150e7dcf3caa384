//! The configuration file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use registry::HostConfig;
use serde::Deserialize;

use crate::gc::GcConfig;

/// Directories with certificates for registries.
const CERTIFICATES: [&str; 2] = ["docker/certs.d", "containers/certs.d"];

/// `mybuild.toml`. Its `[registry."HOST"]` tables mean what they mean in BuildKit's configuration, and
/// `[gc]` what is said of garbage there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Settings by registry.
    #[serde(default)]
    pub registry: BTreeMap<String, HostConfig>,
    /// Programs that run those of other architectures, by the architecture's name in images.
    #[serde(default)]
    pub emulators: BTreeMap<String, PathBuf>,
    /// Where devices are described.
    #[serde(default)]
    pub cdi: CdiConfig,
    /// How much the store may keep.
    #[serde(default)]
    pub gc: GcConfig,
}

/// `[cdi]`, as in BuildKit's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CdiConfig {
    /// Directories with descriptions; of two of one name the later directory's counts.
    pub spec_dirs: Vec<PathBuf>,
}

impl Default for CdiConfig {
    /// Those that the specification names.
    fn default() -> Self {
        Self { spec_dirs: ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec() }
    }
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file named by the user cannot be read.
    #[error("failed to read the configuration `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("invalid configuration `{}`: {message}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What is wrong, with its line.
        message: String,
    },
}

impl Config {
    /// Reads `path`, which must exist; without one, `mybuild/mybuild.toml` in the user's directory for
    /// configuration, else `/etc/mybuild/mybuild.toml`, if there is one.
    pub fn load(path: Option<&Path>, config_home: Option<&Path>) -> Result<Self, ConfigError> {
        if let Some(path) = path {
            return Self::read(path)?.ok_or_else(|| ConfigError::Read {
                source: std::io::ErrorKind::NotFound.into(),
                path: path.to_owned(),
            });
        }
        let user = config_home.map(|home| home.join("mybuild"));
        for directory in user.into_iter().chain([PathBuf::from("/etc/mybuild")]) {
            if let Some(config) = Self::read(&directory.join("mybuild.toml"))? {
                return Ok(config);
            }
        }
        Ok(Self::default())
    }

    /// How registries are reached. Certificates may also be where Docker and Podman look for them: below the
    /// user's directory for configuration, and in `/etc`.
    pub(crate) fn registries(&self, config_home: Option<&Path>) -> registry::Config {
        let homes = config_home.into_iter().chain([Path::new("/etc")]);
        let certificates = homes.flat_map(|home| CERTIFICATES.map(|path| home.join(path)));
        registry::Config {
            hosts: self.registry.clone(),
            certificates: certificates.collect(),
            ..registry::Config::default()
        }
    }

    fn read(path: &Path) -> Result<Option<Self>, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
        };
        let parsed = toml::from_str(&text);
        parsed.map(Some).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: error.to_string().trim_end().to_owned(),
        })
    }
}
