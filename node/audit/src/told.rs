//! What nodes tell about how heights were decided, read from files of decisions and of evidence. What is
//! wrong with one file, or with one side in it, keeps nobody from looking at the others: a node that
//! lies must not spoil what the others tell.

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
};

use customhouse_files::readfile;
use customhouse_ledger::{
    finality::decision::{self, Decision},
    proofs::verifier::{FinalityError, Verifier},
};

use crate::{
    evidence::{EVIDENCE_BYTES_MAX, EvidenceFile},
    verdict::Verdict,
};

/// A node's decisions.
pub struct Told {
    /// The file, and the node where the file has several.
    pub from: String,
    /// Those whose finalization verifies, or that have none.
    pub decisions: Vec<Decision>,
}

/// What was not looked at.
pub struct RefusedDecision {
    /// What it comes to where nothing else is found.
    pub verdict: Verdict,
    /// A sentence that names the file.
    pub why: String,
}

/// All files, read.
#[derive(Default)]
pub struct Gathered {
    /// What was read.
    pub told: Vec<Told>,
    /// What was not.
    pub refused: Vec<RefusedDecision>,
    /// Files that were named before, by the same name or another.
    pub repeated: Vec<PathBuf>,
}

impl Gathered {
    /// Reads the files, and lets the verifier follow the validator chains in them.
    pub fn read(files: &[PathBuf], verifier: &mut Verifier) -> Self {
        let (mut gathered, mut seen) = (Self::default(), BTreeSet::new());
        for file in files {
            let named = file.canonicalize().unwrap_or_else(|_| file.clone());
            match seen.insert(named) {
                true => gathered.read_file(file, verifier),
                false => gathered.repeated.push(file.clone()),
            }
        }
        // Once all chains are followed: those in one file serve the others too.
        gathered.keep_final(verifier);
        gathered
    }

    fn refuse(&mut self, verdict: Verdict, why: String) {
        self.refused.push(RefusedDecision { verdict, why });
    }

    fn read_file(&mut self, file: &Path, verifier: &mut Verifier) {
        let name = file.display().to_string();
        match readfile::bytes(file, EVIDENCE_BYTES_MAX) {
            Ok(bytes) if EvidenceFile::is_meant(&bytes) => {
                self.read_evidence(&name, &bytes, verifier);
            }
            Ok(bytes) => match decision::decode(&bytes) {
                Ok(decisions) => self.told.push(Told { from: name, decisions }),
                Err(error) => self.refuse(Verdict::Invalid, format!("{name}: {error}")),
            },
            Err(error) => {
                let verdict = match error.kind() {
                    io::ErrorKind::FileTooLarge => Verdict::Invalid,
                    _ => Verdict::NotEnoughEvidence,
                };
                self.refuse(verdict, format!("{name}: {error}"));
            }
        }
    }

    fn read_evidence(&mut self, name: &str, bytes: &[u8], verifier: &mut Verifier) {
        let evidence = match EvidenceFile::read(bytes, &verifier.chain_id()) {
            Ok(evidence) => evidence,
            Err(why) => return self.refuse(Verdict::Invalid, format!("{name}: {why}")),
        };
        // Nothing is taken of a chain that is wrong further on.
        let mut led = verifier.clone();
        match led.follow_encoded(&evidence.validator_chain) {
            Ok(()) => *verifier = led,
            Err(error) => {
                let verdict = Verdict::of_cause(&error).unwrap_or(Verdict::Invalid);
                self.refuse(verdict, format!("{name}: {}: {error}", error.code()));
            }
        }
        for side in &evidence.sides {
            match side.decisions() {
                Ok(decisions) => {
                    let from = format!("{name}: {}", side.from);
                    self.told.push(Told { from, decisions });
                }
                Err(why) => self.refuse(Verdict::Invalid, format!("{name}: {why}")),
            }
        }
    }

    /// Leaves out the decisions whose finalization does not verify. Of each side the first is named.
    fn keep_final(&mut self, verifier: &Verifier) {
        for Told { from, decisions } in &mut self.told {
            let (mut first, mut more) = (None, 0);
            decisions.retain(|decision| match check(decision, verifier) {
                Ok(()) => true,
                Err(_) if first.is_some() => {
                    more += 1;
                    false
                }
                Err(error) => {
                    let (height, code) = (decision.height, error.code());
                    let why = format!("{from}: height {height}: {code}: {error}");
                    // It may be right: it is not known which validators decided the height.
                    let verdict = match error {
                        FinalityError::StepMissing { .. } => Verdict::NotEnoughEvidence,
                        _ => Verdict::Invalid,
                    };
                    first = Some(RefusedDecision { verdict, why });
                    false
                }
            });
            let more =
                if more == 0 { String::new() } else { format!(" (and {more} heights more)") };
            self.refused.extend(
                first.map(|first| RefusedDecision { why: format!("{}{more}", first.why), ..first }),
            );
        }
    }
}

fn check(decision: &Decision, verifier: &Verifier) -> Result<(), FinalityError> {
    match &decision.decided {
        Some((header, certificate)) => {
            verifier.verify_final(&header.encode(), &certificate.encode()).map(drop)
        }
        None => Ok(()),
    }
}
