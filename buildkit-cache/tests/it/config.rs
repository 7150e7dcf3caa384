//! Reading configs, and refusing those that lead nowhere.

use buildkit_cache::config::{Config, SIZE_MAX};

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// `D` in `text` stands for a digest.
fn parse(text: &str) -> Result<Config, String> {
    let text = text.replace("\"D\"", &format!("\"{DIGEST}\""));
    Config::parse(text.as_bytes()).map_err(|error| error.to_string())
}

#[test]
fn what_is_left_out_or_null_is_nothing() {
    for text in [
        "{}",
        r#"{"layers": null, "records": null}"#,
        r#"{"layers": [], "records": [], "more": 1}"#,
    ] {
        assert_eq!(parse(text), Ok(Config::default()), "{text}");
    }
    let config = parse(
        r#"{"layers": [{"blob": "D", "parent": -1}, {"blob": "D"}],
        "records": [{"digest": "D", "layers": [{"layer": 1}], "inputs": null}]}"#,
    );
    let config = config.unwrap();
    assert_eq!(config.layers[1].parent, Some(0), "Go leaves a 0 out");
    assert_eq!(config.layers_of(&config.records[0].results[0]).len(), 2);
}

#[test]
fn records_stand_behind_their_inputs() {
    let config = parse(
        r#"{"records": [
        {"digest": "D", "inputs": [[{"link": 2, "selector": "s"}], [{"link": 1}]]},
        {"digest": "D", "inputs": [[{"link": 2}]]},
        {"digest": "D"}]}"#,
    );
    for (place, record) in config.unwrap().records.iter().enumerate() {
        assert!(record.inputs.iter().flatten().all(|link| link.record < place));
        assert_eq!(record.inputs.len(), place);
    }
}

#[test]
fn numbers_that_lead_nowhere_are_refused() {
    for (text, want) in [
        (r#"{"layers": [{"blob": "D", "parent": 1}]}"#, "no layer 1"),
        (r#"{"layers": [{"blob": "D", "parent": -2}]}"#, "no layer -2"),
        (r#"{"layers": [{"blob": "D"}]}"#, "layer 0 of the cache config is below itself"),
        (
            r#"{"layers": [{"blob": "D", "parent": 1}, {"blob": "D", "parent": 0}]}"#,
            "layer 0 of the cache config is below itself",
        ),
        (r#"{"records": [{"digest": "D", "layers": [{"layer": 0}]}]}"#, "no layer 0"),
        (r#"{"records": [{"digest": "D", "chains": [{"layers": [7]}]}]}"#, "no layer 7"),
        (r#"{"records": [{"digest": "D", "inputs": [[{"link": 1}]]}]}"#, "no record 1"),
        (
            r#"{"records": [{"digest": "D", "inputs": [[{"link": 0}]]}]}"#,
            "record 0 of the cache config is its own input",
        ),
        (r#"{"records": [{"digest": "D", "inputs": [[]]}]}"#, "has an input without records"),
        (r#"{"records": [{"digest": "sha256:1"}]}"#, "the cache config is malformed"),
        (r#"{"records": [{}]}"#, "the cache config is malformed"),
        ("", "the cache config is malformed"),
    ] {
        let error = parse(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn a_config_that_buildkit_would_not_read_is_refused() {
    let large = " ".repeat(SIZE_MAX);
    assert!(parse(&format!("{{}}{}", &large[2..])).is_ok());
    assert!(parse(&format!("{{}}{large}")).is_err());
}

#[test]
fn long_chains_are_no_deep_recursion() {
    let chain = |item: &dyn Fn(usize) -> String| (0..8_000).map(item).collect::<Vec<_>>().join(",");
    let layers =
        chain(&|number| format!(r#"{{"blob":"D","parent":{}}}"#, number.wrapping_sub(1) as i64));
    assert_eq!(parse(&format!(r#"{{"layers":[{layers}]}}"#)).unwrap().layers.len(), 8_000);
    let records = chain(&|number| match number {
        7_999 => r#"{"digest":"D"}"#.to_owned(),
        _ => format!(r#"{{"digest":"D","inputs":[[{{"link":{}}}]]}}"#, number + 1),
    });
    assert_eq!(parse(&format!(r#"{{"records":[{records}]}}"#)).unwrap().records.len(), 8_000);
}
