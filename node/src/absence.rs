//! Whether a change of who votes would leave a network to validators that are away. A network that stands
//! still cannot take the change back, so the change is refused, until whoever asks for it names the
//! validators that are away.

use std::collections::BTreeSet;

use customhouse_ledger::{agency::AgencyCode, finality::validators::ValidatorSet};

/// Why a change is not made yet, and what it would do; `None` where nothing speaks against it.
///
/// It takes a vote away from a validator that is there, while others are not: that shrinks the number of
/// validators that may be away. `absent` are the agencies whose nodes are not connected, `although` those
/// that were named.
pub fn objection(
    before: &ValidatorSet,
    after: &ValidatorSet,
    absent: &BTreeSet<AgencyCode>,
    although: &[AgencyCode],
) -> Option<String> {
    let votes =
        |set: &ValidatorSet, agency| set.as_slice().iter().any(|other| other.agency == agency);
    let gone = before.as_slice().iter().map(|validator| validator.agency);
    let mut gone = gone.filter(|agency| !votes(after, *agency) && !absent.contains(agency));
    let leaving = gone.next()?;
    let stay = after.as_slice().iter().map(|validator| validator.agency);
    let away: Vec<AgencyCode> = stay.filter(|agency| absent.contains(agency)).collect();
    if away.iter().all(|agency| although.contains(agency)) {
        return None;
    }
    let (count, quorum) = (after.count(), after.quorum());
    let there = count - away.len();
    let effect = match there.checked_sub(quorum) {
        None => {
            format!("only {there} are there, and the network would stand still until more are back")
        }
        Some(0) => {
            format!("just {there} are there, and the network would stop with the next that fails")
        }
        Some(more) => format!("{there} are there, and {more} more may fail"),
    };
    let codes = |prefix: &str, between: &str| {
        let codes = away.iter().map(|agency| format!("{prefix}{agency}"));
        codes.collect::<Vec<_>>().join(between)
    };
    Some(format!(
        "{leaving}, which is there, would lose its vote while {} is away: of the {count} validators \
         afterwards {quorum} must vote, {effect}. Wait for those that are away, or take that vote first; \
         to do it all the same, say {}",
        codes("", ", "),
        codes("--although-absent ", " ")
    ))
}

#[cfg(test)]
mod tests {
    use customhouse_ledger::{finality::validators::Validator, keys::SigningKey};

    use super::*;

    fn code(number: u8) -> AgencyCode {
        format!("A{number:03}").parse().expect("a code")
    }

    fn set(numbers: &[u8]) -> ValidatorSet {
        let key = |seed| SigningKey::from_seed(&[seed; 32]).public();
        let validators = numbers.iter().map(|n| Validator { agency: code(*n), key: key(*n) });
        ValidatorSet::new(validators.collect()).expect("a set")
    }

    fn say(before: &[u8], after: &[u8], absent: &[u8], although: &[u8]) -> Option<String> {
        let although: Vec<_> = although.iter().map(|n| code(*n)).collect();
        let absent = absent.iter().map(|n| code(*n)).collect();
        objection(&set(before), &set(after), &absent, &although)
    }

    #[test]
    fn a_live_validator_is_not_removed_while_another_is_away_unless_that_one_is_named() {
        let (four, three) = ([1, 2, 3, 4], [1, 2, 3]);
        let said = say(&four, &three, &[3], &[]).expect("refused");
        for word in ["A004, which is there", "A003 is away", "of the 3 validators", "3 must vote"] {
            assert!(said.contains(word), "{said}");
        }
        assert!(said.contains("only 2 are there, and the network would stand still"), "{said}");
        assert!(said.ends_with("say --although-absent A003"), "{said}");
        assert!(say(&four, &three, &[3], &[2]).is_some());
        assert_eq!(say(&four, &three, &[3], &[3]), None);
        // All are there; the absent one is removed; nobody is removed.
        assert_eq!(say(&four, &three, &[], &[]), None);
        assert_eq!(say(&four, &three, &[4], &[]), None);
        assert_eq!(say(&four, &four, &[3], &[]), None);
        assert_eq!(say(&three, &four, &[3], &[]), None);
    }

    #[test]
    fn the_refusal_says_how_many_more_may_fail() {
        let eight = [1, 2, 3, 4, 5, 6, 7, 8];
        let said = say(&eight, &eight[..7], &[7], &[]).expect("refused");
        assert!(said.contains("6 are there, and 1 more may fail"), "{said}");
        let said = say(&eight, &eight[..7], &[6, 7], &[6]).expect("refused");
        assert!(said.contains("just 5 are there"), "{said}");
        assert!(said.contains("--although-absent A006 --although-absent A007"), "{said}");
    }
}
