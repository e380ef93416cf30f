//! The file in which an offer travels between agencies: JSON that a person may mail. There is no clear secret in it, and
//! no clear terms.

use std::{io, path::Path};

use customhouse_files::{folder::write_public, readfile};
use customhouse_ledger::{agency::AgencyCode, canonical, hash::Hash};
use customhouse_proto::v1;
use prost::Message as _;
use serde::{Deserialize, Serialize};

/// Fifteen envelopes of terms, in hexadecimal.
const FILE_BYTES_MAX: usize = 1024 * 1024;
const FORMAT: &str = "customhouse-agreement-offer/1";

/// Why a file is no offer.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct OfferFileError {
    path: String,
    reason: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfferJson {
    format: String,
    chain_id: Hash,
    from: AgencyCode,
    /// Canonical protobuf, hexadecimal: what is approved.
    epoch: String,
    #[serde(default)]
    sealed: Vec<SealedJson>,
    approvals: Vec<ApprovalJson>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealedJson {
    party: AgencyCode,
    encryption_key: String,
    /// Envelopes, hexadecimal.
    secret: String,
    terms: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApprovalJson {
    party: AgencyCode,
    public_key: String,
    signature: String,
}

/// Writes an offer as a new file.
///
/// # Errors
/// Where there is a file of that name, or it cannot be written.
pub fn write(path: &Path, offer: &v1::AgreementOffer) -> Result<(), OfferFileError> {
    let failed = failed(path);
    let text = to_json(offer).map_err(&failed)?;
    write_public(path, &(text + "\n")).map_err(|error| failed(error.to_string()))
}

/// Reads an offer. What it says is for the node to check.
///
/// # Errors
/// [`OfferFileError`]: no file, or of another form.
pub fn read(path: &Path) -> Result<v1::AgreementOffer, OfferFileError> {
    let failed = failed(path);
    let text = readfile::text(path, FILE_BYTES_MAX);
    let text = text.map_err(|error: io::Error| failed(error.to_string()))?;
    from_json(&text).map_err(failed)
}

fn failed(path: &Path) -> impl Fn(String) -> OfferFileError {
    let path = path.display().to_string();
    move |reason| OfferFileError { path: path.clone(), reason }
}

fn to_json(offer: &v1::AgreementOffer) -> Result<String, String> {
    let party = |code: &str| code.parse::<AgencyCode>().map_err(|error| error.to_string());
    let sealed = |one: &v1::SealedForParty| {
        Ok(SealedJson {
            party: party(&one.party)?,
            encryption_key: hex::encode(&one.encryption_key),
            secret: hex::encode(&one.secret),
            terms: hex::encode(&one.terms),
        })
    };
    let approval = |one: &v1::PartyApproval| {
        let approval = one.approval.clone().unwrap_or_default();
        Ok(ApprovalJson {
            party: party(&one.party)?,
            public_key: hex::encode(approval.public_key),
            signature: hex::encode(approval.signature),
        })
    };
    let json = OfferJson {
        format: FORMAT.to_owned(),
        chain_id: Hash::from_slice(&offer.chain_id).map_err(|error| error.to_string())?,
        from: party(&offer.from)?,
        epoch: hex::encode(offer.epoch.clone().unwrap_or_default().encode_to_vec()),
        sealed: offer.sealed.iter().map(sealed).collect::<Result<_, String>>()?,
        approvals: offer.approvals.iter().map(approval).collect::<Result<_, String>>()?,
    };
    serde_json::to_string_pretty(&json).map_err(|error| error.to_string())
}

fn from_json(text: &str) -> Result<v1::AgreementOffer, String> {
    #[derive(Deserialize)]
    struct Format {
        format: Option<String>,
    }
    let said = |error: serde_json::Error| error.to_string();
    // First its kind: the fields of another kind of file are no help.
    let found: Format = serde_json::from_str(text).map_err(said)?;
    let found = found.format.unwrap_or_else(|| "none".to_owned());
    if found != FORMAT {
        return Err(format!("its format is `{found}`, and `{FORMAT}` is needed"));
    }
    let json: OfferJson = serde_json::from_str(text).map_err(said)?;
    let bytes = |name: &str, text: &str| {
        hex::decode(text).map_err(|_| format!("{name}: hexadecimal digits expected"))
    };
    let sealed = |one: SealedJson| {
        Ok(v1::SealedForParty {
            party: one.party.to_string(),
            encryption_key: bytes("sealed.encryption_key", &one.encryption_key)?,
            secret: bytes("sealed.secret", &one.secret)?,
            terms: bytes("sealed.terms", &one.terms)?,
        })
    };
    let approval = |one: ApprovalJson| {
        let public_key = bytes("approvals.public_key", &one.public_key)?;
        let signature = bytes("approvals.signature", &one.signature)?;
        let approval = Some(v1::AgreementApproval { public_key, signature });
        Ok(v1::PartyApproval { party: one.party.to_string(), approval })
    };
    let epoch = canonical::decode(&bytes("epoch", &json.epoch)?);
    Ok(v1::AgreementOffer {
        chain_id: json.chain_id.0.to_vec(),
        from: json.from.to_string(),
        epoch: Some(epoch.map_err(|error| format!("epoch: {error}"))?),
        sealed: json.sealed.into_iter().map(sealed).collect::<Result<_, String>>()?,
        approvals: json.approvals.into_iter().map(approval).collect::<Result<_, String>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer() -> v1::AgreementOffer {
        let approval = v1::AgreementApproval { public_key: vec![1; 32], signature: vec![2; 64] };
        v1::AgreementOffer {
            chain_id: vec![3; 32],
            from: "NL-DOUANE".into(),
            epoch: Some(v1::AgreementEpoch { number: 1, ..Default::default() }),
            sealed: vec![v1::SealedForParty {
                party: "BE-AADA".into(),
                encryption_key: vec![4; 32],
                secret: vec![5; 80],
                terms: vec![6; 99],
            }],
            approvals: vec![v1::PartyApproval {
                party: "NL-DOUANE".into(),
                approval: Some(approval),
            }],
        }
    }

    #[test]
    fn a_file_says_what_was_written_and_is_never_overwritten() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("nl-be.offer");
        write(&path, &offer()).expect("written");
        assert_eq!(read(&path).expect("read"), offer());
        assert!(write(&path, &offer()).is_err(), "not over another");
    }

    #[test]
    fn what_is_no_offer_is_refused_with_its_name_and_what_is_wrong() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.offer");
        let sound = to_json(&offer()).expect("an offer");
        for (text, says) in [
            ("rubbish".to_owned(), "expected value"),
            ("{}".to_owned(), "its format is `none`"),
            (sound.replace("offer/1", "offer/2"), "offer/2`"),
            (sound.replace("\"from\"", "\"form\""), "unknown field"),
            (sound.replace("0505", "05zz"), "sealed.secret: hexadecimal"),
            (sound.replace("BE-AADA", "be"), "line"),
            (sound.replace("\"epoch\": \"1001\"", "\"epoch\": \"100100\""), "epoch:"),
        ] {
            std::fs::write(&path, &text).expect("writable");
            let error = read(&path).expect_err("refused").to_string();
            assert!(error.contains("x.offer") && error.contains(says), "{error}");
        }
    }
}
