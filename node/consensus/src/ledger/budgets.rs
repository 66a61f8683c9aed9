//! Budgets: how much may be done at once or within an hour, counted here, so that no partition
//! spends one twice.

use super::{Applied, Ledger, News, Row, check, limits};
use hale_model::ledger::{
    Answer, Budget, BudgetLimit, EntryKind, Lease, MAX_SERVICES, Refusal, Signed,
};
use hale_model::{Fence, NodeId, ServiceName};

impl Ledger {
    /// All budgets, by name.
    pub fn budgets(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }

    /// One budget.
    pub fn budget(&self, name: &str) -> Option<&Budget> {
        self.budgets.get(name)
    }

    /// How much of a budget is used, and how much it allows now.
    pub fn usage(&self, budget: &Budget) -> (u64, u64) {
        match budget.limit {
            BudgetLimit::AtMost(n) => (self.running(budget), u64::from(n)),
            BudgetLimit::Percent(p) => {
                let hosts = self.hosts_of(budget.service.as_ref());
                (self.running(budget), (hosts * u64::from(p) / 100).max(1))
            }
            BudgetLimit::PerHour(n) => {
                let marks = self.marks.get(&budget.name);
                (marks.map_or(0, |m| m.len() as u64), u64::from(n))
            }
        }
    }

    /// What a node runs, by its last word.
    pub fn services(&self, node: &NodeId) -> &[ServiceName] {
        self.services.get(node).map_or(&[], Vec::as_slice)
    }

    /// Marks on hourly budgets that were not taken back yet.
    pub fn marks(&self) -> impl Iterator<Item = (&str, Fence)> {
        self.marks
            .iter()
            .flat_map(|(name, fences)| fences.iter().map(move |f| (name.as_str(), *f)))
    }

    /// Open grants count until they are closed: one that ran out may still be undoing.
    fn running(&self, budget: &Budget) -> u64 {
        let counted = |l: &&Lease| budget.covers(l.service.as_ref());
        self.grants.values().filter(counted).count() as u64
    }

    fn hosts_of(&self, service: Option<&ServiceName>) -> u64 {
        let Some(service) = service else {
            return self.roster.len() as u64;
        };
        let runs = |s: &&Vec<ServiceName>| s.binary_search(service).is_ok();
        self.services.values().filter(runs).count() as u64
    }

    /// The names of the budgets that count an execution for this service.
    pub(super) fn budgets_of(&self, service: Option<&ServiceName>) -> Vec<String> {
        let covering = self.budgets.values().filter(|b| b.covers(service));
        covering.map(|b| b.name.clone()).collect()
    }

    /// Which of these budgets allow no more, and why the first does not.
    pub(super) fn spent(&self, budgets: &[String]) -> Option<(Vec<String>, Refusal)> {
        let (mut spent, mut why) = (vec![], None);
        for budget in budgets.iter().filter_map(|name| self.budgets.get(name)) {
            let (used, allowed) = self.usage(budget);
            if used >= allowed {
                spent.push(budget.name.clone());
                why.get_or_insert_with(|| Refusal::BudgetSpent {
                    budget: budget.name.clone(),
                    limit_text: budget.to_string(),
                    used,
                });
            }
        }
        why.map(|why| (spent, why))
    }

    /// A grant leaves its mark on each hourly budget that counts it.
    pub(super) fn mark(&mut self, budgets: &[String], fence: Fence, out: &mut Applied) {
        for name in budgets {
            let is_hourly = |b: &Budget| matches!(b.limit, BudgetLimit::PerHour(_));
            if self.budgets.get(name).is_some_and(is_hourly) {
                self.marks.entry(name.clone()).or_default().insert(fence);
                self.touched.insert(Row::Mark(name.clone(), fence));
                out.news.push(News::Marked {
                    budget: name.clone(),
                    fence,
                });
            }
        }
    }

    pub(super) fn set_budget(
        &mut self,
        budget: Budget,
        by: &str,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        check::text("the name", by, limits::MAX_BY_BYTES)?;
        check::text(
            "the budget's name",
            &budget.name,
            limits::MAX_BUDGET_NAME_BYTES,
        )?;
        if budget.name.is_empty() {
            return Err(Refusal::BadEntry("a budget needs a name".into()));
        }
        check_limit(budget.limit)?;
        self.check(&entry, EntryKind::Budget)?;
        let known = self.budgets.get(&budget.name);
        if known == Some(&budget) {
            return Ok(Applied::nothing());
        }
        if known.is_none() && self.budgets.len() >= limits::MAX_BUDGETS {
            return Err(Refusal::Full {
                what: "budgets; `hale budget drop` makes room".into(),
                limit: limits::MAX_BUDGETS as u64,
            });
        }
        let mut out = Applied::nothing();
        let name = budget.name.clone();
        if !matches!(budget.limit, BudgetLimit::PerHour(_)) {
            self.drop_marks(&name, &mut out);
        }
        self.budgets.insert(name.clone(), budget);
        self.touched.insert(Row::Budget(name.clone()));
        out.news.push(News::Budget { name, exists: true });
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    pub(super) fn drop_budget(
        &mut self,
        name: String,
        by: &str,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        check::text("the name", by, limits::MAX_BY_BYTES)?;
        self.check(&entry, EntryKind::Budget)?;
        if self.budgets.remove(&name).is_none() {
            return Err(Refusal::UnknownBudget(name));
        }
        let mut out = Applied::nothing();
        self.drop_marks(&name, &mut out);
        self.touched.insert(Row::Budget(name.clone()));
        out.news.push(News::Budget {
            name,
            exists: false,
        });
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    fn drop_marks(&mut self, name: &str, out: &mut Applied) {
        for fence in self.marks.remove(name).unwrap_or_default() {
            self.unmarked(name, fence, out);
        }
    }

    fn unmarked(&mut self, name: &str, fence: Fence, out: &mut Applied) {
        self.touched.insert(Row::Mark(name.to_owned(), fence));
        out.news.push(News::Refilled {
            budget: name.to_owned(),
            fence,
        });
    }

    pub(super) fn refill(&mut self, budget: &str, fence: Fence) -> Result<Applied, Refusal> {
        let marks = self
            .marks
            .get_mut(budget)
            .ok_or_else(|| Refusal::UnknownBudget(budget.to_owned()))?;
        if !marks.remove(&fence) {
            return Err(Refusal::StaleFence(fence));
        }
        if marks.is_empty() {
            self.marks.remove(budget);
        }
        let mut out = Applied::nothing();
        self.unmarked(budget, fence, &mut out);
        Ok(out)
    }

    pub(super) fn tell_services(
        &mut self,
        node: NodeId,
        services: Vec<ServiceName>,
    ) -> Result<Applied, Refusal> {
        if !self.is_enrolled(&node) {
            return Err(Refusal::UnknownNode(node));
        }
        if services.len() > MAX_SERVICES {
            return Err(Refusal::Full {
                what: "services of one node".into(),
                limit: MAX_SERVICES as u64,
            });
        }
        if !services.is_sorted_by(|a, b| a < b) {
            return Err(Refusal::BadEntry(
                "services are told sorted, each once".into(),
            ));
        }
        if self.services(&node) != services {
            if services.is_empty() {
                self.services.remove(&node);
            } else {
                self.services.insert(node, services);
            }
            self.touched.insert(Row::Services(node));
        }
        Ok(Applied::nothing())
    }
}

fn check_limit(limit: BudgetLimit) -> Result<(), Refusal> {
    let what = match limit {
        BudgetLimit::Percent(p) if !(1..=100).contains(&p) => {
            format!("{p} %, 1 to 100 are allowed")
        }
        BudgetLimit::PerHour(n) if n > limits::MAX_PER_HOUR => {
            format!("{n} an hour, {} are allowed", limits::MAX_PER_HOUR)
        }
        BudgetLimit::AtMost(_) | BudgetLimit::Percent(_) | BudgetLimit::PerHour(_) => return Ok(()),
    };
    Err(Refusal::BadEntry(format!("a budget of {what}")))
}
