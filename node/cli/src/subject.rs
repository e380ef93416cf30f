//! Subjects as they are written on the command line.

use customhouse_ledger::record::subject::form;
use customhouse_proto::v1::{self, subject::Scheme};

/// A scheme as the command line has it.
pub(crate) fn scheme_name(scheme: Scheme) -> String {
    scheme.as_str_name().to_ascii_lowercase().replace('_', "-")
}

/// `scheme:id`, with the id in its normal form: records have no other.
pub(crate) fn parse_subject(text: &str) -> Result<v1::Subject, String> {
    let (scheme, id) = text.split_once(':').ok_or("SCHEME:ID expected, such as mrn:24NL…")?;
    let name = scheme.to_ascii_uppercase().replace('-', "_");
    match Scheme::from_str_name(&name) {
        None | Some(Scheme::Unspecified) => Err(format!("`{scheme}` is no scheme, see --help")),
        Some(_) if id.is_empty() => Err("the id is empty".into()),
        Some(scheme) => {
            let id = form::normal(scheme, id).map_err(|why| {
                format!("no record can be about the {} {id:?}: {why}", scheme_name(scheme))
            })?;
            Ok(v1::Subject { scheme: scheme as i32, id })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_a_scheme_and_an_id_that_may_have_colons() {
        let subject = parse_subject("epc:urn:epc:id:sgtin:4012345").expect("a subject");
        assert_eq!(subject.scheme(), Scheme::Epc);
        assert_eq!(subject.id, "urn:epc:id:sgtin:4012345");
        assert_eq!(
            parse_subject("declaration-reference:NL-DOUANE/1").expect("a subject").scheme(),
            Scheme::DeclarationReference
        );
        assert_eq!(parse_subject("mrn: 26nl\u{a0}1").expect("a subject").id, "26NL1");
        for bad in ["mrn", "mrn:", "colour:red", "scheme-unspecified:x", "mrn:26NL-1", "trader:é"]
        {
            assert!(parse_subject(bad).is_err(), "{bad}");
        }
    }
}
