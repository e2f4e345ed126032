//! Faults that are put into the code on purpose, so that the simulation can show that it would see them.
//!
//! They are there in builds with `--cfg paloma_bites` only, which `cargo xtask sim` makes. In every other build
//! [`Fault::is_on`] is a constant, and nothing is compiled of what it would do.

#[cfg(paloma_bites)]
use core::sync::atomic::{AtomicU8, Ordering};

/// The one that is there, by its place in [`Fault::ALL`].
#[cfg(paloma_bites)]
static CHOSEN: AtomicU8 = AtomicU8::new(u8::MAX);

/// One fault. Its comment is the sentence by which it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// `a/#` is not found for the topic `a`.
    HashMissesParent,
    /// A `+` beside a literal level that matched is not tried.
    PlusNotTried,
    /// A QoS 2 PUBLISH that comes again is taken for a new one.
    DedupSkipped,
    /// The QoS 2 ids of a client are forgotten when it comes back.
    DedupLostOnResume,
    /// One message more than Receive Maximum is sent.
    WindowOffByOne,
    /// What is sent again has no DUP flag.
    DupForgotten,
    /// What was in flight is not sent again.
    ReplayForgotten,
    /// PUBREC is not answered.
    PubRelForgotten,
    /// Answers leave before their commit.
    AnswersDoNotWait,
    /// An acknowledgement overtakes the one before it.
    AnswersSwapped,
    /// A QoS 2 delivery leaves before the commit that has its packet id.
    QosTwoDoesNotWait,
    /// A packet id is given out while it is in use.
    IdReused,
    /// A topic is sent under the alias of another.
    AliasMistaken,
    /// A queue takes one message more than it may.
    QueueOffByOne,
    /// What is queued last is sent first.
    QueueReversed,
    /// A lifetime is sent as it was published.
    AgeForgotten,
    /// A silent client is never sent away.
    KeepAliveForgotten,
    /// The will of a client that left in peace is sent.
    WillAfterGoodbye,
    /// A message is delivered at a higher QoS than it was published with.
    QosRaised,
    /// RETAIN is passed on to those who did not ask for that.
    RetainKept,
    /// What comes while a durable client is away is dropped.
    OfflineLost,
    /// A part of a queue that is read from the store begins one message too late.
    SpillSkipsOne,
    /// The store keeps what was delivered.
    DequeueForgotten,
    /// A client gets its own messages in spite of No Local.
    NoLocalIgnored,
    /// An empty message without RETAIN deletes the retained one.
    EmptyDeletesRetained,
    /// Of several matching subscriptions only the first identifier is sent.
    FirstIdOnly,
    /// Overlapping subscriptions bring a copy each.
    OverlapTwice,
    /// Two members of a group get a message.
    GroupGetsTwo,
    /// PUBACK and PUBREC do not wait for the commit of the message.
    PublisherToldTooSoon,
    /// The store does not know the QoS 2 ids of clients.
    ReceivedNotStored,
    /// What is in flight is sent again whatever the rules say by now.
    RulesSkippedOnReplay,
    /// What waits is sent whatever the rules say by now.
    RulesSkippedInQueue,
    /// Retained messages are sent whatever the rules say.
    RulesSkippedForRetained,
    /// What a subscription was granted holds after the rules have changed.
    OldGrantsKept,
    /// CONNACK says that there is a session whether there is or not.
    SessionAlwaysPresent,
    /// Clean Start leaves the session as it was.
    CleanStartIgnored,
    /// CONNACK does not wait for the commit of the session.
    ConnAckTooSoon,
    /// The store does not know a session while its client is connected.
    SessionNotStored,
    /// A second connection of a client leaves the first one open.
    TakeoverForgotten,
    /// A will with a delay is sent at once.
    WillDelayIgnored,
    /// The store does not know of wills.
    WillNotStored,
    /// A session that has expired goes on.
    ExpiryForgotten,
    /// What a member of a group did not get is dropped.
    SharedNotHandedOn,
    /// Messages that expire are not counted.
    DropUncounted,
    /// A new retained message does not take the place of an earlier one.
    RetainedNotReplaced,
    /// The store does not know of retained messages.
    RetainedNotStored,
    /// UNSUBSCRIBE is answered and nothing else.
    UnsubscribeForgotten,
    /// The store does not know of subscriptions.
    SubscriptionNotStored,
    /// What is to be sent again is forgotten when the window was full.
    ReplayNotWoken,
    /// The store does not know of PUBREC.
    ReleaseNotStored,
    /// The store does not know the packet ids of QoS 2 deliveries.
    IdsNotStored,
    /// A broker that starts forgets the queues.
    QueueNotRecovered,
    /// A broker that starts forgets the wills.
    WillNotRecovered,
    /// The store does not know of retained messages that are on their way to a new subscription.
    RetainedOnTheirWayForgotten,
    /// A commit does not wait for the disk.
    SyncSkipped,
}

impl Fault {
    /// All of them, and what each does.
    pub const ALL: [(Self, &str); 55] = [
        (
            Self::HashMissesParent,
            "`a/#` is not found for the topic `a`",
        ),
        (
            Self::PlusNotTried,
            "A `+` beside a literal level that matched is not tried",
        ),
        (
            Self::DedupSkipped,
            "A QoS 2 PUBLISH that comes again is taken for a new one",
        ),
        (
            Self::DedupLostOnResume,
            "The QoS 2 ids of a client are forgotten when it comes back",
        ),
        (
            Self::WindowOffByOne,
            "One message more than Receive Maximum is sent",
        ),
        (Self::DupForgotten, "What is sent again has no DUP flag"),
        (
            Self::ReplayForgotten,
            "What was in flight is not sent again",
        ),
        (Self::PubRelForgotten, "PUBREC is not answered"),
        (Self::AnswersDoNotWait, "Answers leave before their commit"),
        (
            Self::AnswersSwapped,
            "An acknowledgement overtakes the one before it",
        ),
        (
            Self::QosTwoDoesNotWait,
            "A QoS 2 delivery leaves before the commit that has its packet id",
        ),
        (
            Self::IdReused,
            "A packet id is given out while it is in use",
        ),
        (
            Self::AliasMistaken,
            "A topic is sent under the alias of another",
        ),
        (
            Self::QueueOffByOne,
            "A queue takes one message more than it may",
        ),
        (Self::QueueReversed, "What is queued last is sent first"),
        (Self::AgeForgotten, "A lifetime is sent as it was published"),
        (
            Self::KeepAliveForgotten,
            "A silent client is never sent away",
        ),
        (
            Self::WillAfterGoodbye,
            "The will of a client that left in peace is sent",
        ),
        (
            Self::QosRaised,
            "A message is delivered at a higher QoS than it was published with",
        ),
        (
            Self::RetainKept,
            "RETAIN is passed on to those who did not ask for that",
        ),
        (
            Self::OfflineLost,
            "What comes while a durable client is away is dropped",
        ),
        (
            Self::SpillSkipsOne,
            "A part of a queue that is read from the store begins one message too late",
        ),
        (Self::DequeueForgotten, "The store keeps what was delivered"),
        (
            Self::NoLocalIgnored,
            "A client gets its own messages in spite of No Local",
        ),
        (
            Self::EmptyDeletesRetained,
            "An empty message without RETAIN deletes the retained one",
        ),
        (
            Self::FirstIdOnly,
            "Of several matching subscriptions only the first identifier is sent",
        ),
        (
            Self::OverlapTwice,
            "Overlapping subscriptions bring a copy each",
        ),
        (Self::GroupGetsTwo, "Two members of a group get a message"),
        (
            Self::PublisherToldTooSoon,
            "PUBACK and PUBREC do not wait for the commit of the message",
        ),
        (
            Self::ReceivedNotStored,
            "The store does not know the QoS 2 ids of clients",
        ),
        (
            Self::RulesSkippedOnReplay,
            "What is in flight is sent again whatever the rules say by now",
        ),
        (
            Self::RulesSkippedInQueue,
            "What waits is sent whatever the rules say by now",
        ),
        (
            Self::RulesSkippedForRetained,
            "Retained messages are sent whatever the rules say",
        ),
        (
            Self::OldGrantsKept,
            "What a subscription was granted holds after the rules have changed",
        ),
        (
            Self::SessionAlwaysPresent,
            "CONNACK says that there is a session whether there is or not",
        ),
        (
            Self::CleanStartIgnored,
            "Clean Start leaves the session as it was",
        ),
        (
            Self::ConnAckTooSoon,
            "CONNACK does not wait for the commit of the session",
        ),
        (
            Self::SessionNotStored,
            "The store does not know a session while its client is connected",
        ),
        (
            Self::TakeoverForgotten,
            "A second connection of a client leaves the first one open",
        ),
        (
            Self::WillDelayIgnored,
            "A will with a delay is sent at once",
        ),
        (Self::WillNotStored, "The store does not know of wills"),
        (Self::ExpiryForgotten, "A session that has expired goes on"),
        (
            Self::SharedNotHandedOn,
            "What a member of a group did not get is dropped",
        ),
        (Self::DropUncounted, "Messages that expire are not counted"),
        (
            Self::RetainedNotReplaced,
            "A new retained message does not take the place of an earlier one",
        ),
        (
            Self::RetainedNotStored,
            "The store does not know of retained messages",
        ),
        (
            Self::UnsubscribeForgotten,
            "UNSUBSCRIBE is answered and nothing else",
        ),
        (
            Self::SubscriptionNotStored,
            "The store does not know of subscriptions",
        ),
        (
            Self::ReplayNotWoken,
            "What is to be sent again is forgotten when the window was full",
        ),
        (Self::ReleaseNotStored, "The store does not know of PUBREC"),
        (
            Self::IdsNotStored,
            "The store does not know the packet ids of QoS 2 deliveries",
        ),
        (
            Self::QueueNotRecovered,
            "A broker that starts forgets the queues",
        ),
        (
            Self::WillNotRecovered,
            "A broker that starts forgets the wills",
        ),
        (
            Self::RetainedOnTheirWayForgotten,
            "The store does not know of retained messages that are on their way to a new subscription",
        ),
        (Self::SyncSkipped, "A commit does not wait for the disk"),
    ];

    /// Whether this build has the fault, and it was chosen.
    #[cfg(not(paloma_bites))]
    #[inline(always)]
    #[must_use]
    pub const fn is_on(self) -> bool {
        false
    }

    /// Whether it was chosen.
    #[cfg(paloma_bites)]
    #[must_use]
    pub fn is_on(self) -> bool {
        CHOSEN.load(Ordering::Relaxed) == self as u8
    }

    /// Puts this fault in the place of any other, for all threads, or takes the one that is there away.
    #[cfg(paloma_bites)]
    pub fn choose(fault: Option<Self>) {
        CHOSEN.store(
            fault.map_or(u8::MAX, |fault| fault as u8),
            Ordering::Relaxed,
        );
    }
}
