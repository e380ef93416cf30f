//! WCO Data Model messages: which file is what, and the record made from it.

use std::{
    collections::BTreeSet,
    fs,
    io::Read as _,
    path::{Path, PathBuf},
};

use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use crate::readfile;

use super::{
    DeclarationKey, Imported, Outcome, Role, Skipped,
    declaration::{self, GOODS_ITEM},
    error::ImportError,
    extensions::Extensions,
    idempotency_key, status,
    terms::Terms,
    warning::Warning,
    xml::{self, Element},
};

/// Bytes of a record at the most (DESIGN §3).
const RECORD_BYTES_MAX: usize = 64 * 1024;
/// Bytes kept free in a record for what is added later: salt, agency, submitter, references.
const RESERVED_BYTES: usize = 1024;
/// Bytes of a message at the most: it is kept whole in its record.
pub const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX - RESERVED_BYTES;
/// Bytes that the length prefixes of one goods item may grow by when extensions are added.
const ITEM_PREFIX_BYTES: usize = 4;
/// Directories within directories at the most.
const DIRECTORY_DEPTH_MAX: usize = 32;

/// Finds the files to import: each path that is a file, and in each that is a directory all files
/// named `*.xml` in any letter case, at any depth. Sorted, without repeats. Links to directories
/// are not followed.
///
/// # Errors
/// Where a path cannot be read.
pub fn wco_paths(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ImportError> {
    let mut files = BTreeSet::new();
    for path in paths {
        if fs::metadata(path).map_err(|error| unreadable(path, &error))?.is_dir() {
            search(path, 0, &mut files)?;
        } else {
            files.insert(path.clone());
        }
    }
    Ok(files.into_iter().collect())
}

fn search(directory: &Path, depth: usize, into: &mut BTreeSet<PathBuf>) -> Result<(), ImportError> {
    if depth > DIRECTORY_DEPTH_MAX {
        let reason = format!("more than {DIRECTORY_DEPTH_MAX} directories deep");
        return Err(ImportError::Read { file: directory.display().to_string(), reason });
    }
    for entry in fs::read_dir(directory).map_err(|error| unreadable(directory, &error))? {
        let entry = entry.map_err(|error| unreadable(directory, &error))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(|error| unreadable(&path, &error))?;
        if kind.is_dir() {
            search(&path, depth + 1, into)?;
        } else if path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("xml"))
            && path.is_file()
        {
            into.insert(path);
        }
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> ImportError {
    ImportError::Read { file: path.display().to_string(), reason: error.to_string() }
}

/// Imports a file. Reads no more of it than could fit in a record.
///
/// # Errors
/// Where it cannot be read, and as [`wco_message`].
pub fn wco_file(path: &Path) -> Result<Outcome, ImportError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
    readfile::open(path)
        .and_then(|file| file.take(limit).read_to_end(&mut bytes))
        .map_err(|error| unreadable(path, &error))?;
    wco_message(&bytes, &path.display().to_string())
}

/// Imports a message: a declaration (DEC) or a response (RES), with or without `MetaData` around
/// it, in any namespaces. `label` names it in messages to people and tells its folder.
///
/// # Errors
/// Where it is not well-formed UTF-8 XML, too large for a record, or lacks the regime.
pub fn wco_message(bytes: &[u8], label: &str) -> Result<Outcome, ImportError> {
    if bytes.len() > MESSAGE_BYTES_MAX {
        return Err(too_large(label, bytes.len()));
    }
    let text = text(bytes).map_err(|fault| malformed(bytes, label, fault))?;
    let root = xml::parse(text).map_err(|fault| malformed(text.as_bytes(), label, fault))?;
    let message = match Message::find(&root) {
        Ok(message) => message,
        Err(reason) => {
            let (label, root) = (label.to_owned(), root.name);
            return Ok(Outcome::Skipped(Skipped { label, root, reason }));
        }
    };
    let imported = match message.kind {
        Kind::Declaration => {
            declaration_record(&message, &root, bytes, label).map_err(|reason| {
                let element = message.element.child("TypeCode").unwrap_or(message.element);
                let (line, column) = xml::position(text.as_bytes(), element.offset);
                let (file, element) = (label.to_owned(), "Declaration/TypeCode".to_owned());
                ImportError::Term { file, line, column, element, reason }
            })?
        }
        Kind::Response => status_record(&message, &root, bytes, label),
    };
    let record_bytes = imported.record.encoded_len();
    if record_bytes > MESSAGE_BYTES_MAX {
        return Err(too_large(label, record_bytes));
    }
    Ok(Outcome::Imported(Box::new(imported)))
}

fn too_large(label: &str, bytes: usize) -> ImportError {
    ImportError::TooLarge { file: label.to_owned(), bytes, limit: MESSAGE_BYTES_MAX }
}

/// The document without its byte order mark.
fn text(bytes: &[u8]) -> Result<&str, xml::Fault> {
    if bytes.starts_with(&[0xfe, 0xff]) || bytes.starts_with(&[0xff, 0xfe]) {
        return Err(xml::Fault::new(0, "encoding UTF-16 is not read, only UTF-8"));
    }
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    std::str::from_utf8(bytes)
        .map_err(|error| xml::Fault::new(error.valid_up_to(), "not UTF-8 text"))
}

fn malformed(text: &[u8], label: &str, fault: xml::Fault) -> ImportError {
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(text);
    let (line, column) = xml::position(text, fault.offset);
    ImportError::Malformed { file: label.to_owned(), line, column, reason: fault.reason }
}

enum Kind {
    Declaration,
    Response,
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
    fn find(root: &'e Element) -> Result<Self, &'static str> {
        let around = match &*root.name {
            "submitDeclarationRequest" => root
                .child("requestDetail")
                .and_then(|detail| detail.children.iter().find(|child| is_meta_data(child)))
                .ok_or("a submission request without WCO MetaData")?,
            _ => root,
        };
        if is_meta_data(around) {
            let version = version(around);
            return match (around.child("Declaration"), around.child("Response")) {
                (Some(element), _) => Ok(Self::declaration(element, version)),
                (None, Some(element)) => Ok(Self::response(element, version)),
                (None, None) => Err("WCO MetaData without a Declaration or Response"),
            };
        }
        match &*around.name {
            "Declaration" => Ok(Self::declaration(around, "")),
            "Response" => Ok(Self::response(around, "")),
            name => Err(other_message(name)),
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
    root: &Element,
    bytes: &[u8],
    label: &str,
) -> Result<Imported, String> {
    let mut terms = Terms::default();
    let declaration = declaration::read(&mut terms, message.element)?;
    let role = declaration::additional(&declaration.type_code, &declaration.function_code)
        .map_or(Role::Declaration, Role::Additional);
    let key =
        DeclarationKey { reference: declaration.reference.clone(), mrn: declaration.mrn.clone() };
    let subjects = declaration::subjects(&declaration);
    let items = declaration.items.len();
    let mut record = record(message, bytes, Body::Declaration(declaration));
    record.subjects = subjects;
    let mut extensions = room(&record, items);
    let element = message.element;
    let around = around(root, element, &mut extensions);
    extensions.add(element, "", &|child| child.name == GOODS_ITEM);
    let listed: Vec<_> = around.into_iter().chain(extensions.drain()).collect();
    let shipment = element.child("GoodsShipment");
    let elements = shipment.into_iter().flat_map(|shipment| shipment.each(GOODS_ITEM));
    if let Some(Body::Declaration(declaration)) = &mut record.body {
        declaration.extensions = listed;
        for (item, element) in declaration.items.iter_mut().zip(elements) {
            extensions.add(element, "", &|_| false);
            item.extensions = extensions.drain();
        }
    }
    Ok(imported(record, terms, &extensions, role, key, bytes, label))
}

fn status_record(message: &Message<'_>, root: &Element, bytes: &[u8], label: &str) -> Imported {
    let mut terms = Terms::default();
    let status = status::read(&mut terms, message.element);
    let key =
        DeclarationKey { reference: status.declaration_reference.clone(), mrn: status.mrn.clone() };
    let mut record = record(message, bytes, Body::DeclarationStatus(status));
    let mut extensions = room(&record, 0);
    let around = around(root, message.element, &mut extensions);
    extensions.add(message.element, "", &|_| false);
    if let Some(Body::DeclarationStatus(status)) = &mut record.body {
        status.extensions = around.into_iter().chain(extensions.drain()).collect();
    }
    imported(record, terms, &extensions, Role::Status, key, bytes, label)
}

fn record(message: &Message<'_>, bytes: &[u8], body: Body) -> v1::Record {
    let source = v1::Source {
        media_type: "application/xml".to_owned(),
        format: message.format.clone(),
        content: bytes.to_vec(),
    };
    v1::Record { source: Some(source), body: Some(body), ..Default::default() }
}

/// The room that is left in a record for extensions.
fn room(record: &v1::Record, items: usize) -> Extensions {
    let filled = record.encoded_len() + ITEM_PREFIX_BYTES * (items + 1);
    Extensions::new(MESSAGE_BYTES_MAX.saturating_sub(filled))
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
    role: Role,
    key: DeclarationKey,
    bytes: &[u8],
    label: &str,
) -> Imported {
    if extensions.left_out > 0 {
        terms.warnings.push(Warning::ExtensionsLeftOut(extensions.left_out));
    }
    Imported {
        record,
        idempotency_key: idempotency_key("xml", &[bytes]),
        label: label.to_owned(),
        warnings: terms.warnings.into_vec(),
        role,
        key,
    }
}

#[cfg(test)]
#[path = "wco_tests.rs"]
mod tests;
