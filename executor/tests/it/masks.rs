//! What of the kernel's file systems a step sees.

use executor::Security;

use crate::Test;
use crate::fixture::Fixture;

pub(crate) const TESTS: &[Test] = &[
    ("privileged_masked_paths_are_empty", masked_paths_are_empty),
    ("privileged_kernel_settings_are_read_only", kernel_settings_are_read_only),
    ("privileged_dev_is_dockers", dev_is_dockers),
    ("privileged_an_insecure_step_sees_everything", an_insecure_step_sees_everything),
    ("privileged_no_host_mount_is_visible", no_host_mount_is_visible),
];

fn masked_paths_are_empty(fixture: &Fixture) {
    let script = "for f in keys timer_list interrupts kcore sched_debug latency_stats; do \
                  test -e /proc/$f && cat /proc/$f; done; \
                  for d in /proc/acpi /proc/scsi /proc/asound /sys/firmware /sys/fs/selinux \
                  /sys/devices/virtual/powercap /sys/devices/system/cpu/cpu*/thermal_throttle; do \
                  test -e $d && ls -A $d; done; true";
    assert_eq!(fixture.output(script), "");
    assert!(std::path::Path::new("/proc/interrupts").metadata().is_ok(), "there is one to mask");
}

fn kernel_settings_are_read_only(fixture: &Fixture) {
    let script = "for f in /proc/sys/kernel/core_pattern /proc/irq/default_smp_affinity \
                  /proc/sysrq-trigger /sys/kernel/uevent_helper /proc/acpi/x /sys/fs/cgroup/x \
                  /sys/fs/cgroup/cgroup.procs /etc/hosts /etc/resolv.conf; do \
                  (echo x > $f) 2>/dev/null && echo WROTE $f; done; \
                  for f in bus fs irq sys sysrq-trigger; do test ! -e /proc/$f || \
                  grep -q '^proc /proc/'$f' proc ro,' /proc/mounts || echo WRITABLE $f; done";
    assert_eq!(fixture.output(script), "");
}

fn dev_is_dockers(fixture: &Fixture) {
    let expected = "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ";
    assert_eq!(fixture.output("for f in /dev/*; do echo -n ${f#/dev/}' '; done"), expected);
    let script = "stat -c '%n %t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty; \
                  stat -c '%n %a' /dev/shm /dev /dev/pts; readlink /dev/fd; readlink /dev/ptmx; \
                  echo x > /dev/null; head -c 1 /dev/zero | wc -c; head -c 1 /dev/urandom | wc -c; \
                  touch /dev/shm/x /dev/y && echo writable";
    assert_eq!(
        fixture.output(script),
        "/dev/null 1:3 666\n/dev/zero 1:5 666\n/dev/full 1:7 666\n/dev/random 1:8 666\n\
         /dev/urandom 1:9 666\n/dev/tty 5:0 666\n/dev/shm 1777\n/dev 755\n/dev/pts 755\n\
         /proc/self/fd\npts/ptmx\n1\n1\nwritable\n"
    );
    let size = |process| fixture.output_of(process);
    assert_eq!(
        size(fixture.shell("grep -o 'shm.*size=[0-9]*k' /proc/mounts | grep -o 'size.*'")),
        "size=65536k\n"
    );
    let mut process = fixture.shell("grep -o 'shm.*size=[0-9]*k' /proc/mounts | grep -o 'size.*'");
    process.shm_size = 1 << 20;
    assert_eq!(size(process), "size=1024k\n");
    // The step's nodes are its own where they can be: changing them must not change the host's.
    let before = std::fs::metadata("/dev/null").unwrap();
    fixture.run(fixture.shell("chmod 600 /dev/null; chown 5:5 /dev/null"));
    let after = std::fs::metadata("/dev/null").unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!((before.mode(), before.uid()), (after.mode(), after.uid()));
}

fn an_insecure_step_sees_everything(fixture: &Fixture) {
    let mut process =
        fixture.shell("head -c 5 /proc/interrupts | wc -c; grep ' /proc/sys ' /proc/mounts; true");
    process.security = Security::Insecure;
    assert_eq!(fixture.output_of(process), "5\n");
}

fn no_host_mount_is_visible(fixture: &Fixture) {
    let output = fixture.output("cat /proc/self/mountinfo");
    let places: Vec<&str> = output.lines().filter_map(|line| line.split(' ').nth(4)).collect();
    assert_eq!(places.iter().filter(|place| **place == "/").count(), 1, "{output}");
    let known = ["/", "/proc", "/sys", "/dev", "/etc"];
    for place in places {
        let inside =
            known.iter().any(|known| place == *known || place.starts_with(&format!("{known}/")));
        assert!(inside && !place.starts_with("/dev/disk"), "{place}");
    }
    let tree = fixture.root();
    let outside = tree.parent().unwrap().to_str().unwrap();
    assert!(!output.contains(outside), "the host's paths are not told: {output}");
    assert!(!output.contains(" shared:") && !output.contains(" master:"), "{output}");
}
