//! Classic mistakes that a test can plant, to prove that it would find them. Without the feature
//! `planted`, which no product build has, none can be: [`is`] is a constant then, and what hangs on
//! it is compiled away.

/// A mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// A write is acknowledged before it is on the disk.
    AckBeforeSync,
    /// A holder that hears that its fence is stale goes on.
    FenceNotChecked,
    /// A holder takes its deadline from the wall clock.
    WallClockExpiry,
    /// A snapshot leaves out grants that ran out and are not closed.
    PartialSnapshot,
    /// A lease that has expired can be renewed.
    RenewedAfterExpiry,
    /// A grant stays after it was closed.
    ClosedTwice,
    /// A leader says what may be read without asking whether it still leads.
    ReadUnconfirmed,
    /// The right to act is granted where somebody looks.
    LookIgnored,
}

impl Mistake {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::AckBeforeSync,
        Self::FenceNotChecked,
        Self::WallClockExpiry,
        Self::PartialSnapshot,
        Self::RenewedAfterExpiry,
        Self::ClosedTwice,
        Self::ReadUnconfirmed,
        Self::LookIgnored,
    ];
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Mistake>> = const { std::cell::Cell::new(None) };
}

/// Plants a mistake on this thread, or none.
#[cfg(feature = "planted")]
pub fn plant(mistake: Option<Mistake>) {
    PLANTED.set(mistake);
}

/// Whether this mistake is planted.
#[cfg(feature = "planted")]
pub fn is(mistake: Mistake) -> bool {
    PLANTED.get() == Some(mistake)
}

/// Whether this mistake is planted.
#[cfg(not(feature = "planted"))]
pub const fn is(_: Mistake) -> bool {
    false
}
