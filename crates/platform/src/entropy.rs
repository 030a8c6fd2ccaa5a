//! Entropy as shells draw it. Cores take it as an argument instead.

/// Draws 128 bits, enough for an id that nobody else has.
pub fn draw() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the kernel's entropy source answers once it is seeded");
    u128::from_ne_bytes(bytes)
}
