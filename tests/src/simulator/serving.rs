//! Requests between simulated nodes: who is asked, what is answered, and what happens when nothing
//! is.

use customhouse_consensus::Message;
use customhouse_ledger::keys::PublicKey;
use customhouse_node::{
    driver::{DriverInput, answers, gather::Surroundings},
    inbound::serve,
};
use customhouse_proto::v1::{sync_request::Request, sync_response::Response};
use tokio::sync::oneshot;

use super::{
    attack::Answering,
    endpoint::endpoints_of,
    event::{Event, JobId},
    fetching::{Progress, committed},
    run::Simulation,
};

/// How long an answer is waited for.
const ANSWER_MS: u64 = 1_000;
/// How long the gathering of blocks waits for one.
const REQUEST_MS: u64 = 15_000;
/// Pause before the same peers are asked again.
const RETRY_MS: u64 = 250;
/// Stands for a job's number in a request of the gathering.
const GATHERING: u64 = u64::MAX;

impl Simulation {
    /// Asks the peer whose turn it is.
    pub(super) fn ask(&mut self, at: usize, number: u64) {
        let epoch = self.endpoints[at].epoch;
        let Some(process) = &mut self.endpoints[at].process else { return };
        let Some(job) = process.fetching.jobs.get_mut(&number) else { return };
        job.attempt += 1;
        let id = JobId { epoch, job: number, attempt: job.attempt };
        let Some(request) = job.request(&process.reader) else {
            process.fetching.jobs.remove(&number);
            return;
        };
        let Some(source) = job.sources.get(job.place).copied() else {
            return self.out_of_sources(at, id);
        };
        self.put(at, id, source, request);
        self.later(ANSWER_MS, Event::JobTimer { at, job: id });
    }

    /// Sends a request to a peer, if it can be reached.
    fn put(&mut self, at: usize, id: JobId, peer: PublicKey, request: Request) {
        let places = endpoints_of(&self.endpoints, &self.identities, peer);
        // Of twins, the one that can be reached.
        let to = places.filter(|to| self.reach_each_other(at, *to)).last();
        if let Some(to) = to.filter(|to| self.links.carries((at, *to))) {
            let delay = self.delay((at, to));
            self.later(delay, Event::Ask { to, from: at, job: id, request });
        }
    }

    /// Asks what the gathering of blocks wants asked, and tells the driver what it found.
    pub(super) fn gather(&mut self, at: usize) {
        let (connected, epoch) = (self.peers_of(at), self.endpoints[at].epoch);
        let ms = self.endpoints[at].now(self.now).monotonic_ms;
        let Some(process) = &mut self.endpoints[at].process else { return };
        let tip = process.reader.tip().header.height;
        let fetching = &mut process.fetching;
        // Before what is complete, or too much, is handed over.
        self.held_max = self.held_max.max(fetching.gathering.found_bytes() as u64);
        let (mut asks, told) =
            fetching.gathering.next(Surroundings { ms, tip, connected: &connected });
        let wake_at = fetching.gathering.wake_at();
        self.only_first(at, &mut asks);
        let wanted: Vec<_> = asks.iter().map(|ask| (ask.number, ask.peer)).collect();
        let requests: Vec<_> = asks.iter().map(|ask| ask.request.clone()).collect();
        if let Some(process) = &mut self.endpoints[at].process {
            process.fetching.asks.extend(asks.into_iter().map(|ask| (ask.number, ask)));
        }
        for ((number, peer), request) in wanted.into_iter().zip(requests) {
            let id = JobId { epoch, job: GATHERING, attempt: number };
            self.put(at, id, peer, request);
            self.later(REQUEST_MS, Event::JobTimer { at, job: id });
        }
        self.tell(at, told);
        if let Some(wake_at) = wake_at {
            let delay = wake_at.saturating_sub(ms).max(1);
            self.later(delay, Event::Gather { at, epoch, monotonic_ms: wake_at });
        }
    }

    /// The time has come at which somebody else is asked, unless another has taken its place.
    pub(super) fn gather_at(&mut self, at: usize, epoch: u64, ms: u64) {
        let process = self.endpoints[at].process.as_ref();
        let due = process.and_then(|process| process.fetching.gathering.wake_at());
        if self.runs(at, epoch) && due.is_some_and(|due| due <= ms) {
            self.gather(at);
        }
    }

    fn gathered(&mut self, at: usize, id: JobId, response: Option<Response>) {
        let Some(process) = &mut self.endpoints[at].process else { return };
        let Some(ask) = process.fetching.asks.remove(&id.attempt) else { return };
        let (reader, of) = (&process.reader, (ask.number, ask.block_hash));
        let gave = |response| answers::gave(response, &ask.request, &ask.block_hash, reader);
        process.fetching.gathering.answered(of, response.map(gave));
        self.gather(at);
    }

    fn out_of_sources(&mut self, at: usize, id: JobId) {
        let Some(process) = &mut self.endpoints[at].process else { return };
        let persistent = process.fetching.jobs.get(&id.job).is_some_and(|j| j.is_persistent());
        if persistent {
            return self.later(RETRY_MS, Event::JobAgain { at, job: id });
        }
        process.fetching.jobs.remove(&id.job);
    }

    /// Hands inputs to the driver a moment later, so that no step begins within another.
    fn tell(&mut self, at: usize, inputs: Vec<DriverInput>) {
        let epoch = self.endpoints[at].epoch;
        for input in inputs {
            self.later(0, Event::Input { at, epoch, input: Box::new(input) });
        }
    }

    fn waits(&self, at: usize, id: JobId) -> bool {
        let job = |process: &super::endpoint::Process| {
            process.fetching.jobs.get(&id.job).is_some_and(|job| job.attempt == id.attempt)
        };
        self.runs(at, id.epoch) && self.endpoints[at].process.as_ref().is_some_and(job)
    }

    pub(super) fn job_timer(&mut self, at: usize, id: JobId) -> Result<(), String> {
        if id.job == GATHERING && self.runs(at, id.epoch) {
            self.gathered(at, id, None);
        } else if self.waits(at, id) {
            self.ask_next(at, id.job);
        }
        Ok(())
    }

    fn ask_next(&mut self, at: usize, number: u64) {
        if let Some(process) = &mut self.endpoints[at].process
            && let Some(job) = process.fetching.jobs.get_mut(&number)
        {
            job.place += 1;
        }
        self.ask(at, number);
    }

    pub(super) fn job_again(&mut self, at: usize, id: JobId) -> Result<(), String> {
        if !self.waits(at, id) {
            return Ok(());
        }
        let connected = self.peers_of(at);
        if let Some(process) = &mut self.endpoints[at].process
            && let Some(job) = process.fetching.jobs.get_mut(&id.job)
        {
            // A question to one peer alone ends with its connection.
            let alone = matches!(job.want, super::fetching::Want::OwnSignatures { .. });
            if alone && !job.sources.iter().all(|source| connected.contains(source)) {
                process.fetching.jobs.remove(&id.job);
                return Ok(());
            }
            job.place = 0;
            if !alone {
                job.sources = connected;
            }
        }
        self.ask(at, id.job);
        Ok(())
    }

    /// A request arrives: what the node knows goes back.
    pub(super) fn answer(
        &mut self,
        to: usize,
        from: usize,
        job: JobId,
        request: &Request,
    ) -> Result<(), String> {
        self.summary.messages += 1;
        if !self.are_on_terms(to, from) {
            return Ok(());
        }
        let mut late_ms = 0;
        let response = match self.liars.get(&to) {
            Some(None) => return Ok(()),
            Some(Some(liar)) => liar.answer(request, &mut self.streams.byzantine),
            None if self.endpoints[to].process.is_none() => return Ok(()),
            None => match self.answering(to, from, request) {
                Answering::Honestly => self.honest_answer(to, request)?,
                Answering::Never => return Ok(()),
                Answering::With(ms, response) => {
                    late_ms = ms;
                    response
                }
            },
        };
        if !self.links.carries((to, from)) {
            self.summary.lost += 1;
            return Ok(());
        }
        let delay = late_ms + self.delay((to, from));
        self.later(delay, Event::Answer { to: from, job, response });
        Ok(())
    }

    fn honest_answer(&mut self, to: usize, request: &Request) -> Result<Option<Response>, String> {
        match request {
            Request::Certificate(request) => {
                let (reply, mut answer) = oneshot::channel();
                let (height, view) = (request.height, request.view);
                let input = DriverInput::CertificatesOf { height, view, reply };
                self.drive(to, |driver| driver.take(input))?;
                Ok(answer.try_recv().ok().map(|found| serve::certificates(&found)))
            }
            Request::Journal(request) => {
                let validator = PublicKey::from_slice(&request.validator);
                let validator = validator.map_err(|error| error.to_string())?;
                let (reply, mut answer) = oneshot::channel();
                let from_height = request.from_height;
                let input = DriverInput::SignedBy { validator, from_height, reply };
                self.drive(to, |driver| driver.take(input))?;
                Ok(answer.try_recv().ok().map(Response::Journal))
            }
            request => {
                let Some(process) = &self.endpoints[to].process else { return Ok(None) };
                let found = serve::stored(&process.reader, &process.mempool, request);
                found.map_err(|error| error.to_string())
            }
        }
    }

    pub(super) fn answered(
        &mut self,
        at: usize,
        id: JobId,
        response: Option<Response>,
    ) -> Result<(), String> {
        self.summary.messages += 1;
        if id.job == GATHERING {
            if self.runs(at, id.epoch) {
                self.gathered(at, id, response);
            }
            return Ok(());
        }
        if !self.waits(at, id) {
            return Ok(());
        }
        let Some(process) = &mut self.endpoints[at].process else { return Ok(()) };
        let Some(job) = process.fetching.jobs.get_mut(&id.job) else { return Ok(()) };
        let from = job.sources[job.place];
        let progress = match response {
            Some(response) => job.take(response, &process.reader),
            None => Progress::More,
        };
        match progress {
            Progress::More => self.ask_next(at, id.job),
            Progress::Done(inputs) => {
                process.fetching.jobs.remove(&id.job);
                let inputs = self.without_own(at, inputs);
                self.tell(at, inputs);
            }
            Progress::Blocks(blocks) => {
                let before = process.reader.tip().header.height;
                self.drive(at, |driver| driver.take(committed(from, blocks)))?;
                let height = self.endpoints[at].height();
                if height <= before {
                    self.ask_next(at, id.job);
                    return Ok(());
                }
                let process = self.endpoints[at].process.as_mut();
                if let Some(job) = process.and_then(|p| p.fetching.jobs.get_mut(&id.job)) {
                    job.came_to(height);
                }
                self.ask(at, id.job);
            }
        }
        Ok(())
    }

    /// A twin is not shown what its other half signed.
    fn without_own(&self, at: usize, mut inputs: Vec<DriverInput>) -> Vec<DriverInput> {
        if self.endpoints[at].twin {
            inputs.retain(|input| match input {
                DriverInput::Message { message: Message::Certificate(certificate), .. } => {
                    !self.is_of_own_key(at, &Message::Certificate(certificate.clone()))
                }
                _ => true,
            });
        }
        inputs
    }
}
