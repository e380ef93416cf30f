//! WCO Data Model messages: which file is what, and the record made from it.

use std::{collections::HashSet, path::Path};

use customhouse_ledger::{attachment::AttachmentBuilder, limits::SUBJECTS_MAX, record};
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use super::{
    declaration::{self, GOODS_ITEM},
    encoding,
    error::ImportError,
    extensions::Extensions,
    imported::{
        DeclarationKey, Imported, MESSAGE_BYTES_MAX, MessageRole, Outcome, SOURCE_BYTES_MAX,
        Skipped, idempotency_key,
    },
    naming,
    paths::message_file,
    status,
    terms::Terms,
    warning::Warning,
    xml::{self, Element},
};

/// Bytes that the length prefixes of one goods item may grow by when extensions are added.
const ITEM_PREFIX_BYTES: usize = 4;

/// What maps these messages: its number changes with what it makes of them.
pub(super) const IMPORTER: &str = "customhouse-wco/1";
/// What an AppleDouble file begins with: attributes of another file, under its name with `._` before it.
const APPLE_DOUBLE: [u8; 4] = [0, 5, 0x16, 7];

/// Imports a file. Reads no more of it than a message may have.
///
/// # Errors
/// Where it cannot be read, and as [`wco_message`].
pub fn wco_file(path: &Path) -> Result<Outcome, ImportError> {
    let (label, bytes) = message_file(path)?;
    wco_message(&bytes, &label)
}

/// Whether bytes begin as XML does, in any encoding that is read, or are what macOS keeps beside a file.
pub(super) fn looks_like_xml(bytes: &[u8]) -> bool {
    if bytes.starts_with(&APPLE_DOUBLE) {
        return true;
    }
    let marks: [&[u8]; 3] = [b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff"];
    let mark = marks.into_iter().find(|mark| bytes.starts_with(mark)).map_or(0, <[u8]>::len);
    // Of 16 bits, one byte of two is zero.
    let is_space = |byte: &u8| byte.is_ascii_whitespace() || *byte == 0;
    bytes[mark..].iter().find(|byte| !is_space(byte)) == Some(&b'<')
}

/// Imports a message: a declaration (DEC) or a response (RES), with or without `MetaData` around
/// it, in any namespaces. `label` names it in messages to people and tells its folder.
///
/// # Errors
/// Where it is not well-formed XML of a known encoding, too large for a record, about too many subjects,
/// or lacks the regime.
pub fn wco_message(bytes: &[u8], label: &str) -> Result<Outcome, ImportError> {
    message_within(bytes, label, MESSAGE_BYTES_MAX)
}

/// The same for records of at most this many bytes.
pub(super) fn message_within(
    bytes: &[u8],
    label: &str,
    bytes_max: usize,
) -> Result<Outcome, ImportError> {
    let skipped = |root: &str, reason| {
        let (label, root) = (label.to_owned(), root.to_owned());
        Ok(Outcome::Skipped(Skipped { label, root, reason }))
    };
    if bytes.starts_with(&APPLE_DOUBLE) {
        return skipped("AppleDouble", "attributes of another file, which macOS keeps beside it");
    }
    let too_large = |bytes, limit| {
        let file = label.to_owned();
        Err(ImportError::TooLarge { file, bytes, limit })
    };
    if bytes.len() > SOURCE_BYTES_MAX {
        return too_large(bytes.len(), SOURCE_BYTES_MAX);
    }
    let text = encoding::decode(bytes).map_err(|undecoded| {
        let fault = xml::Fault::new(undecoded.before.len(), undecoded.reason);
        malformed(&undecoded.before, label, fault)
    })?;
    let root = xml::parse(&text).map_err(|fault| malformed(&text, label, fault))?;
    let message = match Message::find(&root) {
        Ok(message) => message,
        Err(Miss::Other(reason)) => return skipped(&root.name, reason),
        Err(Miss::Several(second)) => {
            let reason = "a second message in one file: submit each by itself";
            return Err(term(&text, label, second, second.name.to_string(), reason.to_owned()));
        }
    };
    let read = |is_beside| {
        let document = Document { text: &text, root: &root, bytes, label, bytes_max, is_beside };
        match message.kind {
            Kind::Declaration => declaration_record(&message, &document),
            Kind::Response => status_record(&message, &document),
        }
    };
    let inside = if bytes.len() <= bytes_max { Some(read(false)?) } else { None };
    // Where the source takes the room of what it says, it goes beside the record.
    let imported = match inside.filter(|imported| is_whole(imported, bytes_max)) {
        Some(imported) => imported,
        None => read(true)?,
    };
    let record_bytes = imported.record.encoded_len();
    if record_bytes > bytes_max {
        return too_large(record_bytes, bytes_max);
    }
    Ok(Outcome::Imported(Box::new(imported)))
}

/// Whether a record has all of its message, and is no larger than it may be.
fn is_whole(imported: &Imported, bytes_max: usize) -> bool {
    let left_out = |warning: &Warning| matches!(warning, Warning::ExtensionsLeftOut(_));
    imported.record.encoded_len() <= bytes_max && !imported.warnings.iter().any(left_out)
}

/// What a message was read from.
struct Document<'d> {
    text: &'d str,
    root: &'d Element,
    bytes: &'d [u8],
    label: &'d str,
    /// Most bytes of its record.
    bytes_max: usize,
    /// Whether the bytes are to be an attachment, and not in the record.
    is_beside: bool,
}

fn malformed(text: &str, label: &str, fault: xml::Fault) -> ImportError {
    let (line, column) = xml::position(text.as_bytes(), fault.offset);
    ImportError::Malformed { file: label.to_owned(), line, column, reason: fault.reason }
}

/// A term at an element of a well-formed message.
fn term(text: &str, label: &str, at: &Element, element: String, reason: String) -> ImportError {
    let (line, column) = xml::position(text.as_bytes(), at.offset);
    ImportError::Term { file: label.to_owned(), line, column, element, reason }
}

enum Kind {
    Declaration,
    Response,
}

/// Why a document has no message to import.
enum Miss<'e> {
    /// It is something else.
    Other(&'static str),
    /// There is another one, which would be lost.
    Several(&'e Element),
}

/// Where in a document the message is.
struct Message<'e> {
    kind: Kind,
    element: &'e Element,
    /// For example `WCO-DM/3.6/DEC`.
    format: String,
}

impl<'e> Message<'e> {
    /// Finds the declaration or response in a document, or says what the document is instead.
    fn find(root: &'e Element) -> Result<Self, Miss<'e>> {
        let around = match &*root.name {
            "submitDeclarationRequest" => {
                let details = root.each("requestDetail");
                let mut found = details
                    .flat_map(|detail| detail.children.iter().filter(|child| is_meta_data(child)));
                let none = "a submission request without WCO MetaData";
                let first = found.next().ok_or(Miss::Other(none))?;
                found.next().map_or(Ok(first), |second| Err(Miss::Several(second)))?
            }
            _ => root,
        };
        if is_meta_data(around) {
            return Self::find_in(around);
        }
        match &*around.name {
            "Declaration" => Ok(Self::declaration(around, "")),
            "Response" => Ok(Self::response(around, "")),
            name => Err(Miss::Other(other_message(name))),
        }
    }

    /// Finds the message in `MetaData`: one of its vocabulary, or else of any other.
    fn find_in(meta_data: &'e Element) -> Result<Self, Miss<'e>> {
        let is_message = |child: &&Element| matches!(&*child.name, "Declaration" | "Response");
        let (own, other): (Vec<_>, Vec<_>) =
            meta_data.children.iter().filter(is_message).partition(|child| !child.foreign);
        let found = if own.is_empty() { other } else { own };
        let version = version(meta_data);
        match found[..] {
            [] => Err(Miss::Other("WCO MetaData without a Declaration or Response")),
            [one] if &*one.name == "Declaration" => Ok(Self::declaration(one, version)),
            [one] => Ok(Self::response(one, version)),
            [_, second, ..] => Err(Miss::Several(second)),
        }
    }

    fn declaration(element: &'e Element, version: &str) -> Self {
        Self { kind: Kind::Declaration, element, format: format!("WCO-DM{version}/DEC") }
    }

    fn response(element: &'e Element, version: &str) -> Self {
        Self { kind: Kind::Response, element, format: format!("WCO-DM{version}/RES") }
    }
}

/// Some senders lose the colon of the prefix (`mdMetaData`, `_2MetaData`).
fn is_meta_data(element: &Element) -> bool {
    element.name.ends_with("MetaData")
}

/// The version of the data model with a `/` before it, where it is one of those known.
fn version(meta_data: &Element) -> &'static str {
    let stated = meta_data.children.iter().find(|c| c.name.ends_with("WCODataModelVersionCode"));
    let known = ["/3.6", "/3.7", "/3.8", "/3.9", "/3.10", "/3.11", "/4.0"];
    let text = stated.map_or("", |stated| &stated.text);
    known.into_iter().find(|version| version[1..] == *text).unwrap_or("")
}

/// Why another message has no record.
fn other_message(root: &str) -> &'static str {
    let root = root.to_ascii_lowercase();
    if root.starts_with("inventorylinking") {
        "a message of inventory linking (movement of goods), neither a declaration nor a response"
    } else if root.starts_with("declaration") && root.ends_with("response") {
        "a retrieved report about a declaration, neither a declaration nor a response"
    } else {
        "neither a WCO declaration nor a response"
    }
}

fn declaration_record(
    message: &Message<'_>,
    document: &Document<'_>,
) -> Result<Imported, ImportError> {
    let mut terms = Terms::default();
    let element = message.element;
    let declaration = declaration::read(&mut terms, element).map_err(|reason| {
        let at = element.child("TypeCode").unwrap_or(element);
        term(document.text, document.label, at, "Declaration/TypeCode".to_owned(), reason)
    })?;
    let role = declaration::additional(&declaration.type_code, &declaration.function_code)
        .map_or(MessageRole::Declaration, MessageRole::Additional);
    let key =
        DeclarationKey { reference: declaration.reference.clone(), mrn: declaration.mrn.clone() };
    let items = declaration.items.len();
    let mut record = record(message, document, Body::Declaration(declaration));
    add_subjects(&mut record, message, document, &mut terms)?;
    let mut extensions = room(&record, items, document);
    let around = around(document.root, element, &mut extensions);
    let shipment = element.child("GoodsShipment");
    let elements: Vec<&Element> =
        shipment.into_iter().flat_map(|shipment| shipment.each(GOODS_ITEM)).collect();
    // By their places in memory: whether a child is one of many is asked of every child.
    let places: HashSet<*const Element> = elements.iter().map(|item| &raw const **item).collect();
    let is_item = |child: &Element| places.contains(&(&raw const *child));
    extensions.add(element, "", &is_item);
    let listed: Vec<_> = around.into_iter().chain(extensions.drain()).collect();
    if let Some(Body::Declaration(declaration)) = &mut record.body {
        declaration.extensions = listed;
        for (item, element) in declaration.items.iter_mut().zip(elements) {
            extensions.add(element, "", &|_| false);
            item.extensions = extensions.drain();
        }
    }
    Ok(imported(record, terms, &extensions, role, key, document))
}

fn status_record(message: &Message<'_>, document: &Document<'_>) -> Result<Imported, ImportError> {
    let mut terms = Terms::default();
    let status = status::read(&mut terms, message.element);
    let key =
        DeclarationKey { reference: status.declaration_reference.clone(), mrn: status.mrn.clone() };
    let mut record = record(message, document, Body::DeclarationStatus(status));
    add_subjects(&mut record, message, document, &mut terms)?;
    let mut extensions = room(&record, 0, document);
    let around = around(document.root, message.element, &mut extensions);
    extensions.add(message.element, "", &|_| false);
    if let Some(Body::DeclarationStatus(status)) = &mut record.body {
        status.extensions = around.into_iter().chain(extensions.drain()).collect();
    }
    Ok(imported(record, terms, &extensions, MessageRole::Status, key, document))
}

/// States every subject that the message names, and that does not follow from the record's fields.
fn add_subjects(
    record: &mut v1::Record,
    message: &Message<'_>,
    document: &Document<'_>,
    terms: &mut Terms,
) -> Result<(), ImportError> {
    let Document { text, root, label, .. } = document;
    let mut named = naming::subjects(root, message.element, text, &mut terms.warnings);
    let following = record::subjects(record);
    for subject in &following {
        named.remove(&(subject.scheme, subject.id.clone()));
    }
    let count = following.len() + named.len();
    if count > SUBJECTS_MAX {
        let file = (*label).to_owned();
        return Err(ImportError::TooManySubjects { file, count, limit: SUBJECTS_MAX });
    }
    record.subjects = named.into_iter().map(|(scheme, id)| v1::Subject { scheme, id }).collect();
    Ok(())
}

fn record(message: &Message<'_>, document: &Document<'_>, body: Body) -> v1::Record {
    let media_type = "application/xml".to_owned();
    let source = v1::Source {
        media_type: media_type.clone(),
        format: message.format.clone(),
        content: if document.is_beside { Vec::new() } else { document.bytes.to_vec() },
        attachment: document.is_beside.then(|| attachment(document.bytes, media_type)),
        importer: IMPORTER.to_owned(),
        ..Default::default()
    };
    v1::Record { source: Some(source), body: Some(body), ..Default::default() }
}

/// A message as a file that belongs to its record.
fn attachment(bytes: &[u8], media_type: String) -> v1::Attachment {
    let mut builder = AttachmentBuilder::default();
    builder.push(bytes);
    let (root, size) = builder.finish();
    v1::Attachment { root: root.0.to_vec(), size, media_type, name: String::new() }
}

/// The room that is left in a record for extensions.
fn room(record: &v1::Record, items: usize, document: &Document<'_>) -> Extensions {
    let filled = record.encoded_len() + ITEM_PREFIX_BYTES * (items + 1);
    Extensions::new(document.bytes_max.saturating_sub(filled))
}

/// What surrounds the message in its document, such as the agency in `MetaData`.
fn around(root: &Element, message: &Element, extensions: &mut Extensions) -> Vec<v1::Extension> {
    if !std::ptr::eq(root, message) {
        let prefix = format!("/{}", root.name);
        extensions.add(root, &prefix, &|child| std::ptr::eq(child, message));
    }
    extensions.drain()
}

fn imported(
    record: v1::Record,
    mut terms: Terms,
    extensions: &Extensions,
    role: MessageRole,
    key: DeclarationKey,
    document: &Document<'_>,
) -> Imported {
    if extensions.left_out > 0 {
        terms.warnings.push(Warning::ExtensionsLeftOut(extensions.left_out));
    }
    Imported {
        record,
        idempotency_key: idempotency_key("xml", &[&document.root.content_hash()]),
        label: document.label.to_owned(),
        line: 0,
        warnings: terms.warnings.into_vec(),
        role,
        key,
        detached: document.is_beside.then(|| document.bytes.to_vec()),
    }
}

#[cfg(test)]
#[path = "wco_tests.rs"]
mod tests;
