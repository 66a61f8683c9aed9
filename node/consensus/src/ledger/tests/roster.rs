//! Who comes and who goes.

use super::*;

fn token_id(n: u8) -> TokenId {
    TokenId::of([0, 0, 0, 0, n])
}

fn create(n: u8, uses: u32) -> Command {
    Command::CreateToken {
        id: token_id(n),
        verifier: plan(n),
        uses,
        ttl_ms: 60_000,
        by: "ada".into(),
        expires_at_ms: 60_000,
        entry: signed(EntryKind::Token, 0, &format!("token {n}")),
    }
}

fn revoke(n: u8) -> Command {
    Command::RevokeToken {
        id: token_id(n),
        by: "ada".into(),
        entry: signed(EntryKind::Token, 0, &format!("revoke {n}")),
    }
}

fn admit(token: u8, n: u8) -> Command {
    let node = key(n).node_id();
    Command::Admit {
        token: token_id(token),
        node,
        host: host(n),
        entry: enrolment::sign(node, &host(n), &key(0)),
    }
}

fn uses_left(ledger: &Ledger, n: u8) -> u32 {
    ledger.token(&token_id(n)).unwrap().uses_left
}

#[test]
fn a_token_admits_as_many_nodes_as_it_has_uses_and_a_repetition_spends_none() {
    let mut ledger = cluster();
    assert_eq!(
        refusal(&mut ledger, 9, admit(1, 5)),
        Refusal::UnknownToken(token_id(1))
    );
    assert_eq!(done(&mut ledger, 10, create(1, 2)).entries.len(), 1);
    let again = done(&mut ledger, 11, create(1, 2));
    assert!(again.entries.is_empty(), "it is made once");
    let admitted = done(&mut ledger, 12, admit(1, 5));
    assert_eq!(admitted.entries[0].kind, EntryKind::Enrolment);
    assert!(done(&mut ledger, 13, admit(1, 5)).entries.is_empty());
    assert_eq!(uses_left(&ledger, 1), 1);
    done(&mut ledger, 14, admit(1, 6));
    assert!(ledger.token(&token_id(1)).unwrap().live);
    assert_eq!(
        refusal(&mut ledger, 15, admit(1, 7)),
        Refusal::TokenUsedUp(token_id(1))
    );
    let (id, entries) = (token_id(1), done(&mut ledger, 16, revoke(1)).entries);
    assert_eq!(entries.len(), 1);
    assert_eq!(
        refusal(&mut ledger, 17, admit(1, 7)),
        Refusal::TokenExpired(id)
    );
}

#[test]
fn a_token_that_ran_out_admits_nobody_and_makes_room() {
    let mut ledger = cluster();
    for n in 0..limits::MAX_TOKENS as u8 {
        done(&mut ledger, 10 + u64::from(n), create(n, 1));
    }
    let refused = refusal(&mut ledger, 100, create(200, 1));
    assert!(matches!(refused, Refusal::Full { .. }));
    let expire = Command::ExpireToken { id: token_id(3) };
    assert!(done(&mut ledger, 101, expire).entries.is_empty());
    assert_eq!(
        refusal(&mut ledger, 102, admit(3, 5)),
        Refusal::TokenExpired(token_id(3))
    );
    done(&mut ledger, 103, create(200, 1));
    assert_eq!(ledger.tokens().count(), limits::MAX_TOKENS);
    assert_eq!(ledger.token(&token_id(3)), None);
}

#[test]
fn tokens_out_of_bounds_are_refused() {
    let mut ledger = cluster();
    for (uses, ttl) in [(0, 60_000), (10_001, 60_000), (1, 999), (1, 2_592_000_001)] {
        let Command::CreateToken {
            id,
            verifier,
            by,
            expires_at_ms,
            entry,
            ..
        } = create(1, 1)
        else {
            unreachable!()
        };
        let command = Command::CreateToken {
            id,
            verifier,
            uses,
            ttl_ms: ttl,
            by,
            expires_at_ms,
            entry,
        };
        let refused = refusal(&mut ledger, 9, command);
        assert!(matches!(refused, Refusal::BadEntry(_)), "{uses} {ttl}");
    }
}

#[test]
fn a_host_name_has_one_node_and_the_entry_must_name_who_is_admitted() {
    let mut ledger = cluster();
    done(&mut ledger, 9, create(1, 5));
    let node = key(5).node_id();
    let with = |host: HostName, entry| Command::Admit {
        token: token_id(1),
        node,
        host,
        entry,
    };
    let taken = with(host(1), enrolment::sign(node, &host(1), &key(0)));
    assert_eq!(
        refusal(&mut ledger, 10, taken),
        Refusal::HostTaken {
            host: host(1),
            node: key(1).node_id()
        }
    );
    let other = with(
        host(5),
        enrolment::sign(key(6).node_id(), &host(5), &key(0)),
    );
    assert!(matches!(
        refusal(&mut ledger, 11, other),
        Refusal::BadEntry(_)
    ));
    let alone = with(host(5), enrolment::sign(node, &host(5), &key(5)));
    assert_eq!(
        refusal(&mut ledger, 12, alone),
        Refusal::UnknownNode(node),
        "a member vouches"
    );
    assert_eq!(uses_left(&ledger, 1), 5);
}

#[test]
fn a_removed_node_is_out_for_good() {
    let mut ledger = cluster();
    done(&mut ledger, 9, create(1, 5));
    let (node, host) = (key(2).node_id(), host(2));
    done(
        &mut ledger,
        10,
        Command::Services {
            node,
            services: vec![ServiceName::new("a").unwrap()],
        },
    );
    let applied = done(&mut ledger, 11, remove(2, 0));
    assert_eq!(applied.entries[0].kind, EntryKind::Removal);
    assert!(applied.news.contains(&News::Removed { node, host }));
    assert!(!ledger.is_enrolled(&node) && ledger.services(&node).is_empty());
    let late = Command::Append {
        entry: signed(EntryKind::Record, 2, "late"),
    };
    assert_eq!(refusal(&mut ledger, 12, late), Refusal::UnknownNode(node));
    assert_eq!(
        refusal(&mut ledger, 13, admit(1, 2)),
        Refusal::WasRemoved(node)
    );
    assert_eq!(
        refusal(&mut ledger, 14, enrol(2, 0)),
        Refusal::WasRemoved(node)
    );
    let again = done(&mut ledger, 15, remove(2, 2));
    assert!(again.entries.is_empty() && again.news.is_empty());
    let stranger = Command::Services {
        node,
        services: vec![],
    };
    assert_eq!(
        refusal(&mut ledger, 16, stranger),
        Refusal::UnknownNode(node)
    );
}

#[test]
fn the_last_node_stays() {
    let mut ledger = cluster();
    done(&mut ledger, 9, remove(1, 1));
    done(&mut ledger, 10, remove(2, 0));
    assert_eq!(refusal(&mut ledger, 11, remove(0, 0)), Refusal::LastNode);
    let stranger = remove(9, 0);
    assert_eq!(
        refusal(&mut ledger, 12, stranger),
        Refusal::UnknownNode(key(9).node_id())
    );
}

#[test]
fn what_a_removed_node_left_open_excludes_others_until_it_is_closed() {
    let mut ledger = cluster();
    let fence = granted(&mut ledger, 9, ask_for(2, 5, 1, None));
    done(&mut ledger, 10, Command::AskApproval(question(1, 2)));
    let applied = done(&mut ledger, 11, remove(2, 0));
    let orphaned = |n: &News| matches!(n, News::Orphaned(l) if l.fence == fence && !l.live);
    assert!(applied.news.iter().any(orphaned));
    assert!(!ledger.lease(fence).unwrap().live);
    let approval = ledger.approval(&approval_id(1)).unwrap();
    assert_eq!(approval.state, ApprovalState::Superseded);
    let renew = Command::Renew {
        fence,
        holder: key(2).node_id(),
        ttl_ms: 5_000,
    };
    assert_eq!(refusal(&mut ledger, 12, renew), Refusal::StaleFence(fence));
    let own = refusal(&mut ledger, 13, close(fence, 2, "mine"));
    assert_eq!(own, Refusal::UnknownNode(key(2).node_id()));
    let next = Command::Acquire(ask_for(0, 5, 2, None));
    let held = ledger.apply(14, next.clone()).answer;
    assert!(matches!(held, Answer::Refused(Refusal::Held { .. })));
    let lease = ledger.lease(fence).unwrap().clone();
    let at = Timestamp::from_millis(0);
    let report = Command::Close {
        fence,
        holder: lease.holder,
        disposition: Disposition::Abandoned,
        outcome: OutcomeStatus::Abandoned,
        entry: hale_audit::abandoned::sign(&lease, "removed", at, &key(0)),
    };
    done(&mut ledger, 15, report);
    assert!(matches!(
        ledger.apply(16, next).answer,
        Answer::Granted { .. }
    ));
}

#[test]
fn those_removed_are_remembered_up_to_a_bound() {
    let mut ledger = cluster();
    for n in 0..limits::MAX_REMOVED as u64 {
        let mut seed = [9; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        let node = Keypair::from_seed(&seed).node_id();
        ledger.removed.insert(node, 10 + n);
    }
    let oldest = *ledger.removed.iter().min_by_key(|(_, at)| **at).unwrap().0;
    done(&mut ledger, 9_000, remove(2, 0));
    assert_eq!(ledger.removed.len(), limits::MAX_REMOVED);
    assert!(!ledger.was_removed(&oldest) && ledger.was_removed(&key(2).node_id()));
}
