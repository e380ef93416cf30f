//! Where each leaf of a message ends up: under the field that its path is mapped to, or in the extension that has
//! its path. Which path is mapped to which field is written down here a second time, because an importer that is
//! held to its own table may lose what that forgets.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use customhouse_ledger::record::field_tree::{self, FieldTreeError, LeafType};
use customhouse_proto::v1::{self, record::Body};
use prost::Message as _;

use super::examples;
use crate::{
    ImportError, Imported, Outcome,
    declaration::GOODS_ITEM,
    wco_message,
    xml::{self, Element},
};

#[path = "mapped_tests.rs"]
mod mapped;

use mapped::Fields;

/// Leaves of the examples that are changed in one run, and pairs of them that are exchanged.
const CHANGES: usize = 200;
const EXCHANGES: usize = 100;
/// Tries to find a value that a message does not have yet: there may be none of one digit.
const TRIES: usize = 64;

/// A text or an attribute of a message.
#[derive(Clone, Debug)]
struct Leaf {
    /// The place of the goods item of a declaration that it is in.
    item: Option<usize>,
    /// Its path, as an extension that keeps it is named.
    name: String,
    value: String,
    /// Whether a field says the same in other words.
    is_restated: bool,
    /// Where the message has the value, letter for letter; none where it has it in another way.
    place: Option<Range<usize>>,
}

impl Leaf {
    /// Its path without the numbers of elements that repeat. The element of a date's text has several names.
    fn path(&self) -> String {
        let path = without_numbers(&self.name);
        match path.rsplit_once('/') {
            Some((above, last)) if last.ends_with("DateTimeString") => {
                format!("{above}/DateTimeString")
            }
            _ => path,
        }
    }

    /// Which goods item it is in, if it is in one.
    fn goods_item(&self) -> Option<String> {
        if let Some(place) = self.item {
            return Some(place.to_string());
        }
        let at = self.name.find(&format!("{GOODS_ITEM}["))?;
        let end = at + self.name[at..].find(']')?;
        Some(self.name[..end].to_owned())
    }
}

fn without_numbers(name: &str) -> String {
    let (mut plain, mut rest) = (String::new(), name);
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        let numbered = after.split_once(']');
        match numbered.filter(|(number, _)| number.bytes().all(|byte| byte.is_ascii_digit())) {
            Some((_, behind)) => rest = behind,
            None => {
                plain.push('[');
                rest = after;
            }
        }
    }
    plain + rest
}

/// All leaves of a message of which a record has this body.
fn leaves_of(text: &str, body: &Body) -> Vec<Leaf> {
    let root = xml::parse(text).expect("it was read");
    let is_declaration = matches!(body, Body::Declaration(_));
    let name = if is_declaration { "Declaration" } else { "Response" };
    let message = first_of(&root, name).expect("the message");
    let shipment = message.child("GoodsShipment").filter(|_| is_declaration);
    let items: Vec<&Element> =
        shipment.into_iter().flat_map(|shipment| shipment.each(GOODS_ITEM)).collect();
    let mut walk = Walk { text, item: None, leaves: Vec::new() };
    if !std::ptr::eq(&root, message) {
        let path = format!("/{}", root.name);
        walk.element((&root, false), &path, &|child| std::ptr::eq(child, message));
    }
    walk.element((message, false), "", &|child| {
        items.iter().any(|item| std::ptr::eq(*item, child))
    });
    for (place, item) in items.iter().enumerate() {
        walk.item = Some(place);
        walk.element((*item, false), "", &|_| false);
    }
    walk.leaves
}

/// The first element of a name, the outermost one first.
fn first_of<'e>(element: &'e Element, name: &str) -> Option<&'e Element> {
    if &*element.name == name {
        return Some(element);
    }
    element.children.iter().find_map(|child| first_of(child, name))
}

/// Goes through elements and keeps their leaves.
struct Walk<'t> {
    text: &'t str,
    item: Option<usize>,
    leaves: Vec<Leaf>,
}

impl Walk<'_> {
    fn element(
        &mut self,
        (element, is_restated): (&Element, bool),
        path: &str,
        skip: &dyn Fn(&Element) -> bool,
    ) {
        if !element.text.is_empty() {
            let place = text_place(self.text, element);
            self.leaf(path.to_owned(), &element.text, is_restated, place);
        }
        for attribute in &element.attributes {
            let name = format!("{path}@{}", attribute.name);
            let place = attribute_place(self.text, element, attribute);
            self.leaf(name, &attribute.value, is_restated || is_usual(attribute), place);
        }
        let mut totals: BTreeMap<String, usize> = BTreeMap::new();
        for child in &element.children {
            *totals.entry(child.label()).or_default() += 1;
        }
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for child in &element.children {
            let label = child.label();
            let number = seen.entry(label.clone()).or_default();
            *number += 1;
            if skip(child) {
                continue;
            }
            let slash = if path.is_empty() { "" } else { "/" };
            let which = if totals[&label] > 1 { format!("[{number}]") } else { String::new() };
            let path = format!("{path}{slash}{label}{which}");
            self.element((child, restates(element, child)), &path, skip);
        }
    }

    fn leaf(&mut self, name: String, value: &str, is_restated: bool, place: Option<Range<usize>>) {
        if !value.is_empty() {
            let (item, value) = (self.item, value.to_owned());
            self.leaves.push(Leaf { item, name, value, is_restated, place });
        }
    }
}

/// Whether a field says in other words what an element says.
fn restates(parent: &Element, element: &Element) -> bool {
    match &*element.name {
        // That the digits of a tariff code are one.
        "IdentificationTypeCode" => {
            let digits = parent.child("ID").map_or(0, |id| id.text.len());
            matches!((&*element.text, digits), ("TSP", 8) | ("TRC", 2))
        }
        // That all is payable that was assessed.
        "PaymentAmount" => {
            parent.child("TaxAssessedAmount").is_some_and(|assessed| assessed.text == element.text)
        }
        _ => false,
    }
}

/// Whether an attribute says what holds for the field anyway: a mass is in kilograms, a date and
/// time in the format 304.
fn is_usual(attribute: &xml::Attribute) -> bool {
    matches!((&*attribute.name, &*attribute.value), ("unitCode", "KGM") | ("formatCode", "304"))
}

/// The start tag of an element, from its bracket on.
fn start_tag<'t>(text: &'t str, element: &Element) -> &'t str {
    let tag = &text[element.offset..];
    let mut quote = None;
    for (at, found) in tag.char_indices() {
        match (quote, found) {
            (None, '"' | '\'') => quote = Some(found),
            (Some(open), _) if open == found => quote = None,
            (None, '>') => return &tag[..=at],
            _ => {}
        }
    }
    panic!("a tag without its end at byte {}", element.offset)
}

/// Where the text of an element stands, if that is all there is in it: no element, comment or reference.
fn text_place(text: &str, element: &Element) -> Option<Range<usize>> {
    let from = element.offset + start_tag(text, element).len();
    let raw = &text[from..];
    let raw = &raw[..raw.find('<')?];
    let is_all = element.children.is_empty() && raw.trim() == element.text;
    let from = from + raw.find(&element.text).filter(|_| is_all)?;
    Some(from..from + element.text.len())
}

/// Where the value of an attribute stands, if it is written as it is read.
fn attribute_place(
    text: &str,
    element: &Element,
    attribute: &xml::Attribute,
) -> Option<Range<usize>> {
    let tag = start_tag(text, element);
    ['"', '\''].into_iter().find_map(|quote| {
        let (name, value) = (&attribute.name, &attribute.value);
        let written = format!("{name}={quote}{value}{quote}");
        let mut found = tag.match_indices(&written);
        let (Some((at, _)), None) = (found.next(), found.next()) else { return None };
        let from = element.offset + at + name.len() + "='".len();
        Some(from..from + value.len())
    })
}

/// Checks that each leaf of a message is in the extension that has its path, or else under the field that its path
/// is mapped to, as often as the message has it there; and that no extension says anything else.
pub(super) fn are_where_they_belong(imported: &Imported, text: &str) {
    if let Err(lost) = check(&imported.record, text) {
        panic!("{}: {lost}", imported.label);
    }
}

fn check(record: &v1::Record, text: &str) -> Result<(), String> {
    let body = record.body.as_ref().expect("a body");
    let (mut message, mut items) = mapped::fields_of(body);
    let mut extensions = extensions_of(body)?;
    for leaf in leaves_of(text, body) {
        if let Some(kept) = extensions.remove(&(leaf.item, leaf.name.clone())) {
            if kept != leaf.value {
                return Err(format!("{leaf:?}: its extension says {kept:?}"));
            }
            continue;
        }
        let fields: &mut Fields = match leaf.item {
            None => &mut message,
            Some(place) => items.get_mut(place).ok_or("fewer goods items than in the message")?,
        };
        if !leaf.is_restated && !fields.take(&leaf.path(), &leaf.value) {
            return Err(format!("{leaf:?}: in no field of its path, and in no extension"));
        }
    }
    match extensions.pop_first() {
        None => Ok(()),
        Some(other) => Err(format!("an extension of nothing in the message: {other:?}")),
    }
}

/// Values by goods item and path.
type Extensions = BTreeMap<(Option<usize>, String), String>;

fn extensions_of(body: &Body) -> Result<Extensions, String> {
    let (message, items): (_, &[v1::GoodsItem]) = match body {
        Body::Declaration(declaration) => (&declaration.extensions, &declaration.items),
        Body::DeclarationStatus(status) => (&status.extensions, &[]),
        other => panic!("not imported: {other:?}"),
    };
    let of_message = message.iter().map(|extension| (None, extension));
    let of_items = items.iter().enumerate().flat_map(|(place, item)| {
        item.extensions.iter().map(move |extension| (Some(place), extension))
    });
    let mut extensions = Extensions::new();
    for (item, v1::Extension { name, value }) in of_message.chain(of_items) {
        if extensions.insert((item, name.clone()), value.clone()).is_some() {
            return Err(format!("two extensions of goods item {item:?} are named {name}"));
        }
    }
    Ok(extensions)
}

/// The message of a record, as it was read.
pub(super) fn source_text(imported: &Imported) -> &str {
    let content = &imported.record.source.as_ref().expect("a source").content;
    std::str::from_utf8(content).expect("it was read as UTF-8").trim_start_matches('\u{feff}')
}

/// Numbers that a seed gives (splitmix64).
struct Random(u64);

impl Random {
    /// `SEED=…` repeats a run.
    fn seeded() -> Self {
        let given = std::env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
        let seed = given.unwrap_or_else(|| u64::from(std::process::id()));
        eprintln!("SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, count: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % count as u64).expect("below a number of its type")
    }

    fn one_of(&mut self, characters: &str) -> char {
        char::from(characters.as_bytes()[self.below(characters.len())])
    }

    /// A text of the same form (digits, a number with a point, or anything else) that is nowhere else.
    fn marker_for(&mut self, value: &str) -> String {
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if is_digits(value) {
            return (100_000_000 + self.below(900_000_000)).to_string();
        }
        if value.split_once('.').is_some_and(|(whole, part)| is_digits(whole) && is_digits(part)) {
            return format!("{}.{}", 100_000 + self.below(900_000), 11 + self.below(9));
        }
        let rest: String =
            (0..10).map(|_| self.one_of("ABCDEFGHJKLMNPQRSTUVWXYZ23456789")).collect();
        format!("QX{rest}")
    }

    /// A text of the same length, with a digit for a digit and a letter for a letter, that no leaf of the message
    /// has; none where that takes too many tries.
    fn like(&mut self, value: &str, known: &BTreeSet<String>) -> Option<String> {
        for _ in 0..TRIES {
            let like = value.chars().map(|character| match character {
                '0'..='9' => self.one_of("0123456789"),
                'A'..='Z' => self.one_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
                'a'..='z' => self.one_of("abcdefghijklmnopqrstuvwxyz"),
                other => other,
            });
            let like: String = like.collect();
            if like != value && !known.contains(&like) {
                return Some(like);
            }
        }
        None
    }
}

/// One of the examples, and its leaves that can be written over.
fn drawn<'i>(random: &mut Random, all: &'i [Imported]) -> (&'i Imported, Vec<Leaf>) {
    let imported = &all[random.below(all.len())];
    let body = imported.record.body.as_ref().expect("a body");
    let leaves = leaves_of(source_text(imported), body).into_iter();
    (imported, leaves.filter(|leaf| leaf.place.is_some()).collect())
}

/// The message with other values at places of it.
fn with_values(text: &str, mut values: Vec<(Range<usize>, &str)>) -> String {
    values.sort_by_key(|(place, _)| place.start);
    let (mut changed, mut from) = (String::new(), 0);
    for (place, value) in values {
        changed.push_str(&text[from..place.start]);
        changed.push_str(value);
        from = place.end;
    }
    changed + &text[from..]
}

/// The record of a message that was changed; none where it is refused, with the place of what is wrong.
fn record_of(text: &str, what: &str) -> Option<v1::Record> {
    match wco_message(text.as_bytes(), "changed.xml") {
        Ok(Outcome::Imported(imported)) => Some(imported.record),
        Ok(Outcome::Skipped(skipped)) => panic!("{what}: {skipped:?}"),
        Err(error) => {
            let is_placed =
                matches!(error, ImportError::Malformed { .. } | ImportError::Term { .. });
            let (line, column) = error.position();
            assert!(is_placed && line > 0 && column > 0, "{what}: {error}");
            None
        }
    }
}

/// How often a text is in what a record says, as a whole or as a part of a text.
fn occurrences(record: &v1::Record, sought: &str) -> usize {
    let said = v1::Record { body: record.body.clone(), ..Default::default() };
    let mut count = 0;
    let mut show = |_: &[u8], leaf_type: LeafType, value: &[u8]| {
        count += match leaf_type {
            LeafType::Text => String::from_utf8_lossy(value).matches(sought).count(),
            LeafType::Number => {
                let number = u64::from_be_bytes(value.try_into().expect("eight bytes"));
                usize::from(number.to_string() == sought)
            }
            LeafType::Bytes | LeafType::Message | LeafType::Count => 0,
        };
        Ok::<(), FieldTreeError>(())
    };
    field_tree::walk(&said.encode_to_vec(), &mut show).expect("its one encoding");
    count
}

/// Whether a leaf is told with each of several others: a status has the number of a goods item in each of its taxes.
fn is_told_often(leaf: &Leaf) -> bool {
    leaf.item.is_none() && leaf.path().ends_with(&format!("{GOODS_ITEM}/SequenceNumeric"))
}

#[test]
fn a_leaf_that_is_changed_is_changed_in_one_place_of_the_record_or_refused_with_its_place() {
    let Some(examples) = examples() else { return };
    let mut random = Random::seeded();
    let (mut taken, mut refused, mut alike) = (0, 0, 0);
    while taken + refused < CHANGES {
        let (imported, leaves) = drawn(&mut random, &examples.imported);
        if leaves.is_empty() {
            continue;
        }
        let leaf = &leaves[random.below(leaves.len())];
        let place = leaf.place.clone().expect("one that can be written over");
        let text = source_text(imported);
        let marker = random.marker_for(&leaf.value);
        let what = format!("{}: {leaf:?} as {marker}", imported.label);
        let changed = with_values(text, vec![(place.clone(), &*marker)]);
        if let Some(record) = record_of(&changed, &what) {
            let found = occurrences(&record, &marker);
            assert!(found == 1 || found > 1 && is_told_often(leaf), "{what}: {found} times");
            check(&record, &changed).unwrap_or_else(|lost| panic!("{what}: {lost}"));
            taken += 1;
        } else {
            refused += 1;
        }
        // A value that the field may have as well: it is taken where the other was.
        let known = leaves.iter().map(|leaf| leaf.value.clone()).collect();
        let Some(like) = random.like(&leaf.value, &known) else { continue };
        let what = format!("{}: {leaf:?} as {like}", imported.label);
        let changed = with_values(text, vec![(place, &*like)]);
        if let Some(record) = record_of(&changed, &what) {
            assert!(record.body != imported.record.body, "{what}: nothing changed");
            check(&record, &changed).unwrap_or_else(|lost| panic!("{what}: {lost}"));
            alike += 1;
        }
    }
    eprintln!("{taken} changed leaves were found, {alike} of the same form, {refused} refused");
    assert!(taken > CHANGES * 9 / 10 && alike > CHANGES / 2, "{taken} and {alike}");
}

/// Pairs of leaves of one path in different goods items that say different things.
fn pairs(leaves: &[Leaf]) -> Vec<(&Leaf, &Leaf)> {
    let mut of_path: BTreeMap<String, Vec<&Leaf>> = BTreeMap::new();
    for leaf in leaves.iter().filter(|leaf| leaf.goods_item().is_some()) {
        of_path.entry(leaf.path()).or_default().push(leaf);
    }
    let neighbours = of_path.values().flat_map(|leaves| leaves.windows(2));
    let differ = |pair: &&[&Leaf]| {
        pair[0].value != pair[1].value && pair[0].goods_item() != pair[1].goods_item()
    };
    neighbours.filter(differ).map(|pair| (pair[0], pair[1])).collect()
}

#[test]
fn two_goods_items_that_exchange_what_they_say_give_another_record() {
    let Some(examples) = examples() else { return };
    let mut random = Random::seeded();
    let with_pairs = |imported: &&Imported| {
        let body = imported.record.body.as_ref().expect("a body");
        let leaves = leaves_of(source_text(imported), body);
        !pairs(&leaves.into_iter().filter(|leaf| leaf.place.is_some()).collect::<Vec<_>>())
            .is_empty()
    };
    let several: Vec<Imported> = examples.imported.iter().filter(with_pairs).cloned().collect();
    assert!(several.len() > 10, "{} messages with several goods items", several.len());
    for _ in 0..EXCHANGES {
        let (imported, leaves) = drawn(&mut random, &several);
        let pairs = pairs(&leaves);
        let (one, other) = pairs[random.below(pairs.len())];
        let what = format!("{}: {one:?} and {other:?}", imported.label);
        let place = |leaf: &Leaf| leaf.place.clone().expect("one that can be written over");
        let values = vec![(place(one), &*other.value), (place(other), &*one.value)];
        let changed = with_values(source_text(imported), values);
        let record = record_of(&changed, &what).unwrap_or_else(|| panic!("{what}: refused"));
        assert!(record.body != imported.record.body, "{what}: nothing changed");
        check(&record, &changed).unwrap_or_else(|lost| panic!("{what}: {lost}"));
    }
}
