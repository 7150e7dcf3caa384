//! Definitions as text.

use expect_test::expect;
use llb::print::{dot, json, no_label, text};

use crate::ops::{full_exec, image, local, named, small};

#[test]
fn a_definition_reads_line_by_line() {
    let (definition, target) = small();
    expect![[r#"
        #0 9b878d44d5a5 source FROM busybox
        #1 d950e8ebd8de exec RUN make <- #0
        #2 655be62ca5e1 source load context
        #3 6c22cff3c594 file COPY a* /b/ <- #0 #2
        #4 7c0508e86dee merge LINK <- #1 #3
    "#]]
    .assert_eq(&text(&definition, &[target], &no_label));
}

#[test]
fn a_label_stands_behind_its_vertex() {
    let (definition, target) = small();
    let label = |id| (id == target).then(|| "sha256:k".to_owned());
    let text = text(&definition, &[target], &label);
    assert_eq!(text.matches("key=").count(), 1);
    assert!(text.lines().last().expect("a line").ends_with("key=sha256:k"), "{text}");
}

#[test]
fn graphviz_gets_a_box_for_each_vertex() {
    let (definition, target) = small();
    expect![[r#"
        digraph {
            0 [ label = "FROM busybox\lsource 9b878d44d5a5" shape=box]
            1 [ label = "RUN make\lexec d950e8ebd8de" shape=box]
            2 [ label = "load context\lsource 655be62ca5e1" shape=box]
            3 [ label = "COPY a* /b/\lfile 6c22cff3c594" shape=box]
            4 [ label = "LINK\lmerge 7c0508e86dee" shape=box]
            0 -> 1 [ ]
            0 -> 3 [ ]
            2 -> 3 [ ]
            1 -> 4 [ ]
            3 -> 4 [ ]
        }
    "#]]
    .assert_eq(&dot(&definition, &[target], &no_label));
}

#[test]
fn json_tells_everything_but_secrets() {
    let (definition, target) = small();
    let value = json(&definition, &[target], &no_label);
    expect![[r#"
        {
          "targets": [
            4
          ],
          "vertices": [
            {
              "digest": "sha256:9b878d44d5a5ae49b7f70dd29b93e5a35bb2d9ca9f913b7ad9d4b09528d75c83",
              "id": 0,
              "inputs": [],
              "name": "FROM busybox",
              "op": {
                "source": {
                  "image": "docker.io/library/busybox:latest",
                  "platform": "linux/amd64"
                }
              }
            },
            {
              "digest": "sha256:d950e8ebd8de0ce818e8c697883185cb4d62f8f6832a9ee8c5dcd011743bca0a",
              "id": 1,
              "inputs": [
                {
                  "output": 0,
                  "vertex": 0
                }
              ],
              "name": "RUN make",
              "op": {
                "exec": {
                  "args": [
                    "/bin/sh",
                    "-c",
                    "make"
                  ],
                  "cwd": "/",
                  "env": [
                    "PATH=/bin"
                  ],
                  "mounts": [
                    {
                      "dest": "/",
                      "input": 0,
                      "output": 0,
                      "readonly": false,
                      "type": "bind"
                    }
                  ],
                  "user": ""
                }
              }
            },
            {
              "digest": "sha256:655be62ca5e10a6ba00129ac001910a4f6b42c121f695a0c3cb27280afbbca73",
              "id": 2,
              "inputs": [],
              "name": "load context",
              "op": {
                "source": {
                  "exclude": [
                    "*.o",
                    "!keep.o"
                  ],
                  "local": "context"
                }
              }
            },
            {
              "digest": "sha256:6c22cff3c594d4a9e85380111b0fa207ef209b3874d475f89b66fc230754dbb3",
              "id": 3,
              "inputs": [
                {
                  "output": 0,
                  "vertex": 0
                },
                {
                  "output": 0,
                  "vertex": 2
                }
              ],
              "name": "COPY a* /b/",
              "op": {
                "file": [
                  {
                    "copy": {
                      "contents": true,
                      "dest": "/b/",
                      "exclude": [
                        "ex"
                      ],
                      "follow_symlink": true,
                      "include": [
                        "in"
                      ],
                      "mode": "u=rwX",
                      "owner": {
                        "group": "7",
                        "user": "me"
                      },
                      "parents": true,
                      "replace": true,
                      "src": "/a*",
                      "unpack": true,
                      "wildcard": true
                    },
                    "from": {
                      "input": 1
                    },
                    "on": {
                      "input": 0
                    },
                    "output": 0
                  }
                ]
              }
            },
            {
              "digest": "sha256:7c0508e86deea41ccb3487d1fef5675dc1c30c84c556312c2d01d57010bc3003",
              "id": 4,
              "inputs": [
                {
                  "output": 0,
                  "vertex": 1
                },
                {
                  "output": 0,
                  "vertex": 3
                }
              ],
              "name": "LINK",
              "op": {
                "merge": {}
              }
            }
          ]
        }"#]]
    .assert_eq(&format!("{value:#}"));

    let mut definition = llb::Definition::default();
    let mut add = |op, inputs: &[llb::Input]| {
        definition.add(op, inputs, named("x")).expect("a vertex that fits")
    };
    let inputs = [image("a"), local("b")].map(|op| llb::Input { vertex: add(op, &[]), output: 0 });
    let target = add(llb::Op::Exec(full_exec()), &inputs);
    let value = json(&definition, &[target], &no_label);
    assert!(!value.to_string().contains("PROXY"));
    expect![[r#"
        {
          "args": [
            "make",
            "all"
          ],
          "cwd": "/src",
          "devices": [
            {
              "name": "v.com/c=d",
              "optional": true
            }
          ],
          "env": [
            "A=1",
            "B=2"
          ],
          "extra_hosts": [
            [
              "name",
              "10.0.0.1"
            ]
          ],
          "hostname": "host",
          "mounts": [
            {
              "dest": "/",
              "input": 0,
              "output": 0,
              "readonly": false,
              "type": "bind"
            },
            {
              "dest": "/m0",
              "input": 1,
              "readonly": true,
              "selector": "/part",
              "type": "bind"
            },
            {
              "dest": "/m1",
              "id": "id",
              "readonly": true,
              "selector": "/part",
              "sharing": "locked",
              "type": "cache"
            },
            {
              "dest": "/m2",
              "readonly": true,
              "selector": "/part",
              "size": 7,
              "type": "tmpfs"
            },
            {
              "dest": "/m3",
              "id": "id",
              "mode": "400",
              "optional": true,
              "owner": [
                1,
                2
              ],
              "readonly": true,
              "selector": "/part",
              "type": "secret"
            },
            {
              "dest": "/m4",
              "id": "id",
              "mode": "600",
              "optional": false,
              "owner": [
                1,
                2
              ],
              "readonly": true,
              "selector": "/part",
              "type": "ssh"
            }
          ],
          "network": "none",
          "secrets": [
            {
              "env": "S",
              "id": "id",
              "optional": false
            }
          ],
          "security": "insecure",
          "ulimits": [
            [
              "nofile",
              1,
              -1
            ]
          ],
          "user": "me:us"
        }"#]]
    .assert_eq(&format!("{:#}", value["vertices"][2]["op"]["exec"]));
}
