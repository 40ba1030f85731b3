//! The room that the lanes' queues have, as it is given out.

use std::collections::{BTreeMap, BTreeSet};

use springtide_core::lane::{Lane, Resources};
use springtide_core::{LaneName, Priority};

use super::candidates::Candidate;
use crate::port::LaneRoom;
use crate::transaction::backlog::{Counters, Key};

/// See the module.
pub(super) struct Rooms {
    /// Smallest first.
    lanes: Vec<Room>,
    /// Lanes in which a task runs, or is to run, alone.
    solo: BTreeSet<LaneName>,
}

struct Room {
    lane: Lane,
    limit: i64,
    /// Tasks in the queue, by priority from the lowest.
    released: [i64; Priority::ALL.len()],
}

impl Room {
    /// How many tasks of this priority may still go in: only those of the same or a higher one count.
    fn left(&self, priority: Priority) -> i64 {
        self.limit - self.released[priority as usize..].iter().sum::<i64>()
    }
}

impl Rooms {
    pub(super) fn new(
        lanes: &[LaneRoom],
        backlog: &BTreeMap<Key, Counters>,
        solo: BTreeSet<LaneName>,
    ) -> Self {
        let room_of = |room: &LaneRoom| {
            let mut released = [0; Priority::ALL.len()];
            for (key, counters) in backlog.iter().filter(|(key, _)| key.lane == room.lane) {
                released[key.priority as usize] += counters.released.count();
            }
            let lane = Lane {
                name: room.lane.clone(),
                device: room.device,
                gpu_memory_bytes: room.gpu_memory_bytes,
            };
            Room { lane, limit: room.limit.into(), released }
        };
        Self { lanes: lanes.iter().map(room_of).collect(), solo }
    }

    /// How many tasks of a class could go out, and the most GPU memory that one of them may need; `None`: none could.
    pub(super) fn for_class(&self, key: &Key) -> Option<(i64, u64)> {
        let usable = self.lanes.iter().filter(|room| key.device.accepts(room.lane.device));
        let open: Vec<_> = usable.filter(|room| room.left(key.priority) > 0).collect();
        let count = open.iter().map(|room| room.left(key.priority)).sum();
        let memory = |room: &&Room| {
            let any = Resources { device: key.device, gpu_memory_bytes: u64::MAX };
            if room.lane.fits(any) { i64::MAX.unsigned_abs() } else { room.lane.gpu_memory_bytes }
        };
        open.iter().map(memory).max().map(|memory| (count, memory))
    }

    /// How many lanes could take a task that is to run alone.
    pub(super) fn without_solo(&self) -> usize {
        self.lanes.iter().filter(|room| !self.solo.contains(&room.lane.name)).count()
    }

    /// Takes a place for a task in the smallest lane that fits and has room.
    pub(super) fn take(&mut self, candidate: &Candidate) -> Option<LaneName> {
        let need = candidate.resources;
        let solo = &self.solo;
        let room = self.lanes.iter_mut().find(|room| {
            let alone = candidate.is_suspect() && solo.contains(&room.lane.name);
            room.lane.fits(need) && room.left(candidate.priority) > 0 && !alone
        })?;
        room.released[candidate.priority as usize] += 1;
        let lane = room.lane.name.clone();
        if candidate.is_suspect() {
            self.solo.insert(lane.clone());
        }
        Some(lane)
    }
}
