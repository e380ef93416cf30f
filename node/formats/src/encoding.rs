//! From a message's bytes to its text: the encoding is that of its byte order mark, or the one that its
//! XML declaration names, by the names of the WHATWG Encoding Standard, or else UTF-8.

use std::borrow::Cow;

use encoding_rs::{DecoderResult, Encoding, UTF_8, UTF_16BE, UTF_16LE, X_USER_DEFINED};

use super::error::quoted;

/// Why bytes are not text.
#[derive(Debug)]
pub(super) struct Undecoded {
    /// What was read before.
    pub(super) before: String,
    pub(super) reason: String,
}

/// The text of a document, without its byte order mark.
///
/// # Errors
/// Where the encoding is not known, the bytes are not of it, or declaration and bytes contradict each
/// other.
pub(super) fn decode(bytes: &[u8]) -> Result<Cow<'_, str>, Undecoded> {
    let fault = |reason| Undecoded { before: String::new(), reason };
    if bytes.starts_with(&[0, 0, 0xfe, 0xff]) || bytes.starts_with(&[0xff, 0xfe, 0, 0]) {
        return Err(fault("encoding UTF-32 is not read".to_owned()));
    }
    if let Some((encoding, mark)) = Encoding::for_bom(bytes) {
        let text = text_of(encoding, &bytes[mark..])?;
        check_declared(encoding, &text, "the byte order mark says").map_err(fault)?;
        return Ok(text);
    }
    // Without a mark, the first `<` tells 16 bits from 8.
    for (encoding, start) in [(UTF_16LE, [b'<', 0]), (UTF_16BE, [0, b'<'])] {
        if bytes.starts_with(&start) {
            let text = text_of(encoding, bytes)?;
            check_declared(encoding, &text, "the bytes are").map_err(fault)?;
            return Ok(text);
        }
    }
    let start = declaration_of(bytes);
    let encoding = match declared(&start) {
        Some(name) => known(name).map_err(fault)?,
        None => UTF_8,
    };
    if is_utf_16(encoding) {
        let name = quoted(declared(&start).unwrap_or_default());
        return Err(fault(format!(
            "the XML declaration names the encoding {name}, but the bytes are not of it: write what \
             they are, or leave it out for UTF-8"
        )));
    }
    text_of(encoding, bytes)
}

/// Checks that a document that is read as one encoding does not declare another.
fn check_declared(encoding: &'static Encoding, text: &str, but: &str) -> Result<(), String> {
    let Some(name) = declared(text) else { return Ok(()) };
    let found = known(name)?;
    if found == encoding || is_utf_16(found) && is_utf_16(encoding) {
        return Ok(());
    }
    Err(format!(
        "the XML declaration names the encoding {}, but {but} {}",
        quoted(name),
        encoding.name()
    ))
}

fn is_utf_16(encoding: &'static Encoding) -> bool {
    encoding == UTF_16LE || encoding == UTF_16BE
}

fn known(name: &str) -> Result<&'static Encoding, String> {
    Encoding::for_label_no_replacement(name.as_bytes())
        .filter(|encoding| *encoding != X_USER_DEFINED)
        .ok_or_else(|| {
            format!("encoding {} is not one of the WHATWG Encoding Standard", quoted(name))
        })
}

/// The XML declaration at the start of bytes, in which each byte is a character until the encoding is
/// known; empty where there is none.
fn declaration_of(bytes: &[u8]) -> String {
    let end = bytes.windows(2).position(|two| two == b"?>");
    let end = end.filter(|_| bytes.starts_with(b"<?xml")).map_or(0, |at| at + 2);
    bytes[..end].iter().copied().map(char::from).collect()
}

/// The encoding that an XML declaration at the start of a text names.
fn declared(text: &str) -> Option<&str> {
    let is_space = |c: char| " \t\r\n".contains(c);
    let rest = text.strip_prefix("<?xml").filter(|rest| rest.starts_with(is_space))?;
    let declaration = &rest[..rest.find("?>")?];
    let mut from = declaration;
    loop {
        let (before, after) = from.split_once("encoding")?;
        let value = after.trim_start().strip_prefix('=').map(str::trim_start);
        let quote = value.and_then(|value| value.chars().next()).filter(|c| "\"'".contains(*c));
        match (value, quote) {
            (Some(value), Some(quote)) if before.ends_with(is_space) => {
                return value[1..].split_once(quote).map(|(name, _)| name);
            }
            _ => from = after,
        }
    }
}

fn text_of<'b>(encoding: &'static Encoding, bytes: &'b [u8]) -> Result<Cow<'b, str>, Undecoded> {
    if encoding == UTF_8 {
        return std::str::from_utf8(bytes).map(Cow::Borrowed).map_err(|error| {
            let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]).into_owned();
            Undecoded { before, reason: "not UTF-8 text".to_owned() }
        });
    }
    let mut decoder = encoding.new_decoder_without_bom_handling();
    let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len());
    let mut text = String::with_capacity(room.unwrap_or(0));
    match decoder.decode_to_string_without_replacement(bytes, &mut text, true) {
        (DecoderResult::InputEmpty, _) => Ok(Cow::Owned(text)),
        (DecoderResult::Malformed(..) | DecoderResult::OutputFull, _) => {
            Err(Undecoded { before: text, reason: format!("not {} text", encoding.name()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf_16(text: &str, big: bool) -> Vec<u8> {
        let bytes = |unit: u16| if big { unit.to_be_bytes() } else { unit.to_le_bytes() };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn a_declared_encoding_is_read_by_its_whatwg_name() {
        for (name, bytes, text) in [
            ("ISO-8859-1", &b"Soci\xe9t\xe9"[..], "Société"),
            ("latin1", b"\x80", "€"),
            ("windows-1252", b"\x93x\x94", "“x”"),
            ("iso-8859-2", b"\xb3", "ł"),
            ("ISO-8859-15", b"\xa4", "€"),
            ("windows-1251", b"\xcc\xee", "Мо"),
            ("koi8-r", b"\xed", "М"),
            ("EUC-KR", b"\xb0\xfc\xbc\xbc", "관세"),
            ("ks_c_5601-1987", b"\xb0\xfc", "관"),
            ("GB18030", b"\xd4\xc1", "粤"),
            ("Shift_JIS", b"\x96\xf2", "薬"),
            ("Big5", b"\xb5\xa7", "筆"),
            ("us-ascii", b"x", "x"),
            ("utf8", "é".as_bytes(), "é"),
        ] {
            for quote in ['"', '\''] {
                let start =
                    format!("<?xml version={quote}1.0{quote} encoding = {quote}{name}{quote}?><a>");
                let document = [start.as_bytes(), bytes].concat();
                let read = decode(&document).expect(name);
                assert_eq!(read.split_once("<a>").map(|(_, text)| text), Some(text), "{name}");
            }
        }
    }

    #[test]
    fn sixteen_bits_are_read_with_a_byte_order_mark_and_by_the_first_tag() {
        for declaration in ["", "<?xml version='1.0' encoding='UTF-16'?>"] {
            let text = format!("{declaration}<a>関税</a>");
            for big in [false, true] {
                let marked = utf_16(&format!("\u{feff}{text}"), big);
                assert_eq!(decode(&marked).expect("marked"), text);
                assert_eq!(decode(&utf_16(&text, big)).expect("unmarked"), text);
            }
        }
        assert_eq!(decode("\u{feff}<a/>".as_bytes()).expect("UTF-8"), "<a/>");
    }

    #[test]
    fn a_declaration_that_contradicts_the_bytes_is_named_as_that() {
        let named = |name: &str| format!("<?xml version='1.0' encoding='{name}'?><a/>");
        for (bytes, reasons) in [
            (
                named("utf-16").into_bytes(),
                ["names the encoding \"utf-16\"", "bytes are not of it"],
            ),
            (named("UTF-16LE").into_bytes(), ["names the encoding", "bytes are not of it"]),
            (utf_16(&named("UTF-8"), false), ["\"UTF-8\"", "the bytes are UTF-16LE"]),
            (
                format!("\u{feff}{}", named("ISO-8859-1")).into_bytes(),
                ["\"ISO-8859-1\"", "the byte order mark says UTF-8"],
            ),
            (named("EBCDIC-CP-US").into_bytes(), ["\"EBCDIC-CP-US\"", "not one of the WHATWG"]),
            (named("utf-7").into_bytes(), ["utf-7", "not one of the WHATWG"]),
            (named("x-user-defined").into_bytes(), ["x-user-defined", "not one of the WHATWG"]),
            (named("iso-2022-kr").into_bytes(), ["iso-2022-kr", "not one of the WHATWG"]),
            (vec![0xff, 0xfe, 0, 0, b'<', 0, 0, 0], ["UTF-32", "not read"]),
            ([named("euc-kr").as_bytes(), b"\xff"].concat(), ["not EUC-KR text", ""]),
            (vec![0xff, 0xfe, 0, 0xd8], ["not UTF-16LE text", ""]),
            (vec![0xff, 0xfe, 0], ["not UTF-16LE text", ""]),
            (b"<a>\xe9".to_vec(), ["not UTF-8 text", ""]),
        ] {
            let reason = decode(&bytes).expect_err("refused").reason;
            assert!(reasons.iter().all(|part| reason.contains(part)), "{bytes:?}: {reason}");
        }
    }

    #[test]
    fn a_declaration_is_read_however_long_it_is() {
        let declaration = format!("<?xml version='1.0'{}encoding='latin1'?>", " ".repeat(4096));
        let document = [declaration.as_bytes(), b"<a>\xe9</a>"].concat();
        assert!(decode(&document).expect("Latin-1").ends_with("<a>é</a>"));
    }

    #[test]
    fn only_the_declaration_declares() {
        for text in [
            "<a encoding='x'/>",
            "<?xml version='1.0'?><a encoding='utf-16'/>",
            "<?xml",
            "<?xml-stylesheet href='a.xsl' encoding='utf-16'?><a/>",
        ] {
            assert_eq!(decode(text.as_bytes()).expect(text), text);
        }
    }
}
