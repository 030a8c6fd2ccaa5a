//! Questions of client agents beside their stream, such as for keys that a template needs.

use cos_model::NodeId;
use cos_model::link::{Answer, Query};
use cos_state::{State, Topic};

use crate::shared::Shared;

/// Answers one question, from this server's state.
pub(crate) async fn answer(shared: &Shared, query: Query) -> Answer {
    match query {
        Query::Kv { key, recurse, after, wait, node } => {
            if !is_known(&shared.published.state(), node) {
                return Answer::Error("the node is not registered".to_owned());
            }
            if after > 0 {
                let topic = Topic::Kv(key.as_str().into());
                shared.published.changed(&[topic], after, wait).await;
            }
            keys(&shared.published.state(), &key, recurse)
        }
    }
}

/// The node that asks, as text.
pub(crate) fn asker(query: &Query) -> String {
    match query {
        Query::Kv { node: (id, _), .. } => id.to_string(),
    }
}

fn is_known(state: &State, (id, secret): (NodeId, NodeId)) -> bool {
    state.node(id).is_some_and(|node| node.secret == secret)
}

fn keys(state: &State, key: &str, recurse: bool) -> Answer {
    let entries = if recurse {
        state.kv_list(key).map(|entry| (**entry).clone()).collect()
    } else {
        state.kv_get(key).map(|entry| (**entry).clone()).into_iter().collect()
    };
    // Zero would mean "do not wait" to the next question.
    Answer::Kv { index: state.kv_index(key).max(1), entries }
}
