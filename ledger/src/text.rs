//! Text that the chain takes: an allow-list of characters, so that two names or ids that look the same
//! are the same, and nothing that is shown can turn or hide what stands beside it (docs/FORMATS.md,
//! *Text*).
//!
//! Which characters there are, and what their normalization forms are, is taken from one version of
//! Unicode. A character that this version does not assign is refused: so no later version, which
//! may only add, judges a text otherwise.

use unicode_normalization::is_nfc;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// The version of Unicode that the rules of the chain are of.
pub const UNICODE_VERSION: (u8, u8, u8) = (18, 0, 0);

/// Characters that belong to a category of visible ones, and are not seen: those that Unicode has
/// renderers leave out by default, fillers and blanks, and the two that stand for something that is
/// not there.
const UNSEEN: [(char, char); 14] = [
    ('\u{34f}', '\u{34f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180d}'),
    ('\u{180f}', '\u{180f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fffc}', '\u{fffd}'),
    ('\u{13441}', '\u{13442}'),
    ('\u{16fe4}', '\u{16fe4}'),
    ('\u{1d159}', '\u{1d159}'),
    ('\u{e0100}', '\u{e01ef}'),
];

/// Why the chain does not take a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A character that is not in the allow-list: shown by its number, because it may not be seen.
    #[error("the character U+{:04X} is not allowed", u32::from(*.0))]
    Character(char),
    /// The first character is a mark, which would be set on whatever stands before the text.
    #[error("the first character, U+{:04X}, is a mark that needs another before it", u32::from(*.0))]
    Mark(char),
    /// A space at an end, or two in a row.
    #[error("a space is at an end, or beside another")]
    Space,
    /// Not in the normalization form.
    #[error("not in the Unicode normalization form {0}")]
    Form(&'static str),
}

/// Checks the name of a submitter or a member: visible characters with single spaces between them, in
/// NFC. How long it may be, and whether it may be empty, is for the caller to say.
///
/// # Errors
/// The first rule that is broken.
pub fn check_name(text: &str) -> Result<(), TextError> {
    if let Some(other) = text.chars().find(|c| *c != ' ' && !is_visible(*c)) {
        return Err(TextError::Character(other));
    }
    if text.starts_with(' ') || text.ends_with(' ') || text.contains("  ") {
        return Err(TextError::Space);
    }
    check_start(text)?;
    if text.is_ascii() || is_nfc(text) { Ok(()) } else { Err(TextError::Form("NFC")) }
}

/// Whether a character is seen by itself or on another: a letter, mark, number, punctuation or symbol.
/// No space, no control or format character, nothing private or unassigned.
pub fn is_visible(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_graphic();
    }
    let seen = matches!(
        character.general_category_group(),
        GeneralCategoryGroup::Letter
            | GeneralCategoryGroup::Mark
            | GeneralCategoryGroup::Number
            | GeneralCategoryGroup::Punctuation
            | GeneralCategoryGroup::Symbol
    );
    seen && !is_unseen(character)
}

/// Whether a character belongs to a category of visible ones, and is not seen.
pub(crate) fn is_unseen(character: char) -> bool {
    UNSEEN.iter().any(|(first, last)| (*first..=*last).contains(&character))
}

/// Whether a character is a lower-case or title-case letter, or the mark whose capital is a letter.
pub fn is_lower(character: char) -> bool {
    if character.is_ascii() {
        return character.is_ascii_lowercase();
    }
    let category = character.general_category();
    matches!(category, GeneralCategory::LowercaseLetter | GeneralCategory::TitlecaseLetter)
        || character == '\u{345}'
}

/// Whether a character is a mark, which is set on the one before it.
pub fn is_mark(character: char) -> bool {
    !character.is_ascii() && character.general_category_group() == GeneralCategoryGroup::Mark
}

/// Refuses a text that begins with a mark.
pub(crate) fn check_start(text: &str) -> Result<(), TextError> {
    match text.chars().next().filter(|first| is_mark(*first)) {
        Some(mark) => Err(TextError::Mark(mark)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables_are_of_the_version_of_unicode_that_the_rules_name() {
        let (major, minor, micro) = unicode_properties::UNICODE_VERSION;
        assert_eq!((major, minor, micro), (18, 0, 0));
        assert_eq!(unicode_normalization::UNICODE_VERSION, UNICODE_VERSION);
    }

    #[test]
    fn names_of_people_and_agencies_of_any_script_are_taken() {
        for name in [
            "",
            "broker",
            "Bundesfinanzdirektion Köln (ZOLL) & Söhne",
            "관세청",
            "Федеральная таможенная служба",
            "هيئة الزكاة والضريبة والجمارك",
            "กรมศุลกากร",
            "सीमा शुल्क",
            "財務省関税局",
            "O'Neill-Ó Briain, Ltd. #7",
        ] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn what_is_not_seen_or_turns_what_is_beside_it_is_no_part_of_a_name() {
        for character in [
            '\0',
            '\n',
            '\t',
            '\u{7f}',
            '\u{85}',
            '\u{a0}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{2000}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{200f}',
            '\u{2028}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{2800}',
            '\u{3000}',
            '\u{3164}',
            '\u{e000}',
            '\u{fe0f}',
            '\u{feff}',
            '\u{ffa0}',
            '\u{fffd}',
            '\u{ffff}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{10ffff}',
            '\u{378}',
        ] {
            let name = format!("a{character}b");
            assert_eq!(check_name(&name), Err(TextError::Character(character)), "{name:?}");
        }
    }

    #[test]
    fn a_name_has_one_spelling() {
        assert_eq!(check_name("Ko\u{308}ln"), Err(TextError::Form("NFC")));
        assert_eq!(check_name("\u{308}x"), Err(TextError::Mark('\u{308}')));
        for name in [" a", "a ", "a  b"] {
            assert_eq!(check_name(name), Err(TextError::Space), "{name}");
        }
    }
}
