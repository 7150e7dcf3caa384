//! What a step and a container are given without asking.

use std::fs;
use std::path::Path;

use executor::{
    FirstProcess, Mount, MountSource, Network, Process, Propagation, Role, Stdio, Tmpfs,
};

use crate::fixture::Fixture;
use crate::{Test, say};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_process_1_shows_the_commands_streams", process_1_shows_streams),
    ("privileged_a_containers_command_is_process_1", the_command_is_process_1),
    ("privileged_a_container_may_write_its_names", a_container_may_write_its_names),
    ("privileged_a_container_may_listen_and_ping", a_container_may_listen_and_ping),
    ("privileged_a_host_tree_has_what_is_mounted_in_it", a_host_tree_is_whole),
    ("privileged_memory_has_the_owner_and_mode_asked_for", memory_has_options),
];

fn container(mut process: Process, first: FirstProcess) -> Process {
    process.role = Role::Container { first };
    process
}

const BOTH: [FirstProcess; 2] = [FirstProcess::Command, FirstProcess::Init];

fn process_1_shows_streams(fixture: &Fixture) {
    let script = "echo out >/proc/1/fd/1; echo err >/proc/1/fd/2; cat </proc/1/fd/0; \
                  exec 5</etc/passwd; ls /proc/1/fd >/tmp/list; \
                  grep -v -e 5 -e 10 /tmp/list; cat /proc/1/task/1/fd/3";
    let roles = BOTH.map(|first| Role::Container { first });
    for role in [Role::Step, roles[0], roles[1]] {
        for user in ["", "app"] {
            let mut process = fixture.shell(script);
            (process.role, process.user) = (role, user.to_owned());
            if fixture.executor.host().single_id() && !user.is_empty() {
                continue;
            }
            let outcome = fixture.run(process);
            assert_eq!(outcome.stdout, "out\n0\n1\n2\n", "{role:?} {user}: {outcome:?}");
            assert!(outcome.stderr.starts_with("err\n"), "{role:?} {user}: {outcome:?}");
        }
    }
}

fn the_command_is_process_1(fixture: &Fixture) {
    let script = "echo $$; cat /proc/self/stat | cut -d' ' -f1 >/dev/null 2>&1; \
                  setsid sleep 1000 & readlink /proc/self/fd/9; exit 7";
    for (first, own) in BOTH.into_iter().zip(["1\n", "2\n"]) {
        let outcome = fixture.run(container(fixture.shell(script), first));
        assert_eq!((outcome.stdout.as_str(), outcome.status.code()), (own, 7), "{first:?}");
        let refusal = fixture.refusal(container(fixture.process(&["/nosuch"]), first));
        assert_eq!(refusal, "`/nosuch` not found in the image");
    }
    let mut process = container(fixture.shell("tty; echo $$"), FirstProcess::Command);
    process.stdio = Stdio::Tty { rows: 7, columns: 77 };
    let mut running = fixture.spawn(process);
    let mut shown = Vec::new();
    // The end of a terminal is an error, not an end of file.
    let _ = std::io::Read::read_to_end(
        &mut fs::File::from(running.terminal().unwrap().unwrap()),
        &mut shown,
    );
    assert_eq!(String::from_utf8_lossy(&shown), "/dev/pts/0\r\n1\r\n");
}

fn a_container_may_write_its_names(fixture: &Fixture) {
    let script = "cat /etc/hostname; for f in hosts resolv.conf hostname; do \
                  (echo written >>/etc/$f) 2>/dev/null && tail -n 1 /etc/$f; done; true";
    let named = |readonly_root| {
        let mut process = container(fixture.shell(script), FirstProcess::Command);
        (process.hostname, process.readonly_root) = ("box".to_owned(), readonly_root);
        process
    };
    assert_eq!(fixture.output_of(named(false)), "box\nwritten\nwritten\nwritten\n");
    assert_eq!(fixture.output_of(named(true)), "box\n");
    let mut step = fixture.shell(script);
    step.hostname = "box".to_owned();
    let outcome = fixture.run(step);
    assert_eq!(outcome.stdout, "written\n", "the image's own `/etc/hostname` alone: {outcome:?}");
}

fn a_container_may_listen_and_ping(fixture: &Fixture) {
    let script = "cd /proc/sys/net/ipv4; cat ip_unprivileged_port_start; cat ping_group_range | tr '\\t' ' '";
    let rest = fixture.output(script);
    let (_, ping) = rest.split_once('\n').unwrap();
    let wanted = if fixture.executor.host().rootless() { ping } else { "0 2147483647\n" };
    let output = fixture.output_of(container(fixture.shell(script), FirstProcess::Command));
    assert_eq!(output, format!("0\n{wanted}"));
    let mut with_the_hosts = container(fixture.shell(script), FirstProcess::Command);
    with_the_hosts.network = Network::Host;
    let own = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    assert!(fixture.output_of(with_the_hosts).starts_with(&own), "the host's are as they were");
}

fn host_tree(source: &Path, readonly: bool, propagation: Propagation) -> Mount {
    let source = MountSource::HostTree {
        source: fs::File::open(source).unwrap().into(),
        propagation,
        without: executor::Without::default(),
    };
    Mount { target: "/mnt".to_owned(), source, readonly }
}

fn a_host_tree_is_whole(fixture: &Fixture) {
    // What is mounted below is found on every machine.
    let below = |mount: Mount, script: &str| {
        let mut process = container(fixture.shell(script), FirstProcess::Command);
        process.mounts.push(mount);
        process
    };
    let private = Propagation::Private;
    let shown = below(host_tree(Path::new("/dev"), false, private), "ls /mnt/pts | grep -c ptmx");
    assert_eq!(fixture.output_of(shown), "1\n");
    let script = "(echo x >/mnt/shm/mybuild-test) 2>/dev/null || echo ro";
    let refused = below(host_tree(Path::new("/dev"), true, private), script);
    assert_eq!(fixture.output_of(refused), "ro\n");
    // A fresh mount of this test's own is nobody's peer.
    let fresh = fixture.directory("fresh");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    if mounts.lines().any(|line| line.contains(" / / ") && line.contains(" shared:")) {
        say("everything is shared on this machine");
        return;
    }
    let refusal = fixture.refusal(below(host_tree(&fresh, false, Propagation::Shared), "true"));
    assert!(refusal.ends_with("its mount is not shared"), "{refusal}");
}

fn memory_has_options(fixture: &Fixture) {
    let options = [
        (Tmpfs::default(), "1777 0:0\nruns\n"),
        (Tmpfs { noexec: true, ..Tmpfs::default() }, "1777 0:0\n"),
        (
            Tmpfs { mode: Some(0o750), uid: Some(0), gid: Some(0), ..Tmpfs::default() },
            "750 0:0\nruns\n",
        ),
        (Tmpfs { inodes: Some(1), ..Tmpfs::default() }, "1777 0:0\n"),
    ];
    for (options, wanted) in options {
        let mut process = fixture.shell(
            "stat -c '%a %u:%g' /mem; cp /bin/busybox /mem/echo 2>/dev/null; \
             /mem/echo runs 2>/dev/null; true",
        );
        let source = MountSource::Tmpfs(options);
        process.mounts.push(Mount { target: "/mem".to_owned(), source, readonly: false });
        assert_eq!(fixture.output_of(process), wanted, "{options:?}");
    }
    if fixture.executor.host().single_id() {
        return;
    }
    let mut process = fixture.shell("stat -c %u:%g /mem");
    let options = Tmpfs { uid: Some(7), gid: Some(8), ..Tmpfs::default() };
    let source = MountSource::Tmpfs(options);
    process.mounts.push(Mount { target: "/mem".to_owned(), source, readonly: false });
    assert_eq!(fixture.output_of(process), "7:8\n");
}
