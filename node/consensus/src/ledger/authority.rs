//! What a member may have the leader write in its own name. The leader checks it of whatever a
//! peer forwards; the transport has authenticated the peer.

use hale_model::NodeId;
use hale_model::ledger::{Command, Signed};

/// Whether a peer may forward this command. What only a leader's clock can say it may not; what
/// carries an entry must be signed by the peer itself, whoever it vouches for or reports about.
pub fn may_forward(from: &NodeId, command: &Command) -> bool {
    let own = |entry: &Signed| entry.signer == *from;
    match command {
        // Founding is not forwarded; who comes later is admitted, with a token.
        Command::Enrol { .. }
        | Command::Expire { .. }
        | Command::ExpireToken { .. }
        | Command::ExpireWait { .. }
        | Command::Refill { .. }
        | Command::Rules { .. } => false,
        Command::Renew { holder, .. } => holder == from,
        Command::Services { node, .. } => node == from,
        Command::Recovered { by, entry, .. } => by == from && own(entry),
        Command::Acquire(ask) => ask.holder == *from && own(&ask.entry),
        Command::AskApproval(ask) => ask.node == *from && own(&ask.entry),
        Command::Close { entry, .. }
        | Command::Append { entry }
        | Command::Answer { entry, .. }
        | Command::CloseApproval { entry, .. }
        | Command::Freeze { entry, .. }
        | Command::CreateToken { entry, .. }
        | Command::RevokeToken { entry, .. }
        | Command::Admit { entry, .. }
        | Command::Remove { entry, .. }
        | Command::SetBudget { entry, .. }
        | Command::DropBudget { entry, .. } => own(entry),
    }
}
