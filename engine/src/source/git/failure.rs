//! What went wrong with a repository, and how to go on.

use git_client::{GitError, Remote};

use crate::error::BuildError;

/// An error of `git` about `remote`.
pub(super) fn failed(remote: Option<&Remote>, error: GitError) -> BuildError {
    let message = match (remote, &error) {
        (None, _) => "git source".to_owned(),
        (Some(remote), GitError::NoDirectory { .. } | GitError::InvalidName(_)) => {
            format!("`{remote}`")
        }
        (Some(remote), _) => format!("failed to fetch `{remote}`"),
    };
    let hint = hint(remote, &error);
    BuildError::input(message).because(error).with_hint_if(hint)
}

fn hint(remote: Option<&Remote>, error: &GitError) -> Option<String> {
    match error {
        GitError::NotInstalled(program) => Some(format!(
            "install it: `apt-get install {program}`, or what your system has for that"
        )),
        error if error.is_unknown_host() => {
            let (host, port) = remote?.ssh_host()?;
            let port = port.map_or_else(String::new, |port| format!("-p {port} "));
            Some(format!(
                "compare its key with what the host's owner publishes, then add it: \
                 `ssh-keyscan {port}{host} >> ~/.ssh/known_hosts`"
            ))
        }
        error if error.is_denied() => Some(match remote?.web_host() {
            Some(host) => format!(
                "give a token for it: `--secret id=GIT_AUTH_TOKEN.{host},env=NAME` \
                 (or `GIT_AUTH_TOKEN` for any host)"
            ),
            None => "lend a key that it knows: `--ssh default`".to_owned(),
        }),
        _ => None,
    }
}
