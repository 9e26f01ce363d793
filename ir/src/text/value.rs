//! RON as a tree whose every part knows its place in the text.
//!
//! The grammar is ron's alone: each level is read by a ron deserializer that hands out its parts as raw text, and where
//! that text stands in the whole gives the span. A part is scanned once for every level above it, so nesting is limited.

use crate::diagnostic::{Diagnostic, Span};
use ron::value::RawValue;
use serde::de::{Deserializer as _, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de};
use std::cell::Cell;
use std::fmt;

/// A RON value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// Where it stands in the text.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// The forms of RON.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// A number with a point or an exponent, or one too large for 64 bits.
    Float(f64),
    /// A string in quotes.
    Str(String),
    /// A bare name.
    Ident(String),
    /// `1..4` and `1..=4`, as begin and end; the end is not part of it.
    Range(i128, i128),
    /// `[a, b]`.
    List(Vec<Value>),
    /// `(a, b)` or `Name(a, b)`.
    Tuple(Option<Name>, Vec<Value>),
    /// `(a: 1)` or `Name(a: 1)`.
    Struct(Option<Name>, Vec<Field>),
    /// `{"a": 1}`.
    Map(Vec<(Value, Value)>),
    /// A form that model files have no use for: characters, bytes, open ranges.
    Other,
}

/// A bare name and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// Where it stands in the text.
    pub span: Span,
    /// The name.
    pub text: String,
}

/// One `name: value` of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The name.
    pub name: Name,
    /// The value.
    pub value: Value,
}

/// The longest text that is read. Larger constants belong into a weights file.
const TEXT_LIMIT: usize = 4 << 20;

/// The most bytes that are scanned, each counted once for every level that it lies in.
const WORK_LIMIT: usize = 24 << 20;

/// ron counts two for every level of nesting: the container and the element.
const RECURSION_LIMIT: usize = 64;

/// The tree of a whole text.
///
/// # Errors
/// Where the text is not RON, is nested too deeply, or is absurdly long.
pub fn parse(text: &str) -> Result<Value, Diagnostic> {
    if text.len() > TEXT_LIMIT {
        return Err(Diagnostic::new("the file is too long for a model")
            .expected(format!("at most {TEXT_LIMIT} bytes"))
            .found(format!("{} bytes", text.len()))
            .help("put large constants into the safetensors file that `weights` names"));
    }
    let options = ron::Options::default().with_recursion_limit(RECURSION_LIMIT);
    let scan = ron::Deserializer::from_str_with_options(text, &options).and_then(|mut ron| {
        let scanned = IgnoredAny::deserialize(&mut ron).and_then(|_| ron.end());
        scanned.map_err(|error| ron.span_error(error))
    });
    if let Err(error) = scan {
        return Err(syntax(text, &error));
    }
    let work = Cell::new(0);
    let tree = Tree { text, work: &work };
    let value = tree.value(text).map_err(|error| match work.get() > WORK_LIMIT {
        true => Diagnostic::new("the file is nested too deeply for its size")
            .expected(format!("at most {WORK_LIMIT} bytes, each counted once for every level that it lies in")),
        false => Diagnostic::new(format!("the file cannot be read: {error}")),
    })?;
    match super::comments::without(&text[..value.span.start]).trim() {
        "" => Ok(value),
        attribute => {
            let start = text.find(attribute).unwrap_or(0);
            Err(Diagnostic::new("a model file has no attributes")
                .at(start..start + attribute.len())
                .help("remove the line; options are values even without `Some(...)`"))
        }
    }
}

fn syntax(text: &str, error: &ron::error::SpannedError) -> Diagnostic {
    if error.code == ron::Error::Eof && super::comments::without(text).trim().is_empty() {
        return Diagnostic::new("the file is empty")
            .expected("a model: `(fusewright: 1, name: \"...\", inputs: [...], layers: [...])`, or a training file");
    }
    let (start, end) = (offset(text, &error.span.start), offset(text, &error.span.end));
    // ron's span runs from the last token that was fine to where it stopped.
    let start = if text[start..end].contains('\n') || end == start { end } else { start };
    let end = text[start..].chars().next().map_or(end, |c| end.max(start + c.len_utf8()));
    let place =
        if start == text.len() { text.trim_end().len().saturating_sub(1)..text.trim_end().len() } else { start..end };
    let place = if text.get(place.clone()).is_some() { place } else { start..start };
    match error.code {
        ron::Error::ExceededRecursionLimit => Diagnostic::new("the file is nested too deeply")
            .at(place)
            .expected(format!("at most {} levels", RECURSION_LIMIT / 2))
            .help("a model needs about ten"),
        _ => {
            let message = error.code.to_string();
            let mut letters = message.chars();
            let first: String = letters.next().into_iter().flat_map(char::to_lowercase).collect();
            Diagnostic::new(format!("the file is not RON: {first}{}", letters.as_str())).at(place)
        }
    }
}

/// The byte at a line and column as ron counts them: from 1, in characters.
fn offset(text: &str, position: &ron::error::Position) -> usize {
    let line: usize = text.split_inclusive('\n').take(position.line - 1).map(str::len).sum();
    let mut columns = text[line..].char_indices().map(|(at, _)| at);
    columns.nth(position.col - 1).map_or(text.len(), |at| line + at)
}

/// Reads parts of one text.
#[derive(Clone, Copy)]
struct Tree<'t> {
    text: &'t str,
    work: &'t Cell<usize>,
}

impl<'t> Tree<'t> {
    fn place(self, part: &str) -> usize {
        part.as_ptr() as usize - self.text.as_ptr() as usize
    }

    /// The value at the beginning of `part`, which is a slice of the text.
    fn value(self, part: &'t str) -> Result<Value, ron::Error> {
        self.work.set(self.work.get() + part.len());
        if self.work.get() > WORK_LIMIT {
            return Err(ron::Error::ExceededRecursionLimit);
        }
        // Most parts of large constants are plain numbers, which Rust reads as ron does and ten times as fast.
        if part.bytes().all(|byte| b"0123456789.eE+-".contains(&byte)) {
            let kind = match part.contains(['.', 'e', 'E']) {
                true => part.parse().map(Kind::Float).ok(),
                false => part.parse::<i64>().map(|number| Kind::Integer(number.into())).ok(),
            };
            if let Some(kind) = kind {
                let start = self.place(part);
                return Ok(Value { span: start..start + part.len(), kind });
            }
        }
        // A deserializer skips white space and comments before it is asked for anything.
        let mut ron = ron::Deserializer::from_str(part)?;
        let begin = ron.remainder();
        let start = self.place(begin);
        let name = match ron.deserialize_identifier(Identifier) {
            Ok("inf" | "inff32" | "inff64" | "NaN" | "NaNf32" | "NaNf64") | Err(_) => None,
            Ok(word) => Some(Name { span: start..start + word.len(), text: word.to_string() }),
        };
        let Some(name) = name else {
            let mut ron = ron::Deserializer::from_str(begin)?;
            let kind = ron.deserialize_any(Form { tree: self, begin, name: None })?;
            return Ok(Value { span: start..self.place(ron.remainder()), kind });
        };
        let span = name.span.clone();
        let mut ron = ron::Deserializer::from_str(ron.remainder())?;
        let begin = ron.remainder();
        let kind = match name.text.as_str() {
            "true" => Kind::Bool(true),
            "false" => Kind::Bool(false),
            _ if begin.starts_with('(') => {
                let kind = ron.deserialize_any(Form { tree: self, begin, name: Some(name) })?;
                return Ok(Value { span: start..self.place(ron.remainder()), kind });
            }
            _ => Kind::Ident(name.text),
        };
        Ok(Value { span, kind })
    }
}

struct Identifier;

impl<'t> Visitor<'t> for Identifier {
    type Value = &'t str;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, name: &'t str) -> Result<&'t str, E> {
        Ok(name)
    }
}

impl<'t> de::DeserializeSeed<'t> for Identifier {
    type Value = &'t str;

    fn deserialize<D: de::Deserializer<'t>>(self, ron: D) -> Result<&'t str, D::Error> {
        ron.deserialize_identifier(self)
    }
}

/// Makes a [`Kind`] from what ron finds at `begin`.
struct Form<'t> {
    tree: Tree<'t>,
    begin: &'t str,
    name: Option<Name>,
}

impl<'t> Form<'t> {
    fn part<E: de::Error>(tree: Tree<'t>, raw: &'t RawValue) -> Result<Value, E> {
        tree.value(raw.get_ron()).map_err(E::custom)
    }
}

impl<'t> Visitor<'t> for Form<'t> {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("RON")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Kind, E> {
        Ok(Kind::Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Kind, E> {
        Ok(Kind::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Kind, E> {
        Ok(Kind::Float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Kind, E> {
        // ron reads `'x'` by the same way as strings.
        Ok(if self.begin.starts_with('\'') { Kind::Other } else { Kind::Str(text.to_string()) })
    }

    fn visit_char<E>(self, _: char) -> Result<Kind, E> {
        Ok(Kind::Other)
    }

    fn visit_bytes<E>(self, _: &[u8]) -> Result<Kind, E> {
        Ok(Kind::Other)
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(if self.begin.starts_with('(') { Kind::Struct(self.name, Vec::new()) } else { Kind::Other })
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut parts: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(raw) = parts.next_element::<&RawValue>()? {
            items.push(Form::part(self.tree, raw)?);
        }
        Ok(match self.begin.starts_with('[') {
            true => Kind::List(items),
            false if items.is_empty() => Kind::Struct(self.name, Vec::new()),
            false => Kind::Tuple(self.name, items),
        })
    }

    fn visit_map<A: MapAccess<'t>>(self, mut parts: A) -> Result<Kind, A::Error> {
        if self.begin.starts_with('(') {
            let mut fields = Vec::new();
            while let Some(name) = parts.next_key_seed(Identifier)? {
                let start = self.tree.place(name);
                let name = Name { span: start..start + name.len(), text: name.to_string() };
                fields.push(Field { name, value: Form::part(self.tree, parts.next_value::<&RawValue>()?)? });
            }
            return Ok(Kind::Struct(self.name, fields));
        }
        if self.begin.starts_with('{') {
            let mut pairs = Vec::new();
            while let Some(key) = parts.next_key::<&RawValue>()? {
                let key = Form::part(self.tree, key)?;
                pairs.push((key, Form::part(self.tree, parts.next_value::<&RawValue>()?)?));
            }
            return Ok(Kind::Map(pairs));
        }
        // ron tells the ends of a range, but not whether the last is part of it.
        let mut ends = std::collections::BTreeMap::new();
        while let Some(end) = parts.next_key::<String>()? {
            ends.insert(end, parts.next_value::<i128>().map_err(|_| A::Error::custom("a range has whole numbers"))?);
        }
        let dots = self.begin.find("..").unwrap_or(0);
        let past = i128::from(self.begin[dots..].starts_with("..="));
        Ok(match (ends.get("start"), ends.get("end")) {
            (Some(&start), Some(&end)) => Kind::Range(start, end + past),
            _ => Kind::Other,
        })
    }
}

impl Value {
    /// What it is, for "found": the text itself where that is short.
    pub fn describe(&self) -> String {
        match &self.kind {
            Kind::Bool(value) => format!("`{value}`"),
            Kind::Integer(number) => format!("{number}"),
            Kind::Float(number) => format!("{number:?}"),
            Kind::Str(text) => format!("the string {text:?}"),
            Kind::Ident(name) => format!("the name `{name}`"),
            Kind::Range(start, end) => format!("the range {start}..{end}"),
            Kind::List(items) if items.is_empty() => "an empty list".to_string(),
            Kind::List(items) => format!("a list of {}", count(items.len(), "value")),
            Kind::Tuple(Some(name), _) | Kind::Struct(Some(name), _) => format!("`{}(...)`", name.text),
            Kind::Tuple(None, items) => format!("a tuple of {}", count(items.len(), "value")),
            Kind::Struct(None, _) => "a struct `(...)`".to_string(),
            Kind::Map(_) => "a map `{...}`".to_string(),
            Kind::Other => "a form of RON that models do not use".to_string(),
        }
    }

    /// The name at the front, where there is one: the kind of a layer.
    pub fn name(&self) -> Option<Name> {
        match &self.kind {
            Kind::Ident(text) => Some(Name { span: self.span.clone(), text: text.clone() }),
            Kind::Tuple(name, _) | Kind::Struct(name, _) => name.clone(),
            _ => None,
        }
    }

    /// The value of a field, where it is a struct that has it.
    pub fn field(&self, name: &str) -> Option<&Value> {
        let Kind::Struct(_, fields) = &self.kind else { return None };
        fields.iter().find(|field| field.name.text == name).map(|field| &field.value)
    }

    /// The text, where it is a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            Kind::Str(text) => Some(text),
            _ => None,
        }
    }
}

/// `1 value`, `3 values`.
pub fn count(n: usize, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
