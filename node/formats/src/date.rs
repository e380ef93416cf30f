//! Dates and times as messages write them. Only whether they are dates or times is checked: records keep
//! their text.

use super::codes::is_digits;

/// Whether text is a date, or a date and time: the forms of UN/EDIFACT 2379 that the Data Model's
/// `formatCode` names (102, 203, 204, 205, 304; with their code also 602 and 610), or ISO 8601.
pub(super) fn is_date_time(text: &str, format_code: &str) -> bool {
    match format_code {
        "602" => return text.len() == 4 && is_digits(text),
        "610" => return text.len() == 6 && is_digits(text) && is_day(&text[..4], &text[4..], "01"),
        _ => {}
    }
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, zone) = text.split_at(end);
    if end == 4 {
        return is_iso(text);
    }
    let part = |from: usize| digits.get(from..from + 2).unwrap_or("00");
    matches!(end, 8 | 12 | 14)
        && is_day(&digits[..4], part(4), part(6))
        && is_time(part(8), part(10), part(12))
        && is_zone(zone)
}

/// Whether text is a day, `YYYY-MM-DD`.
pub(super) fn is_date(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == 10
        && text.is_ascii()
        && (bytes[4], bytes[7]) == (b'-', b'-')
        && is_day(&text[..4], &text[5..7], &text[8..])
}

fn is_iso(text: &str) -> bool {
    let (day, rest) = match text.split_once('T') {
        Some((day, rest)) => (day, Some(rest)),
        None => (text, None),
    };
    let Some(rest) = rest else { return is_date(day) };
    let end = rest.find(['Z', '+', '-']).unwrap_or(rest.len());
    let (time, zone) = rest.split_at(end);
    let time = match time.split_once('.') {
        Some((_, fraction)) if !is_digits(fraction) => return false,
        Some((time, _)) => time,
        None => time,
    };
    let mut parts = time.split(':');
    let mut part = || parts.next();
    let (hour, minute, second) = (part(), part(), part().unwrap_or("00"));
    let (Some(hour), Some(minute), None) = (hour, minute, part()) else { return false };
    is_date(day) && is_time(hour, minute, second) && is_zone(zone)
}

/// A day of the calendar.
fn is_day(year: &str, month: &str, day: &str) -> bool {
    let (Some(year), Some(month), Some(day)) = (number(year), number(month), number(day)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

fn is_time(hour: &str, minute: &str, second: &str) -> bool {
    let below = |text: &str, end: u32| text.len() == 2 && number(text).is_some_and(|n| n < end);
    // A minute with a leap second has 61.
    below(hour, 24) && below(minute, 60) && below(second, 61)
}

/// Nothing, `Z`, or a sign with hours and perhaps minutes.
fn is_zone(text: &str) -> bool {
    let Some(offset) = text.strip_prefix(['+', '-']) else { return matches!(text, "" | "Z") };
    let digits = offset.replacen(':', "", 1);
    match digits.len() {
        2 => is_time(&digits, "00", "00"),
        4 if digits.is_ascii() => is_time(&digits[..2], &digits[2..], "00"),
        _ => false,
    }
}

fn number(digits: &str) -> Option<u32> {
    is_digits(digits).then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_and_times_of_messages_are_told_from_what_is_none() {
        for text in [
            "20260914",
            "202609141130",
            "20260914113000",
            "20260914113000Z",
            "20260914113000+01",
            "202609141130+0100",
            "20240229",
            "2026-09-14",
            "2026-09-14T11:30:00Z",
            "2026-09-14T11:30",
            "2026-09-14T11:30:00.123+01:00",
        ] {
            assert!(is_date_time(text, "304"), "{text}");
        }
        for text in [
            "yesterday",
            "",
            "20260230",
            "20261301",
            "20260914253000Z",
            "20260914116000",
            "2026091",
            "20260914113000X",
            "20260914113000+1",
            "20260914113000+0é",
            "14.09.2026",
            "9/14/2026",
            "2026-9-14",
            "2026-09-14T",
            "2026-09-14T11",
            "2026-09-14T11:30:00:00",
            "45914",
            "Wed Nov 04 10:11:12 UTC 2020",
            "２０２６０９１４",
        ] {
            assert!(!is_date_time(text, "304"), "{text}");
        }
        assert!(is_date_time("2026", "602") && is_date_time("202609", "610"));
        assert!(!is_date_time("2026", "304") && !is_date_time("202613", "610"));
    }
}
