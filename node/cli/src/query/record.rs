//! Records, as they are shown.

use std::fmt;

use anyhow::Context as _;
use customhouse_audit::{foreign_answer::ForeignAnswer, time};
use customhouse_ledger::{agency::AgencyCode, authority::role, hash::Hash, record::kind_of};
use customhouse_proto::v1;
use prost::Message as _;
use serde::Serialize;

use crate::{output::one_line, record_json};

/// A record with its place.
#[derive(Serialize)]
pub(super) struct RecordView {
    record_id: Hash,
    height: u64,
    time_ms: u64,
    log_index: u64,
    slot_index: u32,
    transaction_id: String,
    kind: &'static str,
    record: serde_json::Value,
    /// Where it is sealed: under which epoch of which agreement, whether its bytes are here, and why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    sealed: Option<SealedView>,
    /// The other agency to whose record it answers: it is the view of its own agency then.
    #[serde(skip_serializing_if = "Option::is_none")]
    answers_agency: Option<AgencyCode>,
    /// The record that it is linked through, where it is not about the subject by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    linked_through: Option<String>,
    #[serde(skip)]
    summary: Vec<(&'static str, String)>,
}

impl RecordView {
    pub(super) fn of(
        id: &[u8],
        bytes: &[u8],
        place: Option<v1::RecordPlace>,
    ) -> anyhow::Result<Self> {
        let place = place.unwrap_or_default();
        let record = v1::Record::decode(bytes)?;
        let sealed = place.sealed.as_ref().map(SealedView::of);
        let is_seen = sealed.as_ref().is_none_or(|sealed| sealed.bytes == "here");
        let mut summary = if is_seen { summary_of(&record) } else { Vec::new() };
        summary.extend(sealed.iter().flat_map(SealedView::summary));
        let unseen = if sealed.is_some() { "sealed" } else { "nothing" };
        Ok(Self {
            record_id: Hash::from_slice(id)?,
            height: place.height,
            time_ms: place.time_ms,
            log_index: place.log_index,
            slot_index: place.slot_index,
            transaction_id: hex::encode(place.transaction_id),
            kind: record.body.as_ref().map_or(unseen, |body| kind_of(body).name()),
            record: match is_seen {
                true => record_json::of_record(bytes)?,
                false => serde_json::Value::Null,
            },
            sealed,
            answers_agency: ForeignAnswer::of(&record).map(|answer| answer.answered),
            linked_through: None,
            summary,
        })
    }

    /// A record that belongs to a history by a link.
    pub(super) fn linked(link: &v1::LinkedItem) -> anyhow::Result<Self> {
        let item = link.item.as_ref().context("a link without its record")?;
        let mut view = Self::of(&item.record_id, &item.record, item.place.clone())?;
        let relation = link.relation().as_str_name().to_lowercase().replace('_', " ");
        let through = hex::encode(&link.through_record_id);
        let how = match link.is_earlier {
            true => format!("which {relation} it"),
            false => format!("which it {relation}"),
        };
        view.summary.push(("linked by", format!("record {through}, {how}")));
        view.linked_through = Some(through);
        Ok(view)
    }
}

impl fmt::Display for RecordView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "record      {}", self.record_id)?;
        let lodged = time::shown(self.time_ms);
        writeln!(f, "lodged      {lodged}, height {}, log index {}", self.height, self.log_index)?;
        write!(f, "kind        {}", self.kind)?;
        for (name, value) in &self.summary {
            write!(f, "\n{name:<11} {}", one_line(value))?;
        }
        Ok(())
    }
}

/// What is said of a sealed record.
#[derive(Serialize)]
pub(super) struct SealedView {
    agreement: String,
    epoch: u32,
    is_grant: bool,
    bytes: &'static str,
    is_checked: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    warning: String,
}

impl SealedView {
    fn of(sealed: &v1::Sealed) -> Self {
        Self {
            agreement: hex::encode(&sealed.agreement),
            epoch: sealed.epoch,
            is_grant: sealed.is_grant,
            bytes: match sealed.bytes() {
                v1::sealed::Bytes::Here => "here",
                v1::sealed::Bytes::NotShared => "not shared with this agency",
                v1::sealed::Bytes::Missing => "not at this node yet",
                v1::sealed::Bytes::NotForCaller => "not for your role",
                v1::sealed::Bytes::Unreadable => "at this node, and do not open",
                v1::sealed::Bytes::NoVault => "not at this node, which has no vault",
                v1::sealed::Bytes::Unspecified => "not told of by this node",
            },
            is_checked: sealed.is_checked,
            warning: sealed.warning.clone(),
        }
    }

    fn summary(&self) -> Vec<(&'static str, String)> {
        let Self { agreement, epoch, is_grant, bytes, is_checked, warning } = self;
        let how = if *is_grant { "shared later" } else { "shared" };
        let mut lines =
            vec![("sealed", format!("{how} under agreement {agreement}, epoch {epoch}"))];
        if *bytes != "here" {
            lines.push(("its bytes", format!("are {bytes}")));
        } else if !warning.is_empty() {
            lines.push(("warning", format!("{warning}: its slot is not what the bytes say")));
        } else if !*is_checked {
            lines.push(("unchecked", "its bytes were not held against its slot yet".to_owned()));
        }
        lines
    }
}

/// What people look for first; the whole is in the JSON.
fn summary_of(record: &v1::Record) -> Vec<(&'static str, String)> {
    let role = role::name(record.submitter_role());
    let by = format!("{} ({}), as {role}", record.submitter, record.agency);
    let mut lines = vec![("lodged by", by)];
    let body = record.body.as_ref().map(|body| kind_of(body).summary());
    lines.extend(body.into_iter().flatten().filter(|(_, value)| !value.is_empty()));
    if let Some(answer) = ForeignAnswer::of(record) {
        lines.push(("a view", answer.to_string()));
    }
    for reference in &record.references {
        let words = |name: &str| name.to_lowercase().replace('_', " ");
        let (id, relation) = (hex::encode(&reference.record_id), reference.relation());
        let relation = words(relation.as_str_name());
        let ground = words(reference.ground().as_str_name());
        let of = match &*reference.agency {
            "" => String::new(),
            agency => format!(" of {agency}"),
        };
        lines.push(("refers to", format!("{id}{of} ({relation}, {ground})")));
    }
    if let Some(source) = &record.source {
        let where_it_is = match &source.attachment {
            Some(attachment) => {
                let root = hex::encode(&attachment.root);
                format!("{} bytes (--source), attachment {root}", attachment.size)
            }
            None => format!("{} bytes (--source)", source.content.len()),
        };
        lines.push(("source", format!("{}, {where_it_is}", source.format)));
    }
    for v1::Attachment { root, size, media_type, name } in &record.attachments {
        let said = [name, media_type].into_iter().filter(|text| !text.is_empty());
        let said: String = said.map(|text| format!("{text}, ")).collect();
        lines.push(("attachment", format!("{} ({said}{size} bytes)", hex::encode(root))));
    }
    lines
}

/// What stands below the records of a history.
#[derive(Default)]
pub(super) struct End {
    /// Printed of those that are linked.
    pub(super) linked: usize,
    /// Whether there may be other linked ones.
    pub(super) links_cut: bool,
    /// Printed.
    pub(super) records: usize,
    /// Whether there are others.
    pub(super) more: bool,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { records, more, linked, links_cut } = self;
        if *linked > 0 || *links_cut {
            let cut = if *links_cut { ", and perhaps others" } else { "" };
            writeln!(f, "{linked} linked with these by references{cut}: no proof covers links")?;
        }
        let plural = if *records == 1 { "" } else { "s" };
        match more {
            false => write!(f, "{records} record{plural}"),
            true => write!(f, "the first {records} record{plural} of more: --all prints all"),
        }
    }
}

#[cfg(test)]
mod tests {
    use customhouse_proto::v1::record::Body;

    use super::*;

    #[test]
    fn a_history_that_is_cut_is_not_counted_as_whole() {
        let said = |records, more| End { records, more, ..End::default() }.to_string();
        assert_eq!(said(1, false), "1 record");
        assert_eq!(said(1000, true), "the first 1000 records of more: --all prints all");
    }

    #[test]
    fn an_id_with_a_line_end_forges_no_line() {
        let forged = "A-17\nlodged by   customs (NL-DOUANE)\r\nrisk        NONE";
        let alert = v1::RiskAlert { alert_id: forged.into(), ..Default::default() };
        let declaration = v1::Declaration { mrn: forged.into(), ..Default::default() };
        let source = v1::Source { format: forged.into(), ..Default::default() };
        for body in [Body::RiskAlert(alert), Body::Declaration(declaration)] {
            let record = v1::Record {
                agency: "NL-DOUANE".into(),
                submitter: format!("broker{forged}"),
                source: Some(source.clone()),
                body: Some(body),
                ..Default::default()
            };
            let view = RecordView::of(&[7; 32], &record.encode_to_vec(), None).expect("a view");
            let shown = view.to_string();
            let starting = |name: &str| shown.lines().filter(|l| l.starts_with(name)).count();
            assert_eq!((starting("lodged by"), starting("risk")), (1, 0), "{shown}");
            assert!(shown.contains(r"A-17\nlodged by   customs (NL-DOUANE)\r\nrisk"), "{shown}");
        }
    }
}
