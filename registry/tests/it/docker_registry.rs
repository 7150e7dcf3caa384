//! Docker's own registry where it is installed, what it can ask for, and a token service that it trusts. The
//! tests of `frontend-cli` use it as well.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::BASE64URL_NOPAD;
use serde_json::{Value, json};

use crate::server::{Reply, Seen};

/// `alice` with the password `secret`, as bcrypt's files have it.
const HTPASSWD: &str = "alice:$2b$04$gxipaexASz8HON7iD5uLr.EdEacIUq8JLoIYjWF5smZyn96kIc1uO\n";
/// The same two in an `Authorization` header.
const BASIC: &str = "Basic YWxpY2U6c2VjcmV0";
/// The identity token of `alice`.
pub(crate) const IDENTITY: &str = "alice-refresh";

/// A running `docker-registry`, gone when dropped.
pub(crate) struct Registry {
    pub(crate) host: String,
    process: Child,
    directory: tempfile::TempDir,
}

impl Registry {
    /// Starts one with more settings, which `settings` gives for its directory, or says that there is none.
    /// `ADDRESS` stands for where it listens.
    pub(crate) fn start(settings: impl Fn(&Path) -> String) -> Option<Self> {
        if !has("docker-registry") {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        // A port that was free a moment ago; another program may be faster, so try again.
        for _ in 0..5 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let host = listener.local_addr().unwrap().to_string();
            drop(listener);
            let config = directory.path().join("config.yml");
            let storage = directory.path().join("storage");
            let text = format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nlog: {{level: error}}\n{}\n",
                storage.display(),
                settings(directory.path()).replace("ADDRESS", &host)
            );
            std::fs::write(&config, text).unwrap();
            // What it is asked stands on its standard output.
            let log = std::fs::File::create(directory.path().join("log")).unwrap();
            let mut process = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(log)
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if answers(&host, &mut process) {
                return Some(Self { host, process, directory });
            }
            drop(process.kill());
            process.wait().unwrap();
        }
        panic!("docker-registry does not start");
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

fn answers(host: &str, process: &mut Child) -> bool {
    for _ in 0..200 {
        if std::net::TcpStream::connect(host).is_ok() {
            return true;
        }
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

pub(crate) fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// No TLS and no passwords.
pub(crate) fn plain(_: &Path) -> String {
    "http: {addr: \"ADDRESS\"}".to_owned()
}

/// Only for `alice` with the password `secret`.
pub(crate) fn with_passwords(directory: &Path) -> String {
    let file = directory.join("htpasswd");
    std::fs::write(&file, HTPASSWD).unwrap();
    let file = file.display();
    format!("http: {{addr: \"ADDRESS\"}}\nauth: {{htpasswd: {{realm: here, path: {file}}}}}")
}

/// Over TLS, with the certificate and key that [`certificate`] has made in `keys`.
pub(crate) fn with_tls(keys: &Path) -> String {
    let (cert, key) = (keys.join("cert.pem"), keys.join("key.pem"));
    let (cert, key) = (cert.display(), key.display());
    format!("http: {{addr: \"ADDRESS\", tls: {{certificate: {cert}, key: {key}}}}}")
}

/// Only with a token of the [`TokenService`] at `host`, whose certificate is in `keys`.
pub(crate) fn with_tokens(host: &str, keys: &Path) -> String {
    let bundle = keys.join("cert.pem");
    let bundle = bundle.display();
    format!(
        "http: {{addr: \"ADDRESS\"}}\nauth: {{token: {{realm: \"http://{host}/token\", service: tests, issuer: tests, rootcertbundle: {bundle}}}}}"
    )
}

/// A certificate for loopback and its key, if `openssl` is there to make them.
pub(crate) fn certificate(directory: &Path) -> bool {
    if !has("openssl") {
        eprintln!("skipped: openssl is not installed");
        return false;
    }
    let settings = "[req]\ndistinguished_name = name\nx509_extensions = server\nprompt = no\n\
        [name]\nCN = localhost\n\
        [server]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1, DNS:localhost\n";
    std::fs::write(directory.join("openssl.cnf"), settings).unwrap();
    let words = "req -x509 -newkey rsa:2048 -nodes -days 2 -config openssl.cnf -keyout key.pem -out cert.pem";
    let status = Command::new("openssl")
        .args(words.split(' '))
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    status.unwrap().success()
}

/// Gives `alice` tokens for everything, and everybody else tokens to pull `public/…`, as the distribution
/// project's "Token Authentication" says.
pub(crate) struct TokenService {
    keys: PathBuf,
}

impl TokenService {
    /// Signs with the key in `keys`.
    pub(crate) fn new(keys: &Path) -> Self {
        Self { keys: keys.to_owned() }
    }

    pub(crate) fn answer(&self, seen: &Seen) -> Reply {
        let body = String::from_utf8_lossy(&seen.body).into_owned();
        let query = seen.target.split_once('?').map_or("", |(_, query)| query);
        let fields = if seen.method == "POST" { &body } else { query };
        let fields: Vec<(String, String)> = fields
            .split('&')
            .filter_map(|field| field.split_once('='))
            .map(|(name, value)| (name.to_owned(), unquoted(value)))
            .collect();
        let field = |name: &str| fields.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let is_alice = match (seen.header("authorization"), field("refresh_token")) {
            (Some(BASIC), None) => true,
            (None, Some(token)) if token == IDENTITY => true,
            (None, None) => false,
            _ => return Reply::new(401, r#"{"details":"incorrect username or password"}"#),
        };
        let scopes = fields.iter().filter(|(name, _)| name == "scope");
        let access: Vec<Value> = scopes
            .flat_map(|(_, scopes)| scopes.split(' '))
            .filter_map(|scope| granted(scope, is_alice))
            .collect();
        let mut answer = json!({ "token": self.token(&access), "expires_in": 300 });
        if is_alice && field("offline_token") == Some("true") {
            answer["refresh_token"] = IDENTITY.into();
        }
        Reply::ok(answer.to_string())
    }

    /// A signed JWT (RFC 7519) with the certificate in its header, as the registry wants it.
    fn token(&self, access: &[Value]) -> String {
        let pem = std::fs::read_to_string(self.keys.join("cert.pem")).unwrap();
        let certificate: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [certificate] });
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": "tests", "sub": "alice", "aud": "tests", "jti": "1",
            "iat": now, "nbf": now - 60, "exp": now + 300, "access": access,
        });
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(&claims));
        format!("{signed}.{}", BASE64URL_NOPAD.encode(&self.sign(signed.as_bytes())))
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        let mut openssl = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign", "key.pem"])
            .current_dir(&self.keys)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        openssl.stdin.take().unwrap().write_all(text).unwrap();
        openssl.wait_with_output().unwrap().stdout
    }
}

/// What of `repository:NAME:ACTION,…` is allowed.
fn granted(scope: &str, is_alice: bool) -> Option<Value> {
    let (kind, rest) = scope.split_once(':')?;
    let (name, actions) = rest.rsplit_once(':')?;
    let allowed = |action: &&str| is_alice || name.starts_with("public/") && *action == "pull";
    let actions: Vec<&str> = actions.split(',').filter(allowed).collect();
    Some(json!({ "type": kind, "name": name, "actions": actions }))
}

/// The value of a form's field.
fn unquoted(value: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
