//! What is served of a log, and under which path (C2SP `tlog-tiles`):
//! `tile/<L>/<N>[.p/<W>]` and `tile/entries/<N>[.p/<W>]`.

use std::{fmt, str::FromStr};

use super::decimal;

/// Hashes of a full tile, and entries of a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Tree levels from one tile level to the next.
const TILE_LEVELS: u32 = 8;
/// The highest level of a tile.
const LEVEL_MAX: u64 = 63;
/// A path element of an index has three digits.
const ELEMENT: u64 = 1000;

/// The text is not the path of a tile or of an entry bundle in its one form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile or an entry bundle")]
pub struct PathError;

/// A tile or an entry bundle, whole or partial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TilePath {
    /// What it has.
    pub content: TileContent,
    /// Its number in its level, from the left.
    pub index: u64,
    /// How many hashes or entries it has: 1 to [`TILE_WIDTH`].
    pub width: u64,
}

/// What a tile has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TileContent {
    /// Hashes of complete subtrees of 256^level leaves.
    Hashes {
        /// 0 to 63; above 7 no log is large enough.
        level: u8,
    },
    /// The leaves themselves.
    Entries,
}

/// How many of a tile's hashes a log of `size` leaves has: none, or 1 to [`TILE_WIDTH`]. At level 0
/// it is also the number of entries of the bundle.
pub fn width_in(level: u8, index: u64, size: u64) -> u64 {
    let hashes = size.checked_shr(TILE_LEVELS * u32::from(level)).unwrap_or(0);
    let before = index.saturating_mul(TILE_WIDTH);
    hashes.saturating_sub(before).min(TILE_WIDTH)
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            TileContent::Hashes { level } => write!(f, "tile/{level}/")?,
            TileContent::Entries => write!(f, "tile/entries/")?,
        }
        let mut divisor = 1;
        while self.index / divisor >= ELEMENT {
            divisor *= ELEMENT;
        }
        while divisor > 1 {
            write!(f, "x{:03}/", self.index / divisor % ELEMENT)?;
            divisor /= ELEMENT;
        }
        write!(f, "{:03}", self.index % ELEMENT)?;
        match self.width {
            TILE_WIDTH => Ok(()),
            width => write!(f, ".p/{width}"),
        }
    }
}

impl FromStr for TilePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let parsed = parse(text).ok_or(PathError)?;
        // What has one form is read in that form only.
        if parsed.to_string() == text { Ok(parsed) } else { Err(PathError) }
    }
}

fn parse(text: &str) -> Option<TilePath> {
    let (content, rest) = text.strip_prefix("tile/")?.split_once('/')?;
    let content = match content {
        "entries" => TileContent::Entries,
        level => {
            let level = decimal(level).filter(|level| *level <= LEVEL_MAX)?;
            TileContent::Hashes { level: u8::try_from(level).ok()? }
        }
    };
    let (index, width) = match rest.split_once(".p/") {
        Some((index, width)) => (index, decimal(width).filter(|w| (1..TILE_WIDTH).contains(w))?),
        None => (rest, TILE_WIDTH),
    };
    let mut number = 0u64;
    for element in index.split('/') {
        let digits = element.strip_prefix('x').unwrap_or(element);
        let well_formed = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        let value: u64 = well_formed.then(|| digits.parse().ok()).flatten()?;
        number = number.checked_mul(ELEMENT)?.checked_add(value)?;
    }
    Some(TilePath { content, index: number, width })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(content: TileContent, index: u64, width: u64) -> TilePath {
        TilePath { content, index, width }
    }

    #[test]
    fn paths_have_the_published_form() {
        let hashes = |level| TileContent::Hashes { level };
        for (tile, text) in [
            (path(hashes(0), 0, 256), "tile/0/000"),
            (path(hashes(0), 1_234_067, 256), "tile/0/x001/x234/067"),
            (path(hashes(63), 999, 255), "tile/63/999.p/255"),
            (path(hashes(1), 1000, 1), "tile/1/x001/000.p/1"),
            (path(TileContent::Entries, 1_234_067, 112), "tile/entries/x001/x234/067.p/112"),
            (
                path(TileContent::Entries, u64::MAX, 256),
                "tile/entries/x018/x446/x744/x073/x709/x551/615",
            ),
        ] {
            assert_eq!(tile.to_string(), text);
            assert_eq!(text.parse(), Ok(tile), "{text}");
        }
    }

    #[test]
    fn every_other_form_is_refused() {
        for wrong in [
            "",
            "tile",
            "tile/0",
            "tile/0/",
            "tile/0/0",
            "tile/0/00",
            "tile/0/0000",
            "tile/0/x000/001",
            "tile/0/x001/x002",
            "tile/0/001/002",
            "tile/0/1/x234/067",
            "tile/0/x1/067",
            "tile/0/+01",
            "tile/00/000",
            "tile/64/000",
            "tile/-1/000",
            "tile/data/000",
            "/tile/0/000",
            "tile/0/000/",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/000.p/01",
            "tile/0/000.p/",
            "tile/0/000.p",
            "tile/0/000.p/1/",
            "tile/0/000.p/1.p/1",
            "tile/0/x018/x446/x744/x073/x709/x551/616",
            "tile/8/0/000",
        ] {
            assert_eq!(wrong.parse::<TilePath>(), Err(PathError), "{wrong}");
        }
    }

    /// The tiles of a log, by level: how many full ones, and the width of the partial one.
    fn tiles(size: u64) -> Vec<(u64, u64)> {
        let level = |level: u8| {
            let full =
                (0..).take_while(|&index| width_in(level, index, size) == TILE_WIDTH).count();
            (full as u64, width_in(level, full as u64, size))
        };
        (0..=63).map(level).take_while(|level| *level != (0, 0)).collect()
    }

    #[test]
    fn a_log_has_the_published_tiles() {
        assert_eq!(tiles(70_000), [(273, 112), (1, 17), (0, 1)]);
        assert_eq!(tiles(256), [(1, 0), (0, 1)]);
        assert_eq!(tiles(0), []);
        assert_eq!(width_in(63, 0, u64::MAX), 0);
        assert_eq!(width_in(0, u64::MAX, u64::MAX), 0);
        assert_eq!(width_in(7, 0, u64::MAX), 255);
    }
}
