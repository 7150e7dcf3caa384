//! Elements of the XML that object stores answer with. They have no attributes, and no element of the same name inside.

/// The texts of all elements called `tag`, as they are written.
pub(crate) fn texts<'a>(document: &'a str, tag: &str) -> impl Iterator<Item = String> + 'a {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let parts: Vec<&str> = document.split(open.as_str()).skip(1).collect();
    parts.into_iter().filter_map(move |rest| Some(rest.split_once(close.as_str())?.0.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_of_whole_elements() {
        for (document, expected) in [
            ("<A><N>1</N><N></N></A>", vec!["1", ""]),
            ("<N>1<N>2</N>", vec!["2"]),
            ("<N>1", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(texts(document, "N").collect::<Vec<_>>(), expected, "{document}");
        }
    }
}
