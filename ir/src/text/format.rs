//! The canonical form of a file: what it says stays, comments included; only the layout changes.
//!
//! One layer a line while it fits into 120 columns, else one field a line. The name and `from` of a layer come first.

use super::comments;
use super::value::{Field, Kind, Value, parse};
use crate::diagnostic::{Diagnostics, Span};

/// The longest line, where it can be helped.
const WIDTH: usize = 120;

/// The canonical form of a RON text. Formatting twice changes nothing.
///
/// # Errors
/// Where the text is not RON.
pub fn format(text: &str) -> Result<String, Diagnostics> {
    let value = parse(text)?;
    let breaks = text.match_indices('\n').map(|(at, _)| at).collect();
    let mut printer = Printer { text, comments: comments::find(text), breaks, out: String::new() };
    let whole = Item { name: None, value: &value, span: value.span.clone() };
    printer.items(&(0..text.len()), 0, vec![whole], "");
    Ok(printer.out)
}

struct Printer<'t> {
    text: &'t str,
    comments: Vec<Span>,
    /// The places of all line breaks.
    breaks: Vec<usize>,
    out: String,
}

/// One part of a list, struct or map.
struct Item<'v> {
    /// The field's name or the map's key.
    name: Option<Span>,
    value: &'v Value,
    span: Span,
}

impl Printer<'_> {
    fn comments_in(&self, span: &Span) -> &[Span] {
        let from = self.comments.partition_point(|comment| comment.start < span.start);
        let to = self.comments.partition_point(|comment| comment.start < span.end);
        &self.comments[from..to.max(from)]
    }

    /// The value on one line; `None` where it is longer than `room`, or must not be.
    fn flat(&self, value: &Value, room: usize) -> Option<String> {
        if !self.comments_in(&value.span).is_empty() {
            return None;
        }
        let Some((open, items, close)) = self.parts(value) else {
            let text = &self.text[value.span.clone()];
            return (text.chars().count() <= room && !text.contains('\n')).then(|| text.to_string());
        };
        let mut line = open;
        for (i, item) in items.iter().enumerate() {
            line += if i == 0 { "" } else { ", " };
            if let Some(name) = &item.name {
                let name = &self.text[name.clone()];
                if name == "layers" && matches!(&item.value.kind, Kind::List(layers) if !layers.is_empty()) {
                    return None;
                }
                line += name;
                line += ": ";
            }
            line += &self.flat(item.value, room.checked_sub(line.len())?)?;
        }
        line += close;
        (line.chars().count() <= room).then_some(line)
    }

    /// How a container opens, what it holds, and how it closes; `None` for a scalar.
    fn parts<'v>(&self, value: &'v Value) -> Option<(String, Vec<Item<'v>>, &'static str)> {
        let plain = |value: &'v Value| Item { name: None, value, span: value.span.clone() };
        let field = |field: &'v Field| Item {
            name: Some(field.name.span.clone()),
            value: &field.value,
            span: field.name.span.start..field.value.span.end,
        };
        match &value.kind {
            Kind::List(items) => Some(("[".to_string(), items.iter().map(plain).collect(), "]")),
            Kind::Tuple(name, items) => {
                let name = name.as_ref().map_or("", |name| &self.text[name.span.clone()]);
                Some((format!("{name}("), items.iter().map(plain).collect(), ")"))
            }
            Kind::Struct(Some(name), fields) if fields.is_empty() && self.comments_in(&value.span).is_empty() => {
                Some((self.text[name.span.clone()].to_string(), Vec::new(), ""))
            }
            Kind::Struct(name, fields) => {
                let mut items: Vec<Item> = fields.iter().map(field).collect();
                if name.is_some() {
                    items.sort_by_key(|item| match item.name.clone().map(|name| &self.text[name]) {
                        Some("name") => 0,
                        Some("from") => 1,
                        _ => 2,
                    });
                }
                let name = name.as_ref().map_or("", |name| &self.text[name.span.clone()]);
                Some((format!("{name}("), items, ")"))
            }
            Kind::Map(pairs) => {
                let pair = |(key, value): &'v (Value, Value)| Item {
                    name: Some(key.span.clone()),
                    value,
                    span: key.span.start..value.span.end,
                };
                Some(("{".to_string(), pairs.iter().map(pair).collect(), "}"))
            }
            _ => None,
        }
    }

    /// Prints a value whose line has `column` characters already.
    fn value(&mut self, value: &Value, indent: usize, column: usize) {
        // The comma behind it.
        let room = if indent == 0 && column == 0 { 0 } else { WIDTH.saturating_sub(column + 1) };
        if let Some(line) = self.flat(value, room) {
            self.out += &line;
            return;
        }
        let Some((open, items, close)) = self.parts(value) else {
            self.out += &self.text[value.span.clone()];
            return;
        };
        self.out += &open;
        if items.is_empty() && self.comments_in(&value.span).is_empty() {
            self.out += close;
            return;
        }
        self.out.push('\n');
        let scalars = items.iter().all(|item| item.name.is_none() && self.parts(item.value).is_none());
        if scalars && self.comments_in(&value.span).is_empty() {
            self.fill(&items, indent + 4);
        } else {
            self.items(&value.span, indent + 4, items, ",");
        }
        self.spaces(indent);
        self.out += close;
    }

    /// As many scalars a line as fit.
    fn fill(&mut self, items: &[Item], indent: usize) {
        let mut column = 0;
        for item in items {
            let text = &self.text[item.span.clone()];
            let width = text.chars().count() + 1;
            if column > 0 && column + 1 + width <= WIDTH {
                self.out.push(' ');
                column += 1;
            } else {
                if column > 0 {
                    self.out.push('\n');
                }
                self.spaces(indent);
                column = indent;
            }
            self.out += text;
            self.out.push(',');
            column += width;
        }
        self.out.push('\n');
    }

    /// One item a line, each with its comments, `after` behind each.
    fn items(&mut self, container: &Span, indent: usize, items: Vec<Item>, after: &str) {
        // Items may be printed in another order than they are written in.
        let mut written: Vec<&Item> = items.iter().collect();
        written.sort_by_key(|item| item.span.start);
        let source: Vec<Span> = written.iter().map(|item| item.span.clone()).collect();
        let within_value = |comment: &Span| {
            let next = written.partition_point(|item| item.value.span.start <= comment.start);
            next > 0 && comment.end <= written[next - 1].value.span.end
        };
        let own: Vec<Span> =
            self.comments_in(container).iter().filter(|comment| !within_value(comment)).cloned().collect();
        // Each comment belongs to the item that it stands behind on a line, else to the next.
        let mut before: Vec<Vec<Span>> = vec![Vec::new(); source.len() + 1];
        let mut behind: Vec<Vec<Span>> = vec![Vec::new(); source.len()];
        for comment in own {
            let next = source.partition_point(|span| span.end <= comment.start);
            let previous_end = next.checked_sub(1).map(|previous| {
                let last: Option<&Span> = behind[previous].last();
                last.map_or(source[previous].end, |last| last.end)
            });
            let line_of = |at: usize| self.breaks.partition_point(|&line_break| line_break < at);
            let line_goes_on = |from: usize, to: usize| line_of(from) == line_of(to);
            let follows = previous_end.is_some_and(|end| end <= comment.start && line_goes_on(end, comment.start))
                && before[next].is_empty();
            let leads = source.get(next).is_some_and(|span| line_goes_on(comment.end, span.start.max(comment.end)));
            match follows && !leads {
                true => behind[next - 1].push(comment),
                false => before[next].push(comment),
            }
        }
        let mut first = true;
        for item in &items {
            let place = source.partition_point(|span| span.start < item.span.start);
            for comment in std::mem::take(&mut before[place]) {
                self.line(&comment, indent, &mut first);
            }
            if !std::mem::take(&mut first) && self.blank_line_before(item.span.start) {
                self.out.push('\n');
            }
            self.spaces(indent);
            let mut column = indent;
            if let Some(name) = &item.name {
                let name = &self.text[name.clone()];
                self.out += name;
                self.out += ": ";
                column += name.chars().count() + 2;
            }
            self.value(item.value, indent, column);
            self.out += after;
            for comment in &behind[place] {
                self.out.push(' ');
                self.out += self.text[comment.clone()].trim_end();
            }
            self.out.push('\n');
        }
        for comment in std::mem::take(&mut before[source.len()]) {
            self.line(&comment, indent, &mut first);
        }
    }

    /// A comment on a line of its own.
    fn line(&mut self, comment: &Span, indent: usize, first: &mut bool) {
        if !std::mem::take(first) && self.blank_line_before(comment.start) {
            self.out.push('\n');
        }
        self.spaces(indent);
        self.out += self.text[comment.clone()].trim_end();
        self.out.push('\n');
    }

    /// Whether the text has an empty line in front of this place; one is kept where there were several.
    fn blank_line_before(&self, place: usize) -> bool {
        let before = &self.text[..place];
        let gap = &before[before.trim_end().len()..];
        gap.matches('\n').count() > 1
    }

    fn spaces(&mut self, n: usize) {
        self.out.extend(std::iter::repeat_n(' ', n));
    }
}
