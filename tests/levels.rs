//! How much a playbook may do: earned by what the ledger counts, by one text.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use hale_tests::{Node, Playbook, SOON, Scratch, check, command, pause, wait_until};
use serde_json::Value;

fn playbook(says: &str) -> Playbook {
    Playbook::of("echo_revive", "echo")
        .step(command("say", &["/bin/echo", says]))
        .verify(check("it_was_said", "true"))
}

fn row(node: &Node) -> Value {
    node.get("/v1/playbooks/echo_revive")
}

#[test]
fn what_a_playbook_earned_is_of_one_text_and_outlasts_a_restart() {
    let scratch = Scratch::new();
    playbook("one").write(&scratch);
    let directory = scratch.path("playbooks");
    let mut node = Node::new(
        &scratch,
        &format!(
            "[playbooks]\ndirectory = {directory:?}\n[telemetry]\ninterval = \"1s\"\n\
             [services.echo]\n"
        ),
    )
    .start();
    assert_eq!(row(&node)["level"], "ask", "{}", row(&node));
    for n in 1..=5 {
        node.run_playbook("echo_revive", "echo");
        wait_until("its success is counted", SOON, || {
            row(&node)["history"]["succeeded"] == n
        });
    }
    let earned = row(&node);
    assert_eq!(earned["level"], "auto", "{earned:#}");
    // By then the node has told the ledger which texts there are.
    pause(SOON * 2 / 3);
    node.stop();
    node.start_again();
    pause(SOON / 5);
    assert_eq!(row(&node)["level"], "auto", "the same text is no news");
    playbook("two").write(&scratch);
    node.stop();
    node.start_again();
    wait_until("what another text earned is forgotten", SOON, || {
        row(&node)["level"] == "ask"
    });
    let changed = row(&node);
    assert_eq!(changed["history"]["succeeded"], 0, "{changed:#}");
    // The records of its runs stay.
    let chain = node.chain();
    chain.assert_sound();
    assert!(chain.entries.len() >= 5);
}
