//! Join tokens: made, used, revoked, run out.

use super::{Applied, Ledger, Made, News, Row, check, limits};
use hale_model::ledger::{Answer, EntryKind, Refusal, Signed, Token};
use hale_model::{Fence, TokenId};

impl Ledger {
    /// Tokens: all that are live, and the last that ended while there is room.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values().map(|made| &made.token)
    }

    /// One token.
    pub fn token(&self, id: &TokenId) -> Option<&Token> {
        self.tokens.get(id).map(|made| &made.token)
    }

    pub(super) fn create_token(
        &mut self,
        index: u64,
        token: Token,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        check::ttl(token.ttl_ms, &limits::TOKEN_TTL_MS)?;
        check::text("the name", &token.by, limits::MAX_BY_BYTES)?;
        if !limits::TOKEN_USES.contains(&token.uses) {
            let (from, to) = (limits::TOKEN_USES.start(), limits::TOKEN_USES.end());
            return Err(Refusal::BadEntry(format!(
                "{} uses of a token, {from} to {to} are allowed",
                token.uses
            )));
        }
        self.check(&entry, EntryKind::Token)?;
        if let Some(known) = self.token(&token.id) {
            if known.verifier == token.verifier && known.by == token.by && known.live {
                return Ok(Applied::nothing());
            }
            let id = &token.id;
            return Err(Refusal::BadEntry(format!("token {id} was made before")));
        }
        let mut out = Applied::nothing();
        self.make_room_for_a_token()?;
        let id = token.id.clone();
        let made_for_ms = Some(token.ttl_ms);
        let since = index;
        self.tokens.insert(id.clone(), Made { token, since });
        self.tell_token(&id, made_for_ms, &mut out);
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    /// A token that ended makes room, the oldest first.
    fn make_room_for_a_token(&mut self) -> Result<(), Refusal> {
        if self.tokens.len() < limits::MAX_TOKENS {
            return Ok(());
        }
        let ended = self.tokens.values().filter(|made| !made.token.live);
        let oldest = ended.min_by_key(|made| (made.since, &made.token.id));
        let Some(oldest) = oldest.map(|made| made.token.id.clone()) else {
            return Err(Refusal::Full {
                what: "live join tokens; `hale token revoke` ends one".into(),
                limit: limits::MAX_TOKENS as u64,
            });
        };
        self.tokens.remove(&oldest);
        self.touched.insert(Row::Token(oldest));
        Ok(())
    }

    pub(super) fn revoke_token(
        &mut self,
        id: &TokenId,
        by: &str,
        entry: Signed,
    ) -> Result<Applied, Refusal> {
        check::text("the name", by, limits::MAX_BY_BYTES)?;
        self.check(&entry, EntryKind::Token)?;
        let known = self
            .token(id)
            .ok_or_else(|| Refusal::UnknownToken(id.clone()))?;
        let mut out = Applied::nothing();
        if !known.live {
            return Ok(out);
        }
        self.end_token(id, &mut out);
        let place = self.write(Fence(0), entry, &mut out);
        out.answer = Answer::Done { entry: Some(place) };
        Ok(out)
    }

    pub(super) fn expire_token(&mut self, id: &TokenId) -> Result<Applied, Refusal> {
        let known = self
            .token(id)
            .ok_or_else(|| Refusal::UnknownToken(id.clone()))?;
        let mut out = Applied::nothing();
        if known.live {
            self.end_token(id, &mut out);
        }
        Ok(out)
    }

    fn end_token(&mut self, id: &TokenId, out: &mut Applied) {
        if let Some(made) = self.tokens.get_mut(id) {
            made.token.live = false;
            self.tell_token(id, None, out);
        }
    }

    /// Whether a node may join with it.
    pub(super) fn check_token(&self, id: &TokenId) -> Result<(), Refusal> {
        let known = self
            .token(id)
            .ok_or_else(|| Refusal::UnknownToken(id.clone()))?;
        if !known.live {
            return Err(Refusal::TokenExpired(id.clone()));
        }
        if known.uses_left == 0 {
            return Err(Refusal::TokenUsedUp(id.clone()));
        }
        Ok(())
    }

    pub(super) fn spend_token(&mut self, id: &TokenId, out: &mut Applied) {
        if let Some(made) = self.tokens.get_mut(id) {
            made.token.uses_left = made.token.uses_left.saturating_sub(1);
            self.tell_token(id, None, out);
        }
    }

    fn tell_token(&mut self, id: &TokenId, made_for_ms: Option<u64>, out: &mut Applied) {
        let Some(token) = self.token(id) else {
            return;
        };
        let news = News::Token {
            id: id.clone(),
            uses_left: token.uses_left,
            live: token.live,
            made_for_ms,
        };
        self.touched.insert(Row::Token(id.clone()));
        out.news.push(news);
    }
}
