//! Agreements among nodes with vaults.

use std::path::Path;

use customhouse_files::secret::Secret;
use customhouse_ledger::{agreement::own_id, transaction::EpochId};
use customhouse_proto::v1::{DedupeCheckEntry, EncryptionKeyEntry};
use customhouse_vault::{
    dedupe::dedupe_check,
    envelope::{EnvelopeContext, EnvelopeKind, RecipientKey, seal},
    vault::{Protection, Vault},
};
use prost::Message as _;

use super::*;
use crate::{
    agreements::{Draft, Offer},
    config::{RootKeyProtection, VaultSection},
};

/// The keys of an agency's vault, where the folder has one.
pub(super) fn sealing_in(folder: &Path, i: usize) -> Option<SealingKeys> {
    let directory = folder.join(format!("{i}-vault"));
    let section = VaultSection {
        directory: directory.clone(),
        root_key: RootKeyProtection(Protection::Plain),
        mirror: None,
        single_copy: true,
        backup: None,
        retention_months: 120,
    };
    directory.is_dir().then(|| SealingKeys::open(&section).expect("the vault opens"))
}

/// The secret of an agency's dedupe keys.
fn dedupe_secret(i: usize) -> Secret {
    Secret::new(&key_seed(5, i))
}

/// Nodes with vaults, of which the registry has what it is to have.
pub(super) async fn start(agencies: usize) -> Network {
    let folder = tempfile::tempdir().expect("a folder");
    let keys: Vec<_> = (0..agencies)
        .map(|i| {
            let path = folder.path().join(format!("{i}-vault"));
            let vault = Vault::create(&path, &Protection::Plain).expect("a new vault");
            vault.put_dedupe(dedupe_secret(i), 0).expect("kept");
            vault.new_encryption_key().expect("a key")
        })
        .collect();
    let registered = |i: usize| {
        let (agency, public_key) = (code(i).to_string(), keys[i].as_bytes().to_vec());
        let check = dedupe_check(&dedupe_secret(i), code(i)).0.to_vec();
        let check = DedupeCheckEntry { agency: agency.clone(), check };
        let key = EncryptionKeyEntry { agency, public_key };
        vec![Entry::EncryptionKey(key), Entry::DedupeCheck(check)]
    };
    Network::start_in(folder, genesis_with(agencies, registered), agencies).await
}

async fn until<T>(mut found: impl FnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            match found() {
                Some(found) => return found,
                None => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(DEADLINE, found).await.expect("in time")
}

/// The agency's own epoch that is in force there.
pub(super) async fn own_epoch(network: &Network, i: usize) -> EpochId {
    let node = network.shared(i);
    until(|| node.agreements.own_epoch_in_force(crate::clock::unix_ms())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_with_a_vault_has_an_epoch_of_its_own_and_keeps_it_across_restarts() {
    let mut network = start(2).await;
    for i in 0..2 {
        let id = own_epoch(&network, i).await;
        assert_eq!(id, EpochId { agreement: own_id(&code(i)), number: 1 });
        let held = &network.shared(i).agreements;
        let agreements = network.shared(i).reader.agreements();
        let epoch = agreements.get(&id.agreement).expect("agreed").newest();
        assert_eq!(held.epoch_secret(&id).expect("held").public(), &epoch.key);
        let terms = held.terms(&epoch.terms_hash).expect("held");
        assert_eq!((terms.hash(), terms.retention_months()), (epoch.terms_hash, 120));
        // Nobody else has them.
        let other = &network.shared(1 - i).agreements;
        assert!(other.epoch_secret(&id).is_none() && other.terms(&epoch.terms_hash).is_none());
    }
    network.stop_node(0).await;
    network.start_node(0).await;
    let id = own_epoch(&network, 0).await;
    assert_eq!(id.number, 1);
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_vault_has_none() {
    let network = Network::start(1).await;
    let held = &network.shared(0).agreements;
    assert!(!held.has_vault());
    assert_eq!(held.own_epoch_in_force(crate::clock::unix_ms()), None);
    network.stop().await;
}

const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;

/// An agreement of these, from now on for a year.
fn draft(parties: &[usize]) -> Draft {
    let now_ms = crate::clock::unix_ms();
    Draft {
        parties: parties.iter().map(|party| code(*party)).collect(),
        terms: Some(v1::AgreementTerms {
            purpose: "customs control".into(),
            legal_basis: "a treaty".into(),
            retention_months: 12,
            erase_days: 30,
            ..Default::default()
        }),
        agreement: None,
        from_ms: now_ms,
        until_ms: now_ms + YEAR_MS,
        not_after_ms: now_ms + 60 * 60 * 1000,
    }
}

fn operator(i: usize) -> ClientIdentity {
    let (agency, role) = (code(i), ClientRole::Operator);
    ClientIdentity { agency, name: "operator".into(), role, certificate: [0; 32] }
}

fn held(network: &Network, i: usize) -> HeldAgreements {
    network.shared(i).agreements.clone()
}

/// As it comes by mail.
fn mailed(offer: &Offer) -> Offer {
    Offer::from_proto(offer.to_proto()).expect("as it was sent")
}

async fn lodge(network: &Network, i: usize, offer: &Offer) -> End {
    let node = network.shared(i);
    let change = held(network, i).change_of(offer).expect("all have approved").expect("not agreed");
    let accepted = node.submissions.submit_agreement_change(&operator(i), &change).await;
    network.finality(i, accepted.expect("accepted").record_id).await
}

/// Both agree, and the chain has it at both.
pub(super) async fn agreed(network: &Network) -> (Offer, EpochId) {
    let (offer, _) = held(network, 0).propose(draft(&[0, 1])).expect("an offer");
    let offer = held(network, 1).approve_offer(mailed(&offer)).expect("approved");
    assert!(matches!(lodge(network, 1, &offer).await, End::Final { .. }));
    let id = EpochId { agreement: offer.proposal().agreement(), number: 1 };
    for i in 0..2 {
        let reader = network.shared(i).reader.clone();
        until(|| reader.agreements().get(&id.agreement).map(drop)).await;
    }
    (offer, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_all_approve_is_lodged_and_each_party_has_its_secret_and_terms() {
    let mut network = start(3).await;
    let (offer, id) = agreed(&network).await;
    let terms_hash = offer.proposal().terms_hash();
    for i in 0..2 {
        let held = held(&network, i);
        assert_eq!(held.epoch_secret(&id).expect("held").public(), offer.proposal().key());
        assert_eq!(held.terms(&terms_hash).expect("held").hash(), terms_hash);
        let (shown, more) = held.show(&id.agreement, None).expect("on the chain");
        assert!(shown[0].in_force && shown[0].has_secret && shown[0].has_terms && !more);
        assert!(shown[0].sentences[0].starts_with("AGENCY-0 will be able to read every record"));
        // Lodged once more it is no error.
        assert!(held.change_of(&offer).expect("as before").is_none());
    }
    let third = held(&network, 2);
    until(|| third.show(&id.agreement, None)).await;
    assert!(third.epoch_secret(&id).is_none() && third.terms(&terms_hash).is_none());
    assert_eq!(third.lacking(), [], "it is no party");
    let of_theirs =
        |all| third.list(all, false, None).0.iter().any(|a| a.agreement == id.agreement.0);
    assert!(of_theirs(true) && !of_theirs(false));
    // It stays so across a restart, and goes where the vault goes.
    network.stop_node(1).await;
    network.start_node(1).await;
    assert!(held(&network, 1).epoch_secret(&id).is_some());
    network.stop_node(1).await;
    let vault = network.folder.path().join("1-vault");
    std::fs::remove_dir_all(&vault).expect("removed");
    let new = Vault::create(&vault, &Protection::Plain).expect("a new vault");
    new.put_dedupe(dedupe_secret(1), 0).expect("kept");
    drop(new);
    network.start_node(1).await;
    let restored = held(&network, 1);
    until(|| restored.show(&id.agreement, None)).await;
    assert!(restored.epoch_secret(&id).is_none() && restored.terms(&terms_hash).is_none());
    assert!(restored.lacking().contains(&id), "it says what it lacks");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agreement_goes_on_is_renewed_by_either_of_two_offers_and_is_left() {
    let network = start(2).await;
    let (_, id) = agreed(&network).await;
    let next = |until_ms| Draft {
        parties: Vec::new(),
        terms: None,
        agreement: Some(id.agreement),
        until_ms,
        ..draft(&[])
    };
    // Each proposes, and each approves what the other proposed: both hold both secrets.
    let until_ms = crate::clock::unix_ms() + YEAR_MS;
    let (one, terms) = held(&network, 0).propose(next(until_ms)).expect("an offer");
    let (other, _) = held(&network, 1).propose(next(until_ms + 1)).expect("an offer");
    assert_eq!(terms.to_proto().purpose, "customs control", "the terms go on");
    let one = held(&network, 1).approve_offer(mailed(&one)).expect("approved");
    let other = held(&network, 0).approve_offer(mailed(&other)).expect("approved");
    assert!(matches!(lodge(&network, 0, &other).await, End::Final { .. }));
    let second = EpochId { number: 2, ..id };
    for i in 0..2 {
        let key = until(|| held(&network, i).epoch_secret(&second)).await;
        assert_eq!(key.public(), other.proposal().key());
    }
    let refused = held(&network, 0).change_of(&one).expect_err("it is too late");
    assert_eq!(refused.code(), "AGREEMENT_STALE");
    assert_eq!(
        held(&network, 0).approve_offer(one).expect_err("too late").code(),
        "AGREEMENT_STALE"
    );
    let change = held(&network, 1).leave(id.agreement).expect("it may");
    let accepted =
        network.shared(1).submissions.submit_agreement_change(&operator(1), &change).await;
    let end = network.finality(1, accepted.expect("accepted").record_id).await;
    assert!(matches!(end, End::Final { .. }));
    assert_eq!(held(&network, 1).leave(id.agreement).expect_err("once").code(), "AGREEMENT_LEFT");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_as_it_says_is_not_approved_and_nothing_of_it_is_kept() {
    let network = start(3).await;
    let (offer, _) = held(&network, 0).propose(draft(&[0, 1])).expect("an offer");
    let (other, _) = held(&network, 0).propose(draft(&[0, 1])).expect("another");
    let party = |i: usize| held(&network, i);
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut v1::AgreementOffer));
    let other_proto = other.to_proto();
    let elsewhere = offer.proposal().approve(&Hash([7; 32]), &key(3, 0)).to_proto();
    let faults: [Fault<'_>; 15] = [
        ("OFFER_CHAIN", &|o| o.chain_id = vec![7; 32]),
        ("OFFER_FIELD", &|o| o.chain_id.truncate(31)),
        ("OFFER_FIELD", &|o| o.epoch = None),
        ("OFFER_PARTY", &|o| o.from = code(2).to_string()),
        ("OFFER_PARTY", &|o| o.approvals[0].party = code(2).to_string()),
        ("OFFER_APPROVAL", &|o| o.approvals.clear()),
        // By a key of another agency, and of another epoch.
        ("OFFER_APPROVAL", &|o| o.approvals[0].party = code(1).to_string()),
        ("OFFER_APPROVAL", &|o| o.approvals = other_proto.approvals.clone()),
        ("OFFER_APPROVAL", &|o| o.approvals[0].approval = Some(elsewhere.clone())),
        ("OFFER_NOT_FOR_US", &|o| o.sealed.clear()),
        ("OFFER_NOT_FOR_US", &|o| o.sealed[0].encryption_key[5] ^= 1),
        ("OFFER_FIELD", &|o| o.sealed.push(o.sealed[0].clone())),
        ("OFFER_ENVELOPE", &|o| o.sealed[0].secret[40] ^= 1),
        ("OFFER_ENVELOPE", &|o| o.sealed[0].secret = other_proto.sealed[0].secret.clone()),
        ("OFFER_ENVELOPE", &|o| o.sealed[0].terms = other_proto.sealed[0].terms.clone()),
    ];
    for (expected, change) in faults {
        let mut proto = offer.to_proto();
        change(&mut proto);
        let refused = Offer::from_proto(proto).and_then(|offer| party(1).approve_offer(offer));
        assert_eq!(refused.expect_err("refused").code(), expected);
    }
    assert!(party(1).secret_of(offer.proposal().key()).is_none(), "nothing was kept");
    // Somebody to whom it was sent by mistake.
    assert_eq!(party(2).approve_offer(offer.clone()).expect_err("no party").code(), "OFFER_PARTY");
    assert_eq!(party(0).change_of(&offer).expect_err("one lacks").code(), "OFFER_INCOMPLETE");
    assert_eq!(party(2).propose(draft(&[0, 1])).expect_err("no party").code(), "OFFER_PARTY");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposer_who_seals_another_secret_or_other_terms_is_found_out() {
    let network = start(2).await;
    let keys = network.shared(1).reader.registry().encryption_keys_at(&code(1), 1);
    let key = RecipientKey::from_slice(keys[0].as_bytes()).expect("a key");
    let (offer, terms) = held(&network, 0).propose(draft(&[0, 1])).expect("an offer");
    let proposal = offer.proposal();
    let sealed = |kind, bytes: &[u8]| {
        let (chain_id, id, epoch) = (network.genesis.chain_id(), proposal.hash(), 1);
        let context = EnvelopeContext { chain_id, from: code(0), to: code(1), kind, id, epoch };
        seal(&key, &context, bytes).expect("sealed")
    };
    let salted = v1::AgreementTerms { salt: vec![1; 32], ..terms.to_proto() };
    let (secret, terms) = (EnvelopeKind::EpochSecret, EnvelopeKind::Terms);
    type Fault<'a> = (&'a str, &'a dyn Fn(&mut v1::SealedForParty));
    let faults: [Fault<'_>; 3] = [
        ("OFFER_SECRET", &|s| s.secret = sealed(secret, &[9; 32])),
        ("OFFER_TERMS", &|s| s.terms = sealed(terms, &salted.encode_to_vec())),
        ("TERMS_ENCODING", &|s| s.terms = sealed(terms, b"rubbish")),
    ];
    for (expected, change) in faults {
        let mut proto = offer.to_proto();
        change(&mut proto.sealed[0]);
        let offer = Offer::from_proto(proto).expect("of the form");
        assert_eq!(held(&network, 1).open(&offer).err().expect("refused").code(), expected);
        let refused = held(&network, 1).approve_offer(offer);
        assert_eq!(refused.expect_err("refused").code(), expected);
    }
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_party_without_a_registered_encryption_key_cannot_be_offered_anything() {
    let network = Network::start(2).await;
    let refused = held(&network, 0).propose(draft(&[0, 1])).expect_err("no vault");
    assert_eq!(refused.code(), "NO_VAULT");
    network.stop().await;
    let folder = tempfile::tempdir().expect("a folder");
    for i in 0..2 {
        let path = folder.path().join(format!("{i}-vault"));
        Vault::create(&path, &Protection::Plain).expect("a new vault");
    }
    let network = Network::start_in(folder, genesis(2), 2).await;
    let refused = held(&network, 0).propose(draft(&[0, 1])).expect_err("nothing to seal to");
    assert_eq!(refused.code(), "PARTY_ENCRYPTION_KEY");
    let vault = network.shared(0).holdings.as_ref().expect("a vault").keys().vault.clone();
    let own = own_id(&code(0));
    let kept = |before| vault.epochs().into_iter().filter(|kept| kept.agreement != before).count();
    assert!(kept(own) <= 1, "no more than the one of its own agreement");
    network.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_kept_before_a_crash_is_approved_after_it() {
    let mut network = start(2).await;
    let (offer, _) = held(&network, 0).propose(draft(&[0, 1])).expect("an offer");
    // The vault has the secret and the terms are sealed, but for the last step; then the process ends.
    let approved = held(&network, 1).approve_offer(offer.clone()).expect("approved");
    network.stop_node(1).await;
    let terms =
        network.folder.path().join("1-terms").join(offer.proposal().terms_hash().to_string());
    let sealed = std::fs::read(&terms).expect("kept");
    std::fs::write(terms.with_extension("key"), &sealed[..81]).expect("written");
    std::fs::remove_file(&terms).expect("removed");
    network.start_node(1).await;
    let again = held(&network, 1).approve_offer(offer).expect("approved");
    assert_eq!(again, approved, "the same approval");
    let resealed = std::fs::read(&terms).expect("kept again");
    assert_eq!(resealed[..81], sealed[..81], "under the key that was there");
    assert!(!terms.with_extension("key").exists());
    network.stop().await;
}
