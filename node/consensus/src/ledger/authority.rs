//! What a member may have the leader write in its own name. The leader checks it of whatever a
//! peer forwards; the transport has authenticated the peer.

use hale_model::NodeId;
use hale_model::ledger::Command;

/// Whether a peer may forward this command. What only a leader's clock can say it may not; what
/// carries an entry must be signed by the peer itself, whoever it vouches for or reports about.
pub fn may_forward(from: &NodeId, command: &Command) -> bool {
    match command {
        // Founding is not forwarded; who comes later is admitted, with a token.
        Command::Enrol { .. }
        | Command::Expire { .. }
        | Command::ExpireToken { .. }
        | Command::ExpireWait { .. }
        | Command::ExpireLook { .. }
        | Command::Refill { .. }
        | Command::Rules { .. } => return false,
        Command::Renew { holder, .. } => return holder == from,
        Command::Services { node, .. }
        | Command::Editions { node, .. }
        | Command::Seen { node, .. }
        | Command::EndLook { node, .. } => return node == from,
        Command::Look(look) => return look.node == *from,
        Command::Recovered { by, .. } if by != from => return false,
        Command::Acquire(ask) if ask.holder != *from => return false,
        Command::AskApproval(ask) if ask.node != *from => return false,
        _ => {}
    }
    command.entry().is_some_and(|entry| entry.signer == *from)
}
