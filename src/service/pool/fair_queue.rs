//! Jobs of several senders, who take turns by the time that their jobs took.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::Cost;

/// The key or the address that sends requests. Empty for work in the background.
pub type Sender = Arc<str>;

/// When the sums that compare costs with times reach this, both are halved, so that they follow changes.
const REMEMBERED: Cost = Cost::of_micros(10_000_000);

/// A queue with a lane for each sender.
pub(super) struct FairQueue<J> {
    lanes: BTreeMap<Sender, Lane<J>>,
    waiting: usize,
    /// `taken` of the lane that was served last. A new lane begins here, so it is neither ahead of the
    /// others nor behind.
    now: Duration,
    ended_cost: Cost,
    ended_time: Duration,
}

struct Lane<J> {
    jobs: VecDeque<J>,
    running: usize,
    taken: Duration,
    /// Cost of admitted work that has not ended.
    owed: Cost,
}

impl<J> FairQueue<J> {
    pub fn new() -> Self {
        Self {
            lanes: BTreeMap::new(),
            waiting: 0,
            now: Duration::ZERO,
            ended_cost: Cost::of_micros(1_000_000),
            ended_time: Duration::from_secs(1),
        }
    }

    pub fn push(&mut self, sender: &Sender, job: J) {
        self.waiting += 1;
        self.lane(sender).jobs.push_back(job);
    }

    /// The next job: of the sender with the fewest running jobs, and among these of the one whose jobs
    /// took the least time.
    pub fn pop(&mut self) -> Option<(Sender, J)> {
        let lanes = self.lanes.iter_mut().filter(|(_, lane)| !lane.jobs.is_empty());
        let (sender, lane) = lanes.min_by_key(|(_, lane)| (lane.running, lane.taken))?;
        let job = lane.jobs.pop_front()?;
        lane.running += 1;
        self.now = self.now.max(lane.taken);
        self.waiting -= 1;
        Some((Arc::clone(sender), job))
    }

    /// A job that was popped has ended.
    pub fn ended(&mut self, sender: &Sender, taken: Duration) {
        let lane = self.lane(sender);
        lane.running -= 1;
        lane.taken += taken;
        if !sender.is_empty() {
            self.ended_time += taken;
        }
        self.forget(sender);
    }

    /// Adds admitted work.
    pub fn owe(&mut self, sender: &Sender, cost: Cost) {
        let lane = self.lane(sender);
        lane.owed = lane.owed + cost;
    }

    /// Removes work that has ended, or will not be done.
    pub fn settle(&mut self, sender: &Sender, cost: Cost) {
        let lane = self.lane(sender);
        lane.owed = lane.owed - cost;
        self.ended_cost = self.ended_cost + cost;
        if self.ended_cost > REMEMBERED {
            self.ended_cost = self.ended_cost.half();
            self.ended_time /= 2;
        }
        self.forget(sender);
    }

    /// Time on one thread until more work of a sender is done. Meanwhile each other sender is served as
    /// much as this one, if they owe as much.
    pub fn time_until(&self, sender: &Sender, cost: Cost) -> Duration {
        let own = self.lanes.get(sender).map_or(cost, |lane| lane.owed + cost);
        let others = self.lanes.iter().filter(|(other, _)| *other != sender);
        let all = others.fold(own, |all, (_, lane)| all + lane.owed.min(own));
        self.ended_time.mul_f64(all.ratio(self.ended_cost))
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    pub fn waiting_of(&self, sender: &Sender) -> usize {
        self.lanes.get(sender).map_or(0, |lane| lane.jobs.len())
    }

    fn lane(&mut self, sender: &Sender) -> &mut Lane<J> {
        let new =
            || Lane { jobs: VecDeque::new(), running: 0, taken: self.now, owed: Cost::default() };
        self.lanes.entry(Arc::clone(sender)).or_insert_with(new)
    }

    fn forget(&mut self, sender: &Sender) {
        let is_idle = |lane: &Lane<J>| {
            lane.jobs.is_empty() && lane.running == 0 && lane.owed == Cost::default()
        };
        if self.lanes.get(sender).is_some_and(is_idle) {
            self.lanes.remove(sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn queue(jobs: &[(&str, u8)]) -> FairQueue<u8> {
        let mut queue = FairQueue::new();
        jobs.iter().for_each(|(sender, job)| queue.push(&(*sender).into(), *job));
        queue
    }

    /// Runs all jobs one after the other. The jobs of ann take ten times as long.
    fn order(mut queue: FairQueue<u8>) -> Vec<u8> {
        let mut order = Vec::new();
        while let Some((sender, job)) = queue.pop() {
            order.push(job);
            queue.ended(&sender, if &*sender == "ann" { 10 * SECOND } else { SECOND });
        }
        assert_eq!((queue.waiting(), queue.lanes.len()), (0, 0));
        order
    }

    #[test]
    fn a_sender_of_long_jobs_gets_fewer_turns() {
        let ann = (0..3).map(|job| ("ann", job));
        let bob = (10..25).map(|job| ("bob", job));
        let order = order(queue(&ann.chain(bob).collect::<Vec<_>>()));
        let place = |job: u8| order.iter().position(|other| *other == job).unwrap();
        assert_eq!(place(0), 0);
        // Each sender's jobs keep their order.
        assert!(order.iter().filter(|job| **job >= 10).is_sorted());
        // Ten of bob's jobs take as long as one of ann's.
        assert_eq!((place(1), place(2)), (11, 17));
    }

    #[test]
    fn who_comes_later_is_served_next_but_does_not_catch_up() {
        let mut queue = queue(&[("ann", 0), ("ann", 1), ("ann", 2)]);
        for _ in 0..2 {
            let (ann, _) = queue.pop().unwrap();
            queue.ended(&ann, 10 * SECOND);
        }
        for job in 10..30 {
            queue.push(&"bob".into(), job);
        }
        // Bob begins where ann was before her last job.
        assert_eq!(order(queue), [(10..20).collect(), vec![2], (20..30).collect()].concat());
    }

    #[test]
    fn a_sender_takes_the_threads_that_others_leave() {
        let mut queue = queue(&[("ann", 0), ("ann", 1), ("ann", 2), ("bob", 10), ("bob", 11)]);
        let jobs: Vec<u8> = (0..5).map(|_| queue.pop().unwrap().1).collect();
        assert_eq!(jobs, [0, 10, 1, 11, 2]);
    }

    #[test]
    fn the_estimate_counts_of_others_only_what_is_served_before() {
        let mut queue = FairQueue::<u8>::new();
        let [ann, bob] = ["ann", "bob"].map(Sender::from);
        let cost = |seconds: u64| Cost::of_micros(seconds * 1_000_000);
        queue.owe(&ann, cost(100));
        assert_eq!(queue.time_until(&bob, cost(1)), 2 * SECOND);
        assert_eq!(queue.time_until(&ann, cost(1)), 101 * SECOND);
        queue.owe(&bob, cost(2));
        assert_eq!(queue.time_until(&ann, cost(1)), 103 * SECOND);
        queue.settle(&ann, cost(100));
        // Jobs turned out to be faster than their costs.
        assert!(queue.time_until(&bob, cost(2)) < SECOND);
        queue.settle(&bob, cost(2));
        assert!(queue.lanes.is_empty());
    }
}
