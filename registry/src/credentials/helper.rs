//! Programs that keep credentials: `docker-credential-NAME`, by the protocol of Docker's
//! docker-credential-helpers.

use std::io;
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::{Credential, CredentialsError};

const PATIENCE: Duration = Duration::from_secs(30);
/// The name that stands for an identity token.
const TOKEN_NAME: &str = "<token>";

/// What a helper is told, and tells.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    #[serde(rename = "ServerURL", default)]
    server_url: String,
    username: String,
    secret: String,
}

/// What the helper `name` has for `server`.
pub(super) async fn get(name: &str, server: &str) -> Result<Option<Credential>, CredentialsError> {
    let Some(answer) = found(call(name, "get", server, server.as_bytes()).await)? else {
        return Ok(None);
    };
    // The parser's error is left out: it may quote a secret.
    let record: Record = serde_json::from_slice(&answer).map_err(|_| {
        let problem = "the answer of the credential helper is not valid";
        CredentialsError::Invalid { server: server.to_owned(), problem }
    })?;
    let Record { username, secret, .. } = record;
    Ok(match (username.as_str(), secret.is_empty()) {
        (TOKEN_NAME | "", true) => None,
        (TOKEN_NAME, false) => Some(Credential::IdentityToken(secret)),
        _ => Some(Credential::Basic { username, password: secret }),
    })
}

/// Has the helper `name` keep a credential for `server`.
pub(super) async fn store(
    name: &str,
    server: &str,
    credential: &Credential,
) -> Result<(), CredentialsError> {
    let (username, secret) = match credential {
        Credential::Basic { username, password } => (username.as_str(), password),
        Credential::IdentityToken(token) => (TOKEN_NAME, token),
    };
    let record = Record {
        server_url: server.to_owned(),
        username: username.to_owned(),
        secret: secret.clone(),
    };
    let record = serde_json::to_vec(&record).expect("it is plain data");
    call(name, "store", server, &record).await.map(drop)
}

/// Has the helper `name` forget `server`. Whether it had something is known from [`get`].
pub(super) async fn erase(name: &str, server: &str) -> Result<(), CredentialsError> {
    found(call(name, "erase", server, server.as_bytes()).await).map(drop)
}

/// The answer; nothing where the helper says that it has no entry, which is not a failure.
fn found(answer: Result<Vec<u8>, CredentialsError>) -> Result<Option<Vec<u8>>, CredentialsError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(CredentialsError::Helper { message, .. })
            if message.to_lowercase().contains("not found") =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Runs `docker-credential-NAME VERB` with `input`; its output if it succeeds.
async fn call(
    name: &str,
    verb: &str,
    server: &str,
    input: &[u8],
) -> Result<Vec<u8>, CredentialsError> {
    let helper = format!("docker-credential-{name}");
    let output = match tokio::time::timeout(PATIENCE, run(&helper, verb, input)).await {
        Ok(Ok(output)) => output,
        Ok(Err(source)) => return Err(CredentialsError::HelperStart { helper, source }),
        Err(_) => {
            let server = server.to_owned();
            return Err(CredentialsError::HelperTimeout { server, patience: PATIENCE });
        }
    };
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text));
    let said = said.iter().map(|text| text.trim()).find(|text| !text.is_empty());
    let printable = said.unwrap_or("it gives no reason").chars();
    let message = printable.map(|c| if c.is_control() { ' ' } else { c }).take(300).collect();
    Err(CredentialsError::Helper { server: server.to_owned(), helper, message })
}

/// The program ends with us, and when it takes too long.
async fn run(helper: &str, verb: &str, input: &[u8]) -> io::Result<Output> {
    let mut child = Command::new(helper)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    // A helper that has read enough may close its end.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    child.wait_with_output().await
}
