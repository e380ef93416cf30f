//! What a filter takes.

use customhouse_proto::v1::{self, record::Body};

use super::Listed;

fn filter(change: impl FnOnce(&mut v1::RecordFilter)) -> Listed {
    let mut filter = v1::RecordFilter::default();
    change(&mut filter);
    Listed::of(Some(filter)).expect("a filter")
}

fn record(body: Body) -> v1::Record {
    v1::Record { submitter: "broker".into(), body: Some(body), ..Default::default() }
}

fn declaration() -> v1::Record {
    let item = |hs: &str, origin: &str| v1::GoodsItem {
        hs_code: hs.into(),
        country_origin: origin.into(),
        ..Default::default()
    };
    record(Body::Declaration(v1::Declaration {
        country_departure: "BR".into(),
        country_destination: "NL".into(),
        items: vec![item("0901110000", "CO"), item("8471300000", "CN")],
        ..Default::default()
    }))
}

#[test]
fn a_declaration_is_found_by_its_goods_and_its_countries() {
    let certificate = record(Body::Certificate(v1::Certificate {
        country_origin: "CO".into(),
        hs_codes: vec!["090121".into()],
        ..Default::default()
    }));
    let hs = |prefix: &str| filter(|f| f.hs_prefixes = vec!["99".into(), prefix.into()]);
    let country = |code: &str| filter(|f| f.countries = vec![code.into()]);
    let table = [
        (hs("0901"), true, true),
        (hs("847130"), true, false),
        (hs("1"), false, false),
        (country("CO"), true, true),
        (country("BR"), true, false),
        (country("NL"), true, false),
        (country("DE"), false, false),
        (filter(|f| f.kinds = vec!["certificate".into(), "event".into()]), false, true),
        (filter(|f| f.submitters = vec!["broker".into()]), true, true),
        (filter(|f| f.submitters = vec!["brok".into()]), false, false),
        (Listed::default(), true, true),
    ];
    for (filter, of_declaration, of_certificate) in table {
        assert_eq!(filter.takes(&declaration()), of_declaration, "{filter:?}");
        assert_eq!(filter.takes(&certificate), of_certificate, "{filter:?}");
    }
    // Each field narrows.
    let both = filter(|f| {
        f.hs_prefixes = vec!["0901".into()];
        f.countries = vec!["DE".into()];
    });
    assert!(!both.takes(&declaration()));
}

#[test]
fn a_filter_that_is_wrong_names_its_field() {
    let wrong = |change: &dyn Fn(&mut v1::RecordFilter)| {
        let mut filter = v1::RecordFilter::default();
        change(&mut filter);
        Listed::of(Some(filter)).expect_err("refused").field
    };
    assert_eq!(wrong(&|f| f.kinds = vec!["declarations".into()]), "kinds");
    assert_eq!(wrong(&|f| f.agencies = vec!["nl".into()]), "agencies");
    assert_eq!(wrong(&|f| f.submitters = vec!["a".into(); 65]), "submitters");
    assert_eq!(wrong(&|f| f.subjects = vec![v1::Subject::default()]), "subjects");
    assert_eq!(wrong(&|f| f.subject_keys = vec![vec![0; 31]]), "subject_keys");
    assert_eq!(wrong(&|f| f.hs_prefixes = vec![String::new()]), "hs_prefixes");
    assert_eq!(wrong(&|f| f.countries = vec!["nl".into()]), "countries");
}
