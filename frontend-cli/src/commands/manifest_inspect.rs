//! `mybuild manifest inspect`

use engine::{Client as _, Credentials, EngineOptions, RegistryClient};
use oci::manifest::{Document, Kind};
use oci::{Descriptor, Platform, Reference, manifest, media_type};

use super::registry::name;
use crate::cli::ManifestInspectArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::json_text::indented;
use crate::ui;

/// What `mybuild manifest inspect` has to do.
pub(super) struct Show {
    name: Reference,
    verbose: bool,
    insecure: bool,
    credentials: Credentials,
}

impl Show {
    pub(super) fn resolve(
        args: &ManifestInspectArgs,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        Ok(Self {
            name: name(&args.name)?,
            verbose: args.verbose,
            insecure: args.insecure,
            credentials: CommandLine::new(environment).credentials(),
        })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let insecure: Vec<&str> = self.insecure.then(|| self.name.domain()).into_iter().collect();
        let client = RegistryClient::new(options, self.credentials.clone(), &insecure)?;
        let (descriptor, bytes) = client.manifest(&self.name).await?;
        let text = match (self.verbose, manifest::parse(&bytes, Some(&descriptor.media_type))?) {
            // As Docker indents them.
            (false, Document::Index(_)) => indented(std::str::from_utf8(&bytes)?, "   "),
            (false, Document::Manifest(_)) => indented(std::str::from_utf8(&bytes)?, "\t"),
            (true, Document::Index(index)) => {
                let mut all = Vec::new();
                for entry in index.manifests {
                    let pinned = self.name.without_tag().with_digest(entry.digest.clone());
                    let (found, bytes) = client.manifest(&pinned).await?;
                    let described = Descriptor { platform: entry.platform, ..found };
                    all.push(self.verbose(&pinned, &described, &bytes)?);
                }
                indented(&format!("[{}]", all.join(",")), "\t")
            }
            (true, Document::Manifest(manifest)) => {
                let platform = self.platform(&client, &manifest.config).await?;
                let described = Descriptor { platform, ..descriptor };
                indented(&self.verbose(&self.name, &described, &bytes)?, "\t")
            }
        };
        ui::data(format!("{text}\n").as_bytes())?;
        Ok(Exit::Success)
    }

    /// A manifest, with its content as it is.
    fn verbose(
        &self,
        name: &Reference,
        descriptor: &Descriptor,
        bytes: &[u8],
    ) -> anyhow::Result<String> {
        let field = match (Kind::of(&descriptor.media_type), &*descriptor.media_type) {
            (Some(Kind::Manifest), media_type::DOCKER_MANIFEST) => "SchemaV2Manifest",
            (Some(Kind::Manifest), _) => "OCIManifest",
            _ => "OCIIndex",
        };
        Ok(format!(
            r#"{{"Ref":{},"Descriptor":{},"Raw":"{}","{field}":{}}}"#,
            serde_json::to_string(&name.to_string())?,
            serde_json::to_string(descriptor)?,
            data_encoding::BASE64.encode(bytes),
            std::str::from_utf8(bytes)?
        ))
    }

    /// The platform of an image's config; none for what is not an image.
    async fn platform(
        &self,
        client: &RegistryClient,
        config: &Descriptor,
    ) -> anyhow::Result<Option<Platform>> {
        if ![media_type::CONFIG, media_type::DOCKER_CONFIG].contains(&&*config.media_type) {
            return Ok(None);
        }
        let config: Platform = serde_json::from_slice(&client.config(&self.name, config).await?)?;
        Ok(Some(config))
    }
}
