//! Join tokens and the certificate authority.
//!
//! # Invariants
//!
//! - A token lets one key in, once. Two uses that race are two entries of the log, and the second
//!   finds the first.

use std::sync::Arc;
use std::time::Duration;

use cos_model::trust::{JoinToken, SealedAuthority, TokenUse, Trust, TrustChange};

use super::Step;
use crate::command::{Refused, Reply};
use crate::event::Event;

/// How many tokens there may be.
const TOKENS_MAX: usize = 4096;

/// How long an ended token is kept, so that whoever still tries it is told that it has ended.
const KEEP_ENDED: Duration = Duration::from_hours(24);

impl Step<'_> {
    pub(super) fn change_trust(&mut self, change: &TrustChange) -> Result<Reply, Refused> {
        let mut trust = Trust::clone(&self.state.trust);
        match change {
            TrustChange::SetAuthority { authority, expected } => {
                set_authority(&mut trust, authority, *expected)?;
            }
            TrustChange::CreateToken(token) => self.create_token(&mut trust, token)?,
            TrustChange::RevokeToken { id } => {
                let gone = trust.tokens.remove(id);
                gone.ok_or_else(|| Refused::NotFound(format!("join token {id:032x}")))?;
            }
            TrustChange::UseToken { id, secret_hash, role, by, key } => {
                let token = trust.tokens.get_mut(id);
                let wanted = Wanted { secret_hash, role, by, key };
                if !self.use_token(token, &wanted)? {
                    return Ok(Reply::Done);
                }
            }
        }
        trust.modify_index = self.index;
        self.state.trust = Arc::new(trust);
        self.events.push(Event::TrustChanged);
        Ok(Reply::Done)
    }

    fn create_token(&self, trust: &mut Trust, token: &JoinToken) -> Result<(), Refused> {
        let now = self.at;
        trust.tokens.retain(|_, old| now < old.expires_at + KEEP_ENDED);
        if trust.tokens.len() >= TOKENS_MAX {
            return Err(Refused::Invalid(format!(
                "there are {TOKENS_MAX} join tokens already; revoke some with `cos token revoke`"
            )));
        }
        if trust.tokens.contains_key(&token.id) {
            return Err(Refused::Invalid("there is a join token with this id".to_owned()));
        }
        let token = JoinToken { created_at: now, used: None, ..token.clone() };
        trust.tokens.insert(token.id, token);
        Ok(())
    }

    /// Returns whether anything changed: a repeated use by the same key is none.
    fn use_token(
        &self,
        token: Option<&mut JoinToken>,
        wanted: &Wanted<'_>,
    ) -> Result<bool, Refused> {
        let refused = |why: String| Err(Refused::Invalid(why));
        let Some(token) = token.filter(|token| token.secret_hash == wanted.secret_hash) else {
            return refused("this join token is not known here, or was revoked".to_owned());
        };
        if token.role != wanted.role {
            return refused(format!(
                "this join token is for a {}, and it was used by a {}",
                token.role, wanted.role
            ));
        }
        if let Some(used) = &token.used {
            if used.key == wanted.key {
                return Ok(false);
            }
            return refused(format!("this join token was used already, by `{}`", used.by));
        }
        if self.at >= token.expires_at {
            return refused("this join token has expired".to_owned());
        }
        let (by, key) = (wanted.by.to_owned(), wanted.key.to_owned());
        token.used = Some(TokenUse { at: self.at, by, key });
        Ok(true)
    }
}

/// What somebody wants of a token.
struct Wanted<'a> {
    secret_hash: &'a [u8],
    role: &'a str,
    by: &'a str,
    key: &'a [u8],
}

fn set_authority(
    trust: &mut Trust,
    authority: &SealedAuthority,
    expected: u64,
) -> Result<(), Refused> {
    let found = trust.authority.as_ref().map_or(0, |authority| authority.version);
    if found != expected {
        return Err(Refused::Invalid(format!(
            "the certificate authority was changed meanwhile: version {found} instead of {expected}"
        )));
    }
    trust.authority = Some(authority.clone());
    Ok(())
}
