//! What the cluster's routes do.

use super::{Answered, fed, place, typed};
use crate::ask::{
    ByRequest, CreateTokenRequest, RemoveRequest, SetBudgetRequest, TransferRequest, named,
};
use crate::call::Call;
use serde_json::json;

pub(crate) async fn members(c: Call) -> Answered {
    c.json(&json!({ "members": c.backend().members(c.consistency()).await? }))
}

pub(crate) async fn remove_member(c: Call) -> Answered {
    let request: RemoveRequest = c.body()?;
    c.json(&c.backend().remove_member(c.part("node")?, request).await?)
}

pub(crate) async fn leave(c: Call) -> Answered {
    let request: RemoveRequest = c.body()?;
    c.json(&c.backend().leave(request).await?)
}

pub(crate) async fn voters(c: Call) -> Answered {
    c.json(&c.backend().voters().await?)
}

pub(crate) async fn leader(c: Call) -> Answered {
    c.json(&c.backend().leader().await?)
}

pub(crate) async fn transfer(c: Call) -> Answered {
    let request: TransferRequest = c.body()?;
    c.json(&c.backend().transfer_leadership(request).await?)
}

pub(crate) async fn tokens(c: Call) -> Answered {
    c.json(&json!({ "tokens": c.backend().tokens(c.consistency()).await? }))
}

pub(crate) async fn create_token(c: Call) -> Answered {
    let request: CreateTokenRequest = c.body()?;
    c.json(&c.backend().create_token(request).await?)
}

pub(crate) async fn revoke_token(c: Call) -> Answered {
    let id: String = c.part("id")?;
    named("token id", &id)?;
    let request: ByRequest = c.body()?;
    c.json(&c.backend().revoke_token(id, request).await?)
}

pub(crate) async fn budgets(c: Call) -> Answered {
    c.json(&json!({ "budgets": c.backend().budgets(c.consistency()).await? }))
}

pub(crate) async fn set_budget(c: Call) -> Answered {
    let request: SetBudgetRequest = c.body()?;
    c.json(&c.backend().set_budget(request).await?)
}

pub(crate) async fn remove_budget(c: Call) -> Answered {
    let name: String = c.part("name")?;
    named("budget name", &name)?;
    let request: ByRequest = c.body()?;
    c.json(&c.backend().remove_budget(name, request).await?)
}

pub(crate) async fn backup(c: Call) -> Answered {
    let permit = place(&c)?;
    let pieces = c.backend().backup().await?;
    Ok(typed("application/octet-stream", fed(&c, permit, pieces)))
}
