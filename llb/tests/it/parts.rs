//! Parts of ops: what differs has its name, and nothing else.

use std::collections::BTreeMap;

use llb::encode::vertex_digest;
use llb::parts::parts;
use llb::{ExecOp, FileActionKind, FileInput, FileOp, MountKind, NetworkMode, Op};

use crate::ops::{action, full_copy, full_exec, mount, one_of_each};

/// Names of the parts that two ops do not share, without the order where it is not the only one.
fn differ(one: &Op, other: &Op) -> String {
    let (one, other) = (parts(one), parts(other));
    let names: BTreeMap<&String, ()> = one.keys().chain(other.keys()).map(|n| (n, ())).collect();
    let mut names: Vec<&str> = (names.into_keys())
        .filter(|name| one.get(*name) != other.get(*name))
        .map(String::as_str)
        .collect();
    if names.len() > 1 {
        names.retain(|name| *name != "order");
    }
    names.join(", ")
}

#[test]
fn parts_are_the_same_where_the_ops_are_the_same_and_only_there() {
    let ops = one_of_each();
    for (one_name, one) in &ops {
        for (other_name, other) in &ops {
            let is_same = vertex_digest(one, &[]) == vertex_digest(other, &[]);
            assert_eq!(parts(one) == parts(other), is_same, "{one_name}, {other_name}");
        }
    }
}

#[test]
fn what_changes_in_a_process_has_its_name() {
    type Change = fn(&mut ExecOp);
    let changes: [(&str, Change); 26] = [
        ("", |_| {}),
        ("", |e| e.proxy_env.clear()),
        ("", |e| e.cgroup_parent.clear()),
        ("command", |e| e.args.push(String::new())),
        ("variable A", |e| e.env[0] = "A=2".to_owned()),
        ("variable C", |e| e.env.push("C=1".to_owned())),
        ("variable A", |e| drop(e.env.remove(0))),
        ("order", |e| e.env.swap(0, 1)),
        ("variable A", |e| e.env.push("A=1".to_owned())),
        ("directory", |e| e.cwd = "/".to_owned()),
        ("user", |e| e.user.clear()),
        ("host name", |e| e.hostname.clear()),
        ("network", |e| e.network = NetworkMode::Default),
        ("network", |e| e.network = NetworkMode::Host),
        ("security", |e| e.security = llb::SecurityMode::Sandbox),
        ("host name", |e| e.extra_hosts[0].1.push('1')),
        ("secret S", |e| e.secret_env[0].optional = true),
        ("ulimit nofile", |e| e.ulimits[0].hard = 1),
        ("exit codes", |e| e.valid_exit_codes.clear()),
        ("device v.com/c=d", |e| e.devices.clear()),
        ("mount /m0", |e| e.mounts[1].selector.clear()),
        ("mount /m0", |e| e.mounts[1].output = Some(1)),
        ("mount /m2", |e| e.mounts[3].kind = MountKind::Tmpfs { size: 8 }),
        ("mount /m9", |e| e.mounts.push(mount("/m9", None, None))),
        ("order", |e| e.mounts[1].input = Some(0)),
        ("order", |e| e.mounts[1].input = None),
    ];
    for (number, (expected, change)) in changes.into_iter().enumerate() {
        let mut exec = full_exec();
        change(&mut exec);
        let (before, after) = (Op::Exec(full_exec()), Op::Exec(exec));
        assert_eq!(differ(&before, &after), expected, "change {number}");
        let is_same = vertex_digest(&before, &[]) == vertex_digest(&after, &[]);
        assert_eq!(parts(&before) == parts(&after), is_same, "change {number}");
    }
}

#[test]
fn what_changes_in_file_operations_has_its_name() {
    type Change = fn(&mut FileOp);
    fn copy(file: &mut FileOp) -> &mut llb::CopyOp {
        match &mut file.actions[0].kind {
            FileActionKind::Copy(copy) => copy,
            other => panic!("{other:?}"),
        }
    }
    let changes: [(&str, Change); 8] = [
        ("", |_| {}),
        ("", |f| copy(f).display_src.clear()),
        ("copy to /b/", |f| copy(f).src.push('b')),
        ("copy to /b/", |f| copy(f).mode = None),
        ("copy to /b/, copy to /c", |f| copy(f).dest = "/c".to_owned()),
        ("copy to /b/", |f| f.actions.push(f.actions[0].clone())),
        ("order", |f| f.actions[0].secondary = Some(FileInput::Input(2))),
        ("order", |f| f.actions[0].output = None),
    ];
    let of = || FileOp { actions: vec![action(FileActionKind::Copy(full_copy()))] };
    for (number, (expected, change)) in changes.into_iter().enumerate() {
        let mut file = of();
        change(&mut file);
        let (before, after) = (Op::File(of()), Op::File(file));
        assert_eq!(differ(&before, &after), expected, "change {number}");
        let is_same = vertex_digest(&before, &[]) == vertex_digest(&after, &[]);
        assert_eq!(parts(&before) == parts(&after), is_same, "change {number}");
    }
}

#[test]
fn no_value_is_in_a_part() {
    let mut exec = full_exec();
    exec.env.push("TOKEN=hunter2".to_owned());
    let text = format!("{:?}", parts(&Op::Exec(exec)));
    assert!(text.contains("variable TOKEN") && !text.contains("hunter2"), "{text}");
}
