//! The table of what there is: every path, its parameters, its body and its answer.

use super::{Access, AnswerSpec, BodySpec, Handler, Pace, Parameter, Route, ValueKind, Verb};
use crate::handlers as h;

const fn parameter(name: &'static str, kind: ValueKind, about: &'static str) -> Parameter {
    Parameter { name, kind, about }
}

const CONSISTENCY: Parameter = parameter(
    "consistency",
    ValueKind::OneOf(&["linearizable", "stale"]),
    "linearizable (default): confirmed by the group; stale: what this node knows, its age in the header hale-age-ms",
);
const READ: &[Parameter] = &[CONSISTENCY];
const NONE: &[Parameter] = &[];

const fn limit(max: u64, about: &'static str) -> Parameter {
    parameter("limit", ValueKind::Integer { min: 1, max }, about)
}

const INCIDENTS: &[Parameter] = &[
    parameter(
        "state",
        ValueKind::OneOf(&["open", "resolved", "all"]),
        "where they stand (default: open)",
    ),
    parameter("service", ValueKind::Text, "of this service only"),
    limit(1000, "how many at most (default: 50)"),
    CONSISTENCY,
];
const BASELINES: &[Parameter] = &[
    parameter(
        "series",
        ValueKind::Text,
        "a part of the series' text, or a glob with *",
    ),
    limit(10_000, "how many at most (default: 1000)"),
    CONSISTENCY,
];
const ENTRIES: &[Parameter] = &[
    parameter(
        "from",
        ValueKind::Integer {
            min: 0,
            max: u64::MAX,
        },
        "the first index (default: the newest entries)",
    ),
    limit(1000, "how many at most (default: 50)"),
    parameter(
        "kind",
        ValueKind::OneOf(&[
            "enrolment",
            "intent",
            "record",
            "approval",
            "freeze",
            "removal",
            "token",
            "budget",
        ]),
        "of this kind only",
    ),
    parameter("incident", ValueKind::Text, "of this incident only"),
    CONSISTENCY,
];
const EVENTS: &[Parameter] = &[
    parameter(
        "follow",
        ValueKind::Flag,
        "stay and tell what happens; without it: what is remembered, then the end",
    ),
    parameter(
        "after",
        ValueKind::Integer {
            min: 0,
            max: u64::MAX,
        },
        "only those with a higher seq",
    ),
];

const fn json(schema: &'static str) -> AnswerSpec {
    AnswerSpec {
        media: "application/json",
        schema,
    }
}

const fn get(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    query: &'static [Parameter],
    answer: AnswerSpec,
    handler: Handler,
) -> Route {
    let (verb, access, pace, body) = (Verb::Get, Access::Token, Pace::Quick, None);
    Route {
        verb,
        path,
        name,
        about,
        access,
        pace,
        query,
        body,
        answer,
        handler,
    }
}

const fn post(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    body: &'static str,
    answer: AnswerSpec,
    handler: Handler,
) -> Route {
    let body = Some(BodySpec {
        media: "application/json",
        schema: body,
    });
    Route {
        verb: Verb::Post,
        body,
        ..get(path, name, about, NONE, answer, handler)
    }
}

const fn open(route: Route) -> Route {
    Route {
        access: Access::Open,
        ..route
    }
}

const fn paced(pace: Pace, route: Route) -> Route {
    Route { pace, ..route }
}

/// Every method of every path.
pub static ROUTES: &[Route] = &[
    get(
        "/v1/status",
        "status",
        "The node at a glance",
        READ,
        json("Status"),
        |c| Box::pin(h::status(c)),
    ),
    get(
        "/v1/hosts",
        "hosts",
        "The hosts this node knows",
        READ,
        json("Hosts"),
        |c| Box::pin(h::hosts(c)),
    ),
    get(
        "/v1/hosts/{host}/telemetry",
        "telemetry",
        "The latest snapshot of a host",
        READ,
        json("Telemetry"),
        |c| Box::pin(h::telemetry(c)),
    ),
    get(
        "/v1/hosts/{host}/baselines",
        "baselines",
        "The latest readings of a host, each with the baseline it was held against",
        BASELINES,
        json("Baselines"),
        |c| Box::pin(h::baselines(c)),
    ),
    get(
        "/v1/incidents",
        "incidents",
        "Incidents, newest first",
        INCIDENTS,
        json("Incidents"),
        |c| Box::pin(h::incidents(c)),
    ),
    get(
        "/v1/incidents/{id}",
        "incident",
        "One incident with its evidence, decision and record",
        READ,
        json("IncidentView"),
        |c| Box::pin(h::incident(c)),
    ),
    get(
        "/v1/incidents/{id}/why",
        "why",
        "Why an incident was treated as it was: text, matches, confidence, gates, story",
        READ,
        json("Why"),
        |c| Box::pin(h::why(c)),
    ),
    get(
        "/v1/approvals",
        "approvals",
        "The approvals that wait for a human",
        READ,
        json("Approvals"),
        |c| Box::pin(h::approvals(c)),
    ),
    post(
        "/v1/approvals/{id}/approve",
        "approve",
        "Agrees to a plan",
        "AnswerRequest",
        json("Approval"),
        |c| Box::pin(h::approve(c)),
    ),
    post(
        "/v1/approvals/{id}/deny",
        "deny",
        "Refuses a plan",
        "AnswerRequest",
        json("Approval"),
        |c| Box::pin(h::deny(c)),
    ),
    get(
        "/v1/playbooks",
        "playbooks",
        "The playbooks, by name",
        READ,
        json("Playbooks"),
        |c| Box::pin(h::playbooks(c)),
    ),
    get(
        "/v1/playbooks/{name}",
        "playbook",
        "One playbook with its text",
        READ,
        json("PlaybookView"),
        |c| Box::pin(h::playbook(c)),
    ),
    post(
        "/v1/playbooks/{name}/run",
        "run_playbook",
        "Starts a playbook by hand, or settles its plan",
        "RunRequest",
        json("Run"),
        |c| Box::pin(h::run(c)),
    ),
    Route {
        body: Some(BodySpec {
            media: "application/yaml",
            schema: "PlaybookText",
        }),
        ..post(
            "/v1/playbooks/lint",
            "lint_playbook",
            "Says what is wrong with a playbook's YAML",
            "",
            json("Findings"),
            |c| Box::pin(h::lint(c)),
        )
    },
    get(
        "/v1/leases",
        "leases",
        "The leases that are not closed",
        READ,
        json("Leases"),
        |c| Box::pin(h::leases(c)),
    ),
    get(
        "/v1/executions",
        "executions",
        "The executions that run now",
        READ,
        json("Executions"),
        |c| Box::pin(h::executions(c)),
    ),
    get(
        "/v1/audit/entries",
        "entries",
        "A page of the chain, records with their proof",
        ENTRIES,
        json("Entries"),
        |c| Box::pin(h::entries(c)),
    ),
    get(
        "/v1/audit/entries/{index}",
        "entry",
        "One entry of the chain",
        READ,
        json("Entry"),
        |c| Box::pin(h::entry(c)),
    ),
    paced(
        Pace::Stream,
        get(
            "/v1/audit/export",
            "export",
            "The whole chain, one JSON line an entry, for hale audit verify FILE",
            NONE,
            AnswerSpec {
                media: "application/x-ndjson",
                schema: "Lines",
            },
            |c| Box::pin(h::export(c)),
        ),
    ),
    paced(
        Pace::Long,
        get(
            "/v1/audit/verify",
            "verify",
            "Verifies the whole chain: links, signatures, root",
            NONE,
            json("Verification"),
            |c| Box::pin(h::verify(c)),
        ),
    ),
    paced(
        Pace::Long,
        Route {
            verb: Verb::Post,
            ..get(
                "/v1/audit/verify",
                "verify_now",
                "The same, for clients whose GET is cached",
                NONE,
                json("Verification"),
                |c| Box::pin(h::verify(c)),
            )
        },
    ),
    get(
        "/v1/freeze",
        "freeze_state",
        "Whether execution is frozen",
        READ,
        json("FreezeState"),
        |c| Box::pin(h::freeze_state(c)),
    ),
    post(
        "/v1/freeze",
        "freeze",
        "Stops all execution: nothing new is started",
        "FreezeRequest",
        json("FreezeState"),
        |c| Box::pin(h::freeze(c)),
    ),
    Route {
        verb: Verb::Delete,
        ..post(
            "/v1/freeze",
            "thaw",
            "Allows execution again",
            "FreezeRequest",
            json("FreezeState"),
            |c| Box::pin(h::thaw(c)),
        )
    },
    paced(
        Pace::Stream,
        get(
            "/v1/events",
            "events",
            "What happens, one JSON line each; server-sent events if asked for by Accept",
            EVENTS,
            AnswerSpec {
                media: "application/x-ndjson",
                schema: "Lines",
            },
            |c| Box::pin(h::events(c)),
        ),
    ),
    get(
        "/metrics",
        "metrics",
        "Metrics for Prometheus",
        NONE,
        AnswerSpec {
            media: "text/plain",
            schema: "Text",
        },
        |c| Box::pin(h::metrics(c)),
    ),
    open(get(
        "/healthz",
        "healthz",
        "Whether the process answers",
        NONE,
        json("Health"),
        |c| Box::pin(h::healthz(c)),
    )),
    open(get(
        "/readyz",
        "readyz",
        "Whether the node does its work; 503 with reasons if not",
        NONE,
        json("Readiness"),
        |c| Box::pin(h::readyz(c)),
    )),
    open(get(
        "/openapi.json",
        "openapi",
        "This interface, as OpenAPI 3.1",
        NONE,
        json("Object"),
        |c| Box::pin(h::openapi(c)),
    )),
    open(get(
        "/",
        "page",
        "A page to look at",
        NONE,
        AnswerSpec {
            media: "text/html",
            schema: "Text",
        },
        |c| Box::pin(h::page(c)),
    )),
];
