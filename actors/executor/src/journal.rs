//! What is written down before it is done, so that a node that dies in the middle of a run knows
//! afterwards what it may have done. Records are data; where they are kept is behind a port.

use crate::run::rollback;
use hale_model::execution::Mode;
use hale_model::ledger::{Approval, Disposition, Lease};
use hale_model::{
    ApprovalId, Decision, ExecutionId, ExecutionReport, Fence, HostName, Incident, IncidentId,
    IncidentState, LogLine, Outcome, OutcomeStatus, Plan, Severity, StepStatus, Timestamp,
};
use hale_playbooks::Playbook;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What to put and what to remove, in one step: on the platter when it is acknowledged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JournalWrite {
    /// Keys with their new values.
    pub put: Vec<(String, Vec<u8>)>,
    /// Keys to remove.
    pub remove: Vec<String>,
}

/// A part of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// What must hold before anything is touched.
    PreChecks,
    /// What is done.
    Steps,
    /// What must hold afterwards.
    Verification,
    /// What undoes the steps.
    Rollback,
}

/// A line of an execution's log with where it belongs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    /// In which part.
    pub phase: Phase,
    /// Which of that part's steps in the playbook.
    pub index: usize,
    /// How it ended.
    pub line: LogLine,
}

/// One record of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "record")]
pub enum JournalRecord {
    /// A run is about to ask for its lease.
    Intent(Box<Intent>),
    /// A check or step is about to run: until another record follows, it may have.
    Started {
        /// In which part.
        phase: Phase,
        /// Which of that part's steps in the playbook.
        index: usize,
        /// Which attempt, from 1.
        attempt: u32,
        /// When.
        at: Timestamp,
        /// Under which lease.
        fence: Fence,
        /// Why it is undone; empty unless it is.
        why: String,
        /// What ended since the record before.
        ended: Vec<Ended>,
    },
    /// The run ended; its grant waits to be closed with this.
    Finished(Box<Finished>),
    /// A human is asked.
    Asked(Box<Asked>),
}

/// What a run is to do, for whom and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    /// What is to be run.
    pub plan: Plan,
    /// What for.
    pub incident: Incident,
    /// Why; none for a run started by hand.
    pub decision: Option<Decision>,
    /// Who started it.
    pub mode: Mode,
    /// The approval it rests on.
    pub approval: Option<ApprovalId>,
    /// When it began.
    pub started_at: Timestamp,
}

/// A run that ended, and how its grant is to be closed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finished {
    /// All that is told of it.
    pub report: ExecutionReport,
    /// The grant to close; none if there is none.
    pub close: Option<Close>,
}

/// How a grant is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// Which grant.
    pub fence: Fence,
    /// How.
    pub disposition: Disposition,
}

/// A question put to a human, with what it was about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The question.
    pub approval: Approval,
    /// The incident as it was decided on.
    pub incident: Incident,
    /// The decision.
    pub decision: Decision,
    /// The parameters that were settled.
    pub plan: Plan,
}

/// The key of a run's record.
pub fn key(execution: &ExecutionId, seq: u64) -> String {
    format!("{execution}/{seq:08}")
}

/// The key of a question's record.
pub fn question_key(approval: &ApprovalId) -> String {
    format!("{approval}/00000000")
}

/// What a journal holds, sorted into runs and questions.
#[derive(Debug, Default)]
pub struct Found {
    /// The records of each run, in order, by its id.
    pub runs: BTreeMap<String, Vec<(u64, JournalRecord)>>,
    /// Questions that waited for an answer.
    pub questions: Vec<Asked>,
    /// Keys whose values can't be read, with why.
    pub unreadable: Vec<(String, String)>,
}

/// Reads what a journal holds.
pub fn read(rows: &[(String, Vec<u8>)]) -> Found {
    let mut found = Found::default();
    for (key, bytes) in rows {
        let place = key
            .rsplit_once('/')
            .and_then(|(id, n)| Some((id, n.parse::<u64>().ok()?)));
        match (place, serde_json::from_slice(bytes)) {
            (Some(_), Ok(JournalRecord::Asked(asked))) => found.questions.push(*asked),
            (Some((id, seq)), Ok(record)) => {
                found
                    .runs
                    .entry(id.to_owned())
                    .or_default()
                    .push((seq, record));
            }
            (None, Ok(_)) => found
                .unreadable
                .push((key.clone(), "its key has no number".into())),
            (_, Err(e)) => found.unreadable.push((key.clone(), e.to_string())),
        }
    }
    found
        .runs
        .values_mut()
        .for_each(|records| records.sort_by_key(|(seq, _)| *seq));
    found
}

/// What a dead run was and how far it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Progressed {
    /// What it was to do.
    pub intent: Intent,
    /// What ended, in order.
    pub ended: Vec<Ended>,
    /// What was started and is not known to have ended.
    pub in_flight: Option<InFlight>,
    /// Why it was being undone, if it was.
    pub why: String,
    /// The number of its next record.
    pub next_seq: u64,
}

/// A check or step that was started and is not known to have ended.
#[derive(Debug, Clone, PartialEq)]
pub struct InFlight {
    /// In which part.
    pub phase: Phase,
    /// Which of that part's steps.
    pub index: usize,
    /// Which attempt.
    pub attempt: u32,
    /// When it was started.
    pub at: Timestamp,
    /// Under which lease.
    pub fence: Fence,
}

/// What to do about a run that a dead node left.
#[derive(Debug, Clone, PartialEq)]
pub enum Recovery {
    /// It had ended: its report has to be handed over (again).
    HandOver(Box<Finished>, u64),
    /// It had not: it is taken up, undone or told as abandoned, as [`crate::Run::recovered`] and
    /// the ledger allow.
    TakeUp(Box<Progressed>),
    /// Its first record is missing: nothing is known but its id.
    Lost,
}

/// What the records of one run say.
pub fn recover(records: &[(u64, JournalRecord)]) -> Recovery {
    let mut progressed: Option<Progressed> = None;
    let mut next_seq = 0;
    for (seq, record) in records {
        next_seq = seq.saturating_add(1);
        match (record, &mut progressed) {
            (JournalRecord::Finished(finished), _) => {
                return Recovery::HandOver(finished.clone(), next_seq);
            }
            (JournalRecord::Intent(intent), None) => {
                progressed = Some(Progressed {
                    intent: (**intent).clone(),
                    ended: vec![],
                    in_flight: None,
                    why: String::new(),
                    next_seq: 0,
                });
            }
            (
                JournalRecord::Started {
                    phase,
                    index,
                    attempt,
                    at,
                    fence,
                    why,
                    ended,
                },
                Some(p),
            ) => {
                p.ended.extend(ended.iter().cloned());
                p.why.clone_from(why);
                let (phase, index, attempt) = (*phase, *index, *attempt);
                p.in_flight = Some(InFlight {
                    phase,
                    index,
                    attempt,
                    at: *at,
                    fence: *fence,
                });
            }
            _ => {}
        }
    }
    match progressed {
        Some(p) => Recovery::TakeUp(Box::new(Progressed { next_seq, ..p })),
        None => Recovery::Lost,
    }
}

/// The report of a run that nobody can take up: its playbook is another by now, or is gone.
pub fn abandoned(
    progressed: Progressed,
    lease: Option<&Lease>,
    at: Timestamp,
    why: &str,
) -> Finished {
    let touched = progressed.touched(None);
    let Progressed { intent, ended, .. } = progressed;
    let left = if touched {
        "what was done was left as it is: look at the host before anything else is run there"
    } else {
        "nothing had been changed"
    };
    let outcome = Outcome {
        status: OutcomeStatus::Abandoned,
        resolution_time_seconds: at.since(intent.incident.opened_at).as_millis() as f64 / 1000.0,
        verification_passed: false,
        rollback_triggered: ended.iter().any(|e| e.phase == Phase::Rollback),
        human_intervention_required: true,
        reason: format!("{why}; {left}"),
    };
    let of = |phase| {
        ended
            .iter()
            .filter(move |e| e.phase == phase)
            .map(|e| e.line.clone())
            .collect()
    };
    let report = ExecutionReport {
        pre_check_log: of(Phase::PreChecks),
        execution_log: of(Phase::Steps),
        verification_log: of(Phase::Verification),
        rollback_log: of(Phase::Rollback),
        incident: intent.incident,
        decision: intent.decision,
        plan: Some(intent.plan),
        mode: intent.mode,
        fence: lease.map(|l| l.fence),
        started_at: intent.started_at,
        ended_at: at,
        outcome,
    };
    let disposition = if touched {
        Disposition::Abandoned
    } else {
        Disposition::Released
    };
    let close = lease.map(|l| Close {
        fence: l.fence,
        disposition,
    });
    Finished {
        report: crate::plan::settled(report),
        close,
    }
}

/// The report of a grant of this node that its journal knows nothing of: the journal was lost.
pub fn orphan(lease: &Lease, environment: &str, host: &HostName, at: Timestamp) -> Finished {
    let incident = Incident {
        id: IncidentId::at(at, lease.fence.0 as u32),
        host: host.clone(),
        environment: environment.into(),
        service: lease.service.clone(),
        tags: BTreeMap::new(),
        opened_at: at,
        updated_at: at,
        resolved_at: None,
        state: IncidentState::Open,
        severity: Severity::Warning,
        title: format!(
            "run {} of {} left no journal",
            lease.execution, lease.playbook
        ),
        anomalies: vec![],
        events: vec![],
        top_consumers: vec![],
        signature: lease.plan_digest,
        recurrence_30d: 0,
    };
    let reason = format!(
        "the node holds a grant for {} of {}, and its journal does not know of it: what was done \
         is not known, look at the host",
        lease.execution, lease.playbook
    );
    let mut finished = without_run(
        incident,
        None,
        None,
        Mode::Autonomous,
        OutcomeStatus::Abandoned,
        reason,
        at,
    );
    finished.report.fence = Some(lease.fence);
    finished.close = Some(Close {
        fence: lease.fence,
        disposition: Disposition::Abandoned,
    });
    finished
}

/// The report of an incident for which nothing was run.
pub fn without_run(
    incident: Incident,
    decision: Option<Decision>,
    plan: Option<Plan>,
    mode: Mode,
    status: OutcomeStatus,
    reason: String,
    at: Timestamp,
) -> Finished {
    let outcome = Outcome {
        status,
        resolution_time_seconds: at.since(incident.opened_at).as_millis() as f64 / 1000.0,
        verification_passed: false,
        rollback_triggered: false,
        human_intervention_required: status != OutcomeStatus::SelfResolved,
        reason,
    };
    let report = ExecutionReport {
        incident,
        decision,
        plan,
        mode,
        fence: None,
        started_at: at,
        ended_at: at,
        pre_check_log: vec![],
        execution_log: vec![],
        verification_log: vec![],
        rollback_log: vec![],
        outcome,
    };
    Finished {
        report: crate::plan::settled(report),
        close: None,
    }
}

impl Progressed {
    /// The playbook's steps that ran or may have, in the order they did.
    pub fn ran(&self) -> Vec<usize> {
        let mut ran: Vec<usize> = vec![];
        let ended = self
            .ended
            .iter()
            .filter(|e| e.phase == Phase::Steps && e.line.status != StepStatus::Skipped)
            .map(|e| e.index);
        let in_flight = self.in_flight.iter().filter(|f| f.phase == Phase::Steps);
        for index in ended.chain(in_flight.map(|f| f.index)) {
            if !ran.contains(&index) {
                ran.push(index);
            }
        }
        ran
    }

    /// Whether it may have changed anything, as far as the playbook tells; without the playbook,
    /// whatever ran may have.
    pub fn touched(&self, playbook: Option<&Playbook>) -> bool {
        match playbook {
            Some(p) => rollback::has_touched(p, &self.ran()),
            None => !self.ran().is_empty(),
        }
    }
}
