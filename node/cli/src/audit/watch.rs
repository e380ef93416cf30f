//! `customhouse audit watch`: several nodes, followed for as long as one likes. None is trusted: each
//! must show a certified head, and all heads must be of one chain.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use customhouse_audit::{
    compare::{self, HeadComparison},
    evidence::{EvidenceFile, Side},
    head::{Certified, HeadPlace, SavedHead, SavedHeadError},
    seen::{Basis, Seen},
    validators,
    verdict::Verdict,
};
use customhouse_files::{newfile, profile::Profile};
use customhouse_ledger::proofs::verifier::{FinalityError, ValidatorStep, Verifier};
use customhouse_proto::v1;
use prost::Message as _;
use serde::Serialize;

use crate::{
    audit::{
        freshness::{MaxAge, too_old},
        verifier,
    },
    connect::{self, ConnectArgs, Connection},
    failure::WrongUsage,
    output::{Output, lossy_option, one_line},
    signals::StopSignals,
};

/// A node that has not answered by then is absent this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The newest head of all, among what is kept.
const NEWEST_FILE: &str = "newest.head";

#[derive(clap::Args)]
pub(crate) struct WatchArgs {
    /// Client profiles of the nodes, best of several agencies.
    #[arg(value_name = "PROFILE")]
    profiles: Vec<PathBuf>,
    /// The genesis of the network, as you had it from a source that you trust.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// Where the newest head is kept, and evidence is written; made where it does not exist.
    #[arg(long, value_name = "DIR", default_value = "customhouse-watch")]
    dir: PathBuf,
    /// Seconds from one look to the next.
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..))]
    every: u64,
    /// Looks to take; without it, until it is stopped.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    looks: Option<u64>,
    #[command(flatten)]
    max_age: MaxAge,
}

pub(super) const HELP: &str = "\
Each look asks every node for its certified head, and has it prove that its log continues the newest head
that any of them has shown. A node that is behind must be on the same chain: the block at its height is
compared with that of the one that is ahead; one that is behind and has not moved since the last look may
show an old head as its newest. The newest head is kept, with the changes of validators that lead to
it, so that the next run goes on from it.

An answer is printed where something changed: with --output json a stream of documents, one after the
other, of which the last may say why it ended. Two certified blocks of one height, or two certified logs of
one size, are the proof of a fork: it is written to a file with all that the nodes tell about that height,
and the command ends. `audit fork` reads that file and names those who signed for both sides.

Exit codes, of the worst that was seen: 0 all nodes show one chain; 1 a node showed what is invalid; 2 a
node was absent, gave no proof, stood still, or had too old a head; 3 proof of a fork; 64 wrong arguments.

Examples:
  customhouse audit watch net/NL-DOUANE/clients/auditor net/DE-ZOLL/clients/auditor \\
    --genesis genesis.json --max-age 20
  customhouse audit watch net/*/clients/auditor --genesis genesis.json --looks 1";

pub(super) async fn watch(
    args: &WatchArgs,
    output: Output,
    connect: &ConnectArgs,
) -> anyhow::Result<Verdict> {
    let mut signals = StopSignals::new()?;
    let mut watch = Watch::begin(args, connect)?;
    let mut worst = None;
    for looks in 1.. {
        let look = tokio::select! {
            look = watch.look() => look?,
            () = signals.next() => {
                // Nothing is known of a look that was cut off.
                worst = worst.max(Some(Verdict::NotEnoughEvidence));
                break;
            }
        };
        worst = worst.max(Some(look.verdict));
        if look.has_news {
            output.print(&look)?;
        }
        if look.verdict == Verdict::Fork || args.looks == Some(looks) {
            break;
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(args.every)) => {}
            () = signals.next() => break,
        }
    }
    Ok(worst.unwrap_or(Verdict::NotEnoughEvidence))
}

/// What is known, and of whom.
struct Watch<'a> {
    args: &'a WatchArgs,
    nodes: Vec<Watched>,
    verifier: Verifier,
    newest: Option<Certified>,
    /// Which node showed the newest; none where it was kept from an earlier run.
    newest_of: Option<usize>,
    /// Why the newest head that was kept cannot be read yet. No other takes its place until then.
    waiting: Option<String>,
    /// Changes of validators in the file that is kept.
    steps_kept: usize,
}

/// A node that is watched.
struct Watched {
    profile: Profile,
    connection: Option<Connection>,
    /// What it was found to be when it was last looked at.
    last: Option<(Verdict, Option<u64>)>,
    /// The highest head that it has shown.
    highest: Option<u64>,
}

impl Watched {
    /// Whether it has shown this height, or a higher one, before.
    fn stands_at(&self, height: u64) -> bool {
        self.highest.is_some_and(|highest| height <= highest)
    }
}

/// What one look found.
#[derive(Serialize)]
struct Look {
    verdict: Verdict,
    nodes: Vec<NodeView>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "lossy_option")]
    evidence: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<String>,
    rests_on: Basis,
    #[serde(skip)]
    has_news: bool,
}

#[derive(Serialize)]
struct NodeView {
    node: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<HeadPlace>,
    reason: String,
}

impl<'a> Watch<'a> {
    fn begin(args: &'a WatchArgs, connect: &ConnectArgs) -> anyhow::Result<Self> {
        let named = args.profiles.iter().map(|path| {
            Profile::read(path).with_context(|| format!("no client profile in {}", path.display()))
        });
        let mut profiles = named.collect::<anyhow::Result<Vec<_>>>()?;
        if profiles.is_empty() {
            profiles.extend(connect.profile()?);
        }
        let which = || WrongUsage("which nodes? Name their client profiles".to_owned());
        ensure!(!profiles.is_empty(), which());
        fs::create_dir_all(&args.dir).with_context(|| args.dir.display().to_string())?;
        let watched = |profile| Watched { profile, connection: None, last: None, highest: None };
        let nodes = profiles.into_iter().map(watched).collect();
        let mut verifier = verifier(&args.genesis)?;
        let chain = args.dir.join(validators::FILE_NAME);
        if chain.try_exists().with_context(|| chain.display().to_string())? {
            validators::follow_file(&mut verifier, &chain)?;
        }
        let steps_kept = verifier.steps().len();
        let (newest, newest_of, waiting) = (None, None, None);
        Ok(Self { args, nodes, verifier, newest, newest_of, waiting, steps_kept })
    }

    /// Asks every node once.
    async fn look(&mut self) -> anyhow::Result<Look> {
        let mut heads = Vec::new();
        for index in 0..self.nodes.len() {
            let asked = tokio::time::timeout(ANSWER_TIMEOUT, self.head_of(index)).await;
            heads.push(asked.unwrap_or_else(|_| Err(no_answer())));
        }
        // After the validator chains were followed: the kept head may need them.
        self.recall()?;
        let (mut views, mut evidence) = (BTreeMap::new(), None);
        let mut heads: Vec<_> = heads.into_iter().enumerate().collect();
        // The newest first: the others are compared with it.
        let height =
            |head: &Result<Certified, HeadComparison>| head.as_ref().ok().map(|h| h.header.height);
        heads.sort_by_key(|(_, head)| std::cmp::Reverse(height(head)));
        for (index, head) in heads {
            let place = head.as_ref().ok().map(|head| HeadPlace::of(&head.header));
            let finding = match head {
                Ok(head) => {
                    let compared = tokio::time::timeout(ANSWER_TIMEOUT, self.compare(index, &head));
                    compared.await.unwrap_or_else(|_| no_answer())
                }
                Err(finding) => finding,
            };
            let HeadComparison { verdict, mut reason, other, .. } = finding;
            if let Some(other) = &other {
                // A fork is one, whether or not it could be written down.
                match self.write_evidence(index, other).await {
                    Ok(file) => evidence = Some(file),
                    Err(error) => {
                        let why = crate::failure::sentence(&error);
                        reason = format!("{reason}; the evidence is not written: {why}");
                    }
                }
            }
            let node = self.nodes[index].profile.node.clone();
            views.insert(index, NodeView { node, verdict, head: place, reason });
            if verdict == Verdict::Fork {
                break;
            }
        }
        self.conclude(views, evidence)
    }

    /// A node's certified head.
    async fn head_of(&mut self, index: usize) -> Result<Certified, HeadComparison> {
        let absent = |error: anyhow::Error| {
            let reason = format!("no answer: {}", crate::failure::sentence(&error));
            HeadComparison::new(Verdict::of_error(&error), reason)
        };
        let node = &mut self.nodes[index];
        let connection = match &mut node.connection {
            Some(connection) => connection,
            none => {
                let connected = connect::connect(node.profile.clone()).await.map_err(absent)?;
                none.insert(connected)
            }
        };
        let head = compare::head(&mut self.verifier, connection.node()).await.map_err(absent)?;
        head.map_err(|error| {
            let reason = format!("its head is not certified: {error}");
            HeadComparison::new(Verdict::of_finality(&error), reason)
        })
    }

    /// What a node's head says beside the newest that any has shown, which it may become.
    async fn compare(&mut self, index: usize, head: &Certified) -> HeadComparison {
        if let Some(why) = &self.waiting {
            let reason = format!("its head is certified, and not compared: {why}");
            return HeadComparison::new(Verdict::NotEnoughEvidence, reason);
        }
        let Some(newest) = &self.newest else {
            (self.newest, self.newest_of) = (Some(head.clone()), Some(index));
            let finding = HeadComparison::new(Verdict::Verified, "its head is certified");
            return too_old(head, self.args.max_age, finding);
        };
        let behind = head.header.height < newest.header.height;
        let finding = match (behind, self.newest_of) {
            // The node that was ahead has itself shown more than it shows now.
            (true, Some(ahead)) if ahead != index => {
                let stands = self.nodes[index].stands_at(head.header.height);
                self.is_prefix(head, ahead, stands).await
            }
            _ => {
                let connection = self.connection(index);
                compare::against(Some(&newest.header), head, &self.verifier, connection.node())
                    .await
            }
        };
        if finding.verdict == Verdict::Verified && !behind {
            (self.newest, self.newest_of) = (Some(head.clone()), Some(index));
        }
        too_old(head, self.args.max_age, finding)
    }

    /// Whether the block of a node that is behind is on the chain of the one that is ahead.
    async fn is_prefix(&self, head: &Certified, ahead: usize, stands: bool) -> HeadComparison {
        let height = head.header.height;
        let named = &self.nodes[ahead].profile.node;
        match compare::header_at(height, &self.verifier, self.connection(ahead).node()).await {
            None => {
                let reason = format!("{named} does not show its block of height {height}");
                HeadComparison::new(Verdict::NotEnoughEvidence, reason)
            }
            Some(other) if other.header.hash() == head.header.hash() => {
                let newest = self.newest.as_ref().map_or(height, |newest| newest.header.height);
                let behind = newest.saturating_sub(height);
                match stands {
                    false => {
                        let reason = format!("on the same chain, {behind} blocks behind");
                        HeadComparison::new(Verdict::Verified, reason)
                    }
                    true => {
                        let reason = format!(
                            "stands still, {behind} blocks behind: it does not follow, or shows an \
                             old head as its newest"
                        );
                        HeadComparison::new(Verdict::NotEnoughEvidence, reason)
                    }
                }
            }
            Some(_) => {
                let reason = format!("{named} has another certified block at height {height}");
                HeadComparison::fork(reason, head.clone())
            }
        }
    }

    fn connection(&self, index: usize) -> &Connection {
        self.nodes[index].connection.as_ref().expect("it has answered")
    }

    /// The newest head of earlier runs. Where no node has shown the validators that certified it, this
    /// waits for one that does.
    fn recall(&mut self) -> anyhow::Result<()> {
        if self.newest.is_some() {
            return Ok(());
        }
        let file = self.args.dir.join(NEWEST_FILE);
        let Some(saved) = SavedHead::read(&file)? else { return Ok(()) };
        self.waiting = None;
        match saved.certified(&self.verifier) {
            Ok(known) => self.newest = Some(known),
            Err(error @ SavedHeadError::Finality(FinalityError::StepMissing { .. })) => {
                let why = format!(
                    "{}: {error}; until a node shows that step, no head is compared with this one",
                    file.display()
                );
                self.waiting = Some(why);
            }
            Err(error) => return Err(error).with_context(|| file.display().to_string()),
        }
        Ok(())
    }

    /// Writes all sides, with what every node that answers tells about the heights where they differ.
    async fn write_evidence(&self, index: usize, other: &Certified) -> anyhow::Result<PathBuf> {
        let mut sides = vec![self.side(index, other).await?];
        let mut headers = vec![other.header.clone()];
        let known = self.newest.as_ref().map(|newest| newest.header.height);
        for height in BTreeSet::from_iter(known.into_iter().chain([other.header.height])) {
            for (index, node) in self.nodes.iter().enumerate() {
                let Some(connection) = &node.connection else { continue };
                let found =
                    in_time(compare::header_at(height, &self.verifier, connection.node())).await;
                if let Some(found) = found.filter(|found| !headers.contains(&found.header)) {
                    sides.push(self.side(index, &found).await?);
                    headers.push(found.header);
                }
            }
        }
        if let Some(newest) = self.newest.as_ref().filter(|n| !headers.contains(&n.header)) {
            sides.push(Side::new(NEWEST_FILE, newest, None, &self.verifier)?);
        }
        EvidenceFile::new(&self.verifier, sides)?.write(&self.args.dir)
    }

    async fn side(&self, index: usize, head: &Certified) -> anyhow::Result<Side> {
        let node = &self.nodes[index];
        let told = match &node.connection {
            Some(connection) => {
                in_time(async { connection.client.decision(head.header.height).await.ok() }).await
            }
            None => None,
        };
        Side::new(node.profile.node.clone(), head, told, &self.verifier)
    }

    /// The answer; the newest head is kept where nothing contradicts it.
    fn conclude(
        &mut self,
        views: BTreeMap<usize, NodeView>,
        evidence: Option<PathBuf>,
    ) -> anyhow::Result<Look> {
        let verdict = views.values().map(|view| view.verdict).max();
        let verdict = verdict.unwrap_or(Verdict::NotEnoughEvidence);
        let mut has_news = false;
        for (index, view) in &views {
            let node = &mut self.nodes[*index];
            let now = Some((view.verdict, view.head.map(HeadPlace::height)));
            has_news |= node.last != now;
            node.last = now;
            node.highest = node.highest.max(view.head.map(HeadPlace::height));
        }
        let mut seen = Seen::new(self.verifier.clone());
        if let Some(newest) = self.newest.clone() {
            if verdict != Verdict::Fork {
                self.keep_steps()?;
                keep(&newest, &self.args.dir)?;
            }
            // The only header that it is told.
            let _first = seen.note(&newest.header, newest.signers);
        }
        let nodes = views.into_values().collect();
        let (warning, rests_on) = (self.waiting.clone(), seen.basis());
        Ok(Look { verdict, nodes, evidence, warning, rests_on, has_news })
    }

    /// Keeps the changes of validators that were followed. Before the head, which may need the last.
    fn keep_steps(&mut self) -> anyhow::Result<()> {
        let count = self.verifier.steps().len();
        if count > self.steps_kept {
            let steps = self.verifier.steps().map(ValidatorStep::to_proto).collect();
            let file = self.args.dir.join(validators::FILE_NAME);
            newfile::replace(&file, &v1::ValidatorChain { steps }.encode_to_vec(), 0o644)
                .with_context(|| file.display().to_string())?;
            self.steps_kept = count;
        }
        Ok(())
    }
}

fn no_answer() -> HeadComparison {
    HeadComparison::new(Verdict::NotEnoughEvidence, format!("no answer in {ANSWER_TIMEOUT:?}"))
}

/// What a node that may never answer gives in time.
async fn in_time<T>(answer: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(ANSWER_TIMEOUT, answer).await.ok().flatten()
}

fn keep(newest: &Certified, directory: &Path) -> anyhow::Result<()> {
    let file = directory.join(NEWEST_FILE);
    let head = SavedHead::of(newest);
    if SavedHead::read(&file)?.as_ref() == Some(&head) { Ok(()) } else { head.write(&file) }
}

impl fmt::Display for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for NodeView { node, verdict, head, reason } in &self.nodes {
            write!(f, "{node}: {verdict}: {}", one_line(reason))?;
            match head {
                Some(head) => writeln!(f, " ({head})")?,
                None => writeln!(f)?,
            }
        }
        if let Some(warning) = &self.warning {
            writeln!(f, "warning: {}", one_line(warning))?;
        }
        if let Some(evidence) = &self.evidence {
            let file = evidence.to_string_lossy();
            writeln!(f, "all sides are in {}: see `customhouse audit fork`", one_line(&file))?;
        }
        write!(f, "{}: rests on {}", self.verdict, self.rests_on)
    }
}
