//! The kinds of calls, and how many of each may be open.

use tokio::sync::Semaphore;

/// Calls that share what a client may have of them: so that one kind leaves room for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::serve) enum Class {
    /// Submissions that are read and not yet accepted.
    Submit,
    /// Streams of submissions, until they end.
    Stream,
    /// Batches of messages that are mapped, until they are lodged.
    Import,
    /// The same as a stream.
    ImportStream,
    /// Waiting for the end of a submission: it takes a place in a list.
    Wait,
    /// Reads of the store.
    Read,
    /// Reads of what is too large for one answer, until it is sent.
    Large,
    /// Proofs that are made of a large part of the store.
    Proof,
    /// The node's state.
    Status,
    /// A backup.
    Backup,
    /// Streams without an end, on which next to nothing is sent.
    Watch,
    /// Files that are uploaded.
    Upload,
    /// Files that are downloaded.
    Download,
    /// Streams of answers, each made when the one before is taken.
    Feed,
}

impl Class {
    pub(super) const ALL: [Self; 14] = [
        Self::Submit,
        Self::Stream,
        Self::Import,
        Self::ImportStream,
        Self::Wait,
        Self::Read,
        Self::Large,
        Self::Proof,
        Self::Status,
        Self::Backup,
        Self::Watch,
        Self::Upload,
        Self::Download,
        Self::Feed,
    ];

    /// Calls of one client, and what they are called where there are too many.
    pub(super) fn share(self) -> (usize, &'static str) {
        match self {
            Self::Submit => (32, "submissions of this client at a time"),
            Self::Stream => (16, "open streams of this client"),
            // Each holds some megabytes of records, and as a stream a hundred.
            Self::Import => (4, "imports of this client at a time"),
            Self::ImportStream => (1, "streams of imports of this client at a time"),
            Self::Wait => (256, "waiting calls of this client"),
            Self::Read => (32, "reads of this client at a time"),
            Self::Large => (4, "reads in chunks of this client at a time"),
            Self::Proof => (2, "proofs of this client at a time"),
            Self::Status => (8, "questions of this client about the node at a time"),
            Self::Backup => (2, "backups of this client at a time"),
            Self::Watch => (8, "watching calls of this client"),
            Self::Upload => (4, "uploads of this client at a time"),
            Self::Download => (8, "downloads of this client at a time"),
            Self::Feed => (16, "open feeds of this client"),
        }
    }

    /// Whether its call answers with a stream.
    pub(in crate::serve) fn streams(self) -> bool {
        matches!(
            self,
            Self::Stream
                | Self::ImportStream
                | Self::Watch
                | Self::Large
                | Self::Download
                | Self::Feed
        )
    }

    /// Whether its call comes with a stream of many messages, or its answer may take any time.
    pub(in crate::serve) fn lasts(self) -> bool {
        matches!(self, Self::Stream | Self::ImportStream | Self::Watch | Self::Upload | Self::Feed)
    }

    /// Whether its request comes in many messages at the client's pace, and there are few places for all.
    pub(super) fn comes(self) -> bool {
        matches!(self, Self::ImportStream | Self::Upload)
    }

    /// Whether its requests carry what is to be lodged, and its service gives the place back itself.
    pub(in crate::serve) fn lodges(self) -> bool {
        matches!(self, Self::Submit | Self::Stream | Self::Import | Self::ImportStream)
    }

    /// Whether its calls are counted among those that are worked on. The others wait for something,
    /// and hold next to nothing meanwhile: a stream waits for its client most of its time, for hours.
    pub(super) fn works(self) -> bool {
        !matches!(
            self,
            Self::Stream
                | Self::ImportStream
                | Self::Wait
                | Self::Watch
                | Self::Upload
                | Self::Download
                | Self::Feed
        )
    }

    /// Places of all clients together. The others are counted by the calls that are worked on.
    pub(super) fn total(self) -> usize {
        match self {
            // Each may read a bucket with a million entries.
            Self::Proof | Self::ImportStream => 4,
            Self::Import => 16,
            Self::Stream | Self::Feed => 1024,
            // Each has a file open, and up to half a megabyte of its leaf hashes.
            Self::Upload => 32,
            Self::Download => 64,
            _ => Semaphore::MAX_PERMITS,
        }
    }
}
