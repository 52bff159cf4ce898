//! The header of a safetensors file.

use std::fmt;
use std::ops::Range;

use serde::de::{self, Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Types of tensors in model files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    F32,
    I8,
    U8,
}

impl Type {
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::I8 | Self::U8 => 1,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::I8 => "I8",
            Self::U8 => "U8",
        }
    }
}

pub(super) struct Header {
    /// `__metadata__`.
    entries: Vec<(String, Json)>,
    /// In the order of their bytes.
    tensors: Vec<TensorInfo>,
}

pub(super) struct TensorInfo {
    pub name: String,
    /// The name of its type.
    pub dtype: String,
    pub shape: Vec<usize>,
    /// Where it is, after the header.
    pub bytes: Range<usize>,
}

impl Header {
    /// Reads the header. The tensors must lie one after the other.
    pub fn read(json: &[u8]) -> Result<Self, serde_json::Error> {
        let Json::Object(mut fields) = serde_json::from_slice(json)? else {
            return Err(Error::custom("a header is an object"));
        };
        let entries = match take(&mut fields, "__metadata__") {
            Some(Json::Object(entries)) => entries,
            Some(_) => return Err(Error::custom("__metadata__ is not an object")),
            None => Vec::new(),
        };
        let mut tensors = Vec::new();
        for (name, json) in fields {
            let problem = "a tensor has dtype, shape and data_offsets, and nothing else";
            let (dtype, shape, bytes) = tensor(json).ok_or_else(|| Error::custom(problem))?;
            tensors.push(TensorInfo { name, dtype, shape, bytes });
        }
        tensors.sort_by_key(|tensor| (tensor.bytes.start, tensor.bytes.end));
        let mut end = 0;
        for TensorInfo { bytes, .. } in &tensors {
            if bytes.start != end || bytes.end < end {
                return Err(Error::custom("the tensors overlap or leave gaps"));
            }
            end = bytes.end;
        }
        Ok(Self { entries, tensors })
    }

    /// A text of the metadata.
    pub fn entry(&self, key: &str) -> Option<&str> {
        self.entries.iter().find_map(|(found, value)| match value {
            Json::Text(text) if found == key => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// Bytes of all tensors.
    pub fn data_len(&self) -> usize {
        self.tensors.last().map_or(0, |tensor| tensor.bytes.end)
    }
}

fn take(fields: &mut Vec<(String, Json)>, key: &str) -> Option<Json> {
    let at = fields.iter().position(|(found, _)| found == key)?;
    Some(fields.swap_remove(at).1)
}

/// Type, shape and bytes.
fn tensor(json: Json) -> Option<(String, Vec<usize>, Range<usize>)> {
    let Json::Object(mut fields) = json else { return None };
    let Json::Text(dtype) = take(&mut fields, "dtype")? else { return None };
    let shape = take(&mut fields, "shape")?.whole_numbers()?;
    let offsets = take(&mut fields, "data_offsets")?.whole_numbers()?;
    let &[start, end] = &offsets[..] else { return None };
    fields.is_empty().then_some((dtype, shape, start..end))
}

/// JSON without repeated keys. One type for all of a header: a parser for each part would take more
/// bytes in WebAssembly than the network.
#[derive(Debug, PartialEq)]
pub(super) enum Json {
    Number(f64),
    Text(String),
    List(Vec<Json>),
    /// Sorted by key.
    Object(Vec<(String, Json)>),
    /// `null`, `true` or `false`.
    Other,
}

impl Json {
    fn whole_numbers(self) -> Option<Vec<usize>> {
        let Self::List(items) = self else { return None };
        let whole = |json| match json {
            Self::Number(number)
                if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) =>
            {
                Some(number as usize)
            }
            _ => None,
        };
        items.into_iter().map(whole).collect()
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json::Other)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Json, E> {
        Ok(Json::Number(number as f64))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Json, E> {
        Ok(Json::Number(number))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Json, E> {
        Ok(Json::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Json::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let mut fields = Vec::new();
        while let Some(field) = map.next_entry::<String, Json>()? {
            fields.push(field);
        }
        fields.sort_by(|(a, _), (b, _)| a.cmp(b));
        match fields.array_windows().any(|[(a, _), (b, _)]| a == b) {
            true => Err(Error::custom("a key is repeated")),
            false => Ok(Json::Object(fields)),
        }
    }
}
