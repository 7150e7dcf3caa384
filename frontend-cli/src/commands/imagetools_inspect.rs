//! `mybuild imagetools inspect`

use std::fmt::Write as _;

use engine::{Client as _, Credentials, EngineOptions, RegistryClient};
use oci::manifest::Document;
use oci::{Descriptor, Index, Reference, manifest};
use serde_json::{Map, Value, json};

use super::registry::name;
use crate::cli::ImagetoolsInspectArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::go_names;
use crate::template::{Data, Template};
use crate::terminal::harmless;
use crate::ui;

/// What `mybuild imagetools inspect` has to do.
pub(super) struct Show {
    name: Reference,
    form: Form,
    credentials: Credentials,
}

enum Form {
    /// For people.
    Text,
    /// To the byte.
    Raw,
    Template(Template),
}

impl Show {
    pub(super) fn resolve(
        args: &ImagetoolsInspectArgs,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        let form = match (args.raw, args.format.as_deref().filter(|text| !text.is_empty())) {
            (true, Some(_)) => {
                return Err(UsageError::new("`--raw` and `--format` do not go together"));
            }
            (true, None) => Form::Raw,
            (false, None) => Form::Text,
            (false, Some(text)) => {
                let parsed = Template::parse(text);
                Form::Template(parsed.map_err(|e| UsageError::new(format!("`--format`: {e}")))?)
            }
        };
        let credentials = CommandLine::new(environment).credentials();
        Ok(Self { name: name(&args.name)?, form, credentials })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let client = RegistryClient::new(options, self.credentials.clone(), &[])?;
        let (descriptor, bytes) = client.manifest(&self.name).await?;
        if let Form::Raw = self.form {
            // Without a line break: the digest is that of what is written.
            ui::data(&bytes)?;
            return Ok(Exit::Success);
        }
        let document = manifest::parse(&bytes, Some(&descriptor.media_type))?;
        let text = match &self.form {
            Form::Template(template) => {
                let value = self.value(&client, template, &descriptor, &document).await?;
                let data = Data { value: &value, json: go_names::to_json };
                format!("{}\n", template.render(data)?)
            }
            _ => text(&self.name, &descriptor, &document),
        };
        ui::data(text.as_bytes())?;
        Ok(Exit::Success)
    }

    /// What a template sees. Configs are fetched only if it names them.
    async fn value(
        &self,
        client: &RegistryClient,
        template: &Template,
        descriptor: &Descriptor,
        document: &Document,
    ) -> anyhow::Result<Value> {
        let mut shown = serde_json::to_value(descriptor)?;
        shown["annotations"] = json!(descriptor.annotations);
        if let Document::Index(index) = document {
            shown["schemaVersion"] = index.schema_version.into();
            shown["manifests"] = serde_json::to_value(&index.manifests)?;
            shown["annotations"] = json!(index.annotations);
        }
        let mut value =
            json!({ "Name": self.name.to_string(), "Manifest": go_names::from_json(&shown) });
        let wants = |path: &Vec<String>| path.first().is_none_or(|first| first == "Image");
        if template.fields().iter().any(wants) {
            value["Image"] = self.images(client, document).await?;
        }
        Ok(value)
    }

    /// The config of the image, or of those of an index by their platform.
    async fn images(&self, client: &RegistryClient, document: &Document) -> anyhow::Result<Value> {
        let index = match document {
            Document::Manifest(manifest) => return self.image(client, &manifest.config).await,
            Document::Index(index) => index,
        };
        let mut images = Map::new();
        for entry in index.manifests.iter().filter(|entry| is_image(entry)) {
            let pinned = self.name.without_tag().with_digest(entry.digest.clone());
            let (found, bytes) = client.manifest(&pinned).await?;
            if let Document::Manifest(manifest) = manifest::parse(&bytes, Some(&found.media_type))?
            {
                let platform = entry.platform.as_ref().map(ToString::to_string);
                let image = self.image(client, &manifest.config).await?;
                images.insert(platform.unwrap_or_default(), image);
            }
        }
        // One image is shown as it is, as by buildx.
        let mut values = images.values();
        match (values.next(), values.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => Ok(Value::Object(images)),
        }
    }

    async fn image(&self, client: &RegistryClient, config: &Descriptor) -> anyhow::Result<Value> {
        let config = client.config(&self.name, config).await?;
        Ok(go_names::from_json(&serde_json::from_slice(&config)?))
    }
}

/// Whether an entry is the image of a platform, and not what is said about one.
fn is_image(entry: &Descriptor) -> bool {
    entry.platform.as_ref().is_none_or(|platform| platform.os != "unknown")
}

/// As buildx shows it.
fn text(name: &Reference, descriptor: &Descriptor, document: &Document) -> String {
    let mut text = format!(
        "Name:      {name}\nMediaType: {}\nDigest:    {}\n",
        harmless(&descriptor.media_type),
        descriptor.digest
    );
    if let Document::Index(index) = document {
        text.push_str("\nManifests:\n");
        text.push_str(&entries(name, index));
    }
    text
}

fn entries(name: &Reference, index: &Index) -> String {
    let mut text = String::new();
    for (place, entry) in index.manifests.iter().enumerate() {
        if place > 0 {
            text.push('\n');
        }
        let mut lines = vec![
            ("Name:", format!("{name}@{}", entry.digest)),
            ("MediaType:", entry.media_type.clone()),
        ];
        lines.extend(entry.platform.as_ref().map(|p| ("Platform:", p.to_string())));
        if !entry.urls.is_empty() {
            lines.push(("URLs:", entry.urls.join(", ")));
        }
        for (label, value) in lines {
            let _ = writeln!(text, "  {label:<11} {}", harmless(&value));
        }
        if !entry.annotations.is_empty() {
            text.push_str("  Annotations:\n");
        }
        let keys = entry.annotations.keys().map(|key| harmless(key));
        let width = keys.map(|key| crate::terminal::width(&key)).max().unwrap_or(0);
        for (key, value) in &entry.annotations {
            let key = harmless(key);
            let gap = " ".repeat(width - crate::terminal::width(&key) + 1);
            let _ = writeln!(text, "    {key}:{gap}{}", harmless(value));
        }
    }
    text
}
