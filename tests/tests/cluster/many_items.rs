//! A declaration of as many goods items as one may have, and of many megabytes, made from an example.
//!
//! The importers' own tests include this file as it is, so it knows the standard library and nothing else.

/// Goods items of a declaration, at most.
pub(crate) const ITEMS: usize = 999;
/// More documents of each goods item with which an annotated example comes to 12 MB.
pub(crate) const DOCUMENTS: usize = 31;
/// One in so many of them has a name, which no field of a record takes.
const NAMED_EVERY: usize = 5;

/// The declaration of an example with [`ITEMS`] goods items, each of which says something of its own and has so
/// many more documents. The rest is the example's, comments and white space too. Its reference is another, so that
/// what answers the example is not taken for an answer to this one.
pub(crate) fn declaration(example: &str, documents: usize) -> String {
    let (start, end) = ("<GovernmentAgencyGoodsItem>", "</GovernmentAgencyGoodsItem>");
    let (before, rest) = example.split_once(start).expect("a goods item");
    let (item, _) = rest.split_once(end).expect("its end");
    let (_, after) = rest.rsplit_once(end).expect("the end of the last");
    let reference = "</FunctionalReferenceID>";
    let before = before.replacen(reference, &format!("-{ITEMS}{reference}"), 1);
    let before = with_text(&before, "GoodsItemQuantity", &ITEMS.to_string());
    let of_its_own = |number: usize| {
        let item = with_text(item, "SequenceNumeric", &number.to_string());
        let item = item.replace("</Description>", &format!(" {number}</Description>"));
        let documents: String = (1..=documents).map(|which| document(number, which)).collect();
        let sequence = "</SequenceNumeric>";
        let item = item.replacen(sequence, &format!("{sequence}{documents}"), 1);
        format!("{start}{item}{end}")
    };
    let items: String = (1..=ITEMS).map(of_its_own).collect();
    format!("{before}{items}{after}")
}

/// A text whose first element of a name has another text, if there is one.
fn with_text(text: &str, element: &str, value: &str) -> String {
    let (start, end) = (format!("<{element}>"), format!("</{element}>"));
    let Some((before, rest)) = text.split_once(&start) else { return text.to_owned() };
    let (_, after) = rest.split_once(&end).expect("its end");
    format!("{before}{start}{value}{end}{after}")
}

/// An invoice of a goods item, or with a name a packing list, laid out as the examples are.
fn document(item: usize, which: usize) -> String {
    let (outer, inner) = ("\n\t\t\t\t", "\n\t\t\t\t\t");
    let name = match which % NAMED_EVERY {
        0 => format!("{inner}<Name>Packing list {which} of goods item {item}</Name>"),
        _ => String::new(),
    };
    format!(
        "{outer}<AdditionalDocument>{inner}<CategoryCode>N</CategoryCode>{inner}\
         <ID>INV-2021-{item:04}-{which:03}/US-CLIPPER</ID>{name}{inner}\
         <TypeCode>935</TypeCode>{outer}</AdditionalDocument>"
    )
}
