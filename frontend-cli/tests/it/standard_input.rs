//! Standard input: a tar archive, a Dockerfile, or too much.

use std::ffi::OsString;
use std::io::Read as _;
use std::sync::Arc;

use clap::Parser as _;
use engine::Client as _;
use engine::request::{BuildRequest, ContextSource, DockerfileSource};
use frontend_cli::build_args::resolve;
use frontend_cli::cli::{Cli, Subcommand};
use frontend_cli::client::CommandLine;
use frontend_cli::environment::Environment;
use frontend_cli::stdin::{StandardInput, is_archive, read};

fn request(words: &[&str]) -> BuildRequest {
    let words = ["mybuild", "build"].iter().chain(words).map(OsString::from);
    let Subcommand::Build(args) = Cli::parse_from(words).command else { panic!("a build") };
    resolve(&args, &Environment::default()).expect("good words").request
}

/// A header as `tar` writes one: name, size, checksum, type.
fn tar_header(name: &str) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..136].copy_from_slice(b"00000000000\0");
    block[148..156].copy_from_slice(b"        ");
    block[156] = b'0';
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[test]
fn archives_are_told_from_text_by_their_first_bytes() {
    let mut broken = tar_header("a");
    broken[0] = b'b';
    for (head, want) in [
        (tar_header("Dockerfile"), true),
        (vec![0; 512], true),
        (b"\x1f\x8b\x08\0".to_vec(), true),
        (b"BZh9".to_vec(), true),
        (b"\xfd7zXZ\0".to_vec(), true),
        (b"\x28\xb5\x2f\xfd".to_vec(), true),
        (broken, false),
        (b"FROM scratch\n".to_vec(), false),
        (vec![b'#'; 512], false),
        (Vec::new(), false),
        (vec![0; 100], false),
    ] {
        assert_eq!(is_archive(&head), want, "{:?}", String::from_utf8_lossy(&head));
    }
}

#[test]
fn an_archive_is_kept_as_long_as_it_is_needed() {
    let archive = [tar_header("Dockerfile"), vec![0; 1024]].concat();
    let mut request = request(&["-f", "web.Dockerfile", "-"]);
    let kept = read(StandardInput::Context, &archive[..], &mut request).expect("it is read");
    let kept = Some(Arc::new(kept.expect("an archive")));
    let ContextSource::Archive(source) = &request.context else { panic!("{request:?}") };
    let client = CommandLine { standard_input: kept, ..CommandLine::default() };
    for _ in 0..2 {
        let mut read_back = Vec::new();
        client.archive(source).expect("it is kept").read_to_end(&mut read_back).expect("reads");
        assert_eq!(read_back, archive);
    }
    // The file of the archive that `-f` names.
    assert!(
        matches!(&request.dockerfile, DockerfileSource::File(Some(file)) if file.as_os_str() == "web.Dockerfile")
    );
}

#[test]
fn text_is_a_dockerfile_without_a_context() {
    for (words, kind) in
        [(&["-"][..], StandardInput::Context), (&["-f", "-", "."], StandardInput::Dockerfile)]
    {
        let mut request = request(words);
        let kept = read(kind, &b"FROM scratch\n"[..], &mut request).expect("a Dockerfile");
        assert!(kept.is_none());
        let DockerfileSource::Text { name, text } = &request.dockerfile else {
            panic!("{request:?}")
        };
        assert_eq!((name.as_str(), &text[..]), ("Dockerfile", &b"FROM scratch\n"[..]));
        assert_eq!(matches!(request.context, ContextSource::Empty), kind == StandardInput::Context);
    }
}

#[test]
fn endless_input_is_not_read_for_ever() {
    let mut request = request(&["-"]);
    let error =
        read(StandardInput::Context, std::io::repeat(b'#'), &mut request).expect_err("no end");
    assert_eq!(error.to_string(), "the Dockerfile on standard input is larger than 16 MiB");
}
