//! Canonical bytes: fixed for ever, and different for whatever matters.

use std::collections::{BTreeMap, BTreeSet};

use expect_test::expect;
use llb::encode::{Encoder, encode_op, vertex_digest};
use llb::{
    CacheSharing, CopyOp, ExecOp, FileActionKind, FileInput, FileOp, MountKind, NetworkMode, Op,
    OwnerId, SecurityMode,
};

use crate::ops::{action, full_copy, full_exec, one_of_each};

fn digest(op: &Op) -> String {
    vertex_digest(op, &[]).to_string()
}

/// A cache filled by an older version must not answer wrongly: these change only together with
/// the encoding's version.
#[test]
fn digests_of_known_ops_stay_what_they_are() {
    let lines: Vec<String> = one_of_each()
        .iter()
        .map(|(name, op)| format!("{name} {}\n", &digest(op)["sha256:".len()..][..16]))
        .collect();
    expect![[r#"
        image 9b878d44d5a5ae49
        local 655be62ca5e10a6b
        part 580e97d0ee854058
        layout 3409bbf3bf53a80e
        git 3b41017d1b2b04dc
        http 75b17d3f8e803d69
        exec 1117d8a5f6d36af3
        full exec ef94d31e3e0ac792
        devices dac18cac9c9fc41a
        copy c9da7ccb5301d5b0
        mkfile 8f761b7d0400fca8
        mkdir 3583cc6b7870937a
        rm 25567a6e8d99263e
        symlink 3a7e943996cdba78
        merge df5a7e6d7085e02c
        diff c5f92625211b6281
    "#]]
    .assert_eq(&lines.concat());
}

#[test]
fn kinds_and_domains_do_not_mix() {
    let all = one_of_each();
    let distinct: BTreeSet<String> = all.iter().map(|(_, op)| digest(op)).collect();
    assert_eq!(distinct.len(), all.len());
    let encoded = |domain: &str| {
        let mut encoder = Encoder::new(domain);
        encode_op(&mut encoder, &Op::Merge);
        encoder.finish()
    };
    assert_ne!(encoded("vertex"), encoded("record"));
}

#[test]
fn inputs_count_with_their_order_and_output() {
    let (a, b) = (oci::Digest::of(b"a"), oci::Digest::of(b"b"));
    let of = |inputs: &[(&oci::Digest, usize)]| vertex_digest(&Op::Merge, inputs);
    let all =
        [of(&[]), of(&[(&a, 0)]), of(&[(&a, 1)]), of(&[(&a, 0), (&b, 0)]), of(&[(&b, 0), (&a, 0)])];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

/// Moving text from one field to the next must not give the same bytes.
#[test]
fn neighbouring_fields_do_not_run_together() {
    let with = |args: &[&str], cwd: &str| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        digest(&Op::Exec(ExecOp { args, cwd: cwd.to_owned(), ..full_exec() }))
    };
    let all = [with(&["a", "b"], ""), with(&["ab"], ""), with(&["a"], "b"), with(&["", "ab"], "")];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
}

#[test]
fn every_field_of_a_process_counts_but_those_of_the_machine() {
    type Change = fn(&mut ExecOp);
    let counting: [(&str, Change); 17] = [
        ("args", |e| e.args.push(String::new())),
        ("env", |e| e.env.swap(0, 1)),
        ("cwd", |e| e.cwd.push('/')),
        ("user", |e| e.user.clear()),
        ("hostname", |e| e.hostname.clear()),
        ("network", |e| e.network = NetworkMode::Host),
        ("security", |e| e.security = SecurityMode::Sandbox),
        ("extra hosts", |e| e.extra_hosts[0].1.push('1')),
        ("secret", |e| e.secret_env[0].optional = true),
        ("ulimit", |e| e.ulimits[0].hard = 1),
        ("exit codes", |e| e.valid_exit_codes.clear()),
        ("devices", |e| e.devices.clear()),
        ("mount", |e| e.mounts[1].selector.clear()),
        ("readonly", |e| e.mounts[1].readonly = false),
        ("output", |e| e.mounts[1].output = Some(1)),
        ("input", |e| e.mounts[1].input = Some(0)),
        ("sharing", |e| {
            e.mounts[2].kind =
                MountKind::Cache { id: "id".to_owned(), sharing: CacheSharing::Shared };
        }),
    ];
    let before = digest(&Op::Exec(full_exec()));
    let after = |change: Change| {
        let mut exec = full_exec();
        change(&mut exec);
        digest(&Op::Exec(exec))
    };
    for (name, change) in counting {
        assert_ne!(after(change), before, "{name}");
    }
    let ignored: [(&str, Change); 3] = [
        ("proxies", |e| e.proxy_env = BTreeMap::new()),
        ("cgroup", |e| e.cgroup_parent.clear()),
        ("as written", |e| e.mounts[1].written_dest.push('/')),
    ];
    for (name, change) in ignored {
        assert_eq!(after(change), before, "{name}");
    }
}

#[test]
fn every_field_of_a_copy_counts_but_how_it_is_shown() {
    type Change = fn(&mut CopyOp);
    let counting: [Change; 17] = [
        |c| c.src.push('b'),
        |c| c.dest.push('b'),
        |c| c.owner = None,
        |c| c.owner.as_mut().expect("an owner").user = Some(OwnerId::Id(0)),
        |c| c.mode = None,
        |c| c.mode_symbolic = None,
        |c| c.follow_symlink = false,
        |c| c.dir_copy_contents = false,
        |c| c.attempt_unpack = false,
        |c| c.create_dest_path = false,
        |c| c.allow_wildcard = false,
        |c| c.allow_empty_wildcard = false,
        |c| c.timestamp = None,
        |c| c.include_patterns.clear(),
        |c| c.exclude_patterns.clear(),
        |c| c.always_replace_existing = false,
        |c| c.parents = false,
    ];
    let of = |copy: CopyOp| {
        digest(&Op::File(FileOp { actions: vec![action(FileActionKind::Copy(copy))] }))
    };
    let mut seen = BTreeSet::from([of(full_copy())]);
    for change in counting {
        let mut copy = full_copy();
        change(&mut copy);
        assert!(seen.insert(of(copy)));
    }
    let shown = CopyOp { display_src: String::new(), dest_has_dot: true, ..full_copy() };
    assert_eq!(of(shown), of(full_copy()));
}

#[test]
fn what_an_action_works_on_counts() {
    let inputs =
        [FileInput::Scratch, FileInput::Input(0), FileInput::Input(1), FileInput::Action(0)];
    let digests: BTreeSet<String> = inputs
        .into_iter()
        .map(|input| {
            let action = llb::FileAction { input, ..action(FileActionKind::Copy(full_copy())) };
            digest(&Op::File(FileOp { actions: vec![action] }))
        })
        .collect();
    assert_eq!(digests.len(), inputs.len());
}
