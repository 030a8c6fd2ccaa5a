//! A control plane of one server that applies what is proposed at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cos_model::{ServerId, Timestamp};
use cos_state::{
    Command, Committed, ControlPlane, GroupChange, GroupError, GroupHealth, Leadership, Member,
    MemberStatus, ProposeError, State, Topic,
};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{START, server_address};

pub(in crate::tests) struct FakeControl {
    state: Mutex<Arc<State>>,
    index: watch::Sender<u64>,
    ids: AtomicU64,
    start: Instant,
    last: Mutex<Vec<Command>>,
}

impl FakeControl {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(Arc::new(State::default())),
            index: watch::Sender::new(0),
            ids: AtomicU64::new(1000),
            start: Instant::now(),
            last: Mutex::new(Vec::new()),
        }
    }

    /// Applies a command; the test fails if it is refused.
    pub(in crate::tests) fn apply(&self, command: Command) -> u64 {
        self.try_apply(command).unwrap().index
    }

    fn try_apply(&self, command: Command) -> Result<Committed, ProposeError> {
        let mut current = self.state.lock().unwrap();
        let mut state = State::clone(&current);
        let index = state.index() + 1;
        let request = cos_state::Request::new(self.now(), command.clone());
        let applied = state.apply(index, &request);
        *current = Arc::new(state);
        drop(current);
        self.index.send_replace(index);
        self.last.lock().unwrap().push(command);
        Ok(Committed { index, reply: applied.reply? })
    }

    /// The last command that was proposed.
    pub(in crate::tests) fn last(&self) -> Command {
        self.last.lock().unwrap().last().cloned().unwrap()
    }
}

#[async_trait]
impl ControlPlane for FakeControl {
    async fn propose(&self, command: Command) -> Result<Committed, ProposeError> {
        self.try_apply(command)
    }

    fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.lock().unwrap())
    }

    async fn barrier(&self) -> Result<(), ProposeError> {
        Ok(())
    }

    async fn changed(&self, topics: &[Topic], index: u64, wait: Duration) {
        let mut changes = self.index.subscribe();
        let moved = async {
            while topics.iter().all(|topic| self.state().topic_index(topic) <= index) {
                changes.changed().await.unwrap();
            }
        };
        drop(tokio::time::timeout(wait, moved).await);
    }

    fn leadership(&self) -> Leadership {
        Leadership {
            leader: Some(server_address()),
            leader_id: Some(ServerId::from_bits(1)),
            is_leader: true,
            applied_index: self.state().index(),
            ..Leadership::default()
        }
    }

    fn members(&self) -> Vec<Member> {
        let tags = [("id", ServerId::from_bits(1).to_string()), ("region", "global".to_owned())];
        vec![Member {
            name: "s1.global".to_owned(),
            address: "127.0.0.1".to_owned(),
            port: 4648,
            tags: tags.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            status: MemberStatus::Alive,
        }]
    }

    async fn join(&self, addresses: &[String]) -> Result<usize, ProposeError> {
        Ok(addresses.len())
    }

    fn peers(&self) -> Vec<(ServerId, String, bool)> {
        vec![(ServerId::from_bits(1), server_address().rpc, true)]
    }

    async fn change_group(&self, change: GroupChange) -> Result<Option<ServerId>, GroupError> {
        match change {
            GroupChange::Transfer(to) => Ok(to),
            GroupChange::Remove(id) if id.bits() == 1 => Ok(None),
            GroupChange::Forget { name, .. } if name == "s1" => Ok(None),
            other => Err(GroupError::NotFound(format!("{other:?}"))),
        }
    }

    async fn group_health(&self) -> Result<GroupHealth, GroupError> {
        Err(GroupError::NoLeader)
    }

    fn new_id(&self) -> u128 {
        u128::from(self.ids.fetch_add(1, Ordering::Relaxed))
    }

    fn now(&self) -> Timestamp {
        START + self.start.elapsed()
    }
}
