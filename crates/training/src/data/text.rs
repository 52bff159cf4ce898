//! Characters of files.

/// Decodes UTF-8 or UTF-16, with or without a byte order mark, or else Latin-1.
pub fn decode(bytes: Vec<u8>) -> String {
    match bytes[..] {
        [0xef, 0xbb, 0xbf, ref rest @ ..] => decode(rest.to_vec()),
        [0xff, 0xfe, ref rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, ref rest @ ..] => utf16(rest, u16::from_be_bytes),
        // Tables and JSON begin with ASCII, of which UTF-16 leaves one byte 0.
        [a, 0, b, 0, ..] if a != 0 && b != 0 => utf16(&bytes, u16::from_le_bytes),
        [0, a, 0, b, ..] if a != 0 && b != 0 => utf16(&bytes, u16::from_be_bytes),
        _ => String::from_utf8(bytes)
            .unwrap_or_else(|error| error.into_bytes().into_iter().map(char::from).collect()),
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (units, _) = bytes.as_chunks();
    let units = units.iter().map(|&bytes| unit(bytes));
    char::decode_utf16(units).map(|char| char.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_encodings_are_decoded() {
        let text = "ax (m/s²);μ";
        let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [
            text.as_bytes().to_vec(),
            [b"\xef\xbb\xbf", text.as_bytes()].concat(),
            [b"\xff\xfe", &little[..]].concat(),
            [b"\xfe\xff", &big[..]].concat(),
            little,
            big,
        ] {
            assert_eq!(decode(bytes.clone()), text, "{bytes:?}");
        }
        assert_eq!(decode(b"ax (m/s\xb2)".to_vec()), "ax (m/s²)");
        assert_eq!(decode(vec![0xff, 0xfe, 0x41]), "");
        assert_eq!(decode(Vec::new()), "");
    }
}
