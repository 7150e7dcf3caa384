//! `mybuild imagetools create`

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use engine::registries::{Assembly, Form, Put, Said, Source};
use engine::{Client as _, Credentials, EngineOptions, RegistryClient};
use oci::{Digest, Reference};

use super::registry::name;
use crate::build_args;
use crate::cli::ImagetoolsCreateArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::spelling::boolean;
use crate::ui;

/// The largest file with a descriptor, in bytes.
const FILE_MAX: u64 = 4 << 20;

/// What `mybuild imagetools create` has to do.
pub(super) struct Create {
    assembly: Assembly,
    /// None, if the image is only to be shown.
    tags: Option<Vec<Reference>>,
    credentials: Credentials,
}

impl Create {
    pub(super) fn resolve(
        args: &ImagetoolsCreateArgs,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        let tags = args.tags.iter().map(|tag| new_name(tag)).collect::<Result<Vec<_>, _>>()?;
        let mut words = Vec::new();
        if args.append {
            let first = args.tags.first().cloned();
            words.push(first.ok_or_else(|| UsageError::new("`--append` needs `--tag`"))?);
        }
        for file in &args.files {
            words.push(read(file)?);
        }
        words.extend(args.sources.iter().cloned());
        if words.is_empty() {
            return Err(UsageError::new("there is nothing to make an image of")
                .with_hint("name images: `mybuild imagetools create -t NEW SOURCE…`"));
        }
        if tags.is_empty() && !args.dry_run {
            return Err(UsageError::new("the new image has no name")
                .with_hint("give it one with `--tag`, or only show it with `--dry-run`"));
        }
        let form = match args.prefer_index.as_deref() {
            None => Form::Index,
            Some(text) => match boolean(text) {
                Some(true) => Form::Index,
                Some(false) => Form::Same,
                None => {
                    let message = format!("`--prefer-index={text}`: want true or false");
                    return Err(UsageError::new(message));
                }
            },
        };
        let annotations = build_args::annotations(&args.annotations)?;
        let sources = sources(&words, &tags)?;
        Ok(Self {
            assembly: Assembly { sources, annotations, form },
            tags: (!args.dry_run).then_some(tags),
            credentials: CommandLine::new(environment).credentials(),
        })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let client = RegistryClient::new(options, self.credentials, &[])?;
        let image = client.assemble(&self.assembly).await?;
        let Some(tags) = self.tags else {
            ui::data(&[&image.bytes, &b"\n"[..]].concat())?;
            return Ok(Exit::Success);
        };
        for tag in tags {
            let put = client.put(&image, &tag).await?;
            ui::error(&format!(
                "digest: {}\npushed {}{}\n",
                image.descriptor.digest,
                tag.familiar(),
                moved(&put)
            ));
            ui::data(format!("{tag}\n").as_bytes())?;
        }
        Ok(Exit::Success)
    }
}

/// What had to be brought, for people.
fn moved(put: &Put) -> String {
    let parts = [(put.sent, "sent"), (put.mounted, "mounted")];
    let blobs = parts.iter().filter(|(count, _)| *count > 0);
    let blobs: Vec<String> = blobs.map(|(count, how)| format!("{count} blobs {how}")).collect();
    if blobs.is_empty() { String::new() } else { format!(" ({})", blobs.join(", ")) }
}

/// The name of an image that is still to be made.
fn new_name(text: &str) -> Result<Reference, UsageError> {
    let name = name(text)?;
    match name.digest() {
        None => Ok(name),
        Some(_) => Err(UsageError::new(format!("`{text}`: a new name cannot have a digest"))),
    }
}

fn read(file: &Path) -> Result<String, UsageError> {
    let mut text = String::new();
    let read = File::open(file).and_then(|file| file.take(FILE_MAX).read_to_string(&mut text));
    read.map_err(|error| UsageError::new(format!("failed to read `{}`: {error}", file.display())))?;
    Ok(text)
}

/// A source as it was typed.
enum Word {
    Name(Reference),
    /// A digest, and what else a descriptor says, for the one repository there is.
    Content(Digest, Said),
}

/// Images, and what is to be taken from the repository that they or the new names have in common.
fn sources(words: &[String], tags: &[Reference]) -> Result<Vec<Source>, UsageError> {
    let mut parsed = Vec::new();
    for word in words {
        parsed.push((word, parse(word)?));
    }
    let named = parsed.iter().filter_map(|(_, word)| match word {
        Word::Name(name) => Some(name),
        Word::Content(..) => None,
    });
    let repositories: BTreeSet<Reference> = named.chain(tags).map(Reference::without_tag).collect();
    let source = |(word, parsed)| match parsed {
        Word::Name(name) => Ok(Source { name, said: Said::default() }),
        Word::Content(digest, said) if repositories.len() == 1 => {
            let repository = repositories.first().expect("there is one");
            Ok(Source { name: repository.with_digest(digest), said })
        }
        Word::Content(..) => Err(UsageError::new(format!(
            "`{word}` could be from any of several repositories, or from none"
        ))
        .with_hint("write `NAME@DIGEST`")),
    };
    parsed.into_iter().map(source).collect()
}

fn parse(word: &str) -> Result<Word, UsageError> {
    match word.parse::<Digest>() {
        Ok(digest) => return Ok(Word::Content(digest, Said::default())),
        // Nobody means an image of that name.
        Err(error) if word.starts_with("sha256:") || word.starts_with("sha512:") => {
            return Err(UsageError::new(error.to_string()));
        }
        Err(_) => {}
    }
    if word.trim_start().starts_with('{') {
        let read = Said::parse(word);
        let (said, digest) = read
            .map_err(|error| UsageError::new(format!("`{word}` is not a descriptor: {error}")))?;
        return Ok(Word::Content(digest, said));
    }
    name(word).map(Word::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_name_a_digest_or_a_descriptor() {
        let digest = Digest::of(b"x").to_string();
        let json = format!(
            r#"{{"digest":"{digest}","size":5,"platform":{{"os":"linux","architecture":"arm64"}}}}"#
        );
        let many = "could be from any of several repositories, or from none";
        for (words, tags, want) in [
            (&["r.x/a"][..], &[][..], Ok("r.x/a:latest".to_owned())),
            (&["r.x/a:1", "r.x/b:2"], &["r.x/c"], Ok("r.x/a:1 r.x/b:2".to_owned())),
            (&[&digest], &["r.x/c:1"], Ok(format!("r.x/c@{digest}"))),
            (&[&digest, "r.x/c:3"], &["r.x/c:1"], Ok(format!("r.x/c@{digest} r.x/c:3"))),
            (&[&json], &["r.x/c:1"], Ok(format!("r.x/c@{digest}/5/linux/arm64"))),
            (&[&digest, "r.x/b"], &["r.x/c:1"], Err(format!("`{digest}` {many}"))),
            (&[&digest], &[], Err(format!("`{digest}` {many}"))),
        ] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let tags: Vec<Reference> = tags.iter().map(|tag| new_name(tag).unwrap()).collect();
            let shown = |source: Source| {
                let Said { size, platform, .. } = source.said;
                let size = size.map(|size| format!("/{size}")).unwrap_or_default();
                let platform = platform.map(|platform| format!("/{platform}")).unwrap_or_default();
                format!("{}{size}{platform}", source.name)
            };
            let got = sources(&words, &tags)
                .map(|sources| sources.into_iter().map(shown).collect::<Vec<_>>().join(" "))
                .map_err(|error| error.message);
            assert_eq!(got, want);
        }
        for wrong in
            ["{", r#"{"digest":"sha256:../x"}"#, r#"{"size":1}"#, "Upper", "a b", "sha256:12"]
        {
            assert!(sources(&[wrong.to_owned()], &[]).is_err(), "{wrong}");
        }
    }
}
