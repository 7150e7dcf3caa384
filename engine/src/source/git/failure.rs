//! What went wrong with a repository, and how to go on.

use git_client::{GitError, Remote};

use crate::error::BuildError;

/// What a server was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shown {
    /// Nothing: there is no secret for its host, and none for any if it `may_see_general`.
    Nothing { may_see_general: bool },
    /// The secret of this name.
    Secret(String),
    /// What stands in the address.
    Login,
}

/// An error of `git` about `remote`, which was shown something or not.
pub(super) fn failed_with(shown: &Shown, remote: &Remote, error: GitError) -> BuildError {
    if !error.is_denied() {
        return failed(Some(remote), error);
    }
    let rejected = match shown {
        Shown::Nothing { may_see_general } => {
            let hint = missing(remote, *may_see_general);
            return BuildError::input(format!("failed to fetch `{remote}`"))
                .because(error)
                .with_hint(hint);
        }
        Shown::Secret(name) => format!("secret `{name}`"),
        Shown::Login => "login in the address".to_owned(),
    };
    // That `git` cannot ask for another one is no news.
    BuildError::input(format!("failed to fetch `{remote}`: the server rejected the {rejected}"))
        .with_hint("check that it is valid, and that it may read the repository")
}

/// What to give to a server that wants to know who is asking.
fn missing(remote: &Remote, may_see_general: bool) -> String {
    let Some(host) = remote.web_host() else {
        return "lend a key that it knows: `--ssh default`".to_owned();
    };
    let general = if may_see_general { " (or `GIT_AUTH_TOKEN` for any host)" } else { "" };
    format!("give a token for it: `--secret id=GIT_AUTH_TOKEN.{host},env=NAME`{general}")
}

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
        error if error.is_denied() => Some(missing(remote?, false)),
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
    fn who_was_rejected_is_told() {
        let remote = Remote::parse("https://example.org:8443/a.git").unwrap();
        let told = |shown: Shown| {
            let said = "could not read Username for 'https://example.org:8443': terminal prompts \
                        disabled";
            let error = failed_with(&shown, &remote, GitError::Failed { said: said.to_owned() });
            let fault = error.fault().expect("an error with words");
            format!("{} ({})", fault.text(), fault.hint().unwrap_or_default())
        };
        let of_host = told(Shown::Nothing { may_see_general: false });
        assert!(of_host.ends_with("GIT_AUTH_TOKEN.example.org:8443,env=NAME`)"), "{of_host}");
        let general = told(Shown::Nothing { may_see_general: true });
        assert!(general.ends_with("(or `GIT_AUTH_TOKEN` for any host))"), "{general}");
        for (shown, rejected) in [
            (Shown::Secret("GIT_AUTH_TOKEN".to_owned()), "rejected the secret `GIT_AUTH_TOKEN` ("),
            (Shown::Login, "rejected the login in the address ("),
        ] {
            let told = told(shown);
            assert!(told.contains(rejected) && !told.contains("prompts"), "{told}");
        }
    }

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
