//! What breaks, and how it ends.

use customhouse_ledger::{
    chain::CommitError,
    store::{MemoryDisk, StoreError, WriteFault},
};
use customhouse_node::driver::DriverError;
use rand::{RngExt as _, seq::IndexedRandom as _};

use super::{
    disk::JournalDisk,
    endpoint::Clock,
    event::Event,
    links::{Link, between},
    run::Simulation,
};

/// A clock this far off makes its node useless while it lasts.
const WILD_MS: i64 = 3_600_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Fault {
    Partition,
    Clog,
    HalfOpen,
    Crash,
    Blackout,
    Write,
    Pause,
    Wipe,
    Restore,
    Clock,
    Change,
    Agree,
}

impl Fault {
    pub(super) const ALL: [Self; 12] = [
        Self::Partition,
        Self::Clog,
        Self::HalfOpen,
        Self::Crash,
        Self::Blackout,
        Self::Write,
        Self::Pause,
        Self::Wipe,
        Self::Restore,
        Self::Clock,
        Self::Change,
        Self::Agree,
    ];
}

impl Simulation {
    pub(super) fn schedule_fault(&mut self, fault: Fault) {
        let swarm = &self.swarm;
        let every = match fault {
            Fault::Partition => swarm.partition_every,
            Fault::Clog => swarm.clog_every,
            Fault::HalfOpen => swarm.half_open_every,
            Fault::Crash => swarm.crash_every,
            Fault::Blackout => swarm.blackout_every,
            Fault::Write => swarm.fault_every,
            Fault::Pause => swarm.pause_every,
            Fault::Wipe => swarm.wipe_every,
            Fault::Restore => swarm.restore_every,
            Fault::Clock => swarm.clock_every,
            Fault::Change => swarm.change_every,
            Fault::Agree => swarm.agree_every,
        };
        if every > 0 && !self.calm {
            let pause = self.streams.crash.random_range(1..=2 * every);
            self.later(pause, Event::Fault(fault));
        }
    }

    pub(super) fn strike(&mut self, fault: Fault) -> Result<(), String> {
        if self.calm {
            return Ok(());
        }
        match fault {
            Fault::Partition => self.partition(),
            Fault::Clog => self.clog(),
            Fault::HalfOpen => self.open_half(),
            Fault::Crash => self.crash(),
            Fault::Blackout => self.blackout(),
            Fault::Write => self.break_a_write(),
            Fault::Pause => self.pause(),
            Fault::Wipe => self.wipe(),
            Fault::Restore => self.restore(),
            Fault::Clock => self.change_a_clock(),
            Fault::Change => self.change_the_registry()?,
            Fault::Agree => self.agree_or_lodge()?,
        }
        self.schedule_fault(fault);
        Ok(())
    }

    /// Two sides, or one link in one direction.
    fn partition(&mut self) {
        let count = self.endpoints.len();
        let links: Vec<Link> = if self.streams.network.random_ratio(1, 3) {
            vec![self.any_link()]
        } else {
            between(&self.sides(), count)
        };
        self.summary.partitions += 1;
        self.links.cut(&links);
        let lasts = self.streams.network.random_range(500..8_000);
        self.later(lasts, Event::Mend(links));
    }

    pub(super) fn mend(&mut self, links: &[Link]) -> Result<(), String> {
        if !self.calm {
            self.links.mend(links);
            for (a, b) in links {
                if a < b {
                    self.connect(*a, *b);
                }
            }
        }
        Ok(())
    }

    fn any_link(&mut self) -> Link {
        let count = self.endpoints.len();
        let rng = &mut self.streams.network;
        (rng.random_range(0..count), rng.random_range(0..count))
    }

    fn clog(&mut self) {
        let link = self.any_link();
        let extra = self.streams.network.random_range(200..3_000);
        let lasts = self.streams.network.random_range(1_000..8_000);
        self.summary.clogged += 1;
        self.links.clog(link, extra);
        self.later(lasts, Event::Unclog(link));
    }

    /// A firewall has lost its state, or a machine died and another answers for it: the connections
    /// of a node lead nowhere until they are found dead.
    fn open_half(&mut self) {
        let index = self.pick_honest(|streams| &mut streams.attack);
        let lasts = self.streams.attack.random_range(1_000..20_000);
        self.half_open(index, lasts);
    }

    /// Connections are made anew.
    pub(super) fn renew(&mut self, links: &[Link]) {
        self.links.renew(links);
        for (a, b) in links.iter().filter(|(a, b)| a < b) {
            self.connect(*a, *b);
        }
    }

    fn crash(&mut self) {
        let index = self.pick_honest(|streams| &mut streams.crash);
        if self.endpoints[index].process.is_some() {
            self.summary.crashes += 1;
            self.kill(index);
        }
    }

    /// The power fails everywhere at once: nobody is left who remembers what was not durable.
    fn blackout(&mut self) {
        self.summary.blackouts += 1;
        for index in self.honest().collect::<Vec<_>>() {
            self.endpoints[index].cut_power();
            self.kill(index);
        }
    }

    /// Kills a process; it starts again by itself.
    fn kill(&mut self, at: usize) {
        self.endpoints[at].kill();
        // Its timer is told from an earlier one's by the epoch.
        self.endpoints[at].epoch += 1;
        let epoch = self.endpoints[at].epoch;
        let down = self.streams.crash.random_range(10..5_000);
        self.later(down, Event::Start { at, epoch });
    }

    fn break_a_write(&mut self) {
        let index = self.pick_honest(|streams| &mut streams.disk);
        let rng = &mut self.streams.disk;
        let (more, kept) = (rng.random_range(0..6), rng.random_range(0..4));
        let fault = if rng.random() { WriteFault::Lost } else { WriteFault::Kept };
        let endpoint = &self.endpoints[index];
        if rng.random() {
            endpoint.store.fail(more, fault);
        } else {
            let place = endpoint.voting_place(&self.identities[endpoint.identity]);
            endpoint.journals[place].fail(more, kept);
        }
    }

    /// A driver stopped: by a fault that was planted, or by one of its own.
    pub(super) fn driver_failed(
        &mut self,
        index: usize,
        error: &DriverError,
    ) -> Result<(), String> {
        let planted = match error {
            DriverError::Journal(_)
            | DriverError::Store(StoreError::Io(_) | StoreError::Failed)
            | DriverError::Commit(CommitError::Store(StoreError::Io(_) | StoreError::Failed)) => {
                true
            }
            DriverError::Store(_)
            | DriverError::Commit(_)
            | DriverError::Gathering
            | DriverError::Halted(_) => false,
        };
        if !planted {
            return Err(format!("the driver of endpoint {index} stopped: {error}"));
        }
        self.summary.lost_writes += 1;
        self.kill(index);
        Ok(())
    }

    fn pause(&mut self) {
        let index = self.pick_honest(|streams| &mut streams.crash);
        let lasts = self.streams.crash.random_range(200..6_000);
        self.summary.pauses += 1;
        self.endpoints[index].paused_until = self.now + lasts;
        self.hold_up(index);
    }

    /// Whether one more validator may lose what it had stored: with the liars, those that are behind
    /// and those whose journals were put back, they are at most f. Beyond that a block may be
    /// decided that nobody has any more.
    fn may_lose_a_store(&self, index: usize) -> bool {
        let highest = self.oracle.height();
        let validators = self.validators();
        let faulty = |other: &usize| {
            *other == index || self.is_excused(*other) || self.endpoints[*other].height() < highest
        };
        let voting = (0..self.identities.len()).filter(|other| self.votes(*other, &validators));
        voting.filter(faulty).count() <= validators.faulty_max()
    }

    /// The store is lost; the journal, beside the key, is not.
    fn wipe(&mut self) {
        let index = self.pick_honest(|streams| &mut streams.disk);
        if !self.may_lose_a_store(index) {
            return;
        }
        self.summary.wipes += 1;
        self.kill(index);
        self.endpoints[index].store = MemoryDisk::default();
        self.endpoints[index].backup = None;
    }

    /// Takes a backup, or puts the last one back: of the store alone, or with the journal, after
    /// which the key may have forgotten what it signed, and counts as faulty.
    fn restore(&mut self) {
        let index = self.pick_honest(|streams| &mut streams.disk);
        if self.endpoints[index].backup.is_none() {
            let endpoint = &mut self.endpoints[index];
            let journals = endpoint.journals.iter().map(JournalDisk::backup).collect();
            endpoint.backup = Some((endpoint.store.backup(), journals));
            return;
        }
        if !self.may_lose_a_store(index) {
            return;
        }
        let Some((store, journals)) = self.endpoints[index].backup.take() else { return };
        self.kill(index);
        self.endpoints[index].store = store;
        let excused = (0..self.identities.len()).filter(|other| self.is_excused(*other)).count();
        let room = excused < self.validators().faulty_max();
        if self.streams.disk.random() && (room || self.is_excused(index)) {
            self.summary.full_restores += 1;
            self.endpoints[index].journals = journals;
            self.excuse(index);
        } else {
            self.summary.store_restores += 1;
        }
    }

    fn change_a_clock(&mut self) {
        let index = self.pick_honest(|streams| &mut streams.clock);
        self.summary.clock_changes += 1;
        let wild = self.endpoints.iter().any(|endpoint| endpoint.clock.offset_ms.abs() > 10_000);
        let rng = &mut self.streams.clock;
        let drift_ppm = rng.random_range(-500..=500);
        let offset_ms = match rng.random_range(0..4) {
            // One at a time: blocks dated by a quorum of such clocks would be true ones.
            0 if !wild => *[-WILD_MS, WILD_MS].choose(rng).unwrap_or(&0),
            _ => rng.random_range(-4_000..=4_000),
        };
        self.endpoints[index].clock = Clock { offset_ms, drift_ppm };
    }

    /// From here on nothing breaks any more, but liars go on lying.
    pub(super) fn end_all_faults(&mut self) -> Result<(), String> {
        self.calm = true;
        self.links.heal();
        for index in 0..self.endpoints.len() {
            let endpoint = &mut self.endpoints[index];
            endpoint.clock = Clock::default();
            endpoint.mend();
            self.start(index)?;
        }
        let count = self.endpoints.len();
        for (a, b) in (0..count).flat_map(|a| (0..a).map(move |b| (a, b))) {
            self.connect(a, b);
        }
        self.submit_everywhere()
    }
}
