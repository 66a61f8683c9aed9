//! What an operator may ask of the cluster: tokens, removal, leadership, budgets.

use super::{Checked, MAX_REASON_BYTES, one_line, person};
use crate::problem::{Code, Problem};
use crate::view::{BudgetLimitView, MemberView};
use hale_model::id::InvalidId;
use hale_model::{HostName, ServiceName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest that a join token may be good for, in seconds: a month.
pub const MAX_TOKEN_SECONDS: u64 = 30 * 86_400;
/// The most nodes that one join token may let in.
pub const MAX_TOKEN_USES: u64 = 1000;
/// The most executions that a budget may allow, at once or per hour.
pub const MAX_BUDGET: u64 = 1_000_000;
/// The fewest hexadecimal digits by which a node is named: as many as are shown.
const MIN_PREFIX: usize = 8;

/// A member as an operator names it: its host, or the first hexadecimal digits of its key, at
/// least eight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberName(HostName);

impl FromStr for MemberName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Ok(Self(HostName::new(text)?))
    }
}

impl fmt::Display for MemberName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl MemberName {
    /// The one member that is meant. A host's name comes before the digits of a key; of several
    /// nodes of one host, the one that was not removed.
    ///
    /// # Errors
    /// If there is none, or more than one.
    pub fn among<'a>(&self, members: &'a [MemberView]) -> Result<&'a MemberView, Problem> {
        let of_host = |m: &&MemberView| m.host == self.0;
        let of_key = |m: &&MemberView| self.is_prefix_of(m);
        let mut found: Vec<&MemberView> = members.iter().filter(of_host).collect();
        if found.is_empty() {
            found = members.iter().filter(of_key).collect();
        }
        if found.iter().any(|m| !m.removed) {
            found.retain(|m| !m.removed);
        }
        match found.as_slice() {
            [one] => Ok(one),
            [] => Err(Problem::not_found(
                "member",
                self,
                "hale members lists them; name one by its host or by 8 digits of its key or more",
            )),
            several => {
                let keys: Vec<String> = several.iter().map(|m| m.node.to_string()).collect();
                Err(Problem::new(
                    Code::Invalid,
                    format!("{self} is {} members: {}", keys.len(), keys.join(", ")),
                    "name one by more digits of its key",
                ))
            }
        }
    }

    fn is_prefix_of(&self, member: &MemberView) -> bool {
        let digits = self.0.as_str().to_ascii_lowercase();
        digits.len() >= MIN_PREFIX && member.node.to_string().starts_with(&digits)
    }
}

/// A join token to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateTokenRequest {
    /// For how long it lets others in, in seconds; an hour, if left out.
    #[serde(default = "an_hour")]
    pub ttl_seconds: u64,
    /// How many nodes it lets in; one, if left out.
    #[serde(default = "once")]
    pub uses: u64,
    /// Who makes it.
    pub by: String,
}

const fn an_hour() -> u64 {
    3600
}

const fn once() -> u64 {
    1
}

/// Takes something back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByRequest {
    /// Who.
    pub by: String,
}

/// Takes a node out of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveRequest {
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// Hands the lead to another voter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferRequest {
    /// To whom: a host, or 8 digits of a key or more; to the voter that lacks least, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Who.
    pub by: String,
}

impl TransferRequest {
    /// To whom, if it was said.
    ///
    /// # Errors
    /// If it is neither a host's name nor digits of a key.
    pub fn member(&self) -> Result<Option<MemberName>, Problem> {
        let parsed = self.to.as_deref().map(str::parse).transpose();
        parsed.map_err(|e: InvalidId| Problem::invalid(e.to_string(), "hale voters lists them"))
    }
}

/// A budget to be set; one of the same name is replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetBudgetRequest {
    /// Its name.
    pub name: String,
    /// For which service; every execution, if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceName>,
    /// Executions at once. Exactly one of this, `percent` and `per_hour` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<u64>,
    /// Executions at once, in percent of the hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u64>,
    /// Executions begun within an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<u64>,
    /// Who sets it.
    pub by: String,
}

impl SetBudgetRequest {
    /// How much it is to allow.
    ///
    /// # Errors
    /// If none of the three limits is given, or more than one.
    pub fn limit(&self) -> Result<BudgetLimitView, Problem> {
        match (self.at_most, self.percent, self.per_hour) {
            (Some(n), None, None) => Ok(BudgetLimitView::AtMost(n)),
            (None, Some(n), None) => Ok(BudgetLimitView::Percent(n)),
            (None, None, Some(n)) => Ok(BudgetLimitView::PerHour(n)),
            _ => Err(Problem::invalid(
                "a budget has exactly one of `at_most`, `percent` and `per_hour`",
                "hale budget set NAME with one of --at-most N, --percent P, --per-hour N",
            )),
        }
    }
}

fn within(field: &str, n: u64, most: u64) -> Result<(), Problem> {
    if (1..=most).contains(&n) {
        return Ok(());
    }
    Err(Problem::invalid(
        format!("`{field}` is {n}, it has to be from 1 to {most}"),
        format!("correct `{field}`"),
    ))
}

/// Names that operators give, of tokens and budgets: what a path and a terminal can hold.
pub(crate) fn named(field: &str, name: &str) -> Result<(), Problem> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if (1..=64).contains(&name.len()) && name.chars().all(fits) {
        return Ok(());
    }
    let shown: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
    Err(Problem::invalid(
        format!("`{shown}` is no {field}: 1 to 64 ASCII letters, digits and -_.: are one"),
        "take another name",
    ))
}

impl Checked for CreateTokenRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        within("ttl_seconds", self.ttl_seconds, MAX_TOKEN_SECONDS)?;
        within("uses", self.uses, MAX_TOKEN_USES)
    }
}

impl Checked for ByRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)
    }
}

impl Checked for RemoveRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        one_line("reason", &self.reason, MAX_REASON_BYTES)
    }
}

impl Checked for TransferRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        self.member().map(drop)
    }
}

impl Checked for SetBudgetRequest {
    fn check(&self) -> Result<(), Problem> {
        person(&self.by)?;
        named("budget name", &self.name)?;
        match self.limit()? {
            BudgetLimitView::AtMost(n) => within("at_most", n, MAX_BUDGET),
            BudgetLimitView::Percent(n) => within("percent", n, 100),
            BudgetLimitView::PerHour(n) => within("per_hour", n, MAX_BUDGET),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{MemberState, Seat};
    use hale_model::NodeId;

    fn member(key: u8, host: &str, removed: bool) -> MemberView {
        let mut bytes = [7; 32];
        bytes[4] = key;
        MemberView {
            node: NodeId::from_bytes(bytes),
            host: HostName::new(host).unwrap(),
            addr: None,
            http: None,
            state: MemberState::Alive,
            incarnation: 0,
            zone: None,
            version: None,
            tags: Default::default(),
            seat: Seat::None,
            chain_entries: None,
            chain_tip: None,
            is_self: false,
            removed,
        }
    }

    #[test]
    fn a_member_is_named_by_its_host_or_by_digits_of_its_key() {
        let members = [
            member(1, "db-01", true),
            member(2, "db-01", false),
            member(3, "db-02", false),
            member(4, "0707070703", false),
        ];
        let find = |name: &str| {
            let name: MemberName = name.parse().unwrap();
            name.among(&members).map(|m| m.node.as_bytes()[4])
        };
        assert_eq!(find("db-01").unwrap(), 2, "a removed node gives way");
        assert_eq!(find("db-02").unwrap(), 3);
        assert_eq!(find("0707070701").unwrap(), 1, "a removed one is found");
        assert_eq!(find("0707070702").unwrap(), 2);
        assert_eq!(find("0707070703").unwrap(), 4, "a host's name comes first");
        assert_eq!(find("070707").unwrap_err().code, Code::NotFound);
        let several = find("07070707").unwrap_err();
        assert_eq!(several.code, Code::Invalid);
        assert!(several.message.contains("3 members"), "{several}");
        assert!("no spaces".parse::<MemberName>().is_err());
    }

    #[test]
    fn a_budget_has_exactly_one_limit_within_bounds() {
        let set = |at_most, percent, per_hour| {
            SetBudgetRequest {
                name: "web".into(),
                service: None,
                at_most,
                percent,
                per_hour,
                by: "ana".into(),
            }
            .check()
        };
        assert!(set(Some(2), None, None).is_ok());
        assert!(set(None, Some(100), None).is_ok());
        assert!(set(None, None, Some(6)).is_ok());
        for wrong in [
            set(None, None, None),
            set(Some(1), Some(1), None),
            set(Some(0), None, None),
            set(None, Some(101), None),
        ] {
            assert_eq!(wrong.unwrap_err().code, Code::Invalid);
        }
    }

    #[test]
    fn a_token_is_good_for_an_hour_and_once_unless_told_otherwise() {
        let request: CreateTokenRequest = serde_json::from_str(r#"{"by":"ana"}"#).unwrap();
        assert_eq!((request.ttl_seconds, request.uses), (3600, 1));
        assert!(request.check().is_ok());
        let forever = CreateTokenRequest {
            ttl_seconds: MAX_TOKEN_SECONDS + 1,
            ..request
        };
        assert!(forever.check().unwrap_err().message.contains("ttl_seconds"));
    }
}
