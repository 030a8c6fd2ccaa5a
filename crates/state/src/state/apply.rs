//! Placeholder for the applying of commands.

use super::State;
use crate::command::{Refused, Reply, Request};
use crate::event::Event;

/// What applying one entry did.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// What the command answers.
    pub reply: Result<Reply, Refused>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

impl State {
    /// Applies one entry of the log.
    pub fn apply(&mut self, index: u64, request: &Request) -> Applied {
        let _placeholder = request;
        self.index = index;
        Applied { reply: Ok(Reply::Done), events: Vec::new() }
    }
}
