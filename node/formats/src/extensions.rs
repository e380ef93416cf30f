//! Keeps what no field has taken: each text and attribute by its path.

use std::collections::BTreeMap;

use customhouse_proto::v1;
use prost::Message as _;

use super::xml::Element;

/// Most bytes around an extension's own encoding: tag and length.
const FRAME_BYTES_MAX: usize = 6;

/// Collects extensions while there is room for them.
#[derive(Debug)]
pub(super) struct Extensions {
    /// Bytes that may still be filled.
    room: usize,
    /// How many there was no room for.
    pub(super) left_out: usize,
    list: Vec<v1::Extension>,
}

impl Extensions {
    pub(super) fn new(room: usize) -> Self {
        Self { room, left_out: 0, list: Vec::new() }
    }

    /// Adds what was not taken from the element and those in it, but not from those that `skip`
    /// answers for. Names start with `prefix`.
    pub(super) fn add(&mut self, element: &Element, prefix: &str, skip: &dyn Fn(&Element) -> bool) {
        self.walk(element, &mut prefix.to_owned(), skip);
    }

    /// What was added since the last call.
    pub(super) fn drain(&mut self) -> Vec<v1::Extension> {
        std::mem::take(&mut self.list)
    }

    fn walk(&mut self, element: &Element, path: &mut String, skip: &dyn Fn(&Element) -> bool) {
        if !element.taken.get() {
            self.push(path, &element.text);
        }
        let end = path.len();
        for attribute in element.attributes.iter().filter(|attribute| !attribute.taken.get()) {
            path.push('@');
            path.push_str(&attribute.name);
            self.push(path, &attribute.value);
            path.truncate(end);
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
            if !(path.is_empty() || path.ends_with('/')) {
                path.push('/');
            }
            path.push_str(&label);
            if totals.get(&label).is_some_and(|total| *total > 1) {
                path.push_str(&format!("[{number}]"));
            }
            self.walk(child, path, skip);
            path.truncate(end);
        }
    }

    fn push(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        // Measured before it is made: one long name above many short values must not cost memory.
        let at_least = name.len() + value.len();
        if at_least <= self.room {
            let extension = v1::Extension { name: name.to_owned(), value: value.to_owned() };
            let bytes = extension.encoded_len() + FRAME_BYTES_MAX;
            if let Some(room) = self.room.checked_sub(bytes) {
                self.room = room;
                self.list.push(extension);
                return;
            }
        }
        self.left_out += 1;
    }
}
