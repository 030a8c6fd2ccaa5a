//! Tests of the parts of the model that have invariants: the catalog, the fit of allocations on a
//! node, and the stored form of lists of allocations.

#[cfg(test)]
mod catalog;
#[cfg(test)]
mod fit;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod stored;
