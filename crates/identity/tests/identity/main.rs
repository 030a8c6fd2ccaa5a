//! Tests of membership from outside, through what servers and agents use.

#[cfg(test)]
mod connections;
