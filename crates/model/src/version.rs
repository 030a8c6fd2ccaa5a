//! What this program calls itself, and which levels of compatibility it claims.

/// The version of cos. A build that shall call itself otherwise, as the tests of upgrades need,
/// says so in `COS_VERSION_OVERRIDE`.
pub const COS: &str = match option_env!("COS_VERSION_OVERRIDE") {
    Some(version) => version,
    None => env!("CARGO_PKG_VERSION"),
};

/// The level of Nomad's API and command line that is claimed.
pub const NOMAD: &str = "1.10.0";

/// The level of Consul's API and command line that is claimed.
pub const CONSUL: &str = "1.20.0";
