//! How much the ledger holds. Every node applies the same limits, so they are part of the state
//! machine: changing one is a new version of it.

/// Grants that are not closed yet, live or expired, in the whole cluster.
pub const MAX_OPEN_GRANTS: usize = 4096;
/// Grants one node may have open: a node that never closes its own can't starve the others.
pub const MAX_OPEN_GRANTS_PER_NODE: usize = 64;
/// Approvals that wait or were given and not used yet.
pub const MAX_OPEN_APPROVALS: usize = 256;
/// Approvals one node may have open.
pub const MAX_OPEN_APPROVALS_PER_NODE: usize = 32;
/// Approvals that ended, kept to be shown.
pub const MAX_ENDED_APPROVALS: usize = 256;
/// Nodes on the roster.
pub const MAX_NODES: usize = 8192;
/// Pairs of playbook and service whose outcomes are counted; later pairs stay uncounted.
pub const MAX_HISTORIES: usize = 4096;
/// Closed grants and appended records that are remembered, to recognise a repetition.
pub const MAX_RECENT: usize = 1024;
/// The shortest and the longest lease, in milliseconds: one second, one day.
pub const TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// The shortest and the longest wait for an answer, in milliseconds: one second, one week.
pub const APPROVAL_TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=604_800_000;
/// The largest plan put before a human, in bytes.
pub const MAX_PLAN_BYTES: usize = 64 << 10;
/// The longest text a command carries (a reason, a rationale, a version, a custom scope), in bytes.
pub const MAX_TEXT_BYTES: usize = 4096;
/// The longest name of a person, in bytes.
pub const MAX_BY_BYTES: usize = 255;
/// Nodes that were removed and are remembered, so that none comes back.
pub const MAX_REMOVED: usize = 4096;
/// Join tokens, those that ended and are still remembered with them.
pub const MAX_TOKENS: usize = 64;
/// How many nodes may join with one token.
pub const TOKEN_USES: std::ops::RangeInclusive<u32> = 1..=10_000;
/// The shortest and the longest life of a token, in milliseconds: one second, 30 days.
pub const TOKEN_TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=2_592_000_000;
/// Executions that wait for a lease, in the whole cluster.
pub const MAX_WAITING: usize = 1024;
/// Executions of one node that wait for a lease.
pub const MAX_WAITING_PER_NODE: usize = 64;
/// An execution that has not asked again for so long loses its place: five questions, at the pace
/// of one a second.
pub const WAIT_TTL: std::time::Duration = std::time::Duration::from_secs(5);
/// Budgets.
pub const MAX_BUDGETS: usize = 128;
/// The longest name of a budget, in bytes.
pub const MAX_BUDGET_NAME_BYTES: usize = 64;
/// The most that an hourly budget may allow: so many marks are kept of it.
pub const MAX_PER_HOUR: u32 = 10_000;
/// After so long by the leader's clock a mark on an hourly budget is taken back.
pub const REFILL_AFTER: std::time::Duration = std::time::Duration::from_secs(3600);
/// Shared leases, in the whole cluster.
pub const MAX_LOOKS: usize = 4096;
/// Shared leases of one node.
pub const MAX_LOOKS_PER_NODE: usize = 64;
/// The shortest and the longest shared lease, in milliseconds: one second, half a minute. Who wants to
/// act waits for it.
pub const LOOK_TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;
