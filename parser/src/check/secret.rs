//! Text that looks like a secret.

/// What begins tokens of well-known services: the beginning, the length of all of it at least, and
/// what it is.
const TOKENS: [(&str, usize, &str); 16] = [
    ("AKIA", 20, "an access key of AWS"),
    ("ASIA", 20, "an access key of AWS"),
    ("ghp_", 36, "a token for GitHub"),
    ("gho_", 36, "a token for GitHub"),
    ("ghs_", 36, "a token for GitHub"),
    ("ghu_", 36, "a token for GitHub"),
    ("github_pat_", 50, "a token for GitHub"),
    ("glpat-", 24, "a token for GitLab"),
    ("npm_", 36, "a token for npm"),
    ("pypi-", 50, "a token for PyPI"),
    ("xoxb-", 24, "a token for Slack"),
    ("xoxp-", 24, "a token for Slack"),
    ("sk_live_", 24, "a key for Stripe"),
    ("sk-ant-", 30, "a key for Anthropic"),
    ("sk-proj-", 30, "a key for OpenAI"),
    ("AIza", 39, "a key for Google"),
];

/// Shorter text is not taken for random.
const RANDOM_MIN: usize = 20;
/// Bits of information a character: those of random letters and digits are well above, words below.
const ENTROPY_MIN: f64 = 3.7;
/// How often capitals, small letters and digits take turns in random text at least, in parts of one.
/// `MyApplicationServerConfiguration2` has long runs instead.
const TURNS_MIN: f64 = 0.3;

/// What secret `text` seems to hold, if any.
pub(super) fn find(text: &str) -> Option<&'static str> {
    let mut is_certificate = false;
    for line in text.lines() {
        if let Some((_, of)) = line.split_once("-----BEGIN ") {
            if of.contains("PRIVATE KEY-----") {
                return Some("a private key");
            }
            is_certificate = true;
        }
        if !is_certificate && let Some(found) = line.split_whitespace().find_map(look_at_parts) {
            return Some(found);
        }
        is_certificate &= !line.contains("-----END ");
    }
    None
}

fn is_part(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '+' | '.')
}

fn look_at_parts(word: &str) -> Option<&'static str> {
    // Examples in documentation, checksums, public keys.
    const HARMLESS: [&str; 5] = ["EXAMPLE", "sha256-", "sha384-", "sha512-", "AAAA"];
    let is_harmless = HARMLESS.iter().any(|part| word.contains(part));
    if is_harmless { None } else { word.split(|c| !is_part(c)).find_map(look) }
}

fn look(word: &str) -> Option<&'static str> {
    let known = TOKENS.iter().find(|(start, length, _)| {
        word.len() >= *length
            && word.strip_prefix(start).is_some_and(|rest| entropy(rest) > ENTROPY_MIN / 1.3)
    });
    if let Some((_, _, what)) = known {
        return Some(what);
    }
    let is_signed = word.starts_with("eyJ") && word.split('.').count() == 3;
    if is_signed && word.len() >= 60 {
        return Some("a signed token (JWT)");
    }
    word.split('.').any(is_random).then_some("random text")
}

/// Whether `word` is a mixture of capitals, small letters and digits that nobody would write. Digests
/// in hexadecimal are not: they are everywhere, and mostly checksums.
fn is_random(word: &str) -> bool {
    let kinds: Vec<u8> = word.bytes().map(kind).collect();
    let has = |kind: u8| kinds.contains(&kind);
    let turns = kinds.windows(2).filter(|pair| pair[0] != pair[1]).count();
    word.len() >= RANDOM_MIN
        && has(b'A')
        && has(b'a')
        && has(b'0')
        && entropy(word) >= ENTROPY_MIN
        && turns as f64 / word.len() as f64 >= TURNS_MIN
}

fn kind(byte: u8) -> u8 {
    match byte {
        b'A'..=b'Z' => b'A',
        b'a'..=b'z' => b'a',
        b'0'..=b'9' => b'0',
        _ => b'-',
    }
}

/// Bits of information a byte (Shannon).
fn entropy(word: &str) -> f64 {
    let mut counts = [0_u32; 256];
    word.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let length = word.len() as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|&count| f64::from(count) / length);
    -shares.map(|share| share * share.log2()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn what_looks_like_a_secret_is_one() {
        let cases = [
            (
                "curl -H 'Authorization: Bearer q7Rk2vXz9LmB4tYw8NcE5sJd1HgF3aPu' x",
                Some("random text"),
            ),
            ("PASSWORD=Vb3kQz8Xw2Lm9Rt5Yc7N", Some("random text")),
            ("AKIAQ3EGXPT7ZL4NW6KD", Some("an access key of AWS")),
            ("token ghp_16C7e42F292c6912E7710c838347Ae178B4a x", Some("a token for GitHub")),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blbn\n", Some("a private key")),
            (
                "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0",
                Some("a signed token (JWT)"),
            ),
            // What is not.
            ("AKIAIOSFODNN7EXAMPLE", None),
            ("ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", None),
            ("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", None),
            ("MyApplicationServerConfiguration2Factory", None),
            ("/usr/lib/x86_64-linux-gnu/libFooBar-1.2.3.so", None),
            ("v0.0.0-20210101000000-abcdef123456", None),
            ("sha384-oqVuAfXRKap7fdgcCY5uykM6+R9GqQ8K/uxy9rx7HNQlGYl1kPzQho1wx4JwY8wC", None),
            ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7vbqajDRqH user@host", None),
            (
                "-----BEGIN CERTIFICATE-----\nMIIDdzCCAl+gAwIBAgIEAgAAuTANBgkqhkiG9w0BAQUFADBa\n-----END",
                None,
            ),
            ("https://example.com/downloads/tool-v1.22.333-linux-amd64.tar.gz", None),
            ("f9c76b2e-5d1c-4c61-8d3e-2f2c8a0f5b3a", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(find(text), want, "{text}");
        }
    }
}
