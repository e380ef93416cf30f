//! Which declaration a message is about: a status answers one, an additional message
//! amends or cancels one.
//!
//! The rules, tried in this order; the first that gives exactly one declaration decides:
//!
//! 1. [`Rule::Reference`]: a declaration of the batch has the same own reference, and no other
//!    MRN. Where several have it, the one in the message's folder or the folder above.
//! 2. [`Rule::Mrn`]: another message with the same MRN was linked to a declaration by rule 1.
//! 3. [`Rule::Ledger`]: the caller finds the declaration on the ledger. Where it finds several, or cannot
//!    look at all that it would have to, nothing decides: the next rule knows less.
//! 4. [`Rule::Folder`]: the folder of the message, or the one above, holds exactly one declaration,
//!    and all statuses there are about one MRN (rejections aside: a rejected declaration gets a new
//!    MRN when it is lodged again). It rests on how files are kept and not on what they say, so the
//!    caller should show it.
//!
//! A status that answers a request (function 11) is about the additional message that made the
//! request, where the declaration has one; its version tells which.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
};

use customhouse_proto::v1::{
    record::Body,
    reference::{Ground, Relation},
};

use super::imported::{DeclarationKey, Imported, MessageRole};

/// States that one message is about another, or about a record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Index in the batch.
    pub from: usize,
    /// How.
    pub relation: Relation,
    /// The declaration.
    pub to: LinkTarget,
    /// How it was found.
    pub rule: Rule,
}

/// What a link leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTarget {
    /// Index in the batch. Never that of a [`Duplicate`].
    Batch(usize),
    /// Id of a record.
    Ledger([u8; 32]),
}

/// How a declaration was found, see the module's documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// By its own reference.
    Reference,
    /// By its movement reference number.
    Mrn,
    /// On the ledger.
    Ledger,
    /// By the folder of the file.
    Folder,
}

impl Rule {
    /// What a reference says of why it is there.
    pub fn ground(self) -> Ground {
        match self {
            Self::Reference | Self::Mrn | Self::Ledger => Ground::ByReference,
            Self::Folder => Ground::ByFolder,
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reference => "linked by the declaration's own reference",
            Self::Mrn => "linked by the movement reference number",
            Self::Ledger => "linked to a declaration on the ledger",
            Self::Folder => {
                "linked by folder: no declaration has its reference, this is the only one beside it"
            }
        })
    }
}

/// What a caller found on the ledger for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLedger {
    /// The one declaration that the message can be about: the id of its record.
    One([u8; 32]),
    /// Which one it is cannot be told: a person decides.
    Unclear,
}

/// A message whose declaration was not found. Its record still names the reference and MRN, and is
/// in their history beside the declaration once that is lodged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unlinked {
    /// Index in the batch.
    pub from: usize,
    /// The declaration looked for.
    pub key: DeclarationKey,
}

/// A message that has the same bytes as an earlier one of the batch: the same submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Index in the batch.
    pub index: usize,
    /// Index of the first with these bytes.
    pub first: usize,
}

/// What [`link_batch`] found. Each list ascends by index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// At most one a message; a duplicate has that of its first.
    pub links: Vec<Link>,
    /// Statuses and additional messages without a link.
    pub unlinked: Vec<Unlinked>,
    /// Need not be submitted.
    pub duplicates: Vec<Duplicate>,
}

impl Links {
    /// The link of a message.
    pub fn of(&self, index: usize) -> Option<&Link> {
        let at = self.links.binary_search_by_key(&index, |link| link.from).ok()?;
        self.links.get(at)
    }
}

/// Indexes of a batch in three waves, each in order: declarations, additional messages, statuses.
/// What a message is about is in an earlier wave.
pub fn waves(batch: &[Imported]) -> [Vec<usize>; 3] {
    let mut waves = [Vec::new(), Vec::new(), Vec::new()];
    for (index, imported) in batch.iter().enumerate() {
        match imported.role {
            MessageRole::Declaration => waves[0].push(index),
            MessageRole::Additional(_) => waves[1].push(index),
            MessageRole::Status => waves[2].push(index),
        }
    }
    waves
}

/// Finds the declaration that each status and additional message of a batch is about. The same
/// batch gives the same links. `on_ledger` says what the ledger has for the message at an index: it is asked
/// for those that the batch itself gives no declaration by reference or MRN, whatever it answers of others.
pub fn link_batch(
    batch: &[Imported],
    mut on_ledger: impl FnMut(usize) -> Option<OnLedger>,
) -> Links {
    let mut duplicates = Vec::new();
    let mut firsts: HashMap<&str, usize> = HashMap::new();
    for (index, imported) in batch.iter().enumerate() {
        let first = *firsts.entry(&imported.idempotency_key).or_insert(index);
        if first != index {
            duplicates.push(Duplicate { index, first });
        }
    }
    let batch = Batch::index(batch, &duplicates);
    let mut found: BTreeMap<usize, (LinkTarget, Rule)> = BTreeMap::new();
    let mut by_mrn: HashMap<&str, Option<usize>> = HashMap::new();
    for from in batch.to_link() {
        let Some(declaration) = batch.by_reference(from) else { continue };
        found.insert(from, (LinkTarget::Batch(batch.answered(from, declaration)), Rule::Reference));
        if batch.messages[declaration].role != MessageRole::Declaration {
            continue;
        }
        // An MRN that would name two declarations names none.
        by_mrn
            .entry(&batch.messages[from].key.mrn)
            .and_modify(|known| *known = known.filter(|known| *known == declaration))
            .or_insert(Some(declaration));
    }
    by_mrn.remove("");
    for from in batch.to_link().filter(|from| !found.contains_key(from)).collect::<Vec<_>>() {
        let key = &batch.messages[from].key;
        let known = by_mrn.get(&*key.mrn).copied().flatten();
        let target = if let Some(declaration) = known {
            Some((LinkTarget::Batch(batch.answered(from, declaration)), Rule::Mrn))
        } else {
            match on_ledger(from) {
                Some(OnLedger::One(id)) => Some((LinkTarget::Ledger(id), Rule::Ledger)),
                Some(OnLedger::Unclear) => None,
                None => batch
                    .by_folder(from)
                    .map(|d| (LinkTarget::Batch(batch.answered(from, d)), Rule::Folder)),
            }
        };
        found.extend(target.map(|target| (from, target)));
    }
    batch.links(&found, duplicates)
}

/// A batch, indexed.
struct Batch<'b> {
    messages: &'b [Imported],
    /// Duplicates, which are nobody's target.
    repeated: BTreeMap<usize, usize>,
    /// Own reference to declarations and additional messages.
    references: HashMap<&'b str, Vec<usize>>,
    /// What each folder itself holds, of the messages that are files.
    folders: BTreeMap<PathBuf, Folder<'b>>,
}

#[derive(Default)]
struct Folder<'b> {
    /// Declarations, ascending. One that is a duplicate is here as its first.
    declarations: Vec<usize>,
    /// Additional messages, ascending.
    additional: Vec<usize>,
    /// MRNs of the statuses here and in folders directly below, without those that reject.
    mrns: BTreeSet<&'b str>,
}

impl<'b> Batch<'b> {
    fn index(messages: &'b [Imported], duplicates: &[Duplicate]) -> Self {
        let repeated: BTreeMap<_, _> = duplicates.iter().map(|d| (d.index, d.first)).collect();
        let mut batch =
            Self { messages, repeated, references: HashMap::new(), folders: BTreeMap::new() };
        for (index, message) in messages.iter().enumerate() {
            let first = batch.repeated.get(&index).copied().unwrap_or(index);
            if message.role != MessageRole::Status
                && first == index
                && !message.key.reference.is_empty()
            {
                batch.references.entry(&message.key.reference).or_default().push(index);
            }
            batch.add_to_folders(message, first);
        }
        batch
    }

    fn add_to_folders(&mut self, message: &'b Imported, first: usize) {
        if !is_file(message) {
            return;
        }
        let (own, above) = folders(message);
        match message.role {
            MessageRole::Status if is_rejection(message) || message.key.mrn.is_empty() => {}
            MessageRole::Status => {
                for folder in [own, above] {
                    let folder = self.folders.entry(folder.to_owned()).or_default();
                    folder.mrns.insert(&message.key.mrn);
                }
            }
            MessageRole::Declaration => {
                self.folders.entry(own.to_owned()).or_default().declarations.push(first);
            }
            MessageRole::Additional(_) => {
                self.folders.entry(own.to_owned()).or_default().additional.push(first);
            }
        }
    }

    /// Messages that are about a declaration, without duplicates.
    fn to_link(&self) -> impl Iterator<Item = usize> {
        let messages = self.messages.iter().enumerate();
        messages
            .filter(|(index, m)| {
                m.role != MessageRole::Declaration && !self.repeated.contains_key(index)
            })
            .map(|(index, _)| index)
    }

    /// The one declaration that has the message's reference, or else the one additional message.
    fn by_reference(&self, from: usize) -> Option<usize> {
        let message = &self.messages[from];
        let same: Vec<usize> = self
            .references
            .get(&*message.key.reference)?
            .iter()
            .copied()
            .filter(|index| *index != from && !contradicts(&self.messages[*index], message))
            .collect();
        let of = |wanted: fn(MessageRole) -> bool| -> Vec<usize> {
            same.iter().copied().filter(|index| wanted(self.messages[*index].role)).collect()
        };
        let declarations = of(|role| role == MessageRole::Declaration);
        if !declarations.is_empty() || message.role != MessageRole::Status {
            return self.one_of(&declarations, message);
        }
        self.one_of(&of(|role| matches!(role, MessageRole::Additional(_))), message)
    }

    /// The only one, or the only one in the message's folder or the folder above.
    fn one_of(&self, indexes: &[usize], message: &Imported) -> Option<usize> {
        if let [one] = indexes {
            return Some(*one);
        }
        let (own, above) = folders(message);
        let near: Vec<usize> = indexes
            .iter()
            .copied()
            .filter(|index| {
                let (folder, _) = folders(&self.messages[*index]);
                is_file(message) && (folder == own || folder == above)
            })
            .collect();
        match near[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    fn by_folder(&self, from: usize) -> Option<usize> {
        let message = &self.messages[from];
        if !is_file(message) {
            return None;
        }
        let (own, above) = folders(message);
        let near = [own, above].into_iter().filter_map(|folder| self.folders.get(folder));
        let folder = near.into_iter().find(|folder| !folder.declarations.is_empty())?;
        match folder.declarations[..] {
            [one] if folder.mrns.len() <= 1 => Some(one),
            _ => None,
        }
    }

    /// What a message that concerns a declaration is about: a status that answers a request, about
    /// the additional message that made it.
    fn answered(&self, from: usize, declaration: usize) -> usize {
        let message = &self.messages[from];
        let (function_code, version) = match &message.record.body {
            Some(Body::DeclarationStatus(status)) => (&*status.function_code, &*status.version),
            _ => return declaration,
        };
        if function_code.trim_start_matches('0') != "11" {
            return declaration;
        }
        let target = &self.messages[declaration];
        let requests: Vec<usize> = match self.folders.get(folders(target).0) {
            Some(folder) if is_file(target) && folder.declarations.len() == 1 => {
                folder.additional.clone()
            }
            _ => self.references.get(&*target.key.reference).map_or_else(Vec::new, |same| {
                let role = |index: &&usize| {
                    matches!(self.messages[**index].role, MessageRole::Additional(_))
                };
                same.iter().filter(role).copied().collect()
            }),
        };
        // Version 1 is the declaration as lodged: the first request was made about it.
        let number = version.parse::<usize>().unwrap_or(1).clamp(1, requests.len().max(1));
        requests.get(number - 1).copied().unwrap_or(declaration)
    }

    fn links(
        &self,
        found: &BTreeMap<usize, (LinkTarget, Rule)>,
        duplicates: Vec<Duplicate>,
    ) -> Links {
        let mut links = Links { duplicates, ..Links::default() };
        for (from, message) in self.messages.iter().enumerate() {
            let relation = match message.role {
                MessageRole::Declaration => continue,
                MessageRole::Additional(relation) => relation,
                MessageRole::Status => Relation::RespondsTo,
            };
            let first = self.repeated.get(&from).copied().unwrap_or(from);
            match found.get(&first) {
                Some((to, rule)) => {
                    links.links.push(Link { from, relation, to: *to, rule: *rule });
                }
                None => links.unlinked.push(Unlinked { from, key: message.key.clone() }),
            }
        }
        links
    }
}

/// Whether both name an MRN, and not the same.
fn contradicts(declaration: &Imported, message: &Imported) -> bool {
    let (ours, theirs) = (&declaration.key.mrn, &message.key.mrn);
    !ours.is_empty() && !theirs.is_empty() && ours != theirs
}

/// Function 03.
fn is_rejection(message: &Imported) -> bool {
    match &message.record.body {
        Some(Body::DeclarationStatus(status)) => {
            status.function_code.trim_start_matches('0') == "3"
        }
        _ => false,
    }
}

/// Whether a message is a file of its own, and not a row of one.
fn is_file(message: &Imported) -> bool {
    message.record.source.as_ref().is_some_and(|source| source.media_type == "application/xml")
}

/// The folder of a message, and the one above it.
fn folders(message: &Imported) -> (&Path, &Path) {
    let own = Path::new(&message.label).parent().unwrap_or(Path::new(""));
    (own, own.parent().unwrap_or(own))
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
