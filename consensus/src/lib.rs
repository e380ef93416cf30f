//! How the validators of a height decide it, as a pure state machine: [`Core::step`] takes
//! an [`Input`] and gives a [`Ready`]. It knows no clock, socket, file or random source; the same
//! inputs give the same effects on every machine.
//!
//! This page is the specification.
//!
//! # The rules of a height
//!
//! n validators, of which at most f = ⌊(n−1)/3⌋ are faulty; a quorum is q = n − f. A height runs
//! through views v = 1, 2, … until one block is decided. The leader of (height, view) is a function
//! of committed state ([`Committed::leader`]). A certificate is q votes for one ballot.
//!
//! | rule | when | then | in |
//! |---|---|---|---|
//! | 1 propose | this node leads the view, has not proposed in it nor nullified it, and there is work (view 1) or none is needed (later views) | sign and send the block of the highest notarization held, unchanged; without one, a new block | `Core::propose` |
//! | 2 notarize | the view's first proposal by its leader is *justified*, checked, and stored with all bodies | sign notarize, at most once a view, never after nullify | `Core::notarize` |
//! | 3 nullify | the view's timer has fired, or f+1 nullify votes of it are held | sign nullify, unless finalize was signed in the view. Nothing more is signed in it | `Core::nullify` |
//! | 4 next view | a nullification of the current view v; or a notarization of any view w ≥ v | enter v+1; or w+1. Forward the certificate | `Core::enter` |
//! | 5 finalize | a notarization of any view of the height | sign finalize, at most once a view, unless nullify was signed in it. The body is not needed | `Core::finalize` |
//! | 6 commit | q finalize votes of one view, whichever | hand the block to the ledger; then height h+1, view 1 | `Core::commit` |
//!
//! A proposal in v resting on u (0: a new block) is *justified* iff u = 0 or the block was notarized
//! in u, and every view between u and v was nullified. A voter never refuses a justified proposal
//! because it knows of a higher u. A new block is checked in full; one proposed again only by its
//! hash, because at least f+1 honest validators have checked it: neither its time nor its execution is
//! looked at again. Certificates travel apart from proposals; missing ones are fetched. A new block
//! whose time is further ahead than clocks may differ is not wrong: it waits for its time, as long as
//! its view lasts.
//!
//! A proposal's signature covers the block and its leaves: whoever passes it on cannot put others in
//! their place, which nobody could tell before the block is executed. The first proposal that its leader
//! signed in a view stands, whoever hands it over; a second of another block, or with other leaves, is
//! evidence.
//!
//! After every input the rules are applied until none applies ([`Core::step`]). A restart therefore
//! has no rule of its own: what the journal remembers is put back, and the rules go on from there.
//!
//! # How it differs from Simplex
//!
//! Simplex (Chan and Pass, TCC 2023) decides a chain: a block extends notarized but undecided
//! ones. Here a height decides one block before the next begins, so that a block is executed on
//! committed state only and its header carries the roots after itself. Instead of extending the
//! block of an earlier view, a leader proposes that very block again. A dummy block is a
//! nullification. Finalize is signed for a notarization of *any* view of the height, and its votes
//! count in whichever view a node is.
//!
//! # Why it is safe
//!
//! If b is finalized in v, then q validators signed finalize(v), of them at least q − f honest ones,
//! who never sign nullify(v). The n − (q − f) = 2f others that may be left are fewer than q: no
//! nullification of v can exist. So every later justified proposal rests on a notarization of some
//! view ≥ v. In v itself only b can be notarized, since two quorums share an honest validator and
//! it notarizes once a view; and by induction all notarizations after it are of b. So whatever
//! else is finalized at this height is b.
//!
//! This rests on the signer's discipline, all of it in `signed.rs` (`core::guards` asks it, and adds that
//! the key may sign at all), and on the discipline surviving a crash.
//!
//! # What is durable
//!
//! In one append to the signer's [`Journal`], before anything leaves ([`Ready::persist`]): own votes
//! and proposals; the proposal that a vote is for (its block and bodies are stored before the
//! verdict comes); every certificate acted on, that is, a finalize signed on it, a view entered by
//! it, or a notarize justified by it. Without the certificates a crash could leave a validator that
//! has finalized, so may not nullify, and cannot show why it entered the next view: the height would
//! be dead. After a restart the same proposal and votes are sent again, never new ones for the same
//! view.
//!
//! What a height's decision rested on ([`Core::grounds`]) is kept by the shell when the height
//! commits, and when the core halts: so where more than f lie and divide a chain, they are named
//! ([`customhouse_ledger::proofs::fork`]).
//!
//! A journal that is ahead of the store is believed: heights below the newest it knows are
//! followed, not signed. A valid signature of this node's own key that the journal does not have
//! stops it from signing ([`Action::StoppedSigning`]), for good: the stop is in the journal too. A core
//! made [`Core::unasked`] signs nothing before so many validators of the height have told what they hold
//! of its key ([`Input::Signatures`]), the key itself counted, that no quorum is without them; that costs
//! nothing, because it could not decide without them either. They tell how far they are, too: one that had
//! committed the height holds nothing of it any more, and counts at later heights only. f liars that tell of
//! heights far ahead do no more by that than liars that are silent. What no peer that is up remembers, or
//! has heard by then, cannot be known.
//!
//! # Work and timers
//!
//! Timers run only while there is work: a transaction to include, a due heartbeat, a justified
//! proposal, votes of f+1 validators at this height, or a view after the first. In view 1 the leader
//! waits for a transaction or the heartbeat; from view 2 on it proposes at once, even an empty
//! block. One exception: where a notarization led into its view, it first gives the finalize votes
//! a moment ([`Timing::repropose_ms`]), for where all is well they are on their way, and proposing
//! the block again would cost every height a second round of signatures and syncs. No timer is in the path of a transaction that finds the network idle and well: it is final
//! after three message delays. Views grow by half up to a cap; new blocks halve in size each view
//! after the second. While the height stands still, own votes, certificates of all views and pending
//! transactions are sent again. Tips are sent on connecting and periodically; a peer that speaks of a height
//! that is committed here is told the tip. A verified tip ahead is kept: the heights up to it are decided, so
//! nothing is signed there, and when its own height is reached its certificate decides it, even if whoever
//! told it is gone.
//!
//! # Leaders
//!
//! Leaders take turns; one whose first view was passed over is at the end of the order for the rest
//! of a term of 64·n heights, and is tried again in the next ([`customhouse_ledger::finality::leaders`]). What
//! the rule rests on is rule 1 here: a *new* block is justified in v only where all views before v
//! were nullified, so the view in a committed header proves which leaders a quorum passed over. It
//! reorders and no more: in every height all n lead before any leads again, so every argument above
//! that counts views to the next honest leader holds as it did for plain turns. Whoever makes a
//! quorum nullify an honest leader's view (f faulty votes and f+1 honest ones that timed out) wins
//! that leader's place at the end for a term, not its vote, and at most f are there at a time.
//!
//! # Where the validators change
//!
//! A height is decided by the validators that its parent's header announces, and a height is over
//! before the next begins; so the rules above never see two sets at once, and two quorums that might
//! contradict each other are always of one set. What crosses the change is only this:
//!
//! - Messages for the next height are kept by author, and judged by that height's own validators
//!   when it begins. A tip of other validators than now is no more than a question to the peer that
//!   told it.
//! - A key that is not in the set follows. When it comes into the set, it signs at that height and not
//!   before; when it leaves, the last height that it was to decide is the last that it signs.
//! - A core has one key. A node whose agency has been given another goes on with [`Core::under`], on
//!   that key's own journal. Signatures by different keys never contradict each other, and a key that
//!   has ended is never registered again, so neither journal needs to know of the other.
//! - Where a core waits for what peers hold of its key, those of the old set that told may not be enough
//!   among the new: at the first height of the new set it is weighed again who has told. Under another
//!   key, all must tell anew.
//!
//! # What is passed on, and who answers
//!
//! The shell passes on what [`Effects::reception`] says is accepted, and nothing else: all of it was
//! verified here, so whoever it comes to next cannot but accept it too, or find it of no use. A vote
//! for a ballot whose certificate this node has sent to all need not go on by itself
//! ([`Reception::Contained`]); nor need another certificate of that ballot. What nobody can judge yet
//! is held: its author's own node sends it to all peers. A refusal is of one message and of the peer
//! that handed it over ([`Reception::Refused`]); where it concerns something that was held, it names
//! the peer that handed it over then ([`Action::Refused`]), and not the one that speaks now.
//!
//! # Bounds
//!
//! | what | limit |
//! |---|---|
//! | votes | one of a kind a validator and view, in views within 8 of the current one |
//! | proposals | the first of its leader a view, in the same views; no more transactions than the parameter allows |
//! | certificates | of all views of the height: each took a quorum |
//! | votes and proposals for the next height | each author's own share, once its signature was verified; of authors that are not validators now, one a peer. Later heights are not kept at all |
//! | certificates for the next height | each peer's own share: of the same views |
//! | evidence | once a validator and view |
//! | what is told of a key | its newest signatures, [`VOTES_TOLD_MAX`] and [`CLAIMS_TOLD_MAX`] |
//! | who told of this node's key | what each peer told last of how far it is: of four peers an agency, and four times as many as may be validators |
//! | signature checks | none for what is held already, is of another height, or comes from no validator |
//!
//! # How it is checked
//!
//! `tests/model.rs` visits every state that this very core can come to with one of four validators
//! lying, and with another's journal lost beside it (of which all that it had said had come to the others, who
//! were at its height), up to a bound of views; `tests/twins.rs` tries every
//! partition with a key in two places; `tests/adversary.rs` and `tests/simulation.rs` go far at random.
//! `tests/mutants.rs` plants bugs (feature `mutants`, for that test alone) and shows what finds each.
//!
//! # Map
//!
//! [`core`] takes inputs. Inside it, `rules` applies the six rules · `guards` is what they ask · `receive`
//! verifies messages · `timers` · `recover` takes up what the journal remembers · `asked` is what is held of
//! another's key · `told` is who has told what is held of this node's.
//!
//! Below it, `height` holds the height's state, `votes` its votes, `signed` this node's own · `justify` ·
//! `early` buffers for the next height · [`wire`] and [`journal`] are the bytes · [`ready`] persists before it
//! sends. What a breach is, [`customhouse_ledger::finality::evidence`] says.

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod action;
pub mod core;
mod early;
mod height;
pub mod input;
pub mod journal;
mod justify;
pub mod ready;
mod signed;
mod votes;
pub mod wire;

pub use crate::{
    action::{Action, Build, HaltReason, Reception, Refusal, StopReason, Validate},
    core::{
        Core,
        asked::{CLAIMS_TOLD_MAX, VOTES_TOLD_MAX},
    },
    input::{
        BlockVerdict, CertifiedTip, Committed, Config, Input, Message, Now, PeerTag, Signatures,
        Timing,
    },
    journal::Entry,
    ready::{Effects, Journal, Outgoing, Ready, Recipient},
    wire::WireError,
};
pub use customhouse_ledger::finality::evidence::{Claim, Evidence};
