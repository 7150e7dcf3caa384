//! Policies of clients: each source of a build is shown to the client, which allows it or not.

use std::collections::BTreeMap;

use llb::SourceOp;
use oci::Platform;
use tonic::Status;

use crate::session::Session;
use crate::wire::gateway::ResolveSourceMetaResponse;
use crate::wire::pb;
use crate::wire::policysession::check_policy_response::Result as Answer;
use crate::wire::policysession::policy_verifier_client::PolicyVerifierClient;
use crate::wire::policysession::{CheckPolicyRequest, DecisionResponse};
use crate::wire::sourcepolicy::PolicyAction;
use crate::worker;

/// Asks `session` about everything that a build reads. What it would have changed, or wants to know more of, is
/// refused.
pub(crate) async fn check(
    session: &Session,
    platform: Option<&Platform>,
    sources: impl Iterator<Item = &SourceOp>,
) -> Result<(), Status> {
    let platform = platform.map(worker::platform);
    let mut client = PolicyVerifierClient::new(session.channel.clone());
    for source in sources {
        let identifier = identifier(source);
        let op = pb::SourceOp { identifier: identifier.clone(), attrs: attributes(source) };
        let source = ResolveSourceMetaResponse { source: Some(op), ..Default::default() };
        let request = CheckPolicyRequest {
            platform: platform.clone(),
            source: Some(source),
            ..CheckPolicyRequest::default()
        };
        let answer = client.check_policy(request).await?.into_inner();
        allowed(&identifier, answer.result)?;
    }
    Ok(())
}

fn allowed(source: &str, answer: Option<Answer>) -> Result<(), Status> {
    let refused = |why: &str| {
        Err(Status::permission_denied(format!("source `{source}` is not allowed by policy{why}")))
    };
    match answer {
        Some(Answer::Decision(DecisionResponse { action, deny_messages, .. })) => {
            match PolicyAction::try_from(action) {
                Ok(PolicyAction::Allow) => Ok(()),
                Ok(PolicyAction::Deny) => {
                    let said = deny_messages.iter().map(|said| format!(": {}", said.message));
                    refused(&said.collect::<String>())
                }
                _ => refused(": changing sources is not supported"),
            }
        }
        Some(Answer::Request(_)) => refused(": it wants to know more than is told here"),
        None => refused(": there was no decision"),
    }
}

/// How BuildKit calls a source.
fn identifier(source: &SourceOp) -> String {
    match source {
        SourceOp::Image(image) => format!("docker-image://{}", image.reference),
        SourceOp::OciLayout { name, .. } => format!("oci-layout://{name}"),
        SourceOp::Local(local) => format!("local://{}", local.name),
        SourceOp::Http(http) => http.url.clone(),
        SourceOp::Git(git) => {
            let place = place(&git.remote);
            match (git.reference.as_str(), git.subdirectory.as_str()) {
                ("", "") => format!("git://{place}"),
                (reference, "") => format!("git://{place}#{reference}"),
                (reference, subdirectory) => format!("git://{place}#{reference}:{subdirectory}"),
            }
        }
    }
}

/// Host and path of a repository: whichever way it is reached, its name says that it is one.
fn place(remote: &str) -> String {
    let (address, separator) = match remote.split_once("://") {
        Some((_, address)) => (address, "/"),
        None => (remote, ":"),
    };
    let (host, path) = address.split_once(separator).unwrap_or((address, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    format!("{host}/{}", path.trim_start_matches('/'))
}

/// What BuildKit says of a source besides.
fn attributes(source: &SourceOp) -> BTreeMap<String, String> {
    let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    match source {
        SourceOp::Git(git) => {
            let checksum = git.checksum.iter().map(|commit| attribute("git.checksum", commit));
            checksum.chain([attribute("git.fullurl", &git.remote)]).collect()
        }
        SourceOp::Http(http) => {
            let checksum = http.checksum.as_ref().map(ToString::to_string);
            checksum.iter().map(|digest| attribute("http.checksum", digest)).collect()
        }
        _ => BTreeMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_called_so_however_they_are_reached() {
        for (remote, expected) in [
            ("https://example.org/a/b.git", "example.org/a/b.git"),
            ("https://user:token@example.org:8443/a", "example.org:8443/a"),
            ("ssh://git@example.org/a", "example.org/a"),
            ("git@example.org:a/b", "example.org/a/b"),
            ("git@example.org:/a", "example.org/a"),
        ] {
            assert_eq!(place(remote), expected, "{remote}");
        }
    }
}
