//! Who a step is, and what it starts with.

use executor::{Rlimit, Security};

use crate::Test;
use crate::fixture::Fixture;

pub(crate) const TESTS: &[Test] = &[
    ("privileged_root_has_dockers_fourteen_capabilities", root_has_fourteen_capabilities),
    ("privileged_a_user_has_no_capabilities", a_user_has_no_capabilities),
    ("privileged_a_step_starts_with_three_descriptors", three_descriptors),
    ("privileged_the_environment_is_what_was_declared", the_environment_is_declared),
    ("privileged_limits_umask_and_names_are_fixed", limits_umask_and_names),
    ("privileged_ulimits_are_set", ulimits_are_set),
    ("privileged_the_keyring_and_ipc_are_fresh", the_session_is_fresh),
];

/// Without a shell, since shells change how they treat signals.
const STATUS: &[&str] =
    &["grep", "-E", "^(Cap|NoNewPrivs|Seccomp:|Groups|Uid|Gid|SigIgn|SigBlk)", "/proc/self/status"];

fn root_has_fourteen_capabilities(fixture: &Fixture) {
    let mut status = fixture.output_of(fixture.process(STATUS));
    if fixture.executor.host().single_id() {
        // A process that maps one id may not change the groups it was given.
        let same = |line| if str::starts_with(line, "Groups") { "Groups:\t0 " } else { line };
        status = status.lines().map(|line| format!("{}\n", same(line))).collect();
    }
    assert_eq!(
        status,
        "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t0 \nSigBlk:\t0000000000000000\n\
         SigIgn:\t0000000000000000\nCapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\n\
         CapEff:\t00000000a80425fb\nCapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\n\
         NoNewPrivs:\t0\nSeccomp:\t2\n"
    );
    let mut insecure = fixture.shell("grep CapEff /proc/self/status");
    insecure.security = Security::Insecure;
    let effective = fixture.output_of(insecure);
    assert_ne!(effective, "CapEff:\t00000000a80425fb\n");
}

fn a_user_has_no_capabilities(fixture: &Fixture) {
    let single = fixture.executor.host().single_id();
    let mut process = fixture.process(STATUS);
    process.user = "app".to_owned();
    let mut running = fixture.spawn(process);
    assert_eq!(running.warnings().len(), usize::from(single), "{:?}", running.warnings());
    drop(running.stdout());
    drop(running);
    if single {
        return;
    }
    let mut process = fixture.process(STATUS);
    process.user = "app".to_owned();
    assert_eq!(
        fixture.output_of(process),
        "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nGroups:\t1000 3000 \n\
         SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nCapInh:\t0000000000000000\n\
         CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t00000000a80425fb\n\
         CapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"
    );
    let mut process = fixture.shell("echo to > /dev/stdout; echo $HOME; touch /home/app/x 2>&1");
    process.user = "1000:1000".to_owned();
    assert!(fixture.run(process).stdout.starts_with("to\n/home/app\n"));
}

fn three_descriptors(fixture: &Fixture) {
    // The fourth is the directory being listed.
    assert_eq!(fixture.output("ls /proc/self/fd"), "0\n1\n2\n3\n");
    assert_eq!(
        fixture.output("readlink /proc/self/fd/0; readlink /proc/self/cwd"),
        "/dev/null\n/\n"
    );
}

fn the_environment_is_declared(fixture: &Fixture) {
    let process = fixture.process(&["env"]);
    assert_eq!(fixture.output_of(process), "PATH=/bin\nHOME=/root\n");
    let mut process = fixture.process(&["env"]);
    process.env.0.push(("HOME".to_owned(), "/x".to_owned()));
    process.env.0.push(("A".to_owned(), "b=c\nd".to_owned()));
    assert_eq!(fixture.output_of(process), "PATH=/bin\nHOME=/x\nA=b=c\nd\n");
}

fn limits_umask_and_names(fixture: &Fixture) {
    assert_eq!(fixture.output("ulimit -Sn; umask; hostname"), "1024\n0022\nbuildkitsandbox\n");
    let hard: u64 = fixture.output("ulimit -Hn").trim().parse().unwrap();
    assert!((1024..=1 << 20).contains(&hard), "{hard}");
    let mut process = fixture.shell("hostname; cat /etc/hosts");
    process.hostname = "other".to_owned();
    process.extra_hosts = vec![("db".to_owned(), "10.1.2.3".parse().unwrap())];
    assert_eq!(
        fixture.output_of(process),
        "other\n127.0.0.1\tlocalhost other\n::1\tlocalhost ip6-localhost ip6-loopback\n10.1.2.3\tdb\n"
    );
    assert_eq!(fixture.output("cat /proc/self/oom_score_adj"), "500\n");
}

fn ulimits_are_set(fixture: &Fixture) {
    let limit = |name: &str, soft, hard| Rlimit { name: name.to_owned(), soft, hard };
    let mut process = fixture.shell("ulimit -Sn; ulimit -Hn; ulimit -Hc");
    process.rlimits = vec![limit("nofile", Some(50), Some(60)), limit("core", Some(0), Some(0))];
    assert_eq!(fixture.output_of(process), "50\n60\n0\n");
    let mut process = fixture.shell("true");
    process.rlimits = vec![limit("nofile", Some(1 << 40), Some(1 << 40))];
    assert!(fixture.refusal(process).starts_with("failed to set the limit `nofile`: "));
    let mut process = fixture.shell("true");
    process.rlimits = vec![limit("no-such", Some(1), Some(1))];
    assert_eq!(fixture.refusal(process), "failed to set the limit `no-such`: unknown limit");
}

fn the_session_is_fresh(fixture: &Fixture) {
    // Its own session and process group, no controlling terminal, nobody else in sight.
    let output = fixture.output("ps -o pid,pgid,sid,tty,comm | grep -v ps");
    let processes: Vec<&str> = output.lines().skip(1).collect();
    assert!(processes.iter().all(|line| line.contains(" ?") || line.contains('?')), "{output}");
    let namespaces = |script: &str| fixture.output(script);
    let inside =
        namespaces("for n in ipc mnt net pid uts cgroup; do readlink /proc/self/ns/$n; done");
    for (line, name) in inside.lines().zip(["ipc", "mnt", "net", "pid", "uts", "cgroup"]) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(line, outside.to_str().unwrap(), "{name}");
    }
}
