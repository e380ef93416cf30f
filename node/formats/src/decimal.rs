//! Decimal text as records have it: `-?[0-9]{1,18}(\.[0-9]{1,6})?`. Never by way of a float.

/// Most digits before the point.
const WHOLE_MAX: usize = 18;
/// Most digits after the point.
const FRACTION_MAX: usize = 6;
/// Bytes of text that is looked at.
const TEXT_MAX: usize = 64;

/// A number in its canonical text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decimal {
    /// The same number as the text.
    Exact(String),
    /// Rounded to six decimals, half to even.
    Rounded(String),
}

/// Reads a number with an optional sign, point and exponent. `None` where it is not a number, or
/// has more than 18 digits before the point.
pub(super) fn canonical(text: &str) -> Option<Decimal> {
    if text.len() > TEXT_MAX {
        return None;
    }
    if is_canonical(text) {
        return Some(Decimal::Exact(text.to_owned()));
    }
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i8>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let point = isize::try_from(whole.len()).ok()? + isize::from(exponent);
    let (whole, fraction) = split_at_point(&digits, point);
    write(negative, &whole, &fraction)
}

/// Whether text is canonical as it stands.
fn is_canonical(text: &str) -> bool {
    let digits = |text: &str, max| {
        (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole, WHOLE_MAX) && digits(fraction, FRACTION_MAX),
        None => digits(text, WHOLE_MAX),
    }
}

/// The digits before and after the point, which stands after `point` digits (or before the first,
/// where negative).
fn split_at_point(digits: &str, point: isize) -> (String, String) {
    let zeros = |count: usize| "0".repeat(count);
    match usize::try_from(point) {
        Err(_) => (String::new(), zeros(point.unsigned_abs()) + digits),
        Ok(point) if point > digits.len() => {
            (digits.to_owned() + &zeros(point - digits.len()), String::new())
        }
        Ok(point) => (digits[..point].to_owned(), digits[point..].to_owned()),
    }
}

fn write(negative: bool, whole: &str, fraction: &str) -> Option<Decimal> {
    let whole = whole.trim_start_matches('0');
    let fraction = fraction.trim_end_matches('0');
    if whole.len() > WHOLE_MAX {
        return None;
    }
    let (kept, tail) = fraction.split_at(fraction.len().min(FRACTION_MAX));
    // At most 24 digits, in millionths.
    let millionths: u128 = format!("0{whole}{kept:0<6}").parse().ok()?;
    let odd = millionths % 2 == 1;
    let up = match tail.as_bytes() {
        [] => false,
        [b'5'] => odd,
        [first, ..] => *first >= b'5',
    };
    let millionths = millionths + u128::from(up);
    let (whole, fraction) = (millionths / 1_000_000, millionths % 1_000_000);
    if whole >= 10_u128.pow(18) {
        return None;
    }
    let sign = if negative && millionths > 0 { "-" } else { "" };
    let mut text = format!("{sign}{whole}.{fraction:06}");
    text.truncate(text.trim_end_matches('0').trim_end_matches('.').len());
    Some(if tail.is_empty() { Decimal::Exact(text) } else { Decimal::Rounded(text) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_canonical_stays_as_it_is() {
        for text in ["0", "108.0", "-12.50", "007", "999999999999999999.999999"] {
            assert_eq!(canonical(text), Some(Decimal::Exact(text.into())), "{text}");
        }
    }

    #[test]
    fn other_forms_are_written_exactly_or_rounded_half_to_even() {
        let exact = |text: &str| Some(Decimal::Exact(text.into()));
        let rounded = |text: &str| Some(Decimal::Rounded(text.into()));
        for (text, expected) in [
            ("+1", exact("1")),
            (".5", exact("0.5")),
            ("5.", exact("5")),
            ("1e3", exact("1000")),
            ("1.5E-05", exact("0.000015")),
            ("-2.5e1", exact("-25")),
            ("-0e9", exact("0")),
            ("1.2300000000", exact("1.23")),
            ("71.10000000000001", rounded("71.1")),
            ("52.29999999999999", rounded("52.3")),
            ("0.0000005", rounded("0")),
            ("0.0000015", rounded("0.000002")),
            ("0.00000050000001", rounded("0.000001")),
            ("999999999999999999.9999999", None),
            ("1e18", None),
            ("1234567890123456789", None),
            ("", None),
            ("-", None),
            (".", None),
            ("1e", None),
            ("1e999", None),
            ("1,5", None),
            ("0x10", None),
            ("NaN", None),
            ("١", None),
            ("--1", None),
        ] {
            assert_eq!(canonical(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_comes_out_is_canonical(text in "[-+]?[0-9]{0,20}(\\.[0-9]{0,20})?([eE][-+]?[0-9]{1,3})?") {
            if let Some(Decimal::Exact(out) | Decimal::Rounded(out)) = canonical(&text) {
                prop_assert!(is_canonical(&out), "{text} gave {out}");
            }
        }
    }
}
