//! Small changes of bytes, the same from the same seed.

/// Most changes made to one seed.
const CHANGES_MAX: usize = 4;
/// Most random bytes, where there is no seed.
const RANDOM_BYTES_MAX: usize = 600;
/// What lengths, counts and numbers go wrong at.
const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0x81, 0xfe, 0xff, b'0'];

pub(crate) struct Mutator(u64);

impl Mutator {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below the end, or 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    pub(crate) fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }

    /// One of the pool with 1 to [`CHANGES_MAX`] changes, some of them from one of the others; now and
    /// then random bytes.
    pub(crate) fn mutated(&mut self, pool: &[Vec<u8>], others: &[Vec<u8>]) -> Vec<u8> {
        if self.below(20) == 0 {
            let length = self.below(RANDOM_BYTES_MAX);
            return (0..length).map(|_| self.next() as u8).collect();
        }
        let mut bytes = self.pick(pool).clone();
        for _ in 0..=self.below(CHANGES_MAX) {
            self.change(&mut bytes, others);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, others: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + self.below(40)).min(bytes.len());
        match self.below(9) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            3 => bytes.insert(at, self.next() as u8),
            4 => drop(bytes.splice(at.., self.part(others))),
            5 => drop(bytes.splice(at..end, self.part(others))),
            kind if at < bytes.len() => self.change_byte(&mut bytes[at], kind),
            _ => bytes.push(0),
        }
    }

    fn change_byte(&mut self, byte: &mut u8, kind: usize) {
        match kind {
            6 => *byte ^= 1 << self.below(8),
            7 => *byte = *self.pick(&EDGES),
            // A length that is off by one or two.
            _ => *byte = byte.wrapping_add_signed(*self.pick(&[-2, -1, 1, 2])),
        }
    }

    /// A part from anywhere in one of the others to its end.
    fn part(&mut self, others: &[Vec<u8>]) -> Vec<u8> {
        let other = self.pick(others);
        let from = self.below(other.len() + 1);
        other[from..].to_vec()
    }
}

#[test]
fn the_same_seed_makes_the_same_mutations_and_they_differ() {
    let pool = [vec![7; 100], vec![9; 50]];
    let make = |seed| {
        let mut mutator = Mutator::new(seed);
        (0..200).map(|_| mutator.mutated(&pool, &pool)).collect::<Vec<_>>()
    };
    assert_eq!(make(1), make(1));
    assert_ne!(make(1), make(2));
    let unchanged = make(1).iter().filter(|bytes| pool.contains(bytes)).count();
    assert!(unchanged < 40, "{unchanged} of 200 are not changed");
}
