//! Numbers, and typed and multi-dimensional arrays (RFC 8746, sections 2 and 3.1).

use std::borrow::Cow;
use std::iter::StepBy;
use std::ops::Range;

use minicbor::data::Type;
use minicbor::decode::Decoder;
use serde::de::value::SeqDeserializer;
use serde::de::{self, Deserialize, IntoDeserializer, Visitor};

use super::{CborError, Deserializer, TAG_HOMOGENEOUS};

/// A number of any kind, without loss. Integers below -2^63 are rounded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
}

impl Number {
    pub fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        match self {
            Self::Unsigned(value) => visitor.visit_u64(value),
            Self::Signed(value) => visitor.visit_i64(value),
            Self::Float(value) => visitor.visit_f64(value),
        }
    }
}

impl<'de> de::Deserializer<'de> for Number {
    type Error = CborError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        self.visit(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, CborError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, CborError> {
        visitor.visit_newtype_struct(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

impl IntoDeserializer<'_, CborError> for Number {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// The kind of a typed array's elements.
#[derive(Clone, Copy)]
pub(super) struct Element {
    float: bool,
    signed: bool,
    little_endian: bool,
    bytes: usize,
}

impl Element {
    /// The elements for a tag with the bits `0b010_f_s_e_ll` (RFC 8746, section 2.1). `None` for other
    /// tags, the reserved 76, and floats of 128 bits.
    fn of_tag(tag: u64) -> Option<Self> {
        const RESERVED: u64 = 76;
        let float = tag & 16 != 0;
        let bytes = 1 << ((tag & 3) + u64::from(float));
        ((64..88).contains(&tag) && tag != RESERVED && bytes <= 8).then_some(Self {
            float,
            signed: tag & 8 != 0,
            little_endian: tag & 4 != 0,
            bytes,
        })
    }

    #[inline]
    fn number(self, bytes: &[u8]) -> Number {
        let bits = match *bytes {
            [a] => a.into(),
            [a, b] => u16::from_le_bytes([a, b]).into(),
            [a, b, c, d] => u32::from_le_bytes([a, b, c, d]).into(),
            [a, b, c, d, e, f, g, h] => u64::from_le_bytes([a, b, c, d, e, f, g, h]),
            _ => unreachable!("elements have 1, 2, 4 or 8 bytes"),
        };
        let bits = match self.little_endian {
            true => bits,
            false => bits.swap_bytes() >> (64 - 8 * self.bytes),
        };
        match (self.float, self.bytes) {
            (true, 2) => Number::Float(f64::from(half(bits as u16))),
            (true, 4) => Number::Float(f64::from(f32::from_bits(bits as u32))),
            (true, _) => Number::Float(f64::from_bits(bits)),
            (false, _) if self.signed => {
                let unused = 64 - 8 * self.bytes;
                Number::Signed((bits << unused) as i64 >> unused)
            }
            (false, _) => Number::Unsigned(bits),
        }
    }
}

fn half(bits: u16) -> f32 {
    let [high, low] = bits.to_be_bytes();
    Decoder::new(&[0xf9, high, low]).f16().expect("0xf9 and two bytes are a half-precision float")
}

/// Numbers in one dimension.
pub(super) enum Array<'de> {
    Typed { element: Element, bytes: Cow<'de, [u8]> },
    List(Vec<Number>),
}

impl Array<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Typed { element, bytes } => bytes.len() / element.bytes,
            Self::List(numbers) => numbers.len(),
        }
    }

    #[inline]
    fn get(&self, index: usize) -> Number {
        match self {
            Self::Typed { element, bytes } => {
                element.number(&bytes[index * element.bytes..][..element.bytes])
            }
            Self::List(numbers) => numbers[index],
        }
    }

    pub fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, CborError> {
        visit(Line { array: self, indices: (0..self.len()).step_by(1) }, visitor)
    }
}

/// Numbers in two dimensions.
pub(super) struct Matrix<'de> {
    array: Array<'de>,
    rows: usize,
    columns: usize,
    column_major: bool,
}

impl Matrix<'_> {
    pub fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, CborError> {
        let row = |row: usize| {
            let indices = match self.column_major {
                true => (row..self.array.len()).step_by(self.rows),
                false => (row * self.columns..(row + 1) * self.columns).step_by(1),
            };
            Line { array: &self.array, indices }
        };
        visit((0..self.rows).map(row), visitor)
    }
}

fn visit<'de, V: Visitor<'de>>(
    sequence: impl Iterator<Item: IntoDeserializer<'de, CborError>>,
    visitor: V,
) -> Result<V::Value, CborError> {
    de::Deserializer::deserialize_any(SeqDeserializer::new(sequence), visitor)
}

/// Evenly spaced numbers of an array.
struct Line<'a, 'de> {
    array: &'a Array<'de>,
    indices: StepBy<Range<usize>>,
}

impl Iterator for Line<'_, '_> {
    type Item = Number;

    #[inline]
    fn next(&mut self) -> Option<Number> {
        self.indices.next().map(|index| self.array.get(index))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.indices.size_hint()
    }
}

impl IntoDeserializer<'_, CborError> for Line<'_, '_> {
    type Deserializer = SeqDeserializer<Self, CborError>;

    fn into_deserializer(self) -> Self::Deserializer {
        SeqDeserializer::new(self)
    }
}

impl<'de> Deserializer<'de> {
    /// Reads the array after its tag, which is at byte `at`.
    pub(super) fn typed_array(&mut self, at: usize, tag: u64) -> Result<Array<'de>, CborError> {
        let Some(element) = Element::of_tag(tag) else {
            return Err(CborError::Unsupported { what: format!("tag {tag}"), at });
        };
        if !matches!(self.kind()?, Type::Bytes | Type::BytesIndef) {
            let problem = "is typed, so it needs a byte string".to_owned();
            return Err(CborError::Array { problem, at });
        }
        let bytes = self.bytes()?;
        if bytes.len() % element.bytes != 0 {
            let problem =
                format!("has {} bytes, but elements of {} bytes", bytes.len(), element.bytes);
            return Err(CborError::Array { problem, at });
        }
        Ok(Array::Typed { element, bytes })
    }

    /// Reads the matrix after its tag, which is at byte `at`: a list of the dimensions, rows first, and
    /// the elements.
    pub(super) fn matrix(
        &mut self,
        at: usize,
        column_major: bool,
    ) -> Result<Matrix<'de>, CborError> {
        let wrong = |problem: &str| CborError::Array { problem: problem.to_owned(), at };
        if !matches!(self.kind()?, Type::Array | Type::ArrayIndef) {
            return Err(wrong("needs a list of its dimensions and its elements"));
        }
        let length = self.take(Decoder::array)?;
        let ((rows, columns), array) = self.items(length, |items| {
            if !items.more()? {
                return Err(wrong("has no dimensions"));
            }
            let [rows, columns] = <[usize; 2]>::deserialize(&mut *items.deserializer)?;
            if !items.more()? {
                return Err(wrong("has no elements"));
            }
            Ok(((rows, columns), items.deserializer.elements(at)?))
        })?;
        // Without elements, a matrix of no columns could claim any number of rows.
        if array.len() == 0 || rows.checked_mul(columns) != Some(array.len()) {
            let problem = format!("claims {rows} x {columns} elements, but has {}", array.len());
            return Err(CborError::Array { problem, at });
        }
        Ok(Matrix { array, rows, columns, column_major })
    }

    /// Reads the elements of the matrix at byte `matrix_at`.
    fn elements(&mut self, matrix_at: usize) -> Result<Array<'de>, CborError> {
        let at = self.decoder.position();
        match self.kind()? {
            Type::Tag => match self.take(Decoder::tag)?.as_u64() {
                TAG_HOMOGENEOUS => self.nested(|deserializer| deserializer.elements(matrix_at)),
                tag => self.typed_array(at, tag),
            },
            Type::Array | Type::ArrayIndef => {
                let length = self.take(Decoder::array)?;
                self.items(length, |items| {
                    let mut numbers = Vec::new();
                    while items.more()? {
                        numbers.push(items.deserializer.number()?);
                    }
                    Ok(Array::List(numbers))
                })
            }
            _ => Err(CborError::Array {
                problem: "needs a list or a typed array as its second item".to_owned(),
                at: matrix_at,
            }),
        }
    }
}
