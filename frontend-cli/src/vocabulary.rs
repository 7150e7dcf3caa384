//! BuildKit's words as clients of the daemon use them: each is the flag that means the same.

use std::collections::BTreeMap;

use daemon::{Answered, Asked, Attributes, Refused, Told, Vocabulary};
use engine::{BuildRequest, PruneFilter};
use parser::Severity;

use crate::build_args::{self, Format};
use crate::cache_filter::filter;
use crate::calls::check::Report;
use crate::calls::{describe, outline, targets};
use crate::cli::BuildArgs;
use crate::environment::Environment;
use crate::error::UsageError;

/// The flags' meanings. No variable and no file of the daemon's machine counts.
#[derive(Debug, Default)]
pub(crate) struct Flags;

impl Vocabulary for Flags {
    fn request(&self, asked: &Asked) -> Result<BuildRequest, Refused> {
        let options = asked.options.iter().map(|(name, value)| format!("{name}={value}"));
        let outputs = asked.outputs.iter().enumerate().map(|(index, output)| {
            let mut output = output.clone();
            if is_sent(&output.kind) {
                output.rest.insert("dest".to_owned(), index.to_string());
            }
            flag(&output)
        });
        let mut outputs: Vec<String> = outputs.collect();
        if outputs.is_empty() {
            outputs.push("type=cacheonly".to_owned());
        }
        let args = BuildArgs {
            // Where the files are is the daemon's affair.
            context: "-".into(),
            options: options.collect(),
            outputs,
            cache_from: asked.cache_from.iter().map(flag).collect(),
            cache_to: asked.cache_to.iter().map(flag).collect(),
            allow: asked.entitlements.clone(),
            ..BuildArgs::default()
        };
        let resolved = build_args::resolve(&args, &Environment::default());
        resolved.map(|build| build.request).map_err(refused)
    }

    fn filter(&self, filters: &[String]) -> Result<PruneFilter, Refused> {
        filter("prune", filters).map_err(refused)
    }

    fn told(&self, told: &Told, name: &str, text: &str) -> Answered {
        match told {
            Told::Check(found) => {
                let (diagnostics, is_whole) = (&found.found[..], found.stopped_by.is_none());
                let report = Report { name, path: name, text, diagnostics, is_whole };
                let is_clean =
                    report.count(Severity::Warning) == 0 && report.count(Severity::Error) == 0;
                let text = anstream::adapter::strip_str(&report.write(Format::Text)).to_string();
                Answered { json: report.write(Format::Json), text, is_clean: Some(is_clean) }
            }
            Told::Outline(told) => {
                let (json, text) = (outline::json(told, text), outline::text(told));
                Answered { json, text, is_clean: None }
            }
            Told::Targets(told) => {
                let json = targets::json(&told.stages, text);
                Answered { json, text: targets::text(&told.stages), is_clean: None }
            }
            Told::Describe => {
                Answered { json: describe::json(), text: describe::text(), is_clean: None }
            }
        }
    }
}

/// Whether the client gets what a type gives.
fn is_sent(kind: &str) -> bool {
    matches!(kind, "oci" | "docker" | "local" | "tar")
}

/// `type=…,NAME=VALUE,…`
fn flag(attributes: &Attributes) -> String {
    let kind = format!("type={}", attributes.kind);
    let rest: &BTreeMap<String, String> = &attributes.rest;
    let rest = rest.iter().map(|(name, value)| format!("{name}={value}"));
    let fields: Vec<String> =
        std::iter::once(kind).chain(rest).map(|field| quoted(&field)).collect();
    fields.join(",")
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

fn refused(error: UsageError) -> Refused {
    Refused { message: error.message, hint: error.hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_become_one_flag() {
        let rest = [("name", "a:1,b:2"), ("annotation.k", "say \"hi\""), ("push", "true")];
        let rest = rest.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let attributes = Attributes { kind: "image".to_owned(), rest };
        assert_eq!(
            flag(&attributes),
            r#"type=image,"annotation.k=say ""hi""","name=a:1,b:2",push=true"#
        );
    }
}
