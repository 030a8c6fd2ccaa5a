//! Sessions: who may begin, and what follows from an end.
//!
//! # Invariants
//!
//! - A session stands on a node that is in the catalog and on checks that are there and are not
//!   critical; in the entry that takes one of them away, it ends.
//! - What a session held is let go in the same entry as it ends.
//! - A renewal that was acknowledged counts: an end by time that was decided before it is void.
//!
//! # Deliberately absent
//!
//! - Clocks. That a TTL or a lock delay is over says the leader, by its own monotonic clock.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cos_model::SessionId;
use cos_model::catalog::{Catalog, Health};
use cos_model::session::{LockDelay, Session, SessionOp};

use super::Step;
use crate::command::{Refused, Reply};
use crate::event::Event;

/// How many sessions there may be: each costs every server about half a kilobyte.
const SESSIONS_MAX: usize = 1 << 18;

/// The longest lock delay that is honoured, as in Consul.
const LOCK_DELAY_MAX: Duration = Duration::from_mins(1);

impl Step<'_> {
    pub(super) fn change_sessions(&mut self, op: &SessionOp) -> Result<Reply, Refused> {
        match op {
            SessionOp::Create(session) => self.create_session(session)?,
            SessionOp::Destroy { id } => self.end_session(*id),
            SessionOp::Renew { id } => self.renew_session(*id)?,
            SessionOp::Expire { sessions } => self.expire_sessions(sessions),
            SessionOp::EndLockDelays { delays } => self.end_lock_delays(delays),
        }
        Ok(Reply::Done)
    }

    /// Ends the sessions on a node of the catalog that have nothing to stand on any more.
    pub(super) fn settle_sessions(&mut self, node: &Arc<str>) {
        let catalog = &self.state.catalog;
        let ended: Vec<SessionId> = self
            .state
            .sessions_on_node(node)
            .filter(|session| find_fault(session, catalog).is_some())
            .map(|session| session.id)
            .collect();
        for id in ended {
            self.end_session(id);
        }
    }

    fn create_session(&mut self, session: &Session) -> Result<(), Refused> {
        if self.state.sessions.contains_key(&session.id) {
            return Ok(());
        }
        if self.state.sessions.len() >= SESSIONS_MAX {
            return Err(Refused::Invalid(format!("there are {SESSIONS_MAX} sessions already")));
        }
        if let Some(fault) = find_fault(session, &self.state.catalog) {
            return Err(Refused::Invalid(fault));
        }
        let index = self.index;
        self.put_session(Session {
            create_index: index,
            modify_index: index,
            renew_index: index,
            ..session.clone()
        });
        self.state.tables.sessions = index;
        Ok(())
    }

    fn renew_session(&mut self, id: SessionId) -> Result<(), Refused> {
        let Some(session) = self.state.sessions.get(&id) else {
            return Err(Refused::NotFound(format!("Session id '{id}'")));
        };
        // Who reads sessions sees no difference, so neither they nor their table change.
        self.put_session(Session { renew_index: self.index, ..Session::clone(session) });
        Ok(())
    }

    fn put_session(&mut self, session: Session) {
        let session = Arc::new(session);
        self.state.insert_session(Arc::clone(&session));
        self.events.push(Event::SessionRenewed(session));
    }

    fn expire_sessions(&mut self, sessions: &BTreeMap<SessionId, u64>) {
        for (id, renewed) in sessions {
            if self.state.sessions.get(id).is_some_and(|known| known.renew_index <= *renewed) {
                self.end_session(*id);
            }
        }
    }

    fn end_lock_delays(&mut self, delays: &BTreeSet<LockDelay>) {
        self.state.kv.end_delays(delays);
    }

    fn end_session(&mut self, id: SessionId) {
        let Some(session) = self.state.remove_session(id) else { return };
        self.state.tables.sessions = self.index;
        self.events.push(Event::SessionEnded(id));
        let lasts = session.lock_delay.min(LOCK_DELAY_MAX);
        self.let_go(id, session.behavior, LockDelay { since: self.index, lasts });
    }
}

/// Says what a session lacks to stand on, in the words of Consul.
fn find_fault(session: &Session, catalog: &Catalog) -> Option<String> {
    if catalog.node(&session.node).is_none() {
        return Some("Missing node registration".to_owned());
    }
    let of_services = session.service_checks.iter().map(|check| &check.id);
    session.node_checks.iter().chain(of_services).find_map(|id| {
        match catalog.check(&session.node, id).map(|check| check.status) {
            None => Some(format!("Missing check '{id}' registration")),
            Some(Health::Critical) => Some(format!("Check '{id}' is in critical state")),
            Some(Health::Passing | Health::Warning) => None,
        }
    })
}
