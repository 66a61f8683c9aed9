//! What the table's rows are made of: parameters and the kinds of rows.

use super::{Access, AnswerSpec, BodySpec, Handler, Pace, Parameter, Route, ValueKind, Verb};

pub(super) const fn parameter(
    name: &'static str,
    kind: ValueKind,
    about: &'static str,
) -> Parameter {
    Parameter { name, kind, about }
}

pub(super) const CONSISTENCY: Parameter = parameter(
    "consistency",
    ValueKind::OneOf(&["linearizable", "stale"]),
    "linearizable (default): confirmed by the group; stale: what this node knows, its age in the header hale-age-ms",
);
pub(super) const READ: &[Parameter] = &[CONSISTENCY];
pub(super) const NONE: &[Parameter] = &[];

pub(super) const fn limit(max: u64, about: &'static str) -> Parameter {
    parameter("limit", ValueKind::Integer { min: 1, max }, about)
}

pub(super) const INCIDENTS: &[Parameter] = &[
    parameter(
        "state",
        ValueKind::OneOf(&["open", "resolved", "all"]),
        "where they stand (default: open)",
    ),
    parameter("service", ValueKind::Text, "of this service only"),
    limit(1000, "how many at most (default: 50)"),
    CONSISTENCY,
];
pub(super) const BASELINES: &[Parameter] = &[
    parameter(
        "series",
        ValueKind::Text,
        "a part of the series' text, or a glob with *",
    ),
    limit(10_000, "how many at most (default: 1000)"),
    CONSISTENCY,
];
pub(super) const ENTRIES: &[Parameter] = &[
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
            "recovery",
        ]),
        "of this kind only",
    ),
    parameter("incident", ValueKind::Text, "of this incident only"),
    CONSISTENCY,
];
pub(super) const EVENTS: &[Parameter] = &[
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

pub(super) const fn json(schema: &'static str) -> AnswerSpec {
    AnswerSpec {
        media: "application/json",
        schema,
    }
}

pub(super) const fn get(
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

pub(super) const fn post(
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

pub(super) const fn delete(
    path: &'static str,
    name: &'static str,
    about: &'static str,
    body: &'static str,
    answer: AnswerSpec,
    handler: Handler,
) -> Route {
    Route {
        verb: Verb::Delete,
        ..post(path, name, about, body, answer, handler)
    }
}

pub(super) const fn open(route: Route) -> Route {
    Route {
        access: Access::Open,
        ..route
    }
}

pub(super) const fn paced(pace: Pace, route: Route) -> Route {
    Route { pace, ..route }
}
