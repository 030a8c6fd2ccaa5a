//! What a side of a rule refers to.

use std::borrow::Cow;

use cos_model::Node;

/// One side of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Text that stands for itself.
    Literal(String),
    /// `${node.unique.id}`
    NodeId,
    /// `${node.unique.name}`
    NodeName,
    /// `${node.datacenter}`
    Datacenter,
    /// `${node.class}`
    Class,
    /// `${node.pool}`
    Pool,
    /// `${attr.…}`
    Attribute(String),
    /// `${meta.…}`
    Meta(String),
    /// A reference to nothing that nodes have.
    Unknown,
}

impl Target {
    /// Reads one side of a rule.
    pub(crate) fn parse(text: &str) -> Self {
        let Some(name) = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')) else {
            return Self::Literal(text.to_owned());
        };
        match name.trim() {
            "node.unique.id" => Self::NodeId,
            "node.unique.name" => Self::NodeName,
            "node.datacenter" => Self::Datacenter,
            "node.class" => Self::Class,
            "node.pool" => Self::Pool,
            name => {
                if let Some(key) = name.strip_prefix("attr.") {
                    Self::Attribute(key.to_owned())
                } else if let Some(key) = name.strip_prefix("meta.") {
                    Self::Meta(key.to_owned())
                } else {
                    Self::Unknown
                }
            }
        }
    }

    /// Returns what the side stands for on a node, or nothing if the node lacks it.
    pub(crate) fn resolve<'a>(&'a self, node: &'a Node) -> Option<Cow<'a, str>> {
        match self {
            Self::Literal(text) => Some(text.as_str().into()),
            Self::NodeId => Some(node.id.to_string().into()),
            Self::NodeName => Some(node.name.as_str().into()),
            Self::Datacenter => Some(node.datacenter.as_str().into()),
            Self::Class => Some(node.node_class.as_str().into()),
            Self::Pool => Some(node.node_pool.as_str().into()),
            Self::Attribute(key) => node.attributes.get(key).map(|value| value.as_str().into()),
            Self::Meta(key) => node.meta.get(key).map(|value| value.as_str().into()),
            Self::Unknown => None,
        }
    }
}
