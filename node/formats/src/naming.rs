//! What a message names: every element that names a subject, wherever the Data Model has it and however
//! often; and, as warnings with their place, what looks as if it named one and is not understood here.
//!
//! A proof that nothing is about a subject covers what records state. So this goes through the whole
//! message, and not only to the places that fields are read from.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use customhouse_ledger::record::subject::form;
use customhouse_proto::v1::subject::Scheme;

use super::{
    codes::{self, Container},
    date,
    warning::{Place, Warning, Warnings},
    xml::{self, Element},
};

/// Parties: the classes of the Data Model that have the id of one.
const PARTIES: [&str; 33] = [
    "AEOMutualRecognitionParty",
    "Agent",
    "AuthorisationHolder",
    "Authenticator",
    "Buyer",
    "Carrier",
    "Consignee",
    "Consignor",
    "Consolidator",
    "Courier",
    "Declarant",
    "Deconsolidator",
    "DeliveryDestination",
    "DomesticDutyTaxParty",
    "Exporter",
    "FreightForwarder",
    "Grower",
    "Importer",
    "IntroducingParty",
    "Manufacturer",
    "NotifyParty",
    "Owner",
    "Packer",
    "Payer",
    "PersonProvidingGuarantee",
    "Producer",
    "ReceivingAgent",
    "RepresentativePerson",
    "Seller",
    "Submitter",
    "Surety",
    "Transferee",
    "Trader",
];

/// Elements that name something else, whichever class has them.
const OTHER_NAMES: [&str; 13] = [
    "DeclarationOfficeID",
    "LocationID",
    "MarksNumbersID",
    "PostcodeID",
    "QuotaOrderID",
    "ReferenceID",
    "TagID",
    "VersionID",
    "SequenceID",
    "CurrencyID",
    "LanguageID",
    "RateID",
    "RoutingID",
];

/// Classes whose `ID` names something else; so do those that end in [`OTHER_ENDINGS`].
const OTHER_CLASSES: [&str; 17] = [
    "AdditionalDocument",
    "PreviousDocument",
    "SupportingDocument",
    "Bank",
    "Classification",
    "Communication",
    "Contact",
    "Destination",
    "DutyTaxFee",
    "Invoice",
    "Itinerary",
    "ObligationGuarantee",
    "Origin",
    "Payment",
    "Product",
    "Seal",
    "Warehouse",
];

const OTHER_ENDINGS: [&str; 4] = ["Country", "Location", "Means", "Office"];

/// Bytes of a text that may be an id by its form.
const FORM_BYTES_MAX: usize = 64;

/// Subjects by scheme and id.
pub(super) type Subjects = BTreeSet<(i32, String)>;

/// Goes through a message (a `Declaration` or `Response` below `root`), and what surrounds it.
pub(super) fn subjects(
    root: &Element,
    message: &Element,
    text: &str,
    warnings: &mut Warnings,
) -> Subjects {
    let mut reader = Reader {
        message,
        declaration: message.child("Declaration"),
        referenced: HashSet::new(),
        text,
        found: BTreeSet::new(),
        unclear: Vec::new(),
        warnings,
    };
    reader.whole(message, String::new(), Part::Message);
    if !std::ptr::eq(root, message) {
        reader.whole(root, format!("/{}", root.name), Part::Around);
    }
    // The same thing may be named elsewhere, where it is understood.
    for Unclear { element, path, value, scheme, foreign } in std::mem::take(&mut reader.unclear) {
        let named = scheme.and_then(|scheme| Some((scheme as i32, normal(scheme, &value)?)));
        if named.is_some_and(|named| reader.found.contains(&named)) {
            continue;
        }
        reader.warnings.push_with(|| {
            let position = xml::position(text.as_bytes(), element.offset);
            let place = Place { path, position: Some(position) };
            match foreign {
                true => Warning::Foreign { place, value },
                false => Warning::NotIndexed { place, value },
            }
        });
    }
    reader.found
}

fn normal(scheme: Scheme, value: &str) -> Option<String> {
    form::normal(scheme, value).ok()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Message,
    /// Below an element of another vocabulary.
    Foreign,
    /// Outside the message.
    Around,
}

/// A text that may name a subject.
struct Unclear<'e> {
    element: &'e Element,
    path: String,
    value: String,
    /// What it is by its form.
    scheme: Option<Scheme>,
    foreign: bool,
}

struct Reader<'e, 'w> {
    message: &'e Element,
    /// The first declaration in it.
    declaration: Option<&'e Element>,
    /// Elements in which a reference of their own was found, by their places in memory.
    referenced: HashSet<*const Element>,
    text: &'e str,
    found: Subjects,
    unclear: Vec<Unclear<'e>>,
    warnings: &'w mut Warnings,
}

impl<'e> Reader<'e, '_> {
    /// Goes through an element that does not count as a child here, and all in it.
    fn whole(&mut self, element: &'e Element, mut path: String, part: Part) {
        self.attributes(element, &path, part);
        // A text beside elements, which no element of the Data Model has.
        let form = by_form(&element.text);
        if form.is_some() || part == Part::Message && !element.text.is_empty() {
            self.note(element, &element.name, &element.text, form, part);
        }
        self.walk(element, &mut path, part);
    }

    fn walk(&mut self, element: &'e Element, path: &mut String, part: Part) {
        let mut totals: BTreeMap<String, usize> = BTreeMap::new();
        for child in &element.children {
            *totals.entry(child.label()).or_default() += 1;
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let codes = DocumentCodes::of(element);
        let end = path.len();
        for child in &element.children {
            let label = child.label();
            let number = seen.entry(label.clone()).or_default();
            *number += 1;
            if part == Part::Around && std::ptr::eq(child, self.message) {
                continue;
            }
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(&label);
            if totals.get(&label).is_some_and(|total| *total > 1) {
                path.push_str(&format!("[{number}]"));
            }
            let part = if child.foreign && part == Part::Message { Part::Foreign } else { part };
            self.element((element, &codes), child, path, part);
            self.walk(child, path, part);
            path.truncate(end);
        }
    }

    fn element(
        &mut self,
        (parent, codes): (&Element, &DocumentCodes<'_>),
        element: &'e Element,
        path: &str,
        part: Part,
    ) {
        let scheme = scheme_of((parent, codes), &element.name, &element.text);
        self.attributes(element, path, part);
        if scheme.is_some() && !element.children.is_empty() {
            // An id that is taken apart is not understood.
            let mut whole = element.text.clone();
            add_inner_text(element, &mut whole);
            if part != Part::Around && !whole.is_empty() {
                self.note(element, path, &whole, scheme, part);
            }
            return;
        }
        if element.text.is_empty() {
            return;
        }
        match (part, scheme) {
            (Part::Message, Some(scheme)) => self.named(parent, element, path, scheme),
            (Part::Message, None) => {
                self.check_date(element, path);
                let form = by_form(&element.text);
                if form.is_some() || is_unknown_id(parent, element) || has_id(element) {
                    self.note(element, path, &element.text, form, part);
                }
            }
            (Part::Foreign | Part::Around, scheme) => {
                let form = by_form(&element.text);
                let is_id = part == Part::Foreign && is_id(&element.name);
                if form.is_some() || scheme.is_some() || is_id {
                    let form = form.or(scheme);
                    self.note(element, path, &element.text, form, part);
                }
            }
        }
    }

    /// Notes what attributes may name: in messages of the Data Model, elements do.
    fn attributes(&mut self, element: &'e Element, path: &str, part: Part) {
        let codes = DocumentCodes::of(element);
        for attribute in &element.attributes {
            let form = by_form(&attribute.value);
            let scheme = scheme_of((element, &codes), attribute.local_name(), &attribute.value);
            if !attribute.value.is_empty() && (form.is_some() || scheme.is_some()) {
                let path = format!("{}@{}", clipped(path), attribute.name);
                self.note(element, &path, &attribute.value, form.or(scheme), part);
            }
        }
    }

    /// Takes the subject that an element of the message names.
    fn named(&mut self, parent: &Element, element: &'e Element, path: &str, scheme: Scheme) {
        if codes::is_shortened_number(&element.text) {
            let (place, value) = (self.place(element, path), element.text.clone());
            self.warnings.push_with(|| Warning::Shortened { place: place(), value });
        }
        let id = match scheme {
            // The node knows the agency, and takes the reference from its field.
            Scheme::DeclarationReference if !self.is_field(parent) => {
                return self.note(element, path, &element.text, None, Part::Message);
            }
            Scheme::DeclarationReference => form::normal_reference(&element.text),
            scheme => form::normal(scheme, &element.text),
        };
        match id {
            Ok(_) if scheme == Scheme::DeclarationReference => {}
            Ok(id) => {
                if self.found.insert((scheme as i32, id.clone())) && scheme == Scheme::Container {
                    self.check_container(id);
                }
            }
            Err(why) => {
                let (place, value) = (self.place(element, path), element.text.clone());
                self.warnings.push_with(|| Warning::SubjectForm {
                    place: place(),
                    scheme,
                    value,
                    why,
                });
            }
        }
    }

    /// Whether it is where a field is read from: the first, of the message itself or, in a response, of
    /// the first declaration in it.
    fn is_field(&mut self, parent: &Element) -> bool {
        // They come in their order.
        let first = self.referenced.insert(&raw const *parent);
        let of = |field: &Element| std::ptr::eq(field, parent);
        first && (of(self.message) || self.declaration.is_some_and(of))
    }

    fn check_container(&mut self, id: String) {
        match codes::container(&id) {
            Container::Good => {}
            Container::WrongCheckDigit => self.warnings.push(Warning::ContainerCheckDigit(id)),
            Container::OtherForm => self.warnings.push(match codes::perhaps_container(&id) {
                Some(perhaps) => Warning::ContainerPerhaps { id, perhaps },
                None => Warning::ContainerForm(id),
            }),
        }
    }

    fn check_date(&mut self, element: &Element, path: &str) {
        let format = element.attribute("formatCode").map_or("", |attribute| &attribute.value);
        let is_one = ["DateTimeString", "DateTime"].iter().any(|end| element.name.ends_with(end));
        if is_one && element.children.is_empty() && !date::is_date_time(&element.text, format) {
            let (place, value) = (self.place(element, path), element.text.clone());
            self.warnings.push_with(|| Warning::Date { place: place(), value });
        }
    }

    fn note(
        &mut self,
        element: &'e Element,
        path: &str,
        value: &str,
        scheme: Option<Scheme>,
        part: Part,
    ) {
        let foreign = part == Part::Foreign;
        let path = clipped(path);
        self.unclear.push(Unclear { element, path, value: value.to_owned(), scheme, foreign });
    }

    /// Where an element is, for a warning that is wanted: it takes a look at all that comes before.
    fn place<'p>(
        &self,
        element: &'p Element,
        path: &'p str,
    ) -> impl FnOnce() -> Place + use<'e, 'p> {
        let text = self.text;
        move || {
            let position = xml::position(text.as_bytes(), element.offset);
            Place { path: path.to_owned(), position: Some(position) }
        }
    }
}

/// Bytes of the texts in an element that is taken apart, from which on no more are looked at: no id has as many.
const INNER_TEXT_BYTES: usize = 4096;

/// Adds the texts of the elements in an element, one after the other.
fn add_inner_text(element: &Element, to: &mut String) {
    for child in &element.children {
        if to.len() > INNER_TEXT_BYTES {
            return;
        }
        to.push_str(&child.text);
        add_inner_text(child, to);
    }
}

/// A path of which each of many texts may have a copy.
fn clipped(path: &str) -> String {
    const CHARS_MAX: usize = 200;
    match path.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path.to_owned(),
    }
}

/// The codes of an element that is a document, found once for all that is in it.
struct DocumentCodes<'e> {
    category: &'e str,
    type_code: &'e str,
}

impl<'e> DocumentCodes<'e> {
    fn of(class: &'e Element) -> Self {
        let is_document = DOCUMENTS.contains(&&*class.name);
        let of = |name: &str| {
            let found = is_document.then(|| class.child(name)).flatten();
            found.map_or("", |child| &*child.text)
        };
        Self { category: of("CategoryCode"), type_code: of("TypeCode") }
    }
}

/// Classes that refer to a document.
const DOCUMENTS: [&str; 3] = ["PreviousDocument", "AdditionalDocument", "SupportingDocument"];

/// What a text is the id of, by the class (the element that it is in) and its name there.
fn scheme_of(
    (class, codes): (&Element, &DocumentCodes<'_>),
    name: &str,
    text: &str,
) -> Option<Scheme> {
    match (&*class.name, name) {
        ("TransportEquipment", "ID") => Some(Scheme::Container),
        ("UCR", "ID" | "TraderAssignedReferenceID") => Some(Scheme::Ucr),
        ("Declaration", "ID") => Some(Scheme::Mrn),
        ("Declaration", "FunctionalReferenceID") => Some(Scheme::DeclarationReference),
        ("TransportContractDocument", "ID") => Some(Scheme::TransportDocument),
        (class, "ID") if DOCUMENTS.contains(&class) => {
            // A document of any type that has the number of a movement is that movement's.
            document(codes.category, codes.type_code)
                .or_else(|| by_form(text).filter(|form| *form == Scheme::Mrn))
        }
        (class, "ID") if PARTIES.contains(&class) => Some(Scheme::Trader),
        _ => None,
    }
}

/// What a document of a category and type is the id of. Declaration and master UCR are of category Z;
/// transport documents are of category N with the number of UN/EDIFACT 1001. Some senders write both in
/// one, as in `N703`.
fn document(category: &str, type_code: &str) -> Option<Scheme> {
    match &*(category.to_owned() + type_code).to_ascii_uppercase() {
        "N703" | "N704" | "N705" | "N710" | "N714" | "N720" | "N722" | "N730" | "N740" | "N741" => {
            Some(Scheme::TransportDocument)
        }
        code if code.ends_with("DCR") || code.ends_with("MCR") => Some(Scheme::Ucr),
        code if code.ends_with("MRN") => Some(Scheme::Mrn),
        _ => None,
    }
}

/// Whether an element is of a class that has an id of its own: a text in it stands in the id's place.
fn has_id(element: &Element) -> bool {
    scheme_of((element, &DocumentCodes::of(element)), "ID", &element.text).is_some()
}

/// Whether an element's name says that it is an id.
fn is_id(name: &str) -> bool {
    let endings = ["ID", "Id", "Identifier", "Identification", "EORI", "LRN", "MRN", "UCR"];
    name == "id" || endings.iter().any(|ending| name.ends_with(ending))
}

/// What a text is the id of, by its form alone: a movement, or a container of ISO 6346.
fn by_form(text: &str) -> Option<Scheme> {
    if text.is_empty() || text.len() > FORM_BYTES_MAX {
        return None;
    }
    let is_mrn = |id: &str| {
        let bytes = id.as_bytes();
        bytes.len() == 18
            && bytes[..2].iter().all(u8::is_ascii_digit)
            && bytes[2..4].iter().all(u8::is_ascii_uppercase)
            && bytes[17].is_ascii_digit()
    };
    if normal(Scheme::Mrn, text).is_some_and(|id| is_mrn(&id)) {
        return Some(Scheme::Mrn);
    }
    let is_container = |id: &str| codes::container(id) != Container::OtherForm;
    normal(Scheme::Container, text).filter(|id| is_container(id)).map(|_| Scheme::Container)
}

/// Whether an element of the message is an id of a class that is not known here.
fn is_unknown_id(parent: &Element, element: &Element) -> bool {
    let (class, name) = (&*parent.name, &*element.name);
    let is_known = match name {
        "ID" => {
            OTHER_CLASSES.contains(&class)
                || OTHER_ENDINGS.iter().any(|ending| class.ends_with(ending))
        }
        "FunctionalReferenceID" => class == "Response",
        name => OTHER_NAMES.contains(&name),
    };
    is_id(name) && !is_known
}
