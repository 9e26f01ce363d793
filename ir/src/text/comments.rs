//! Where comments stand in a RON text: all that the formatter needs to know beyond the tree.

use crate::diagnostic::Span;

/// The places of all comments, in order. The line break that ends a line comment is not part of it.
pub fn find(text: &str) -> Vec<Span> {
    let bytes = text.as_bytes();
    let mut comments = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        let rest = &text[at..];
        at = if rest.starts_with("//") {
            rest.find('\n').map_or(text.len(), |length| start + length)
        } else if rest.starts_with("/*") {
            start + block_length(rest)
        } else if rest.starts_with('"') {
            start + string_length(rest)
        } else if let Some(length) = raw_string_length(rest) {
            start + length
        } else if rest.starts_with("'\"'") {
            start + 3
        } else {
            // A word is skipped whole, so that the `r` that ends one does not begin a raw string.
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            start + word.max(rest.chars().next().map_or(1, char::len_utf8))
        };
        if rest.starts_with("//") || rest.starts_with("/*") {
            comments.push(start..at);
        }
    }
    comments
}

/// The text with every comment left out.
pub fn without(text: &str) -> String {
    let mut rest = String::new();
    let mut end = 0;
    for comment in find(text) {
        rest.push_str(&text[end..comment.start]);
        end = comment.end;
    }
    rest + &text[end..]
}

/// Block comments nest.
fn block_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        match &text.as_bytes()[at..text.len().min(at + 2)] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            _ => escaped = c == '\\' && !escaped,
        }
    }
    text.len()
}

fn raw_string_length(text: &str) -> Option<usize> {
    let after = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = after.len() - after.trim_start_matches('#').len();
    let body = after[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let length = body.find(&end).map_or(body.len(), |at| at + end.len());
    Some(text.len() - body.len() + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_in_strings_are_text() {
        let text =
            "(a: \"// no\", /* yes /* nested */ */ b: r#\"/* \" no */\"#, // end\n c: \"\\\"//\", bar\"//\") // last";
        let found: Vec<&str> = find(text).into_iter().map(|span| &text[span]).collect();
        assert_eq!(found, ["/* yes /* nested */ */", "// end", "// last"]);
        assert_eq!(without("a // b\nc /* d"), "a \nc ");
    }
}
