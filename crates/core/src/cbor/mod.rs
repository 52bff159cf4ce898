//! CBOR (RFC 8949) for serde. Typed arrays (RFC 8746) are read as sequences of numbers.
//!
//! A type that can be read from JSON can be read from CBOR: keys of maps are text, and a unit variant
//! is its name. A list of numbers may be a typed array. A list of lists of numbers may be one array of
//! two dimensions, in either order.

mod arrays;
mod error;

use std::borrow::Cow;

use arrays::Number;
pub use error::CborError;
use minicbor::data::Type;
use minicbor::decode::{self, Decoder};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, DeserializeOwned, DeserializeSeed, IntoDeserializer, Visitor};

/// Deepest nesting of lists, maps and tags. It bounds the stack.
const MAX_DEPTH: usize = 64;

const TAG_ROW_MAJOR: u64 = 40;
const TAG_HOMOGENEOUS: u64 = 41;
const TAG_COLUMN_MAJOR: u64 = 1040;
const TAG_SELF_DESCRIBED: u64 = 55799;

/// Reads one value from all of `bytes`.
///
/// # Errors
/// If the bytes are not the CBOR of a `T`. The error says what is wrong and at which byte.
pub fn from_slice<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    let mut deserializer = Deserializer::from_slice(bytes);
    let value = T::deserialize(&mut deserializer).map_err(|error| error.within(0))?;
    deserializer.end()?;
    Ok(value)
}

/// Reads CBOR for serde. Allocates only for bytes that are there, never for a claimed length.
#[derive(Clone, Debug)]
pub struct Deserializer<'de> {
    decoder: Decoder<'de>,
    depth: usize,
}

impl<'de> Deserializer<'de> {
    /// A deserializer of the item that starts at the first byte.
    pub fn from_slice(bytes: &'de [u8]) -> Self {
        Self { decoder: Decoder::new(bytes), depth: 0 }
    }

    /// Checks that nothing follows the item. Call it after reading.
    ///
    /// # Errors
    /// If there are more bytes.
    pub fn end(&self) -> Result<(), CborError> {
        match self.decoder.position() {
            at if at < self.decoder.input().len() => Err(CborError::Trailing { at }),
            _ => Ok(()),
        }
    }

    fn kind(&self) -> Result<Type, CborError> {
        let at = self.decoder.position();
        self.decoder.datatype().map_err(|error| self.syntax(&error, at))
    }

    fn syntax(&self, error: &decode::Error, at: usize) -> CborError {
        match error.is_end_of_input() {
            true => CborError::End { at: self.decoder.input().len() },
            false => CborError::Malformed { at },
        }
    }

    /// Decodes a part of the item that starts here.
    fn take<T>(
        &mut self,
        decode: impl FnOnce(&mut Decoder<'de>) -> Result<T, decode::Error>,
    ) -> Result<T, CborError> {
        let at = self.decoder.position();
        decode(&mut self.decoder).map_err(|error| self.syntax(&error, at))
    }

    fn nested<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, CborError>,
    ) -> Result<T, CborError> {
        if self.depth == MAX_DEPTH {
            return Err(CborError::TooDeep { at: self.decoder.position() });
        }
        self.depth += 1;
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn text(&mut self) -> Result<Cow<'de, str>, CborError> {
        match self.kind()? {
            Type::String => self.take(|decoder| decoder.str().map(Cow::Borrowed)),
            _ => self.take(|decoder| decoder.str_iter()?.collect::<Result<_, _>>().map(Cow::Owned)),
        }
    }

    fn bytes(&mut self) -> Result<Cow<'de, [u8]>, CborError> {
        match self.kind()? {
            Type::Bytes => self.take(|decoder| decoder.bytes().map(Cow::Borrowed)),
            _ => self.take(|decoder| {
                let mut whole = Vec::new();
                for part in decoder.bytes_iter()? {
                    whole.extend_from_slice(part?);
                }
                Ok(Cow::Owned(whole))
            }),
        }
    }

    fn number(&mut self) -> Result<Number, CborError> {
        let at = self.decoder.position();
        match self.kind()? {
            Type::F16 | Type::F32 | Type::F64 => self.take(Decoder::f64).map(Number::Float),
            kind if is_number(kind) => {
                let integer = self.take(Decoder::int)?;
                Ok(match (u64::try_from(integer), i64::try_from(integer)) {
                    (Ok(value), _) => Number::Unsigned(value),
                    (_, Ok(value)) => Number::Signed(value),
                    _ => Number::Float(i128::from(integer) as f64),
                })
            }
            kind => {
                let message = format!("found {kind}, expected a number");
                Err(CborError::Data { message, at: Some(at) })
            }
        }
    }

    /// Lets `visit` read the items of a list or map, and checks that it reads all of them.
    fn items<T>(
        &mut self,
        left: Option<u64>,
        visit: impl FnOnce(&mut Items<'_, 'de>) -> Result<T, CborError>,
    ) -> Result<T, CborError> {
        self.nested(|deserializer| {
            let mut items = Items { deserializer, left };
            let value = visit(&mut items)?;
            match items.more()? {
                true => Err(de::Error::custom("the list has more items than expected")),
                false => Ok(value),
            }
        })
    }

    fn tagged<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, CborError> {
        let at = self.decoder.position();
        match self.take(Decoder::tag)?.as_u64() {
            TAG_SELF_DESCRIBED | TAG_HOMOGENEOUS => {
                self.nested(|deserializer| de::Deserializer::deserialize_any(deserializer, visitor))
            }
            tag @ (TAG_ROW_MAJOR | TAG_COLUMN_MAJOR) => {
                self.matrix(at, tag == TAG_COLUMN_MAJOR)?.visit(visitor)
            }
            tag => self.typed_array(at, tag)?.visit(visitor),
        }
    }

    fn any<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, CborError> {
        let at = self.decoder.position();
        match self.kind()? {
            Type::Bool => visitor.visit_bool(self.take(Decoder::bool)?),
            Type::Null => self.take(Decoder::null).and_then(|()| visitor.visit_unit()),
            kind if is_number(kind) => self.number()?.visit(visitor),
            Type::String | Type::StringIndef => match self.text()? {
                Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
                Cow::Owned(text) => visitor.visit_string(text),
            },
            Type::Bytes | Type::BytesIndef => match self.bytes()? {
                Cow::Borrowed(bytes) => visitor.visit_borrowed_bytes(bytes),
                Cow::Owned(bytes) => visitor.visit_byte_buf(bytes),
            },
            Type::Array | Type::ArrayIndef => {
                let length = self.take(Decoder::array)?;
                self.items(length, |items| visitor.visit_seq(items))
            }
            Type::Map | Type::MapIndef => {
                let length = self.take(Decoder::map)?;
                self.items(length, |items| visitor.visit_map(items))
            }
            Type::Tag => self.tagged(visitor),
            Type::Undefined | Type::Simple => {
                Err(CborError::Unsupported { what: "a simple value".to_owned(), at })
            }
            _ => Err(CborError::Malformed { at }),
        }
    }
}

fn is_number(kind: Type) -> bool {
    use Type::{F16, F32, F64, I8, I16, I32, I64, Int, U8, U16, U32, U64};
    matches!(kind, U8 | U16 | U32 | U64 | I8 | I16 | I32 | I64 | Int | F16 | F32 | F64)
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = CborError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        let at = self.decoder.position();
        self.any(visitor).map_err(|error| error.within(at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        match self.kind()? {
            Type::Null => self.take(Decoder::null).and_then(|()| visitor.visit_none()),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CborError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, CborError> {
        let at = self.decoder.position();
        let variant = match self.kind()? {
            Type::Map | Type::MapIndef => {
                let length = self.take(Decoder::map)?;
                self.items(length, |items| visitor.visit_enum(MapAccessDeserializer::new(items)))
            }
            Type::String | Type::StringIndef => {
                self.text().and_then(|name| visitor.visit_enum(name.into_deserializer()))
            }
            _ => Err(de::Error::custom("expected the name of a variant")),
        };
        variant.map_err(|error: CborError| error.within(at))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// The remaining items of a list or map.
struct Items<'a, 'de> {
    deserializer: &'a mut Deserializer<'de>,
    /// Number of items. `None` if a break ends them.
    left: Option<u64>,
}

impl Items<'_, '_> {
    /// Whether an item, or a key with its value, follows. If so, counts it as read.
    fn more(&mut self) -> Result<bool, CborError> {
        match &mut self.left {
            Some(0) => return Ok(false),
            Some(left) => *left -= 1,
            None if self.deserializer.kind()? == Type::Break => {
                let decoder = &mut self.deserializer.decoder;
                decoder.set_position(decoder.position() + 1);
                self.left = Some(0);
                return Ok(false);
            }
            None => {}
        }
        Ok(true)
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = CborError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, CborError> {
        match self.more()? {
            true => seed.deserialize(&mut *self.deserializer).map(Some),
            false => Ok(None),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        let decoder = &self.deserializer.decoder;
        let possible = decoder.input().len() - decoder.position();
        self.left.map(|left| possible.min(usize::try_from(left).unwrap_or(usize::MAX)))
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, 'de> {
    type Error = CborError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, CborError> {
        if !self.more()? {
            return Ok(None);
        }
        match self.deserializer.kind()? {
            Type::String | Type::StringIndef => seed.deserialize(&mut *self.deserializer).map(Some),
            // A derived struct would take a number as the position of a field.
            _ => Err(CborError::Unsupported {
                what: "a key that is not text".to_owned(),
                at: self.deserializer.decoder.position(),
            }),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, CborError> {
        seed.deserialize(&mut *self.deserializer)
    }
}

#[cfg(test)]
mod tests;
