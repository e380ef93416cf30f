//! Files that are appended to: how what was synced is told from what was cut short.
//!
//! ```text
//! frame = length (4)  crc32c of the length (4)  crc32c of the payload (4)  payload
//! mark  = 2^32 - 1 (4)  its own offset in the file (8)  crc32c of these and the nonce (4)
//! ```
//!
//! Integers are big-endian. The nonce is random, each file's own, and in its header: no payload, and nothing
//! that an older file has left on the disk, looks like a mark.
//!
//! A mark is written after each sync: what is before it was durable. Damage with a mark behind it is damage to
//! what was durable. Damage with none behind it is in the last append, and that was cut short: it may be cut
//! off. Not only the end can be missing then: a system may write the later pages of a large append first, and
//! leave zeros or old bytes in between.

/// Tells the marks of one file from all other bytes.
pub type Nonce = [u8; 8];

/// Bytes before a payload.
pub const FRAME_HEADER_BYTES: usize = 12;
/// Bytes of a mark.
pub const MARK_BYTES: usize = 4 + 8 + 4;
/// Stands where a frame has its length.
const MARK: [u8; 4] = [0xff; 4];

/// What was durable is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DamagedFrame {
    /// At which byte of the file.
    pub offset: u64,
    /// What.
    pub what: &'static str,
}

/// What is in a file behind its header.
#[derive(Debug, PartialEq, Eq)]
pub struct Frames<'a> {
    /// The payloads, in order.
    pub payloads: Vec<&'a [u8]>,
    /// How many of them have a mark behind them. The others may be in the system's memory only.
    pub marked: usize,
    /// Bytes of the file without what an append that was cut short has left.
    pub length: usize,
}

/// Appends a frame. Payloads are shorter than 2^32 - 1 bytes.
pub fn push(bytes: &mut Vec<u8>, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("payloads have limits far below");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&length.to_be_bytes()).to_be_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(payload).to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// The mark that says that what is before this offset is durable.
pub fn mark(offset: u64, nonce: Nonce) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..4].copy_from_slice(&MARK);
    bytes[4..12].copy_from_slice(&offset.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[..12]), &nonce);
    bytes[12..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// Reads the frames and marks of a whole file, whose header ends at `from`.
///
/// # Errors
/// [`DamagedFrame`].
pub fn read(bytes: &[u8], from: usize, nonce: Nonce) -> Result<Frames<'_>, DamagedFrame> {
    let mut frames = Frames { payloads: Vec::new(), marked: 0, length: from };
    while frames.length < bytes.len() {
        let offset = frames.length;
        if is_mark(bytes, offset, nonce) {
            frames.length += MARK_BYTES;
            frames.marked = frames.payloads.len();
            continue;
        }
        match frame(&bytes[offset..]) {
            Ok(payload) => {
                frames.length += FRAME_HEADER_BYTES + payload.len();
                frames.payloads.push(payload);
            }
            Err(what) if (offset..bytes.len()).any(|later| is_mark(bytes, later, nonce)) => {
                return Err(DamagedFrame { offset: offset as u64, what });
            }
            Err(_cut_short) => break,
        }
    }
    Ok(frames)
}

/// Reads what can be read of a file that is damaged: the payloads, in order, and each stretch of bytes between
/// them that is neither a frame nor a mark. What an append that was cut short has left at the end is not told.
pub fn salvage(bytes: &[u8], from: usize, nonce: Nonce) -> (Vec<&[u8]>, Vec<DamagedFrame>) {
    let (mut payloads, mut damage, mut offset) = (Vec::new(), Vec::new(), from);
    while offset < bytes.len() {
        if is_mark(bytes, offset, nonce) {
            offset += MARK_BYTES;
            continue;
        }
        match frame(&bytes[offset..]) {
            Ok(payload) => {
                payloads.push(payload);
                offset += FRAME_HEADER_BYTES + payload.len();
            }
            Err(what) => {
                let begins =
                    |at: &usize| is_mark(bytes, *at, nonce) || frame(&bytes[*at..]).is_ok();
                let Some(next) = (offset + 1..bytes.len()).find(begins) else { break };
                damage.push(DamagedFrame { offset: offset as u64, what });
                offset = next;
            }
        }
    }
    (payloads, damage)
}

/// Whether a mark begins at an offset of a file.
fn is_mark(bytes: &[u8], offset: usize, nonce: Nonce) -> bool {
    bytes[offset..].starts_with(&MARK) && bytes[offset..].starts_with(&mark(offset as u64, nonce))
}

/// Reads the frame at the start of `rest`, which reaches to the end of the file.
fn frame(rest: &[u8]) -> Result<&[u8], &'static str> {
    let cut = "it ends inside an entry";
    let (length, after) = rest.split_first_chunk::<4>().ok_or(cut)?;
    let (length_crc, after) = after.split_first_chunk::<4>().ok_or(cut)?;
    if crc32c::crc32c(length) != u32::from_be_bytes(*length_crc) {
        return Err("entry length");
    }
    let (crc, after) = after.split_first_chunk::<4>().ok_or(cut)?;
    let payload = after.get(..u32::from_be_bytes(*length) as usize).ok_or(cut)?;
    match crc32c::crc32c(payload) == u32::from_be_bytes(*crc) {
        true => Ok(payload),
        false => Err("entry checksum"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONCE: Nonce = [7; 8];

    /// A header of four bytes, then two appends of two frames, each with its mark.
    fn file() -> Vec<u8> {
        let mut bytes = b"head".to_vec();
        for payloads in [["one", "two"], ["three", ""]] {
            payloads.iter().for_each(|payload| push(&mut bytes, payload.as_bytes()));
            bytes.extend_from_slice(&mark(bytes.len() as u64, NONCE));
        }
        bytes
    }

    #[test]
    fn frames_come_back_in_order_and_which_were_durable_is_known() {
        let mut bytes = file();
        let expected: [&[u8]; 4] = [b"one", b"two", b"three", b""];
        let all = read(&bytes, 4, NONCE).expect("whole");
        assert_eq!((&*all.payloads, all.marked, all.length), (&expected[..], 4, bytes.len()));
        bytes.truncate(bytes.len() - MARK_BYTES);
        let all = read(&bytes, 4, NONCE).expect("whole");
        assert_eq!((&*all.payloads, all.marked, all.length), (&expected[..], 2, bytes.len()));
    }

    #[test]
    fn damage_before_a_mark_is_told_from_a_tail_that_was_cut_short() {
        let bytes = file();
        let first = 4 + 2 * (FRAME_HEADER_BYTES + 3) + MARK_BYTES;
        for length in first..bytes.len() {
            let cut = read(&bytes[..length], 4, NONCE).expect("cut short");
            assert_eq!((cut.marked, cut.payloads.starts_with(&[b"one", b"two"])), (2, true));
        }
        for at in 4..first - MARK_BYTES {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let damaged = read(&changed, 4, NONCE).expect_err("damaged");
            assert!(damaged.offset <= at as u64, "{at}: {damaged:?}");
        }
        // The marks of another file are none.
        assert_eq!(read(&bytes, 4, [8; 8]).expect("cut short").payloads, [b"one", b"two"]);
    }
    #[test]
    fn what_is_damaged_takes_nothing_with_it_but_itself() {
        let bytes = file();
        let whole: [&[u8]; 4] = [b"one", b"two", b"three", b""];
        let (payloads, damage) = salvage(&bytes, 4, NONCE);
        assert_eq!((&*payloads, damage.len()), (&whole[..], 0));
        let first = 4..4 + FRAME_HEADER_BYTES + 3;
        for at in first.clone() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let (payloads, damage) = salvage(&changed, 4, NONCE);
            assert_eq!((&*payloads, damage.len()), (&whole[1..], 1), "{at}");
            assert_eq!(damage[0].offset, 4);
        }
        for length in 4..bytes.len() {
            let (payloads, damage) = salvage(&bytes[..length], 4, NONCE);
            assert!(whole.starts_with(&payloads) && damage.is_empty(), "{length}");
        }
        // Without the nonce there are no marks.
        let (payloads, damage) = salvage(&bytes, 4, [8; 8]);
        assert_eq!((&*payloads, damage.len()), (&whole[..], 1));
    }
}
