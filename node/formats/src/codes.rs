//! The form of codes. Only warns: code lists change, and real messages break them.

/// What a container number looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Container {
    /// Owner, category, serial number and the right check digit (ISO 6346).
    Good,
    /// The form is right, the check digit is not.
    WrongCheckDigit,
    /// Another form, such as a trailer's plate.
    OtherForm,
}

/// Checks a container number against ISO 6346.
pub(super) fn container(id: &str) -> Container {
    let bytes = id.as_bytes();
    let form = bytes.len() == 11
        && bytes[..3].iter().all(u8::is_ascii_uppercase)
        && matches!(bytes[3], b'U' | b'J' | b'Z')
        && bytes[4..].iter().all(u8::is_ascii_digit);
    if !form {
        return Container::OtherForm;
    }
    let sum: u32 = bytes[..10].iter().zip(0..).map(|(byte, power)| weight(*byte) << power).sum();
    if sum % 11 % 10 == u32::from(bytes[10] - b'0') {
        Container::Good
    } else {
        Container::WrongCheckDigit
    }
}

/// Whether a container number has the form of ISO 6346 and another check digit than follows from it.
pub fn has_wrong_check_digit(container_number: &str) -> bool {
    container(container_number) == Container::WrongCheckDigit
}

/// The container number that one of another form may be meant for: with other characters between, as on a
/// container's door (`CSQU 305438 [3]`), or without its check digit.
pub fn perhaps_container(container_number: &str) -> Option<String> {
    let plain: String = container_number.chars().filter(char::is_ascii_alphanumeric).collect();
    let with_digit = || (0..10).map(|digit| format!("{plain}{digit}"));
    let is_other = |id: &String| id != container_number && container(id) != Container::OtherForm;
    let whole = Some(plain.clone()).filter(is_other);
    whole.or_else(|| with_digit().find(|id| container(id) == Container::Good))
}

/// A digit's value, or a letter's: from 10 on, leaving out the multiples of 11.
fn weight(byte: u8) -> u32 {
    if byte.is_ascii_digit() {
        return u32::from(byte - b'0');
    }
    let letter = u32::from(byte - b'A');
    letter + 10 + u32::from(letter > 0) + u32::from(letter > 10) + u32::from(letter > 20)
}

/// Whether text has the form of an ISO 3166-1 alpha-2 code.
pub(super) fn is_country(text: &str) -> bool {
    text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether text has the form of an ISO 4217 code.
pub(super) fn is_currency(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// Whether text has the form of a tariff code: a subheading and up to four national digits.
pub(super) fn is_tariff_code(text: &str) -> bool {
    (6..=10).contains(&text.len()) && is_digits(text)
}

/// The tariff code that a text may have been before a spreadsheet took it for a number: subheadings and
/// national digits come in pairs, and one that began with a zero is a digit short.
pub(super) fn with_lost_zero(text: &str) -> Option<String> {
    (matches!(text.len(), 5 | 7 | 9) && is_digits(text)).then(|| format!("0{text}"))
}

/// Whether text is a number as spreadsheets shorten long ones, such as `9.1E+07`: its last digits are
/// gone.
pub(super) fn is_shortened_number(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once(['E', 'e']) else { return false };
    let mantissa = mantissa.replacen(['.', ','], "", 1);
    exponent.strip_prefix('+').is_some_and(is_digits) && is_digits(&mantissa)
}

/// Whether text is digits only, at least one.
pub(super) fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_digits_of_iso_6346_are_computed() {
        for (id, expected) in [
            ("CSQU3054383", Container::Good),
            ("MSKU6011672", Container::Good),
            ("CSQU3054384", Container::WrongCheckDigit),
            ("AD12345", Container::OtherForm),
            ("CSQX3054383", Container::OtherForm),
            ("csqu3054383", Container::OtherForm),
            ("ÄÖU305438", Container::OtherForm),
            ("", Container::OtherForm),
        ] {
            assert_eq!(container(id), expected, "{id}");
        }
    }

    #[test]
    fn what_may_be_meant_for_a_container_number_is_told() {
        for (id, perhaps) in [
            ("CSQU305438[3]", Some("CSQU3054383")),
            ("CSQU.305438/4", Some("CSQU3054384")),
            ("CSQU305438", Some("CSQU3054383")),
            ("CSQU3054383", None),
            ("CSQU3054384", None),
            ("CSQX305438", None),
            ("AD12345", None),
            ("CN1234228/34", None),
            ("", None),
        ] {
            assert_eq!(perhaps_container(id).as_deref(), perhaps, "{id}");
        }
    }
}
