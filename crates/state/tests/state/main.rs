//! Tests of the state machine from outside, through what everybody else uses.
//!
//! `script` is the language of the example tests, `samples` builds objects, `strategies` draws
//! random commands for the laws in `laws`.

#[cfg(test)]
mod allocs;
#[cfg(test)]
mod catalog;
#[cfg(test)]
mod collect;
#[cfg(test)]
mod deployments;
#[cfg(test)]
mod evals;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod jobs;
#[cfg(test)]
mod kv;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod repeats;
#[cfg(test)]
mod restores;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod script;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod strategies;
#[cfg(test)]
mod trust;
