//! Rules of fields that several kinds have.

use customhouse_proto::v1;

use super::RecordError;

/// Whether text is `-?[0-9]{1,18}(\.[0-9]{1,6})?`.
pub fn is_decimal(text: &str) -> bool {
    let digits = |text: &str, max| {
        (1..=max).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
    };
    let text = text.strip_prefix('-').unwrap_or(text);
    match text.split_once('.') {
        Some((whole, fraction)) => digits(whole, 18) && digits(fraction, 6),
        None => digits(text, 18),
    }
}

pub(super) fn check_taxes(taxes: &[v1::Tax], field: &'static str) -> Result<(), RecordError> {
    for tax in taxes {
        check_optional(&tax.rate, field)?;
        check_money(tax.base.as_ref(), field)?;
        check_money(tax.amount.as_ref(), field)?;
    }
    Ok(())
}

pub(super) fn check_money(
    money: Option<&v1::Money>,
    field: &'static str,
) -> Result<(), RecordError> {
    match money {
        Some(money) if !is_decimal(&money.amount) => Err(RecordError::Decimal(field)),
        _ => Ok(()),
    }
}

pub(super) fn check_optional(decimal: &str, field: &'static str) -> Result<(), RecordError> {
    if decimal.is_empty() || is_decimal(decimal) {
        Ok(())
    } else {
        Err(RecordError::Decimal(field))
    }
}
