//! `--change` of a commit: instructions of a Dockerfile that change a config alone.

use std::collections::BTreeMap;

use oci::{ContainerConfig, ImageConfig};
use parser::instruction::Kind;
use parser::lower::{self, BaseImage, Options, Outcome};

use crate::error::BuildError;

/// What the errors of an instruction name as its file.
const NAME: &str = "--change";
/// The line before the instructions.
const FROM: &str = "FROM container\n";

/// The config of an image with what the instructions say of it.
pub(super) fn apply(
    image: &ImageConfig,
    changes: &[String],
) -> Result<ContainerConfig, BuildError> {
    let text = format!("{FROM}{}\n", changes.join("\n"));
    let failed = |diagnostics| BuildError::Dockerfile {
        name: NAME.to_owned(),
        text: text.clone(),
        diagnostics,
    };
    let parsed = parser::parse(&text);
    if parsed.has_errors() {
        return Err(failed(parsed.errors().cloned().collect()));
    }
    check(&parsed.dockerfile)?;
    // What the image has for those that are built on it is not for this one.
    let mut base = image.clone();
    let waiting = std::mem::take(&mut base.config.on_build);
    let base = BaseImage { digest: oci::Digest::of(b""), config: base };
    let options = Options { target_platform: image.platform(), ..Options::default() };
    let mut images = BTreeMap::new();
    loop {
        match lower::lower(&parsed.dockerfile, &options, &images).map_err(failed)? {
            Outcome::NeedImages(requests) => {
                images.extend(requests.into_iter().map(|request| (request, base.clone())));
            }
            Outcome::Lowered(lowered) => {
                let mut config = lowered.config.config;
                config.on_build.splice(0..0, waiting);
                return Ok(config);
            }
        }
    }
}

/// As for Docker, only instructions that say something of the config.
fn check(dockerfile: &parser::Dockerfile) -> Result<(), BuildError> {
    let refused = |keyword: &str| {
        BuildError::input(format!("`--change`: `{keyword}` does not change a config alone"))
            .with_hint(
                "there are CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, \
                 USER, VOLUME and WORKDIR",
            )
    };
    let [stage] = dockerfile.stages.as_slice() else { return Err(refused("FROM")) };
    let files = |kind: &Kind| {
        matches!(
            kind,
            Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Arg(_) | Kind::Maintainer(_)
        )
    };
    match stage.instructions.iter().find(|instruction| files(&instruction.kind)) {
        Some(instruction) => Err(refused(&instruction.keyword)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageConfig {
        serde_json::from_value(serde_json::json!({
            "os": "linux", "architecture": "amd64",
            "config": {
                "Env": ["PATH=/bin", "A=1"], "Cmd": ["old"], "WorkingDir": "/w",
                "OnBuild": ["RUN no"], "Labels": {"a": "1"},
            },
        }))
        .expect("a config")
    }

    #[test]
    fn instructions_change_the_config_as_in_a_dockerfile() {
        let changes = [
            "CMD [\"new\", \"$A\"]",
            "ENV A=2 B=$A-x",
            "env PATH=$PATH:/sbin",
            "LABEL b=\"x y\"",
            "WORKDIR sub",
            "USER 1:2",
            "EXPOSE 80",
            "VOLUME /v",
            "ONBUILD RUN yes",
            "STOPSIGNAL INT",
        ];
        let config = apply(&image(), &changes.map(String::from)).expect("they are good");
        assert_eq!(
            serde_json::to_value(&config).expect("plain data"),
            serde_json::json!({
                "ArgsEscaped": true, "Env": ["PATH=/bin:/sbin", "A=2", "B=1-x"], "Cmd": ["new", "$A"], "WorkingDir": "/w/sub",
                "OnBuild": ["RUN no", "RUN yes"], "Labels": {"a": "1", "b": "x y"}, "User": "1:2",
                "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}}, "StopSignal": "INT",
            })
        );
        assert_eq!(apply(&image(), &[]).expect("nothing changes"), image().config);
    }

    #[test]
    fn what_is_not_of_the_config_alone_is_refused() {
        for (change, wanted) in [
            ("RUN x", "`RUN` does not change"),
            ("COPY a b", "`COPY` does not change"),
            ("ARG a", "`ARG` does not change"),
            ("FROM x", "`FROM` does not change"),
            ("LABEL a=1\nFROM x", "`FROM` does not change"),
        ] {
            let error = apply(&image(), &[change.to_owned()]).expect_err(change);
            assert!(error.to_string().contains(wanted), "{change}: {error}");
        }
        for change in ["NOSUCH x", "ENV", "EXPOSE x", "ENV A=${A:?no}${B:?unset}"] {
            let error = apply(&image(), &[change.to_owned()]).expect_err(change);
            assert!(matches!(error, BuildError::Dockerfile { .. }), "{change}: {error}");
        }
    }
}
