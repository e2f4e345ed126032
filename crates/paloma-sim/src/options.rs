//! What kind of world a seed makes: a swarm of features and faults, most of them off in any one world.

use std::fmt;

use crate::random::Random;

/// Drawn from the seed before anything else, and printed with every report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Clients that keep to the rules.
    pub(crate) clients: usize,
    /// Steps of the plan.
    pub(crate) steps: usize,
    /// Longest pause between two steps, in milliseconds.
    pub(crate) gap_ms: u64,
    /// How many of a hundred clients speak 3.1.1.
    pub(crate) v3_percent: u64,
    pub(crate) retained: bool,
    pub(crate) wills: bool,
    pub(crate) shared: bool,
    pub(crate) aliases: bool,
    pub(crate) message_expiry: bool,
    pub(crate) subscription_ids: bool,
    pub(crate) small_packets: bool,
    pub(crate) rules: bool,
    pub(crate) hostile: bool,
    pub(crate) wrong_passwords: bool,
    pub(crate) takeovers: bool,
    pub(crate) cuts: bool,
    pub(crate) half_open: bool,
    pub(crate) stalls: bool,
    pub(crate) wall_jumps: bool,
    pub(crate) held_acks: bool,
    pub(crate) clean_starts: bool,
    /// Latency of the network, in microseconds.
    pub(crate) latency_us: (u64, u64),
    /// Bytes that one direction of a connection holds before its writer has to wait.
    pub(crate) window_bytes: usize,
    /// Whether readers get parts of what came.
    pub(crate) partial_reads: bool,
    /// How long a commit takes, in microseconds.
    pub(crate) commit_us: (u64, u64),
    /// How long the authenticator takes, in microseconds.
    pub(crate) authentication_us: (u64, u64),
    pub(crate) queue_messages_max: u32,
    pub(crate) queue_memory_messages_max: u32,
    pub(crate) queue_qos0: bool,
    pub(crate) drop_oldest: bool,
    pub(crate) inflight_max: u16,
    pub(crate) receive_maximum: u16,
    pub(crate) outbound_buffer_bytes_max: u32,
    pub(crate) keep_alive_seconds: u16,
    pub(crate) stall_timeout_ms: u32,
    // ---- what came later: all off in worlds of the first era
    /// The broker's process ends at any time and starts again from its store.
    pub(crate) crashes: bool,
    /// The store is the real one, on a simulated disk.
    pub(crate) real_store: bool,
    pub(crate) full_stores: bool,
    /// Clients log in by an exchange of AUTH packets.
    pub(crate) riddles: bool,
    /// Clients come back with a smaller Receive Maximum than they had.
    pub(crate) narrows: bool,
    /// The broker is told of changed rules a while after they have changed.
    pub(crate) late_rules: bool,
    /// The disk takes longer for a commit than clients may be silent for, now and then.
    pub(crate) slow_commits: bool,
    /// Bytes in batches that wait for a commit, above which publishers are not read.
    pub(crate) uncommitted_bytes_max: u64,
}

/// More than waits for a commit in any world.
const UNCOMMITTED_BYTES_MAX: u64 = 8 << 20;

/// Which worlds seeds make. Each change of what is drawn begins an era, so that a seed of an earlier one still makes the same
/// world.
pub const ERA: u32 = 4;

impl Options {
    /// The options of a seed's world, as it is or was made in an era.
    pub(crate) fn of_seed(seed: u64, era: u32) -> Self {
        let drawn = Self::draw(&mut Random::stream(seed, 1));
        let mut options = drawn.clone();
        if era >= 2 {
            options.add_second_era(&mut Random::stream(seed, 3));
        }
        if era >= 3 {
            options.add_third_era(&drawn, &mut Random::stream(seed, 5));
        }
        if era >= 4 {
            options.add_fourth_era(&drawn, &mut Random::stream(seed, 6));
        }
        options
    }

    /// Clients of 3.1.1 are in worlds with full stores as well, and commits may take seconds.
    fn add_fourth_era(&mut self, drawn: &Self, random: &mut Random) {
        self.v3_percent = drawn.v3_percent;
        self.slow_commits = random.chance(12);
        if self.slow_commits {
            self.commit_us = (1_000, 9_000_000);
            self.uncommitted_bytes_max = random.one_of([0, 400, UNCOMMITTED_BYTES_MAX]);
        }
    }

    /// Groups are in worlds with crashes as well.
    fn add_third_era(&mut self, drawn: &Self, random: &mut Random) {
        let has_groups = random.chance(60);
        if self.crashes && has_groups {
            self.shared = drawn.shared;
        }
    }

    fn add_second_era(&mut self, random: &mut Random) {
        self.crashes = random.chance(35);
        self.real_store = self.crashes && random.chance(12);
        self.full_stores = random.chance(12);
        self.riddles = random.chance(20);
        self.narrows = random.chance(25);
        self.late_rules = random.chance(50);
        if self.crashes {
            // The oracle did not follow groups over a crash then.
            self.shared = false;
        }
        if self.narrows {
            // Much in flight, and no pings that would wake what is forgotten.
            self.held_acks = true;
            if random.chance(60) {
                self.keep_alive_seconds = 0;
            }
        }
        if self.full_stores {
            // A message of a 3.1.1 client is held back, which the oracle did not follow then.
            self.v3_percent = 0;
        }
    }

    fn draw(random: &mut Random) -> Self {
        let mut half = |percent| random.chance(percent);
        let (retained, wills, shared, aliases) = (half(50), half(50), half(35), half(40));
        let (message_expiry, subscription_ids, small_packets) = (half(35), half(50), half(20));
        let (rules, hostile, wrong_passwords, takeovers) = (half(30), half(20), half(20), half(50));
        let (cuts, half_open, stalls, wall_jumps) = (half(70), half(25), half(25), half(20));
        let (held_acks, clean_starts, partial_reads) = (half(40), half(40), half(50));
        let (queue_qos0, drop_oldest, small_queue) = (half(20), half(40), half(25));
        Self {
            clients: 2 + random.index(5),
            steps: 40 + random.index(120),
            gap_ms: random.one_of([5, 50, 400, 2_000]),
            v3_percent: random.one_of([0, 30, 100]),
            retained,
            wills,
            shared,
            aliases,
            message_expiry,
            subscription_ids,
            small_packets,
            rules,
            hostile,
            wrong_passwords,
            takeovers,
            cuts,
            half_open,
            stalls,
            wall_jumps,
            held_acks,
            clean_starts,
            latency_us: random.one_of([(0, 0), (50, 500), (1_000, 40_000), (0, 900_000)]),
            window_bytes: random.one_of([48, 512, 4_096, 65_536]),
            partial_reads,
            commit_us: random.one_of([(0, 0), (200, 5_000), (1_000, 1_200_000)]),
            authentication_us: random.one_of([(0, 0), (0, 0), (100, 300_000)]),
            // Which of the copies that look alike a full queue has dropped is more than the oracle can tell.
            queue_messages_max: if small_queue && !shared {
                random.one_of([1, 2, 5, 12])
            } else {
                1_000
            },
            queue_memory_messages_max: random.one_of([1, 3, 8, 256]),
            queue_qos0,
            drop_oldest,
            inflight_max: random.one_of([1, 2, 5, 32]),
            receive_maximum: random.one_of([1, 3, 32]),
            outbound_buffer_bytes_max: random.one_of([64, 4_096, 262_144]),
            keep_alive_seconds: random.one_of([0, 3, 10, 60]),
            stall_timeout_ms: 30_000,
            crashes: false,
            real_store: false,
            full_stores: false,
            riddles: false,
            narrows: false,
            late_rules: false,
            slow_commits: false,
            uncommitted_bytes_max: UNCOMMITTED_BYTES_MAX,
        }
    }

    fn switches(&self) -> [(&'static str, bool); 27] {
        [
            ("retained", self.retained),
            ("wills", self.wills),
            ("shared", self.shared),
            ("aliases", self.aliases),
            ("message-expiry", self.message_expiry),
            ("subscription-ids", self.subscription_ids),
            ("small-packets", self.small_packets),
            ("rules", self.rules),
            ("hostile", self.hostile),
            ("wrong-passwords", self.wrong_passwords),
            ("takeovers", self.takeovers),
            ("cuts", self.cuts),
            ("half-open", self.half_open),
            ("stalls", self.stalls),
            ("wall-jumps", self.wall_jumps),
            ("held-acks", self.held_acks),
            ("clean-starts", self.clean_starts),
            ("partial-reads", self.partial_reads),
            ("queue-qos0", self.queue_qos0),
            ("drop-oldest", self.drop_oldest),
            ("crashes", self.crashes),
            ("real-store", self.real_store),
            ("full-stores", self.full_stores),
            ("riddles", self.riddles),
            ("narrows", self.narrows),
            ("late-rules", self.late_rules),
            ("slow-commits", self.slow_commits),
        ]
    }
}

impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "clients={} steps={} gap={}ms v3={}% latency={:?}us window={}B commit={:?}us auth={:?}us queue={}/{} inflight={} \
             receive-maximum={} out={}B uncommitted={}B keep-alive={}s",
            self.clients,
            self.steps,
            self.gap_ms,
            self.v3_percent,
            self.latency_us,
            self.window_bytes,
            self.commit_us,
            self.authentication_us,
            self.queue_messages_max,
            self.queue_memory_messages_max,
            self.inflight_max,
            self.receive_maximum,
            self.outbound_buffer_bytes_max,
            self.uncommitted_bytes_max,
            self.keep_alive_seconds,
        )?;
        for (name, _) in self.switches().iter().filter(|(_, is_on)| *is_on) {
            write!(f, " {name}")?;
        }
        Ok(())
    }
}
