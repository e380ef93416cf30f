//! Reads XML into a tree of elements, strictly and within limits.
//!
//! Messages come with any namespaces and prefixes, or none. What counts is whether an element is of its
//! parent's vocabulary: an element of another namespace is *foreign*, an extension of whoever sent the
//! message, and never taken for an element of the message that has the same local name. The namespaces
//! of the WCO Data Model are one vocabulary. Each text and attribute remembers whether it was taken into
//! a field, so that what was not can be kept.

use std::{cell::Cell, collections::HashSet, rc::Rc};

use sha2::{Digest as _, Sha256};

use quick_xml::{
    Error, Reader, XmlVersion,
    errors::IllFormedError,
    events::{BytesDecl, BytesRef, BytesStart, Event},
};

use super::error::quoted;

/// Attributes of an element, with what declares namespaces: each is compared with the others.
const ATTRIBUTES_MAX: usize = 256;
/// Namespaces that are declared around an element: each of its names is looked up among them.
const BINDINGS_MAX: usize = 1024;
/// Bytes of a namespace's name: each element has it in its paths.
const NAMESPACE_BYTES_MAX: usize = 1024;
/// Elements of a document and attributes in it, with those that declare namespaces: the shortest take ten times
/// and more of their bytes in memory. It is more than the leaves that a record may have, and five times what a
/// declaration of 999 items of many terms has.
pub(super) const NODES_MAX: usize = 300_000;
/// The deepest nesting of elements.
pub(super) const DEPTH_MAX: usize = 64;

/// Why text is not a document that is read here.
#[derive(Debug)]
pub(super) struct Fault {
    /// Bytes from the start of the text.
    pub(super) offset: usize,
    pub(super) reason: String,
}

impl Fault {
    pub(super) fn new(offset: usize, reason: impl Into<String>) -> Self {
        Self { offset, reason: reason.into() }
    }
}

/// An element.
#[derive(Debug)]
pub(super) struct Element {
    /// Without its prefix. Elements of one name share it.
    pub(super) name: Rc<str>,
    /// The namespace's name; empty for none, the prefix and a colon where it is not declared.
    pub(super) namespace: Rc<str>,
    /// Whether it is of another vocabulary than its parent.
    pub(super) foreign: bool,
    /// Offset of its start tag, in bytes.
    pub(super) offset: usize,
    /// Characters of its parent's own text before it, without white space: none except in mixed content.
    after: usize,
    /// Without namespace declarations and schema locations.
    pub(super) attributes: Vec<Attribute>,
    /// Its own text, without the white space around it.
    pub(super) text: String,
    /// Characters of it, without white space.
    length: usize,
    pub(super) children: Vec<Element>,
    /// Whether the text is in a field of the record.
    pub(super) taken: Cell<bool>,
}

/// An attribute.
#[derive(Debug)]
pub(super) struct Attribute {
    /// As written, with its prefix. Attributes of one name share it.
    pub(super) name: Rc<str>,
    /// As of an element; one without a prefix has none.
    namespace: Rc<str>,
    pub(super) value: String,
    /// Whether the value is in a field of the record.
    pub(super) taken: Cell<bool>,
}

impl Attribute {
    /// Its name without the prefix.
    pub(super) fn local_name(&self) -> &str {
        self.name.rsplit_once(':').map_or(&*self.name, |(_, name)| name)
    }
}

impl Element {
    /// An element without anything in it: where a message has no such part.
    pub(super) fn nowhere() -> Self {
        Self {
            name: "".into(),
            namespace: "".into(),
            foreign: false,
            offset: 0,
            after: 0,
            attributes: Vec::new(),
            text: String::new(),
            length: 0,
            children: Vec::new(),
            taken: Cell::new(false),
        }
    }

    /// Its name in paths: with the namespace before it, in braces, where it is foreign.
    pub(super) fn label(&self) -> String {
        if self.foreign {
            format!("{{{}}}{}", self.namespace, self.name)
        } else {
            self.name.to_string()
        }
    }

    /// Whether it is of its parent's vocabulary, and has that name.
    pub(super) fn is(&self, name: &str) -> bool {
        !self.foreign && &*self.name == name
    }

    /// The first child of that name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.is(name))
    }

    /// All children of that name, in order.
    pub(super) fn each<'e>(&'e self, name: &'e str) -> impl Iterator<Item = &'e Self> {
        self.children.iter().filter(move |child| child.is(name))
    }

    /// The element down the path, taking the first of each name.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |element, name| element.child(name))
    }

    /// A hash of what the element says: names with their namespaces, attributes in the order of their
    /// names, texts without the white space around them, and where between them its parts stand. The same for every way of writing that: line
    /// ends, encodings, prefixes, quotes, references, comments and indentation.
    pub(super) fn content_hash(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        self.hash_into(&mut hasher);
        hasher.finalize().into()
    }

    fn hash_into(&self, hasher: &mut Sha256) {
        let mut part = |text: &str| {
            hasher.update((text.len() as u64).to_be_bytes());
            hasher.update(text);
        };
        part(&self.namespace);
        part(&self.name);
        part(&self.text);
        let said = |a: &'_ Attribute| {
            [a.namespace.to_string(), a.local_name().to_owned(), a.value.clone()]
        };
        let mut attributes: Vec<_> = self.attributes.iter().map(said).collect();
        attributes.sort_unstable();
        attributes.iter().flatten().for_each(|text| part(text));
        // Counts tell attributes from children, and children from what follows their parent.
        for count in [self.after, attributes.len(), self.children.len()] {
            hasher.update((count as u64).to_be_bytes());
        }
        self.children.iter().for_each(|child| child.hash_into(hasher));
    }

    /// The attribute of that name.
    pub(super) fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| &*attribute.name == name)
    }
}

/// Line and column of an offset, both from 1; the column counts characters. A line ends with a line
/// feed, a carriage return, or both.
pub(super) fn position(text: &[u8], offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let (mut line, mut line_start) = (1, 0);
    for (at, byte) in before.iter().enumerate() {
        let of_both = *byte == b'\r' && text.get(at + 1) == Some(&b'\n');
        if matches!(byte, b'\n' | b'\r') && !of_both {
            (line, line_start) = (line + 1, at + 1);
        }
    }
    (line, String::from_utf8_lossy(&before[line_start..]).chars().count() + 1)
}

/// Reads a document.
///
/// # Errors
/// Where it is not well-formed, declares a document type, refers to an entity that XML itself does
/// not have, or is deeper than [`DEPTH_MAX`]. The encoding that it names was looked at when it was
/// decoded.
pub(super) fn parse(text: &str) -> Result<Element, Fault> {
    if let Some((offset, found)) = text.char_indices().find(|(_, found)| !is_xml_char(*found)) {
        return Err(Fault::new(offset, format!("character {found:?} is not allowed")));
    }
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_comments = true;
    let mut tree = Tree::default();
    loop {
        let start = offset(reader.buffer_position());
        match reader.read_event() {
            Ok(Event::Eof) => return tree.finish(text.len()),
            Ok(event) => tree.add(start, event)?,
            Err(Error::IllFormed(IllFormedError::DoubleHyphenInComment)) => {
                // The reader's own position is of a later hyphen where the comment has others.
                let inside = text.get(start + "<!--".len()..).and_then(|rest| rest.find("--"));
                let at = start + "<!--".len() + inside.unwrap_or(0);
                return Err(Fault::new(at, "\"--\" in a comment (one before it may lack its end)"));
            }
            Err(error) => {
                return Err(Fault::new(offset(reader.error_position()), shortened(&error)));
            }
        }
    }
}

fn offset(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// The parser's words, which may repeat a name of any length.
fn shortened(error: &impl ToString) -> String {
    let mut words = error.to_string().replace(char::is_control, " ");
    if let Some((end, _)) = words.char_indices().nth(200) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// The production `Char` of XML 1.0.
fn is_xml_char(found: char) -> bool {
    matches!(found, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn is_name(name: &str) -> bool {
    let start = |found: char| found.is_alphabetic() || found == '_' || found == ':';
    let rest = |found: char| start(found) || found.is_alphanumeric() || "-.·".contains(found);
    name.starts_with(start) && name.chars().all(rest)
}

/// The elements that are open, outermost first, and the root once it is closed.
#[derive(Default)]
struct Tree {
    open: Vec<Element>,
    root: Option<Element>,
    /// Prefixes (empty for the default) with their namespaces and the depth where they were declared,
    /// innermost last.
    bindings: Vec<(String, Rc<str>, usize)>,
    /// Elements and attributes so far.
    nodes: usize,
    /// Names and namespaces so far: most come again and again.
    names: HashSet<Rc<str>>,
}

impl Tree {
    fn add(&mut self, start: usize, event: Event<'_>) -> Result<(), Fault> {
        match event {
            Event::Start(tag) => {
                let element = self.element(start, &tag)?;
                self.open.push(element);
            }
            Event::Empty(tag) => {
                let element = self.element(start, &tag)?;
                self.close(element);
            }
            Event::End(_) => {
                let element =
                    self.open.pop().ok_or_else(|| Fault::new(start, "nothing is open"))?;
                self.close(element);
            }
            Event::Text(text) => {
                let text = text.xml10_content();
                if text.contains("]]>") {
                    return Err(Fault::new(start, "\"]]>\" in text"));
                }
                self.append(start, &text)?;
            }
            Event::CData(text) => self.append(start, &text.xml10_content())?,
            Event::GeneralRef(reference) => {
                let found = resolve(&reference).map_err(|reason| Fault::new(start, reason))?;
                // A space by reference is text like any other.
                self.append(start, found.encode_utf8(&mut [0; 4]))?;
            }
            Event::Decl(declaration) => {
                if start != 0 {
                    return Err(Fault::new(start, "XML declaration not at the start"));
                }
                check_declaration(&declaration).map_err(|reason| Fault::new(start, reason))?;
            }
            Event::DocType(_) => {
                let reason = "document types and entity declarations are refused";
                return Err(Fault::new(start, reason));
            }
            Event::PI(instruction) => {
                let target = instruction.target();
                if !is_name(target) || target.eq_ignore_ascii_case("xml") {
                    return Err(Fault::new(start, format!("{} is not a target", quoted(target))));
                }
            }
            Event::Comment(_) | Event::Eof => {}
        }
        Ok(())
    }

    fn element(&mut self, start: usize, tag: &BytesStart<'_>) -> Result<Element, Fault> {
        if self.open.len() >= DEPTH_MAX {
            return Err(Fault::new(start, format!("deeper than {DEPTH_MAX} elements")));
        }
        if self.open.is_empty() && self.root.is_some() {
            return Err(Fault::new(start, "a second root element"));
        }
        let name = tag.name();
        if !is_name(name.as_ref()) {
            return Err(Fault::new(start, format!("{} is not a name", quoted(name.as_ref()))));
        }
        let (count, attributes, bindings) =
            attributes(tag).map_err(|reason| Fault::new(start, reason))?;
        self.nodes += 1 + count;
        if self.nodes > NODES_MAX {
            let reason = format!("more than {NODES_MAX} elements and attributes");
            return Err(Fault::new(start, reason));
        }
        // What an element declares counts for itself, and ends with it.
        let depth = self.open.len();
        self.bindings.truncate(
            self.bindings.iter().rposition(|(_, _, of)| *of < depth).map_or(0, |at| at + 1),
        );
        self.bindings.extend(bindings.into_iter().map(|(prefix, name)| (prefix, name, depth)));
        if self.bindings.len() > BINDINGS_MAX {
            return Err(Fault::new(
                start,
                format!("more than {BINDINGS_MAX} namespaces at a time"),
            ));
        }
        let prefix = name.prefix();
        let namespace = self.namespace(prefix.as_ref().map(AsRef::as_ref));
        let attributes = attributes.into_iter().map(|(name, value)| {
            let namespace = match name.split_once(':') {
                Some((prefix, _)) => self.namespace(Some(prefix)),
                None => self.shared(""),
            };
            let (name, taken) = (self.shared(&name), Cell::new(false));
            Attribute { name, namespace, value, taken }
        });
        let attributes = attributes.collect();
        let name = self.shared(tag.local_name().as_ref());
        let parent = self.open.last();
        Ok(Element {
            name,
            foreign: parent.is_some_and(|parent| !is_one_vocabulary(&parent.namespace, &namespace)),
            namespace,
            offset: start,
            after: parent.map_or(0, |parent| parent.length),
            attributes,
            text: String::new(),
            length: 0,
            children: Vec::new(),
            taken: Cell::new(false),
        })
    }

    fn namespace(&mut self, prefix: Option<&str>) -> Rc<str> {
        let wanted = prefix.unwrap_or_default();
        match self.bindings.iter().rfind(|(prefix, ..)| prefix == wanted) {
            Some((_, namespace, _)) => namespace.clone(),
            None => {
                let unknown = prefix.map_or_else(String::new, |prefix| format!("{prefix}:"));
                self.shared(&unknown)
            }
        }
    }

    fn shared(&mut self, name: &str) -> Rc<str> {
        if let Some(known) = self.names.get(name) {
            return Rc::clone(known);
        }
        let new: Rc<str> = name.into();
        self.names.insert(Rc::clone(&new));
        new
    }

    fn append(&mut self, start: usize, text: &str) -> Result<(), Fault> {
        match self.open.last_mut() {
            Some(element) => {
                element.text.push_str(text);
                element.length += text.chars().filter(|c| !is_space(*c)).count();
            }
            None if text.trim_matches(is_space).is_empty() => {}
            None => return Err(Fault::new(start, "text outside the root element")),
        }
        Ok(())
    }

    fn close(&mut self, mut element: Element) {
        element.text = element.text.trim_matches(is_space).to_owned();
        element.children.shrink_to_fit();
        match self.open.last_mut() {
            Some(parent) => parent.children.push(element),
            None => self.root = Some(element),
        }
    }

    fn finish(self, end: usize) -> Result<Element, Fault> {
        if let Some(element) = self.open.last() {
            return Err(Fault::new(
                end,
                format!("element {} is not closed", quoted(&element.name)),
            ));
        }
        self.root.ok_or_else(|| Fault::new(end, "no element"))
    }
}

/// Whether elements of two namespaces are of one vocabulary. Some senders lose the colons of the Data
/// Model's names.
fn is_one_vocabulary(namespace: &str, other: &str) -> bool {
    let of_data_model = |name: &str| {
        ["urn:wco:datamodel:", "urnwcodatamodel"].iter().any(|start| name.starts_with(start))
    };
    namespace == other || of_data_model(namespace) && of_data_model(other)
}

/// White space as XML has it.
fn is_space(found: char) -> bool {
    matches!(found, ' ' | '\t' | '\n' | '\r')
}

/// Version, encoding and standalone, in this order.
fn check_declaration(declaration: &BytesDecl<'_>) -> Result<(), String> {
    declaration.xml_version().map_err(|error| shortened(&error))?;
    let content: &str = declaration;
    check_spacing(content)?;
    let mut allowed = ["version", "encoding", "standalone"].into_iter();
    for attribute in BytesStart::from_content(content, "xml".len()).attributes() {
        let attribute = attribute.map_err(|error| shortened(&error))?;
        let (name, value) = (attribute.key.as_ref(), &*attribute.value);
        if !allowed.any(|allowed| allowed == name) {
            return Err(format!("{} is out of place in the XML declaration", quoted(name)));
        }
        if name == "standalone" && !["yes", "no"].contains(&value) {
            return Err(format!("standalone {} is neither yes nor no", quoted(value)));
        }
    }
    Ok(())
}

/// After each quoted value comes white space, or nothing more.
fn check_spacing(attributes: &str) -> Result<(), String> {
    let mut rest = attributes;
    while let Some(at) = rest.find(['"', '\'']) {
        let quote = if rest[at..].starts_with('"') { '"' } else { '\'' };
        let after = rest[at + 1..].find(quote).map_or("", |end| &rest[at + 1 + end + 1..]);
        if !(after.is_empty() || after.starts_with(is_space)) {
            return Err("no white space after an attribute".to_owned());
        }
        rest = after;
    }
    Ok(())
}

/// Names and values.
type Attributes = Vec<(String, String)>;

/// Prefixes with the namespaces that they are bound to.
type Bindings = Vec<(String, Rc<str>)>;

/// How many attributes a tag has; those of them, with their values, that do not only concern namespaces and
/// schemas; and the namespaces that it declares.
fn attributes(tag: &BytesStart<'_>) -> Result<(usize, Attributes, Bindings), String> {
    check_spacing(tag.attributes_raw())?;
    let (mut found, mut bindings) = (Vec::new(), Vec::new());
    let mut count = 0;
    for attribute in tag.attributes() {
        count += 1;
        if count > ATTRIBUTES_MAX {
            return Err(format!("more than {ATTRIBUTES_MAX} attributes"));
        }
        let attribute = attribute.map_err(|error| shortened(&error))?;
        let name = attribute.key.as_ref();
        if !is_name(name) {
            return Err(format!("{} is not a name", quoted(name)));
        }
        if attribute.value.contains('<') {
            return Err(format!("\"<\" in the value of {}", quoted(name)));
        }
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| shortened(&error))?;
        if !value.chars().all(is_xml_char) {
            return Err(format!("the value of {} has a forbidden character", quoted(name)));
        }
        let of_schema =
            name.ends_with(":schemaLocation") || name.ends_with(":noNamespaceSchemaLocation");
        if let Some(prefix) = name.strip_prefix("xmlns:").or((name == "xmlns").then_some("")) {
            if value.len() > NAMESPACE_BYTES_MAX {
                return Err(format!("a namespace of more than {NAMESPACE_BYTES_MAX} bytes"));
            }
            bindings.push((prefix.to_owned(), value.trim_matches(is_space).into()));
        } else if !of_schema {
            found.push((name.to_owned(), value.trim_matches(is_space).to_owned()));
        }
    }
    Ok((count, found, bindings))
}

/// The character that a reference stands for: by number, or one of XML's own five.
fn resolve(reference: &BytesRef<'_>) -> Result<char, String> {
    match reference.resolve_char_ref().map_err(|error| shortened(&error))? {
        Some(found) if is_xml_char(found) => Ok(found),
        Some(found) => Err(format!("character {found:?} is not allowed")),
        None => match &**reference {
            "amp" => Ok('&'),
            "lt" => Ok('<'),
            "gt" => Ok('>'),
            "apos" => Ok('\''),
            "quot" => Ok('"'),
            other => Err(format!("entity {} is not known", quoted(other))),
        },
    }
}
