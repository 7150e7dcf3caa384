//! A store of its own for each test, and images made on the fly.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use oci::{Descriptor, DiffId, Digest, ImageConfig, Index, Manifest, Platform, media_type};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";

/// A directory with a store in it.
pub(super) struct World {
    directory: TempDir,
}

impl World {
    /// `None`, and a word about it, where no store can be used.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(super) fn new() -> Option<Self> {
        let world = Self { directory: tempfile::tempdir().expect("a directory") };
        std::fs::write(world.path("empty.toml"), "").expect("written");
        let output = world.run(&["images"], "");
        let stderr = String::from_utf8_lossy(&output.stderr);
        if stderr.contains("user namespace") {
            eprintln!("SKIPPED: this system lets nobody but root use a store: {stderr}");
            return None;
        }
        assert!(output.status.success(), "{stderr}");
        Some(world)
    }

    /// With `app:1`, an image of busybox, in the store. `None`, and a word about it, without one.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(super) fn with_busybox() -> Option<Self> {
        let world = Self::new()?;
        let Ok(busybox) = std::fs::read(BUSYBOX) else {
            eprintln!("SKIPPED: there is no {BUSYBOX}");
            return None;
        };
        let mut layout = Layout::new(&world.path("busybox"));
        let image = layout.image(&busybox_layer(&busybox), config(), &host());
        layout.name("app:1", image);
        layout.write();
        world.ok(&["load", "-q", "-i", "busybox"]);
        Some(world)
    }

    /// With `small:1`, an image that cannot run, in the store.
    pub(super) fn with_small_image() -> Option<Self> {
        let world = Self::new()?;
        small_layout(&world.path("small")).write();
        world.ok(&["load", "-q", "-i", "small"]);
        Some(world)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mybuild"));
        command
            .args(words)
            .env_clear()
            .env("MYBUILD_ROOT", self.path("store"))
            .env("MYBUILD_CONFIG", self.path("empty.toml"))
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(super) fn spawn(&self, words: &[&str]) -> Child {
        self.command(words).spawn().expect("mybuild runs")
    }

    pub(super) fn run(&self, words: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        let mut child = self.spawn(words);
        // Who refuses the words reads no input.
        let _ = child.stdin.take().expect("a pipe").write_all(stdin.as_ref());
        child.wait_with_output().expect("mybuild ends")
    }

    /// Standard output of a command that must succeed.
    #[track_caller]
    pub(super) fn ok(&self, words: &[&str]) -> String {
        let output = self.run(words, "");
        assert_eq!(output.status.code(), Some(0), "{words:?}: {}", stderr(&output));
        stdout(&output)
    }

    /// Standard error of a command that must fail with `code`.
    #[track_caller]
    pub(super) fn fails(&self, words: &[&str], code: i32) -> String {
        let output = self.run(words, "");
        assert_eq!(output.status.code(), Some(code), "{words:?}: {}", stderr(&output));
        stderr(&output)
    }

    /// The same store seen from another directory, with another root.
    pub(super) fn with_root(&self, root: &str, words: &[&str], stdin: &[u8]) -> Output {
        let mut child =
            self.command(words).env("MYBUILD_ROOT", self.path(root)).spawn().expect("runs");
        let _ = child.stdin.take().expect("a pipe").write_all(stdin);
        child.wait_with_output().expect("mybuild ends")
    }

    /// Nothing is mounted that others see.
    #[track_caller]
    pub(super) fn assert_no_mounts(&self) {
        let here = self.directory.path().to_str().expect("UTF-8");
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read");
        assert!(!mounts.contains(here), "{mounts}");
    }

    /// No process, mount or temporary file of a container is there any more.
    #[track_caller]
    pub(super) fn assert_nothing_left(&self) {
        self.assert_no_mounts();
        let here = self.directory.path().to_str().expect("UTF-8").to_owned();
        for process in std::fs::read_dir("/proc").expect("listed").flatten() {
            let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
            let environment = String::from_utf8_lossy(&environment);
            assert!(!environment.contains(&here), "{} is alive", process.path().display());
        }
        let is_empty =
            |folder: &str| std::fs::read_dir(self.path(folder)).expect("listed").next().is_none();
        assert!(is_empty("store/tmp-v1"));
        assert!(is_empty("store/leases-v1"));
        assert!(is_empty("store/containers-v1"));
        // The one layer of the one image; what a container writes is not kept.
        let layers = std::fs::read_dir(self.path("store/layers-v1")).expect("listed").count();
        assert!(layers <= 1, "{layers} layers");
    }
}

pub(super) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

pub(super) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

pub(super) fn host() -> Platform {
    Platform::host()
}

/// A layout with `small:1`: one file, a label, a command.
pub(super) fn small_layout(directory: &Path) -> Layout {
    let mut layout = Layout::new(directory);
    let image = layout.image(&small_layer(), config(), &host());
    layout.name("small:1", image);
    layout
}

pub(super) fn small_layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    append(&mut tar, "hello", 0o644, b"hello, world\n");
    tar.into_inner().expect("written")
}

/// An OCI image layout in the making.
pub(super) struct Layout {
    directory: PathBuf,
    pub(super) index: Index,
}

impl Layout {
    pub(super) fn new(directory: &Path) -> Self {
        std::fs::create_dir_all(directory.join("blobs/sha256")).expect("made");
        std::fs::write(directory.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)
            .expect("written");
        Self { directory: directory.to_owned(), index: Index::default() }
    }

    pub(super) fn blob(&self, kind: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        let path = self.directory.join("blobs/sha256").join(digest.hex());
        std::fs::write(path, bytes).expect("written");
        Descriptor::new(kind, digest, bytes.len() as u64)
    }

    /// One image of one uncompressed layer.
    pub(super) fn image(
        &mut self,
        layer: &[u8],
        mut config: ImageConfig,
        platform: &Platform,
    ) -> Descriptor {
        config.rootfs.diff_ids = vec![DiffId(Digest::of(layer))];
        config.os = platform.os.clone();
        config.architecture = platform.architecture.clone();
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: self.blob(media_type::CONFIG, &json(&config)),
            layers: vec![self.blob(media_type::LAYER, layer)],
            annotations: BTreeMap::new(),
        };
        let mut descriptor = self.blob(media_type::MANIFEST, &json(&manifest));
        descriptor.platform = Some(platform.clone());
        descriptor
    }

    /// An index over images.
    pub(super) fn index_of(&mut self, manifests: Vec<Descriptor>) -> Descriptor {
        let index = Index { manifests, ..Index::default() };
        self.blob(media_type::INDEX, &json(&index))
    }

    pub(super) fn name(&mut self, name: &str, mut image: Descriptor) {
        image.annotations.insert("org.opencontainers.image.ref.name".to_owned(), name.to_owned());
        self.index.manifests.push(image);
    }

    pub(super) fn write(&self) {
        std::fs::write(self.directory.join("index.json"), json(&self.index)).expect("written");
    }

    /// The layout as a tar.
    pub(super) fn to_tar(&self) -> Vec<u8> {
        self.write();
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all("", &self.directory).expect("written");
        tar.into_inner().expect("written")
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}

pub(super) fn config() -> ImageConfig {
    serde_json::from_value(serde_json::json!({
        "created": "2024-05-01T00:00:00Z",
        "author": "somebody",
        "config": {
            "Env": ["PATH=/bin", "FROM_IMAGE=yes"],
            "Cmd": ["sh", "-c", "echo default command"],
            "Labels": {"x": "1", "with.dots": "2"},
            "Volumes": {"/data": {}},
        },
        "history": [
            {"created": "2024-05-01T00:00:00Z", "created_by": "ADD rootfs.tar /"},
            {"created": "2024-05-01T00:00:00Z", "created_by": "CMD [\"sh\"]", "comment": "by hand", "empty_layer": true},
        ],
    }))
    .expect("a config")
}

fn busybox_layer(busybox: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, mode) in
        [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("data/", 0o755), ("home/", 0o755)]
    {
        let mut header = header(tar::EntryType::Directory, mode, 0);
        tar.append_data(&mut header, path, std::io::empty()).expect("written");
    }
    append(&mut tar, "bin/busybox", 0o755, busybox);
    for name in [
        "cat", "env", "httpd", "id", "ls", "pwd", "sh", "sleep", "stty", "touch", "true",
        "hostname", "grep",
    ] {
        let mut header = header(tar::EntryType::Symlink, 0o777, 0);
        tar.append_link(&mut header, format!("bin/{name}"), "busybox").expect("written");
    }
    append(&mut tar, "bin/script", 0o644, b"not executable\n");
    append(&mut tar, "data/from-image", 0o644, b"kept\n");
    append(
        &mut tar,
        "etc/passwd",
        0o644,
        b"root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home:/bin/sh\n",
    );
    append(&mut tar, "etc/group", 0o644, b"root:x:0:\napp:x:1000:\n");
    tar.into_inner().expect("written")
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8]) {
    let mut header = header(tar::EntryType::Regular, mode, content.len() as u64);
    tar.append_data(&mut header, path, content).expect("written");
}

pub(super) fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_uid(0);
    header.set_gid(0);
    header
}
