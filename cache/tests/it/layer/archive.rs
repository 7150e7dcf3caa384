//! Archives written from a text, right or wrong.
//!
//! One line a member: its type, its name, and whatever is to be unlike the ordinary:
//!
//! ```text
//! file a/b data=hello mode=600 uid=1 mtime=7 pax=size:3 size=9
//! dir a
//! link l to=../x          symbolic
//! hard h to=a/b
//! char null dev=1:3       block, fifo
//! type=Z odd              any type byte
//! gnu file …              name and target in GNU's long headers
//! !zero                   a block of zeros
//! !open                   no blocks of zeros at the end
//! ```
//!
//! `{x*30}` stands for thirty times `x`, `\xff` for that byte, `field=size:TEXT` puts the text into
//! a header's field as it is.

use tar::{EntryType, Header};

/// The archive that `text` describes.
pub(super) fn archive(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line {
            "!open" => open = true,
            "!zero" => out.extend([0; 512]),
            _ => member(line, &mut out),
        }
    }
    if !open {
        out.extend([0; 1024]);
    }
    out
}

fn member(line: &str, out: &mut Vec<u8>) {
    let mut words = line.split_whitespace().peekable();
    let gnu = words.next_if_eq(&"gnu").is_some();
    let kind = words.next().unwrap();
    let name = expand(words.next().unwrap_or("\"\""));
    let mut header = if gnu { Header::new_gnu() } else { Header::new_ustar() };
    header.set_entry_type(entry_type(kind));
    header.set_mode(if kind == "dir" { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    let (mut target, mut data, mut pax, mut bad_sum) = (Vec::new(), Vec::new(), Vec::new(), false);
    let mut fields = Vec::new();
    let mut size = None;
    for word in words {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<u64>().unwrap();
        match key {
            "mode" => header.set_mode(u32::from_str_radix(value, 8).unwrap()),
            "uid" => header.set_uid(number()),
            "gid" => header.set_gid(number()),
            "mtime" => header.set_mtime(number()),
            "size" => size = Some(number()),
            "to" => target = expand(value),
            "data" => data = expand(value),
            "dev" => {
                let (major, minor) = value.split_once(':').unwrap();
                header.set_device_major(major.parse().unwrap()).unwrap();
                header.set_device_minor(minor.parse().unwrap()).unwrap();
            }
            "pax" => record(&mut pax, value.split_once(':').unwrap()),
            "raw-pax" => pax.extend(expand(value)),
            "field" => fields.push(value.split_once(':').unwrap()),
            "bad-sum" => bad_sum = true,
            other => panic!("unknown word `{other}`"),
        }
    }
    if gnu {
        extension(b'L', &[&name[..], b"\0"].concat(), out);
        extension(b'K', &[&target[..], b"\0"].concat(), out);
    } else if name.len() > 100 {
        record_bytes(&mut pax, b"path", &name);
    }
    if !pax.is_empty() {
        extension(b'x', &pax, out);
    }
    header.set_size(size.unwrap_or(data.len() as u64));
    let old = header.as_old_mut();
    put(&mut old.name, &name);
    put(&mut old.linkname, &target);
    for (field, text) in fields {
        let text = expand(text);
        match field {
            "size" => old.size = [0; 12],
            "mtime" => old.mtime = [0; 12],
            "uid" => old.uid = [0; 8],
            _ => {}
        }
        match field {
            "size" => put(&mut old.size, &text),
            "mtime" => put(&mut old.mtime, &text),
            "uid" => put(&mut old.uid, &text),
            other => panic!("unknown field `{other}`"),
        }
    }
    header.set_cksum();
    if bad_sum {
        header.as_old_mut().cksum = *b"0000001\0";
    }
    out.extend(header.as_bytes());
    padded(&data, out);
}

fn entry_type(kind: &str) -> EntryType {
    EntryType::new(match kind {
        "file" => b'0',
        "old-file" => 0,
        "hard" => b'1',
        "link" => b'2',
        "char" => b'3',
        "block" => b'4',
        "dir" => b'5',
        "fifo" => b'6',
        "global" => b'g',
        kind => kind.strip_prefix("type=").unwrap().as_bytes()[0],
    })
}

/// An extension header before a member.
pub(super) fn extension(kind: u8, data: &[u8], out: &mut Vec<u8>) {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::new(kind));
    header.set_size(data.len() as u64);
    put(&mut header.as_old_mut().name, b"././@extension");
    header.set_cksum();
    out.extend(header.as_bytes());
    padded(data, out);
}

fn padded(data: &[u8], out: &mut Vec<u8>) {
    out.extend(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

fn put(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

fn record(pax: &mut Vec<u8>, (key, value): (&str, &str)) {
    record_bytes(pax, key.as_bytes(), &expand(value));
}

fn record_bytes(pax: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let length = (rest + 1..).find(|length| rest + length.to_string().len() == *length).unwrap();
    pax.extend(format!("{length} ").as_bytes());
    pax.extend(key);
    pax.push(b'=');
    pax.extend(value);
    pax.push(b'\n');
}

/// Repetitions and bytes in hexadecimal; `""` is nothing.
fn expand(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = if text == "\"\"" { "" } else { text };
    while let Some(byte) = rest.bytes().next() {
        if let Some(hex) = rest.strip_prefix("\\x") {
            out.push(u8::from_str_radix(&hex[..2], 16).unwrap());
            rest = &hex[2..];
        } else if let Some((inner, after)) =
            rest.strip_prefix('{').and_then(|rest| rest.split_once('}'))
        {
            let (unit, count) = inner.rsplit_once('*').unwrap();
            out.extend(expand(unit).repeat(count.parse().unwrap()));
            rest = after;
        } else {
            out.push(byte);
            rest = &rest[1..];
        }
    }
    out
}
