//! Images that go into an engine over TLS, which wants to see a certificate.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::builder::Builder;
use super::engines::{Engine, docker, load};
use super::skip;

/// An engine that takes what it is sent, from those whose certificate `ca.pem` has signed.
const ENGINE: &str = "import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('server.pem', 'server-key.pem')
context.load_verify_locations('ca.pem')
context.verify_mode = ssl.CERT_REQUIRED
listener = socket.create_server(('127.0.0.1', 0))
print(listener.getsockname()[1], flush=True)
while True:
    client, _ = listener.accept()
    try:
        connection = context.wrap_socket(client, server_side=True)
        lines = connection.makefile('rb')
        asked = lines.readline()
        loads = asked.startswith(b'POST /images/load')
        for line in lines:
            if line == (b'0\\r\\n' if loads else b'\\r\\n'):
                break
        connection.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\n')
        connection.unwrap()
    except OSError:
        client.close()
";

/// Makes a CA, a certificate for loopback, one for clients, and another CA that has signed neither; `false`, and a
/// word about it, where there is no `openssl`.
pub(super) fn make_certificates(builder: &Builder) -> bool {
    builder.make_directory("tls/other");
    builder
        .write("tls/server.ext", "subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth\n");
    builder.write("tls/client.ext", "extendedKeyUsage = clientAuth\n");
    let openssl = |words: &str| {
        let mut command = Command::new("openssl");
        command.args(words.split(' ')).current_dir(builder.path("tls")).stderr(Stdio::null());
        command.status().map(|status| assert!(status.success(), "openssl {words}"))
    };
    let ca =
        "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout ca-key.pem -out ca.pem";
    if openssl(ca).is_err() {
        skip("openssl is not installed");
        return false;
    }
    let other = ca.replace("CN=ca", "CN=other");
    let other = other.replace("ca-key.pem", "other/ca-key.pem").replace("ca.pem", "other/ca.pem");
    let mut made = openssl(&other);
    for (name, key, certificate) in
        [("server", "server-key.pem", "server.pem"), ("client", "key.pem", "cert.pem")]
    {
        let ask =
            format!("req -newkey rsa:2048 -nodes -subj /CN={name} -keyout {key} -out {name}.csr");
        let sign = format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 2 \
             -extfile {name}.ext -out {certificate}"
        );
        made = made.and_then(|()| openssl(&ask)).and_then(|()| openssl(&sign));
    }
    made.expect("openssl runs");
    true
}

fn copy(builder: &Builder, names: &[&str], to: &str) {
    builder.make_directory(to);
    for name in names {
        let from = builder.path("tls").join(name);
        std::fs::copy(from, builder.path(to).join(name)).expect("a certificate");
    }
}

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn privileged_an_engine_is_trusted_by_its_certificate_and_shown_ours() {
    let Some(builder) = Builder::bare() else { return };
    if !make_certificates(&builder) {
        return;
    }
    builder.write("tls/engine.py", ENGINE);
    let mut python = Command::new("python3");
    python.arg("engine.py").current_dir(builder.path("tls")).stdout(Stdio::piped());
    let mut engine = Process(python.stderr(Stdio::null()).spawn().expect("python3 runs"));
    let mut port = String::new();
    let said = engine.0.stdout.take().expect("a pipe");
    BufReader::new(said).read_line(&mut port).expect("its port");
    let host = format!("tcp://127.0.0.1:{}", port.trim());
    let at = |name: &str| builder.path(name).display().to_string();
    copy(&builder, &["ca.pem"], "tls/nobody");
    copy(&builder, &["cert.pem", "key.pem"], "tls/other");
    copy(&builder, &["ca.pem", "cert.pem"], "tls/half");
    for (certificates, expected) in [
        ("tls", None),
        (
            "tls/other",
            Some(
                "the server's certificate is not trusted: invalid peer certificate: UnknownIssuer",
            ),
        ),
        ("tls/nobody", Some("received fatal alert: CertificateRequired")),
        ("tls/half", Some("half/key.pem`: No such file or directory")),
        ("tls/none", Some("none/ca.pem`: No such file or directory")),
    ] {
        let path = at(certificates);
        let variables =
            [("DOCKER_HOST", &*host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &path)];
        let loaded = load(&builder, &["-t", "app", "--load"], &variables);
        match expected {
            None => {
                let told = format!("loaded into {host}?certificates={path}");
                assert!(loaded.success().stderr.contains(&told), "{certificates}");
            }
            Some(words) => {
                let failed = loaded.fails_with(1);
                assert!(failed.words().contains(words), "{certificates}: {failed:?}");
            }
        }
    }
    let chosen = format!("{host}?certificates={}", at("tls"));
    load(&builder, &["--load"], &[("MYBUILD_LOAD", &chosen)]).success();
    // Without a word about TLS none is tried, and with one that verifies nothing neither.
    load(&builder, &["--load"], &[("DOCKER_HOST", &host)]).fails_with(1);
    let refused = load(&builder, &["--load"], &[("DOCKER_HOST", &host), ("DOCKER_TLS", "1")]);
    let told = format!("DOCKER_TLS: images are not loaded into `{host}` without verifying it");
    assert!(refused.fails_with(2).words().contains(&told));
    // A context brings its own.
    let hash = oci::Digest::of(b"far").hex().to_owned();
    let meta = |more: &str| {
        let docker = format!("{{\"Host\":\"{host}\"{more}}}");
        let meta = format!("{{\"Name\":\"far\",\"Endpoints\":{{\"docker\":{docker}}}}}");
        builder.write(&format!("home/.docker/contexts/meta/{hash}/meta.json"), meta);
    };
    let far = ["-o", "type=docker,context=far"];
    meta(",\"SkipTLSVerify\":false");
    load(&builder, &far, &[]).fails_with(1);
    let folder = format!("home/.docker/contexts/tls/{hash}/docker");
    copy(&builder, &["ca.pem", "cert.pem", "key.pem"], &folder);
    load(&builder, &far, &[]).success();
    meta(",\"SkipTLSVerify\":true");
    let refused = load(&builder, &far, &[]).fails_with(2);
    assert!(refused.words().contains("context `far`: images are not loaded"), "{refused:?}");
}

#[test]
fn privileged_dockerd_with_tlsverify_gets_the_image() {
    let Some(builder) = Builder::bare() else { return };
    if !make_certificates(&builder) {
        return;
    }
    let at = |name: &str| builder.path(name).display().to_string();
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let host = format!("tcp://{}", free.local_addr().expect("an address"));
    drop(free);
    let socket = builder.path("d.sock");
    let mut dockerd = Command::new("dockerd");
    dockerd
        .args(["--data-root", &at("data"), "--exec-root", &at("exec"), "--pidfile", &at("pid")])
        .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs"])
        .args(["-H", &format!("unix://{}", socket.display()), "-H", &host, "--tlsverify"])
        .args(["--tlscacert", &at("tls/ca.pem"), "--tlscert", &at("tls/server.pem")])
        .args(["--tlskey", &at("tls/server-key.pem")]);
    let Some(engine) = Engine::start(&mut dockerd, &socket) else { return };
    copy(&builder, &["ca.pem"], "tls/nobody");
    let refused = [
        ("DOCKER_HOST", &*host),
        ("DOCKER_TLS_VERIFY", "1"),
        ("DOCKER_CERT_PATH", &at("tls/nobody")),
    ];
    let refused = load(&builder, &["-t", "app:1", "--load"], &refused).fails_with(1);
    assert!(refused.words().contains("received fatal alert"), "{refused:?}");
    let variables =
        [("DOCKER_HOST", &*host), ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &at("tls"))];
    load(&builder, &["-t", "app:1", "--load"], &variables).success();
    assert_eq!(docker(&engine, &["images", "--format", "{{.Repository}}:{{.Tag}}"]), "app:1\n");
}
