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
        GitError::NotInstalled(program) => {
            let package = if *program == "ssh" { "openssh-client" } else { program };
            Some(format!(
                "install it: `apt-get install {package}`, or what your system has for that"
            ))
        }
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
        error if error.is_unreachable() => {
            let through = match remote?.web_host() {
                Some(_) => "; a proxy is what HTTPS_PROXY names",
                None => "",
            };
            Some(format!("check the address and the network{through}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_done_is_told() {
        let said = |said: &str| GitError::Failed { said: said.to_owned() };
        for (address, error, message, hint) in [
            (
                "https://example.org/a.git",
                GitError::NotInstalled("git"),
                "failed to fetch `https://example.org/a.git`: `git` is not installed",
                "`apt-get install git`",
            ),
            (
                "https://e.org/a",
                GitError::NotInstalled("git-lfs"),
                "`git-lfs` is not",
                "install git-lfs`",
            ),
            (
                "git@e.org:a",
                GitError::NotInstalled("ssh"),
                "`ssh` is not",
                "install openssh-client`",
            ),
            (
                "https://me:secret@example.org:8443/a.git",
                said("could not read Username for 'https://example.org:8443'"),
                "failed to fetch `https://example.org:8443/a.git`: could not read",
                "id=GIT_AUTH_TOKEN.example.org:8443,",
            ),
            (
                "git@example.org:a",
                said("git@example.org: Permission denied (publickey)."),
                "denied",
                "--ssh default",
            ),
            (
                "https://example.org/a.git",
                said("unable to access 'https://example.org/a.git/': Could not resolve host"),
                "resolve host",
                "HTTPS_PROXY",
            ),
            (
                "git://example.org/a",
                said("unable to connect to example.org"),
                "connect",
                "check the address and the network",
            ),
            (
                "ssh://git@example.org:22/a",
                said("Host key verification failed."),
                "failed",
                "ssh-keyscan -p 22 example.org >>",
            ),
        ] {
            let remote = Remote::parse(address).unwrap();
            let error = failed(Some(&remote), error);
            let fault = error.fault().expect("an error with words");
            assert!(fault.text().contains(message), "{}", fault.text());
            assert!(fault.hint().is_some_and(|found| found.contains(hint)), "{:?}", fault.hint());
            assert!(!fault.text().contains("secret"));
        }
    }
}
