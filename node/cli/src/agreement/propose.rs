//! `customhouse agreement propose`.

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use customhouse_audit::time;
use customhouse_ledger::{
    agency::AgencyCode, agreement::terms::AgreementTerms, authority::RecordKind, hash::Hash,
};
use customhouse_node::agreements::offer_file;
use customhouse_proto::v1::{self, agreement_terms::Route, subject::Scheme};

use super::{Connection, OfferView, Output, Written, agree};

pub(super) const HELP: &str = "\
What it lets whom read is shown before this agency approves it: with --yes, or when somebody types yes. The file is
for the other parties: mail it to each. They open it with their vaults; nobody else can.

The next epoch of an agreement (--renew) has the same terms where none is given, and the same parties but for those who
have left. All terms are given anew, or none.

Exit codes: 0 the offer is written, 1 it was refused, 2 nobody said yes, or wrong arguments.

Examples:
  customhouse --profile nl/ops agreement propose --with BE-AADA --kind declaration,inspection \\
    --purpose 'control of transit' --legal-basis 'Regulation (EU) No 952/2013, article 47' \\
    --retention-months 36 --out nl-be.offer
  customhouse --profile nl/ops agreement propose --with BE-AADA,DE-ZOLL --route NL:BE,NL:DE --chapter 27 \\
    --purpose 'fuel' --legal-basis 'a treaty' --from 2026-05-01 --until 2027-05-01 --out fuel.offer
  customhouse --profile nl/ops agreement propose --renew 5f0c… --out nl-be-2.offer";

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

#[derive(clap::Args)]
pub(crate) struct ProposeArgs {
    /// The other parties.
    #[arg(long, value_name = "CODE,…", value_delimiter = ',', required_unless_present = "renew")]
    with: Vec<AgencyCode>,
    /// The agreement that goes on with another epoch.
    #[arg(long, value_name = "ID")]
    renew: Option<Hash>,
    #[command(flatten)]
    terms: TermsArgs,
    /// From when on: a day, at 00:00 UTC. Now, where it is left out.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    from: Option<u64>,
    /// Until when. A year after it begins, where it is left out.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = parse_day)]
    until: Option<u64>,
    /// Days in which it is to be approved and lodged.
    #[arg(long, value_name = "DAYS", default_value_t = 14)]
    lapses_after: u64,
    /// The file to write; must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Approve for this agency without being asked.
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
#[command(next_help_heading = "Terms")]
struct TermsArgs {
    /// Kinds of records, such as declaration,inspection. All, where it is left out.
    #[arg(long, value_name = "KIND,…", value_delimiter = ',', value_parser = parse_kind)]
    kind: Vec<RecordKind>,
    /// Chapters of the Harmonized System, 1 to 99.
    #[arg(long, value_name = "NUMBER,…", value_delimiter = ',')]
    chapter: Vec<u32>,
    /// From which country to which, such as NL:BE.
    #[arg(long, value_name = "FROM:TO,…", value_delimiter = ',', value_parser = parse_route)]
    route: Vec<(String, String)>,
    /// Customs offices.
    #[arg(long, value_name = "CODE,…", value_delimiter = ',')]
    office: Vec<String>,
    /// The set of fields that is shown. Whole records, where it is left out.
    #[arg(long, value_name = "NAME")]
    fields: Option<String>,
    /// What it is for.
    #[arg(long, value_name = "TEXT", required_unless_present = "renew", requires = "legal_basis")]
    purpose: Option<String>,
    /// What allows it.
    #[arg(long, value_name = "TEXT", required_unless_present = "renew", requires = "purpose")]
    legal_basis: Option<String>,
    /// Months that what is shared may be kept.
    #[arg(long, value_name = "MONTHS", default_value_t = 120)]
    retention_months: u32,
    /// Parties may pass on what they are given.
    #[arg(long)]
    onward_sharing: bool,
    /// How many other parties are to have a record before its transaction goes out …
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    holders: u32,
    /// … and how long it waits for them.
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    patience_ms: u64,
    /// Days within which a party erases what it is told to erase.
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    erase_days: u32,
    /// Schemes of subjects that records are found by, such as mrn,container. All, where it is left out.
    #[arg(long, value_name = "SCHEME,…", value_delimiter = ',', value_parser = parse_scheme)]
    index: Vec<Scheme>,
}

impl TermsArgs {
    /// None where none is given: those of the epoch before go on.
    fn terms(&self) -> anyhow::Result<Option<v1::AgreementTerms>> {
        let (Some(purpose), Some(legal_basis)) = (&self.purpose, &self.legal_basis) else {
            let scope = [self.kind.len(), self.chapter.len(), self.route.len(), self.office.len()];
            let alone = scope.iter().sum::<usize>() + self.index.len() == 0
                && self.fields.is_none()
                && !self.onward_sharing
                && self.holders == 0;
            ensure!(alone, "other terms are given whole: --purpose and --legal-basis too");
            return Ok(None);
        };
        let sorted = |mut numbers: Vec<u32>| {
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        };
        let (mut routes, mut offices) = (self.route.clone(), self.office.clone());
        routes.sort_unstable();
        routes.dedup();
        offices.sort_unstable();
        offices.dedup();
        let mut schemes: Vec<_> = self.index.iter().map(|scheme| *scheme as i32).collect();
        schemes.sort_unstable();
        schemes.dedup();
        Ok(Some(v1::AgreementTerms {
            salt: Vec::new(),
            kinds: RecordKind::bits(&self.kind),
            chapters: sorted(self.chapter.clone()),
            routes: routes.into_iter().map(|(from, to)| Route { from, to }).collect(),
            offices,
            field_set: self.fields.clone().unwrap_or_default(),
            purpose: purpose.clone(),
            legal_basis: legal_basis.clone(),
            retention_months: self.retention_months,
            onward_sharing: self.onward_sharing,
            holders: self.holders,
            patience_ms: if self.holders == 0 { 0 } else { self.patience_ms },
            erase_days: self.erase_days,
            schemes,
        }))
    }
}

pub(super) async fn run(
    args: &ProposeArgs,
    output: Output,
    node: &Connection,
) -> anyhow::Result<()> {
    let own = node.agency()?;
    let terms = args.terms.terms()?;
    let newest = match &args.renew {
        Some(id) => node.client.agreement(id, 0).await?.0.into_iter().next(),
        None => None,
    };
    let mut parties = args.with.clone();
    if let (true, Some(newest)) = (parties.is_empty(), &newest) {
        let stay = newest.parties.iter().filter(|party| !newest.left.contains(party));
        parties = stay.map(|code| code.parse()).collect::<Result<_, _>>()?;
    }
    parties.push(own);
    parties.sort_unstable();
    parties.dedup();
    let from_ms = args.from.unwrap_or_else(now_ms);
    let until_ms = args.until.unwrap_or(from_ms + 365 * DAY_MS);
    match &terms {
        Some(terms) => {
            // A salt, for no more than to have them checked before anything is asked.
            let terms = v1::AgreementTerms { salt: vec![0; 32], ..terms.clone() };
            let terms = AgreementTerms::from_proto(terms)?;
            for said in terms.sentences(&parties, &time::shown(from_ms), &time::shown(until_ms)) {
                note!("{said}");
            }
        }
        None => {
            let newest = newest.context("there is no such agreement at this node")?;
            let (from, until) = (time::shown(from_ms), time::shown(until_ms));
            note!("From {from} until {until}, on the terms of epoch {}, which say:", newest.number);
            for said in newest.sentences {
                note!("{said}");
            }
        }
    }
    agree(args.yes, &format!("Approve this for {own}, and offer it to the others?"))?;
    let request = v1::ProposeAgreementRequest {
        agreement: args.renew.map(|id| id.0.to_vec()).unwrap_or_default(),
        parties: parties.iter().map(ToString::to_string).collect(),
        terms,
        from_ms,
        until_ms,
        not_after_ms: now_ms() + args.lapses_after * DAY_MS,
    };
    let (offer, _) = node.client.propose_agreement(request).await?;
    offer_file::write(&args.out, &offer)?;
    let opened = node.client.open_offer(offer.clone()).await?;
    let view = OfferView::of(&offer, opened)?;
    output.print(&Written::of(&args.out, &offer, view))?;
    Ok(())
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

fn parse_kind(text: &str) -> Result<RecordKind, String> {
    RecordKind::named(text)
        .ok_or_else(|| format!("`{text}` is not a kind of record, as in declaration"))
}

fn parse_route(text: &str) -> Result<(String, String), String> {
    let route = text.split_once(':').filter(|(from, to)| from.len() == 2 && to.len() == 2);
    let (from, to) = route.ok_or("two countries, such as NL:BE")?;
    Ok((from.to_owned(), to.to_owned()))
}

fn parse_scheme(text: &str) -> Result<Scheme, String> {
    let name = text.to_ascii_uppercase().replace('-', "_");
    let scheme = Scheme::from_str_name(&name).filter(|scheme| *scheme != Scheme::Unspecified);
    scheme.ok_or_else(|| format!("`{text}` is no scheme, as in mrn or container"))
}

/// A day as Unix milliseconds of its beginning, UTC.
fn parse_day(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}`: a day such as 2026-05-01");
    // Days since 1970 of each year's first are counted up: a day is found by what it is shown as.
    let first = (0..80_000u64).find(|day| {
        let (year, month, day) = customhouse_files::date::date(*day);
        format!("{year:04}-{month:02}-{day:02}") == text
    });
    first.map(|day| day * DAY_MS).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_beginning_of_it() {
        assert_eq!(parse_day("1970-01-02"), Ok(DAY_MS));
        assert_eq!(parse_day("2024-02-29").map(time::shown), Ok("2024-02-29 00:00:00 UTC".into()));
        for wrong in ["2023-02-29", "2024-2-9", "", "tomorrow", "9999-01-01"] {
            assert!(parse_day(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_kind_route_or_scheme_is_refused() {
        assert_eq!(parse_kind("inspection"), Ok(RecordKind::Inspection));
        assert_eq!(parse_route("NL:BE"), Ok(("NL".into(), "BE".into())));
        assert_eq!(parse_scheme("transport-document"), Ok(Scheme::TransportDocument));
        assert!(parse_kind("toy").is_err() && parse_route("NL-BE").is_err());
        assert!(
            parse_scheme("unspecified").is_err() && parse_scheme("scheme-unspecified").is_err()
        );
    }
}
