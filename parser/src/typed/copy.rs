//! `ADD` and `COPY`.

use std::collections::HashMap;

use super::{Problem, Problems, flags, problem};
use crate::flag::Takes;
use crate::heredoc::{self, Marker};
use crate::instruction::{Add, Copy, Heredoc};
use crate::span::Text;
use crate::tree::{MAX_FILE, Node};

const ADD: [(&str, Takes); 7] = [
    ("checksum", Takes::Value),
    ("chmod", Takes::Value),
    ("chown", Takes::Value),
    ("exclude", Takes::Values),
    ("keep-git-dir", Takes::Switch),
    ("link", Takes::Switch),
    ("unpack", Takes::Switch),
];
const COPY: [(&str, Takes); 6] = [
    ("chmod", Takes::Value),
    ("chown", Takes::Value),
    ("exclude", Takes::Values),
    ("from", Takes::Value),
    ("link", Takes::Switch),
    ("parents", Takes::Switch),
];

pub(super) fn add(node: &Node) -> Result<Add, Problems> {
    let (sources, dest) = split(node, "ADD")?;
    let flags = flags(node, &ADD)?;
    let (sources, heredocs) = operands(node, sources, dest, "ADD")?;
    Ok(Add {
        sources,
        heredocs,
        dest: dest.clone(),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        keep_git_dir: flags.switch("keep-git-dir"),
        checksum: flags.value("checksum"),
        unpack: flags.switch("unpack"),
        exclude: flags.values("exclude"),
    })
}

pub(super) fn copy(node: &Node) -> Result<Copy, Problems> {
    let (sources, dest) = split(node, "COPY")?;
    let flags = flags(node, &COPY)?;
    let (sources, heredocs) = operands(node, sources, dest, "COPY")?;
    Ok(Copy {
        sources,
        heredocs,
        dest: dest.clone(),
        from: flags.value("from"),
        chown: flags.value("chown"),
        chmod: flags.value("chmod"),
        link: flags.switch("link").unwrap_or(false),
        parents: flags.switch("parents").unwrap_or(false),
        exclude: flags.values("exclude"),
    })
}

fn split<'n>(node: &'n Node, command: &str) -> Result<(&'n [Text], &'n Text), Problems> {
    match &node.arguments[..] {
        [sources @ .., dest] if !sources.is_empty() => Ok((sources, dest)),
        _ => Err(problem(
            node,
            format!(
                "{command} requires at least two arguments, but only one was provided. \
                 Destination could not be determined"
            ),
        )),
    }
}

/// Tells paths from here-documents.
fn operands(
    node: &Node,
    sources: &[Text],
    dest: &Text,
    command: &str,
) -> Result<(Vec<Text>, Vec<Heredoc>), Problems> {
    if marker(dest).is_some() {
        return Err(vec![Problem {
            message: format!("{command} cannot accept a heredoc as a destination"),
            span: dest.span,
            hint: Some("name the file or folder to write to after it".to_owned()),
        }]);
    }
    // Of two bodies with one name the last one counts for both.
    let bodies: HashMap<_, _> = node.heredocs.iter().map(|h| (h.name.as_str(), h)).collect();
    let (mut paths, mut heredocs) = (Vec::new(), Vec::new());
    let mut size = 0;
    for source in sources {
        let Some(marker) = marker(source) else {
            paths.push(source.clone());
            continue;
        };
        let heredoc = inline(marker, &bodies, source);
        size += heredoc.raw.len();
        if size > MAX_FILE {
            return Err(problem(node, format!("heredocs greater than {MAX_FILE} bytes in all")));
        }
        heredocs.push(heredoc);
    }
    Ok((paths, heredocs))
}

fn marker(word: &Text) -> Option<Marker> {
    heredoc::parse(&word.value).ok().flatten()
}

/// The here-document of `marker`, which is written as `word`. One without a body is empty.
fn inline(marker: Marker, bodies: &HashMap<&str, &Heredoc>, word: &Text) -> Heredoc {
    let body = bodies.get(marker.name.as_str());
    let (raw, span) =
        body.map_or_else(|| (String::new(), word.span), |body| (body.raw.clone(), body.span));
    Heredoc {
        name: marker.name,
        fd: marker.fd,
        content: if marker.chomp { heredoc::chomp(&raw) } else { raw.clone() },
        raw,
        expand: marker.expand,
        chomp: marker.chomp,
        span,
    }
}
