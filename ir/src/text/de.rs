//! Serde types from the tree, with the place of every fault.

use super::value::{Field, Kind, Value, count};
use crate::diagnostic::{Span, closest};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, Expected, MapAccess, SeqAccess, Unexpected, VariantAccess,
    Visitor,
};
use std::fmt;

/// A field that does not fit its layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldError {
    /// The place; empty at 0 until the reader fills it in.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What would have been right.
    pub expected: Option<String>,
    /// What is there.
    pub found: Option<String>,
    /// How to mend it.
    pub help: Option<String>,
    /// Where a field is unknown: its name, and those that are known.
    pub unknown: Option<Box<(String, Vec<String>)>>,
}

impl FieldError {
    /// A fault of this value.
    pub fn at(value: &Value, message: impl Into<String>) -> FieldError {
        FieldError { span: value.span.clone(), message: message.into(), ..FieldError::default() }
    }

    /// Sets what would have been right.
    pub fn with_expected(self, expected: impl Into<String>) -> FieldError {
        FieldError { expected: Some(expected.into()), ..self }
    }

    /// Sets what is there instead.
    pub fn found_at(self, value: &Value) -> FieldError {
        FieldError { found: Some(value.describe()), ..self }
    }

    /// An unknown name in the place of a field's.
    pub fn unknown_field(span: Span, name: &str, known: Vec<String>) -> FieldError {
        let mut error = FieldError { span, message: format!("unknown field `{name}`"), ..FieldError::default() };
        error.expected = Some(match known.is_empty() {
            true => "no fields".to_string(),
            false => known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
        });
        error.help = closest(name, known.iter().map(String::as_str)).map(|meant| format!("did you mean `{meant}`?"));
        error.unknown = Some(Box::new((name.to_string(), known)));
        error
    }

    /// Fills in the place and what stands there, unless an inner value has done so.
    pub(super) fn or_at(mut self, value: &Value) -> FieldError {
        if self.span == Span::default() {
            self.span = value.span.clone();
            if self.found.is_none() && self.expected.is_some() && self.unknown.is_none() {
                self.found = Some(value.describe());
            }
        }
        self
    }

    /// Fills in the place, what stands there and the field's name, unless an inner value has done so.
    pub(super) fn or_in(self, field: &Field) -> FieldError {
        let mut error = self.or_at(&field.value);
        if error.message.is_empty() {
            error.message = format!("`{}` does not fit", field.name.text);
        }
        error
    }

    fn expecting(expected: &str) -> FieldError {
        let words = match expected {
            "u8" => "a whole number from 0 to 255",
            "u32" | "usize" => "a whole number from 0 to 4294967295",
            "u64" => "a whole number, 0 or more",
            "i32" => "a whole number from -2147483648 to 2147483647",
            "i64" => "a whole number",
            "f32" | "f64" => "a number",
            "a boolean" => "`true` or `false`",
            "a string" => "a string in quotes",
            "a sequence" => "a list",
            "a tuple of size 2" => "two values: `(a, b)`",
            other => other.strip_prefix("struct ").map_or(other, |_| "a struct `(...)` with named fields"),
        };
        FieldError { expected: Some(words.to_string()), ..FieldError::default() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FieldError {}

impl Error for FieldError {
    /// `expected a, found b` is taken apart; any other message of a type is what it expects.
    fn custom<T: fmt::Display>(message: T) -> FieldError {
        let message = message.to_string();
        match message.strip_prefix("expected ").map(|rest| rest.split_once(", found ").unwrap_or((rest, ""))) {
            Some((expected, found)) => FieldError {
                expected: Some(expected.to_string()),
                found: Some(found.to_string()).filter(|found| !found.is_empty()),
                ..FieldError::default()
            },
            None if message.starts_with("data did not match") => FieldError::expecting("another form of value"),
            None => FieldError::expecting(&message),
        }
    }

    fn invalid_type(_: Unexpected, expected: &dyn Expected) -> FieldError {
        FieldError::expecting(&expected.to_string())
    }

    fn invalid_value(_: Unexpected, expected: &dyn Expected) -> FieldError {
        FieldError::expecting(&expected.to_string())
    }

    fn invalid_length(length: usize, expected: &dyn Expected) -> FieldError {
        let error = FieldError::expecting(&expected.to_string());
        FieldError { found: Some(count(length, "value")), ..error }
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> FieldError {
        let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        FieldError {
            expected: Some(match names.as_slice() {
                [one] => one.clone(),
                _ => format!("one of {}", names.join(", ")),
            }),
            found: Some(format!("`{variant}`")),
            help: closest(variant, known.iter().copied()).map(|meant| format!("did you mean `{meant}`?")),
            ..FieldError::default()
        }
    }

    fn unknown_field(field: &str, known: &'static [&'static str]) -> FieldError {
        FieldError::unknown_field(Span::default(), field, known.iter().map(ToString::to_string).collect())
    }

    fn missing_field(field: &'static str) -> FieldError {
        FieldError {
            message: format!("`{field}` is missing"),
            help: Some(format!("add `{field}: ...`")),
            ..FieldError::default()
        }
    }

    fn duplicate_field(field: &'static str) -> FieldError {
        FieldError { message: format!("`{field}` is given twice"), ..FieldError::default() }
    }
}

impl<'de> Deserializer<'de> for &'de Value {
    type Error = FieldError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        let result = match &self.kind {
            Kind::Bool(value) => visitor.visit_bool(*value),
            Kind::Integer(number) => match (u64::try_from(*number), i64::try_from(*number)) {
                (Ok(number), _) => visitor.visit_u64(number),
                (_, Ok(number)) => visitor.visit_i64(number),
                _ => visitor.visit_f64(*number as f64),
            },
            Kind::Float(number) => visitor.visit_f64(*number),
            Kind::Str(text) => visitor.visit_borrowed_str(text),
            Kind::Ident(name) if name == "None" => visitor.visit_none(),
            Kind::Ident(name) => visitor.visit_borrowed_str(name),
            Kind::List(items) | Kind::Tuple(None, items) => Items::visit(items, visitor),
            Kind::Struct(None, fields) => visitor.visit_map(Fields::of(fields)),
            Kind::Map(pairs) => visitor.visit_map(Pairs { pairs: pairs.iter(), value: None }),
            Kind::Tuple(..) | Kind::Struct(..) | Kind::Range(..) | Kind::Other => {
                Err(Error::invalid_type(Unexpected::Other("form"), &visitor))
            }
        };
        result.map_err(|error: FieldError| error.or_at(self))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match &self.kind {
            Kind::Ident(name) if name == "None" => visitor.visit_none(),
            Kind::Tuple(Some(name), items) if name.text == "Some" && items.len() == 1 => visitor.visit_some(&items[0]),
            _ => visitor.visit_some(self),
        }
    }

    /// A bare name is text only where a variant may stand.
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        match &self.kind {
            Kind::Str(text) => visitor.visit_borrowed_str(text).map_err(|error: FieldError| error.or_at(self)),
            _ => Err(FieldError::expecting("a string").or_at(self)),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, FieldError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, FieldError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        match &self.kind {
            Kind::Struct(_, fields) => {
                visitor.visit_map(Fields::of(fields)).map_err(|error: FieldError| error.or_at(self))
            }
            Kind::Map(_) => self.deserialize_any(visitor),
            _ => Err(FieldError::expecting("struct ").or_at(self)),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, FieldError> {
        let variant = match &self.kind {
            Kind::Ident(name) | Kind::Str(name) => Variant { name, value: None },
            Kind::Tuple(Some(name), _) | Kind::Struct(Some(name), _) => Variant { name: &name.text, value: Some(self) },
            _ => {
                return Err(
                    FieldError { found: Some(self.describe()), ..Error::unknown_variant("", variants) }.or_at(self)
                );
            }
        };
        visitor.visit_enum(variant).map_err(|error: FieldError| error.or_at(self))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Items<'v>(std::slice::Iter<'v, Value>);

impl<'v> Items<'v> {
    /// Gives all items to a visitor; it is a fault to leave some.
    fn visit<V: Visitor<'v>>(items: &'v [Value], visitor: V) -> Result<V::Value, FieldError> {
        let mut rest = Items(items.iter());
        let value = visitor.visit_seq(&mut rest)?;
        match rest.0.len() {
            0 => Ok(value),
            more => {
                let expected = FieldError::expecting(&count(items.len() - more, "value"));
                Err(FieldError { found: Some(count(items.len(), "value")), ..expected })
            }
        }
    }
}

impl<'v> SeqAccess<'v> for Items<'v> {
    type Error = FieldError;

    fn next_element_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<Option<T::Value>, FieldError> {
        self.0.next().map(|item| seed.deserialize(item)).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

/// The fields of a struct; a name given twice is refused whatever the target does about it.
struct Fields<'v> {
    all: &'v [Field],
    next: usize,
    open: bool,
}

impl<'v> Fields<'v> {
    fn of(all: &'v [Field]) -> Fields<'v> {
        Fields { all, next: 0, open: false }
    }
}

impl<'v> MapAccess<'v> for Fields<'v> {
    type Error = FieldError;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, FieldError> {
        debug_assert!(!self.open, "serde asks for a value after each key");
        let Some(Field { name, .. }) = self.all.get(self.next) else { return Ok(None) };
        if self.all[..self.next].iter().any(|earlier| earlier.name.text == name.text) {
            let message = format!("`{}` is given twice", name.text);
            return Err(FieldError { span: name.span.clone(), message, ..FieldError::default() });
        }
        self.open = true;
        let key = serde::de::value::BorrowedStrDeserializer::<FieldError>::new(&name.text);
        let place = |error: FieldError| match error.span == Span::default() {
            true => FieldError { span: name.span.clone(), ..error },
            false => error,
        };
        seed.deserialize(key).map(Some).map_err(place)
    }

    fn next_value_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<T::Value, FieldError> {
        let field = &self.all[self.next];
        (self.next, self.open) = (self.next + 1, false);
        seed.deserialize(&field.value).map_err(|error| error.or_in(field))
    }
}

struct Pairs<'v> {
    pairs: std::slice::Iter<'v, (Value, Value)>,
    value: Option<&'v Value>,
}

impl<'v> MapAccess<'v> for Pairs<'v> {
    type Error = FieldError;

    fn next_key_seed<K: DeserializeSeed<'v>>(&mut self, seed: K) -> Result<Option<K::Value>, FieldError> {
        let Some((key, value)) = self.pairs.next() else { return Ok(None) };
        self.value = Some(value);
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'v>>(&mut self, seed: T) -> Result<T::Value, FieldError> {
        seed.deserialize(self.value.take().expect("serde asks for a key before each value"))
    }
}

struct Variant<'v> {
    name: &'v str,
    value: Option<&'v Value>,
}

impl<'v> EnumAccess<'v> for Variant<'v> {
    type Error = FieldError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'v>>(self, seed: T) -> Result<(T::Value, Self), FieldError> {
        let name = serde::de::value::BorrowedStrDeserializer::<FieldError>::new(self.name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'v> VariantAccess<'v> for Variant<'v> {
    type Error = FieldError;

    fn unit_variant(self) -> Result<(), FieldError> {
        match self.value {
            None => Ok(()),
            Some(value) => match &value.kind {
                Kind::Struct(_, fields) if fields.is_empty() => Ok(()),
                _ => Err(FieldError::expecting(&format!("`{}` alone", self.name)).or_at(value)),
            },
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'v>>(self, seed: T) -> Result<T::Value, FieldError> {
        match self.value.map(|value| &value.kind) {
            Some(Kind::Tuple(_, items)) if items.len() == 1 => seed.deserialize(&items[0]),
            _ => Err(FieldError::expecting(&format!("`{}(...)` with one value", self.name))),
        }
    }

    fn tuple_variant<V: Visitor<'v>>(self, len: usize, visitor: V) -> Result<V::Value, FieldError> {
        match self.value.map(|value| &value.kind) {
            Some(Kind::Tuple(_, items)) if items.len() == len => Items::visit(items, visitor),
            _ => Err(FieldError::expecting(&format!("`{}(...)` with {len} values", self.name))),
        }
    }

    fn struct_variant<V: Visitor<'v>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, FieldError> {
        match self.value {
            Some(value) => match &value.kind {
                Kind::Struct(_, fields) => visitor.visit_map(Fields::of(fields)),
                _ => Err(FieldError::expecting("struct ").or_at(value)),
            },
            None => visitor.visit_map(Fields { all: &[], next: 0, open: false }),
        }
    }
}
