//! Queries on a real PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cluster;
mod support;

use cluster::Cluster;
use hale_executor::actions::{Level, Tools};
use hale_executor::{ActionResult, DatabaseConfig, ExecutorConfig};
use hale_model::StepStatus;
use hale_playbooks::language::Action;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::*;
use tokio_postgres::NoTls;

fn tools_for(cluster: &Cluster) -> Tools {
    let database = DatabaseConfig {
        url: cluster.url("postgres"),
        password_secret: None,
        service: None,
    };
    let databases = [("main".to_owned(), database)].into();
    tools(ExecutorConfig {
        databases,
        ..ExecutorConfig::default()
    })
}

fn sql(query: &str, bind: &[&str]) -> Action {
    Action::SqlQuery {
        database: None,
        query: query.into(),
        bind: bind.iter().map(|b| text(b)).collect(),
        expect_rows: None,
        writes: false,
        new_connection: false,
    }
}

fn writing(query: &str) -> Action {
    let Action::SqlQuery {
        database,
        query,
        bind,
        expect_rows,
        new_connection,
        ..
    } = sql(query, &[])
    else {
        unreachable!()
    };
    Action::SqlQuery {
        database,
        query,
        bind,
        expect_rows,
        writes: true,
        new_connection,
    }
}

async fn with(tools: &Tools, params: Value, query: &str, bind: &[&str]) -> ActionResult {
    let mut env = env();
    env.insert("params".into(), params);
    act_in(tools, &context(), sql(query, bind), env).await
}

fn first(result: &ActionResult) -> &Value {
    assert_eq!(result.status, StepStatus::Success, "{result:?}");
    &result.result["rows"][0]
}

#[tokio::test]
async fn values_are_bound_typed_and_rows_come_back_as_json() {
    let Some(cluster) = Cluster::start("values_are_bound", "") else {
        return;
    };
    let tools = tools_for(&cluster);
    let params =
        json!({"n": 41, "seconds": 3600.0, "text": "'; DROP TABLE x; --", "names": ["a", "b,c"]});
    let bind = [
        "${params.n}",
        "${params.seconds}",
        "${params.text}",
        "${params.names}",
    ];
    let query = "SELECT $1::int + 1 AS n, make_interval(secs => $2) AS i, $3 AS t, \
                 $4::text[] AS names, 12345.678::numeric AS d, (-3)::numeric AS m, 0.05::numeric AS s, \
                 100000000::numeric AS big, NULL::int AS nothing, '{\"a\": [1]}'::jsonb AS j, \
                 true AS b, '2026-02-12T11:26:00Z'::timestamptz AS at, \
                 pg_current_wal_lsn() IS NOT NULL AS l, 'idle'::name AS nm";
    let r = with(&tools, params, query, &bind).await;
    let expected = json!({
        "n": 42, "i": 3600.0, "t": "'; DROP TABLE x; --", "names": ["a", "b,c"], "d": 12345.678,
        "m": -3, "s": 0.05, "big": 100000000, "nothing": null, "j": {"a": [1]}, "b": true,
        "at": "2026-02-12T11:26:00.000Z", "l": true, "nm": "idle",
    });
    assert_eq!(first(&r), &expected);
    let r = with(&tools, json!({}), "SELECT $1::int", &[]).await;
    assert!(
        r.message.contains("1 parameters, 0 values"),
        "{}",
        r.message
    );
    let r = with(
        &tools,
        json!({"n": "many"}),
        "SELECT $1::int",
        &["${params.n}"],
    )
    .await;
    assert!(
        r.status == StepStatus::Failed && r.message.contains("integer"),
        "{}",
        r.message
    );
}

#[tokio::test]
async fn what_does_not_say_that_it_writes_can_not() {
    let Some(cluster) = Cluster::start("what_does_not_say", "") else {
        return;
    };
    let tools = tools_for(&cluster);
    let r = act(&tools, sql("CREATE TABLE t (a int)", &[])).await;
    assert!(
        r.status == StepStatus::Failed && r.message.contains("read-only"),
        "{}",
        r.message
    );
    let r = act(
        &tools,
        writing("CREATE TABLE t AS SELECT generate_series(1, 5000) AS a"),
    )
    .await;
    assert_eq!(
        (r.status, number(&r, "affected")),
        (StepStatus::Success, 5000),
        "{r:?}"
    );
    let r = act(&tools, writing("VACUUM t")).await;
    assert_eq!(
        r.status,
        StepStatus::Success,
        "what can't run in a transaction runs alone: {r:?}"
    );
    // A failed write leaves nothing and the connection usable.
    let r = act(&tools, writing("INSERT INTO t SELECT 1 / 0")).await;
    assert!(r.message.contains("division by zero"), "{}", r.message);
    let r = act(&tools, sql("SELECT * FROM t", &[])).await;
    assert_eq!(
        (
            number(&r, "row_count"),
            r.result["rows"].as_array().unwrap().len()
        ),
        (5000, 1000)
    );
    assert_eq!(r.result["cut"], true);
}

#[tokio::test]
async fn a_query_over_its_time_is_ended_at_the_server_too() {
    let Some(cluster) = Cluster::start("a_query_over_its_time", "") else {
        return;
    };
    let tools = tools_for(&cluster);
    let (context, action) = (context(), || sql("SELECT pg_sleep(300)", &[]));
    let mut short = perform(action(), env());
    short.timeout = Duration::from_millis(600);
    let (_go_on, never) = stop();
    let r = tools.perform(&context, short, never).await;
    assert!(r.message.contains("statement timeout"), "{}", r.message);
    let (tell, asked) = stop();
    let begun = Instant::now();
    let end = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        tell.send(Level::AtOnce).unwrap();
    };
    let (r, ()) = tokio::join!(
        tools.perform(&context, perform(action(), env()), asked),
        end
    );
    assert_eq!(r.status, StepStatus::Interrupted);
    assert!(begun.elapsed() < Duration::from_secs(10));
    let query = "SELECT count(*) AS n FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    let r = act(&tools, sql(query, &[])).await;
    assert_eq!(
        first(&r)["n"],
        0,
        "the connection is usable and nothing sleeps on"
    );
}

#[tokio::test]
async fn the_held_connection_still_asks_when_new_ones_are_refused() {
    let settings = "-c max_connections=8 -c superuser_reserved_connections=0";
    let Some(cluster) = Cluster::start("the_held_connection", settings) else {
        return;
    };
    let tools = tools_for(&cluster);
    assert_eq!(
        act(&tools, sql("SELECT 1", &[])).await.status,
        StepStatus::Success
    );
    let mut leaked = vec![];
    while let Ok((client, connection)) =
        tokio_postgres::connect(&cluster.url("postgres"), NoTls).await
    {
        tokio::spawn(connection);
        leaked.push(client);
        assert!(leaked.len() < 20);
    }
    let new = |query: &str| {
        let Action::SqlQuery {
            database,
            query,
            bind,
            expect_rows,
            writes,
            ..
        } = sql(query, &[])
        else {
            unreachable!()
        };
        Action::SqlQuery {
            database,
            query,
            bind,
            expect_rows,
            writes,
            new_connection: true,
        }
    };
    let r = act(&tools, new("SELECT 1")).await;
    assert!(
        r.status == StepStatus::Failed && r.message.contains("too many clients"),
        "{}",
        r.message
    );
    let query = "SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity \
                 WHERE state = 'idle' AND application_name NOT LIKE 'hale%'";
    let r = act(&tools, writing(query)).await;
    assert_eq!(first(&r)["ended"], leaked.len());
    let begun = Instant::now();
    while act(&tools, new("SELECT 1")).await.status != StepStatus::Success {
        assert!(
            begun.elapsed() < PATIENCE,
            "a new connection can be had again"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_gone_or_not_configured_is_a_clear_error() {
    let Some(cluster) = Cluster::start("a_server_that_is_gone", "") else {
        return;
    };
    let tools = tools_for(&cluster);
    assert_eq!(
        act(&tools, sql("SELECT 1", &[])).await.status,
        StepStatus::Success
    );
    let Action::SqlQuery {
        query,
        bind,
        expect_rows,
        writes,
        new_connection,
        ..
    } = sql("SELECT 1", &[])
    else {
        unreachable!()
    };
    let database = Some(text("other"));
    let other = Action::SqlQuery {
        database,
        query,
        bind,
        expect_rows,
        writes,
        new_connection,
    };
    let r = act(&tools, other).await;
    assert!(
        r.message.contains("executor.databases.other"),
        "{}",
        r.message
    );
    cluster.stop();
    let r = act(&tools, sql("SELECT 1", &[])).await;
    assert!(r.message.contains("can't be reached"), "{}", r.message);
}
