//! A record held against the message that it was made from: the source is mapped again, and what comes out is
//! compared with what the record says.

use customhouse_proto::v1::{self, record::Body};

use super::{
    format::{SourcePlace, format_by_importer},
    imported::Outcome,
};

/// Most differing fields that are named.
const FIELDS_MAX: usize = 16;

/// What came of mapping a record's source again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceCheck {
    /// The record says what its source says.
    Checked,
    /// It says something else. The fields, at most 16: the last may count the rest.
    Differs(Vec<String>),
    /// What mapped it is not known here, or in another version: nothing can be said.
    UnknownImporter,
    /// The source's bytes are not in the record. Whoever has them asks [`check_source_with`].
    Elsewhere,
    /// It has no source.
    NoSource,
}

/// Maps the source that is in a record again.
pub fn check_source(record: &v1::Record) -> SourceCheck {
    match SourcePlace::of(record) {
        SourcePlace::Inside(content) => check_source_with(record, content),
        SourcePlace::Attachment(_) => SourceCheck::Elsewhere,
        // A source without bytes that names an importer claims what nobody can check.
        SourcePlace::Absent => match &record.source {
            Some(source) if format_by_importer(&source.importer).is_some() => {
                SourceCheck::Differs(vec!["source.content: empty".to_owned()])
            }
            Some(_) => SourceCheck::UnknownImporter,
            None => SourceCheck::NoSource,
        },
    }
}

/// The same where the bytes of the source are beside the record.
pub fn check_source_with(record: &v1::Record, content: &[u8]) -> SourceCheck {
    let Some(source) = &record.source else { return SourceCheck::NoSource };
    let Some(format) = format_by_importer(&source.importer) else {
        return SourceCheck::UnknownImporter;
    };
    let mapped = match format.again(content) {
        Ok(Outcome::Imported(imported)) => imported.record,
        Ok(Outcome::Skipped(skipped)) => {
            return SourceCheck::Differs(vec![format!("source.content: {}", skipped.reason)]);
        }
        Err(error) => return SourceCheck::Differs(vec![format!("source.content: {error}")]),
    };
    let mut fields = Fields::default();
    let again = mapped.source.unwrap_or_default();
    fields.compare("source.media_type", &source.media_type, &again.media_type);
    fields.compare("source.format", &source.format, &again.format);
    fields.compare("subjects", &record.subjects, &mapped.subjects);
    match (&record.body, &mapped.body) {
        (ours, theirs) if ours == theirs => {}
        (Some(Body::Declaration(ours)), Some(Body::Declaration(theirs))) => {
            fields.declaration(ours, theirs);
        }
        (Some(Body::DeclarationStatus(ours)), Some(Body::DeclarationStatus(theirs))) => {
            fields.status(ours, theirs);
        }
        _ => fields.add("body".to_owned()),
    }
    match fields.into_vec() {
        fields if fields.is_empty() => SourceCheck::Checked,
        fields => SourceCheck::Differs(fields),
    }
}

/// Names of fields that differ.
#[derive(Default)]
struct Fields {
    names: Vec<String>,
    more: usize,
}

/// Compares fields of two messages by their names; the list has all of them, or the code does not compile.
macro_rules! compare {
    ($fields:ident, $path:expr, $type:path, $ours:ident, $theirs:ident, { $($name:ident),* $(,)? }) => {{
        let $type { $($name),* } = $ours;
        $(
            if *$name != $theirs.$name {
                $fields.add(format!("{}.{}", $path, stringify!($name)));
            }
        )*
    }};
}

impl Fields {
    fn add(&mut self, name: String) {
        if self.names.len() + 1 < FIELDS_MAX {
            self.names.push(name);
        } else {
            self.more += 1;
        }
    }

    fn into_vec(mut self) -> Vec<String> {
        if self.more > 0 {
            self.names.push(format!("and {} more", self.more));
        }
        self.names
    }

    fn compare<T: PartialEq>(&mut self, name: &str, ours: &T, theirs: &T) {
        if ours != theirs {
            self.add(name.to_owned());
        }
    }

    fn declaration(&mut self, ours: &v1::Declaration, theirs: &v1::Declaration) {
        // The items that both have are compared one by one.
        let items = ours.items.iter().zip(&theirs.items).enumerate();
        for (index, (ours, theirs)) in items.filter(|(_, (ours, theirs))| ours != theirs) {
            self.item(index, ours, theirs);
        }
        let has_as_many = ours.items.len() == theirs.items.len();
        let ours = &v1::Declaration { items: Vec::new(), ..ours.clone() };
        let theirs = &v1::Declaration { items: Vec::new(), ..theirs.clone() };
        if !has_as_many {
            self.add("declaration.items".to_owned());
        }
        compare!(self, "declaration", v1::Declaration, ours, theirs, {
            regime, type_code, function_code, reference, mrn, ucr, lodged_at, office, parties,
            invoice_total, gross_mass_kg, package_count, transport_mode, transport_means_id,
            country_departure, country_destination, container_ids, previous_documents,
            supporting_documents, items, extensions,
        });
    }

    fn item(&mut self, index: usize, ours: &v1::GoodsItem, theirs: &v1::GoodsItem) {
        compare!(self, format!("declaration.items[{index}]"), v1::GoodsItem, ours, theirs, {
            sequence, hs_code, hs_edition, description, country_origin, value, statistical_value,
            net_mass_kg, gross_mass_kg, supplementary_quantity, packages, procedure,
            additional_procedures, ucr, previous_documents, supporting_documents, container_ids,
            taxes, parties, extensions,
        });
    }

    fn status(&mut self, ours: &v1::DeclarationStatus, theirs: &v1::DeclarationStatus) {
        compare!(self, "declaration_status", v1::DeclarationStatus, ours, theirs, {
            function_code, reference, issued_at, declaration_reference, mrn, version, reasons,
            taxes, extensions,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wco::wco_message;

    const DECLARATION: &str = "<Declaration><TypeCode>IMA</TypeCode><ID>26NL1</ID><GoodsShipment>\
         <GovernmentAgencyGoodsItem><Commodity><Description>Bikes</Description></Commodity>\
         </GovernmentAgencyGoodsItem></GoodsShipment></Declaration>";

    fn record(text: &str) -> v1::Record {
        match wco_message(text.as_bytes(), "a.xml") {
            Ok(Outcome::Imported(imported)) => imported.record,
            other => panic!("{other:?}"),
        }
    }

    fn declaration(record: &mut v1::Record) -> &mut v1::Declaration {
        match &mut record.body {
            Some(Body::Declaration(declaration)) => declaration,
            other => panic!("{other:?}"),
        }
    }

    fn differs(change: impl Fn(&mut v1::Record)) -> Vec<String> {
        let mut record = record(DECLARATION);
        change(&mut record);
        match check_source(&record) {
            SourceCheck::Differs(fields) => fields,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_an_importer_made_is_checked_and_what_was_changed_is_named() {
        assert_eq!(check_source(&record(DECLARATION)), SourceCheck::Checked);
        let status = "<Response><FunctionCode>08</FunctionCode></Response>";
        assert_eq!(check_source(&record(status)), SourceCheck::Checked);
        assert_eq!(differs(|r| declaration(r).mrn = "26NL2".into()), ["declaration.mrn"]);
        let item = differs(|r| declaration(r).items[0].description = "Cars".into());
        assert_eq!(item, ["declaration.items[0].description"]);
        assert_eq!(differs(|r| declaration(r).items.clear()), ["declaration.items"]);
        let subject = v1::Subject { scheme: 4, id: "CSQU3054383".into() };
        assert_eq!(differs(|r| r.subjects = vec![subject.clone()]), ["subjects"]);
        assert_eq!(differs(|r| r.body = None), ["body"]);
        let source = |r: &mut v1::Record| r.source.take().expect("a source");
        let formatted = |r: &mut v1::Record| {
            r.source = Some(v1::Source { format: "WCO-DM/3.6/RES".into(), ..source(r) });
        };
        assert_eq!(differs(formatted), ["source.format"]);
        let malformed = |r: &mut v1::Record| {
            r.source = Some(v1::Source { content: b"<a>".to_vec(), ..source(r) });
        };
        assert!(differs(malformed)[0].starts_with("source.content: "), "named");
        let empty = |r: &mut v1::Record| {
            r.source = Some(v1::Source { content: Vec::new(), ..source(r) });
        };
        assert_eq!(differs(empty), ["source.content: empty"]);
    }

    #[test]
    fn references_and_who_lodged_it_are_no_part_of_the_source() {
        let mut record = record(DECLARATION);
        record.submitter = "broker".into();
        record.salt = vec![7; 16];
        record.references = vec![v1::Reference { relation: 1, ..Default::default() }];
        assert_eq!(check_source(&record), SourceCheck::Checked);
    }

    #[test]
    fn nothing_is_said_of_what_another_importer_made() {
        let with = |change: &dyn Fn(&mut v1::Source)| {
            let mut record = record(DECLARATION);
            change(record.source.as_mut().expect("a source"));
            check_source(&record)
        };
        let importers = ["", "customhouse-wco/0", "another/1"];
        for importer in importers {
            assert_eq!(with(&|s| s.importer = importer.into()), SourceCheck::UnknownImporter);
        }
        let elsewhere = with(&|s| s.attachment = Some(v1::Attachment::default()));
        assert_eq!(elsewhere, SourceCheck::Elsewhere);
        assert_eq!(check_source(&v1::Record::default()), SourceCheck::NoSource);
    }

    #[test]
    fn many_differences_are_counted() {
        let item = "<GovernmentAgencyGoodsItem>";
        let more = format!("{item}</GovernmentAgencyGoodsItem>").repeat(30) + item;
        let many = DECLARATION.replace(item, &more);
        let mut record = record(&many);
        for item in &mut declaration(&mut record).items {
            item.description.push('x');
        }
        let SourceCheck::Differs(fields) = check_source(&record) else { panic!("changed") };
        assert_eq!((fields.len(), &*fields[FIELDS_MAX - 1]), (FIELDS_MAX, "and 16 more"));
    }
}
