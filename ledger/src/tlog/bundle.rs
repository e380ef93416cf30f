//! Entry bundles (C2SP `tlog-tiles`): the leaves of a tile, each behind its length in two bytes.

use super::path::TILE_WIDTH;

/// Why bytes are not a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry bundle: {0}")]
pub struct BundleError(&'static str);

/// The bundle of these leaves.
///
/// # Errors
/// Where there is none or more than 256, or one is longer than 65,535 bytes.
pub fn encode<T: AsRef<[u8]>>(entries: &[T]) -> Result<Vec<u8>, BundleError> {
    check_count(entries.len())?;
    let mut bundle = Vec::new();
    for entry in entries {
        let entry = entry.as_ref();
        let length = u16::try_from(entry.len()).map_err(|_| BundleError("an entry is too long"))?;
        bundle.extend_from_slice(&length.to_be_bytes());
        bundle.extend_from_slice(entry);
    }
    Ok(bundle)
}

/// The leaves of a bundle.
///
/// # Errors
/// Where it ends inside an entry, has none, or more than 256.
pub fn decode(mut bundle: &[u8]) -> Result<Vec<&[u8]>, BundleError> {
    let mut entries = Vec::new();
    while !bundle.is_empty() {
        let torn = BundleError("it ends inside an entry");
        let (length, rest) = bundle.split_first_chunk().ok_or(torn)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (entry, rest) = rest.split_at_checked(length).ok_or(torn)?;
        entries.push(entry);
        check_count(entries.len())?;
        bundle = rest;
    }
    check_count(entries.len())?;
    Ok(entries)
}

fn check_count(count: usize) -> Result<(), BundleError> {
    match count {
        0 => Err(BundleError("no entry")),
        count if count as u64 > TILE_WIDTH => Err(BundleError("more than 256 entries")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_and_what_is_torn_or_too_much_is_refused() {
        let entries: [&[u8]; 3] = [b"one", b"", &[7; 65_535]];
        let bundle = encode(&entries).expect("a bundle");
        assert_eq!(bundle[..7], *b"\0\x03one\0\0");
        assert_eq!(decode(&bundle), Ok(entries.to_vec()));
        for cut in [1, 2, 4, 6, 8, bundle.len() - 1] {
            assert!(decode(&bundle[..cut]).is_err(), "{cut}");
        }
        assert!(decode(&[]).is_err());
        assert!(encode::<&[u8]>(&[]).is_err());
        assert!(encode(&[&[0; 65_536][..]]).is_err());
        assert!(decode(&encode(&[[]; 256]).expect("full")).is_ok());
        assert!(encode(&[[]; 257]).is_err());
        assert!(decode(&[0; 2 * 257]).is_err());
    }
}
