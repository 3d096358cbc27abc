//! The attested channel: TLS 1.3, then evidence bound to that session, then application data. In this order, by type.
//!
//! Everything that hands out a secret runs on it. A TLS session alone is never returned by this crate; what is returned,
//! [`Attested`], exists only after every verdict that is owed was sent and read, and says in its type whether the peer proved
//! anything ([`Proved`], [`Unproved`]). A verifier needs a policy, and a policy that accepts everything cannot be made.
//!
//! [`Client`] and [`Server`] have one constructor per use of the channel: init and recover (the server proves itself), join and
//! rejoin (both do). [`tonic`](mod@tonic) carries gRPC. The crate does not decide what evidence is worth (`attest`), does not make
//! any (`tee`), and knows no message of a service (`proto`).
//!
//! Protocol, model and proof sketch: `docs/attested-channel.md`.

mod admission;
mod attested;
mod client;
mod danger;
mod error;
mod exchange;
mod frame;
mod incoming;
mod lifetime;
mod message;
mod server;
mod tls;
pub mod tonic;
mod verifier;

use std::time::Duration;

pub use attested::{Attested, Peer};
pub use client::Client;
pub use error::{Error, FrameError, MessageError, SessionError, SetupError};
pub use frame::Kind;
pub use incoming::Limits;
pub use server::Server;
pub use verifier::{
    AsksNothing, Demand, EndorsementsSource, Gathering, PolicySource, Proved, Unproved, Verifier,
};

/// From the first byte to the last verdict. A side may give up earlier, not later.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Entry points for fuzzing: the parsers that see a peer's bytes. They return nothing that could be used.
#[doc(hidden)]
pub mod fuzz {
    /// A frame as the peer sends it, in the place of each kind of frame.
    pub fn frame(bytes: &[u8]) {
        crate::frame::fuzz(bytes);
        crate::message::fuzz(bytes);
    }
}
