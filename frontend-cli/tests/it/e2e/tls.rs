//! Files that a build fetches over TLS, from the server that `openssl` brings.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::builder::Builder;
use super::skip;
use super::web::Web;
use crate::server::Reply;

/// Serves the files of the builder's directory `web`, each a whole answer with its headers.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// Nothing, and a word about it, where there is no `openssl`.
    fn start(builder: &Builder) -> Option<Self> {
        builder.make_directory("web");
        let settings = "[req]\nprompt = no\ndistinguished_name = name\nx509_extensions = extensions\n\
            [name]\nCN = loopback\n[extensions]\nsubjectAltName = IP:127.0.0.1\n\
            basicConstraints = critical, CA:false\n";
        builder.write("web/openssl.cnf", settings);
        for files in ["-keyout other.key -out other.pem", "-keyout key.pem -out cert.pem"] {
            let mut make = Command::new("openssl");
            make.args("req -x509 -newkey rsa:2048 -nodes -days 2 -config openssl.cnf".split(' '));
            make.args(files.split(' ')).current_dir(builder.path("web"));
            match make.stderr(Stdio::null()).status() {
                Ok(status) => assert!(status.success()),
                Err(_) => {
                    skip("openssl is not installed");
                    return None;
                }
            }
        }
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr();
        let port = port.expect("an address").port();
        let mut serve = Command::new("openssl");
        serve.args("s_server -quiet -HTTP -cert cert.pem -key key.pem -accept".split(' '));
        serve.arg(format!("127.0.0.1:{port}")).current_dir(builder.path("web"));
        let streams = serve.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { process: streams.spawn().expect("openssl runs"), port };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(20), "openssl does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(server)
    }

    fn url(&self, path: &str) -> String {
        format!("https://127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn privileged_tls_is_trusted_where_it_may_be_and_never_left() {
    let Some(builder) = Builder::bare() else { return };
    let Some(server) = Server::start(&builder) else { return };
    let target = server.url("file");
    let plain = Web::start(move |seen| match seen.path() {
        "/up" => Reply::redirect(target.clone()),
        _ => Reply::ok("plain"),
    });
    let length = "over TLS".len();
    let answer = format!("HTTP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\nover TLS");
    builder.write("web/file", answer);
    let down = format!("HTTP/1.0 302 Found\r\nLocation: {}\r\n\r\n", plain.url("/file"));
    builder.write("web/down", down);
    let build = |url: &str, certificates: &str| {
        builder.write("here/Dockerfile", format!("FROM scratch\nADD {url} /file\n"));
        let mut command = builder.command(&["build", "--progress", "json", "-o", "out", "here"]);
        builder.run_command(command.env("SSL_CERT_FILE", builder.path(certificates)))
    };
    build(&server.url("file"), "web/cert.pem").success();
    assert_eq!(builder.read("out/file"), "over TLS");
    // From plain HTTP to TLS.
    build(&plain.url("/up"), "web/cert.pem").success();
    assert_eq!(builder.read("out/file"), "over TLS");
    plain.take_lines();
    let refused = build(&server.url("down"), "web/cert.pem").fails_with(1);
    let told = format!("refused to connect to `{}`: plain HTTP is not allowed", plain.url("/file"));
    assert!(refused.stderr.contains(&told), "{}", refused.words());
    assert_eq!(plain.take_lines(), [""; 0]);
    let untrusted = build(&server.url("file"), "web/other.pem").fails_with(1);
    assert!(untrusted.stderr.contains("certificate is not trusted"), "{}", untrusted.words());
}
