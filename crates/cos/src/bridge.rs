//! The container bridge's address: containers reach the catalog and the ingress there, as images
//! built for other systems expect.
//!
//! The bridge may appear after the agent started, and another agent of the machine may hold the
//! address; so it is tried again until it is had.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::Router;
use cos_http::Limits;
use cos_ingress::Ingress;
use cos_platform::tls::Web;
use cos_platform::{Fate, Tasks};
use tokio::net::TcpListener;

/// The bridge that container engines make.
const BRIDGE: &str = "docker0";
/// Time between two tries.
const TRY_EVERY: Duration = Duration::from_secs(3);

/// What is to be served on the bridge.
pub(crate) struct Bridge {
    /// The catalog's port, routes and limits.
    pub(crate) consul: Option<(u16, Router, Limits)>,
    /// The ingress and its port.
    pub(crate) ingress: Option<(u16, Ingress)>,
    /// Addresses that are served already.
    pub(crate) served: Vec<SocketAddr>,
}

/// Starts to look for the bridge.
pub(crate) fn follow(bridge: Bridge, tasks: &Tasks) {
    tasks.spawn("container bridge", Fate::Ends, keep_trying(bridge, tasks.clone()));
}

async fn keep_trying(mut bridge: Bridge, tasks: Tasks) {
    let stopping = tasks.stopping();
    let mut told = false;
    while bridge.consul.is_some() || bridge.ingress.is_some() {
        if let Ok(address) = cos_agent::fingerprint::address_of(BRIDGE) {
            bridge.try_all(address, &mut told, &tasks).await;
        }
        tokio::select! {
            // Nothing is lost by not sleeping to the end.
            () = tokio::time::sleep(TRY_EVERY) => {}
            () = stopping.cancelled() => return,
        }
    }
}

impl Bridge {
    async fn try_all(&mut self, address: IpAddr, told: &mut bool, tasks: &Tasks) {
        if let Some((port, router, limits)) = &self.consul {
            let place = SocketAddr::new(address, *port);
            let listening = self.is_served(place) || {
                match TcpListener::bind(place).await {
                    Ok(listener) => {
                        let (router, web) = (router.clone(), Web::default());
                        cos_http::listener::serve(listener, router, web, limits, tasks);
                        tracing::info!(%place, "catalog served on the container bridge");
                        true
                    }
                    Err(error) => tell_once(told, place, &error),
                }
            };
            if listening {
                self.consul = None;
            }
        }
        if let Some((port, ingress)) = &self.ingress {
            let place = SocketAddr::new(address, *port);
            let listening = self.is_served(place) || {
                match ingress.listen_also(place, tasks).await {
                    Ok(()) => {
                        tracing::info!(%place, "ingress served on the container bridge");
                        true
                    }
                    Err(error) => tell_once(told, place, &error),
                }
            };
            if listening {
                self.ingress = None;
            }
        }
    }

    /// Whether a listener covers the place, being on it or on all addresses.
    fn is_served(&self, place: SocketAddr) -> bool {
        self.served.iter().any(|served| {
            served.port() == place.port()
                && (served.ip() == place.ip() || served.ip().is_unspecified())
        })
    }
}

/// Says why a place is not served, the first time. Always false.
fn tell_once(told: &mut bool, place: SocketAddr, error: &dyn std::error::Error) -> bool {
    if !*told {
        *told = true;
        let why = crate::error::chain(error);
        tracing::info!(%place, why, "container bridge is not served by this agent; it goes on trying");
    }
    false
}
