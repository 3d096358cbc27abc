//! What stands in a frame: protobuf messages of our own, read strictly into domain types.
//!
//! A message has one encoding: a body that would be written differently (unknown fields, repeated fields, trailing bytes,
//! defaults spelled out) is refused, so two implementations cannot read two things out of one frame. Knows no session.

use attest::{Evidence, EvidenceError, RefusalCode, Role, UnknownRole, Variant, VariantError};
use prost::Message;
use thiserror::Error;

use crate::frame::Kind;

pub(crate) const NONCE: usize = 32;
const MAX_VARIANTS: usize = 16;
const MAX_VARIANT_NAME: usize = 64;

/// A body that is not the message it should be.
#[derive(Debug, Error)]
pub enum MessageError {
    /// Not protobuf of this message.
    #[error("the {kind} cannot be decoded")]
    Decode {
        /// The message.
        kind: Kind,
        /// What protobuf said.
        #[source]
        source: prost::DecodeError,
    },
    /// It has unknown fields, trailing bytes, or another spelling than ours.
    #[error("the {0} is not in its one encoding")]
    NotCanonical(Kind),
    /// The nonce must have 32 bytes.
    #[error("the nonce has {0} bytes")]
    Nonce(usize),
    /// The role is none of ours.
    #[error("the peer's role is not known")]
    Role(#[source] UnknownRole),
    /// Evidence is asked for without a variant, or the other way round, or too many are listed, or a name is too long.
    #[error("the list of accepted variants does not fit the hello")]
    Accepts,
    /// The evidence is of no variant that we know.
    #[error("the variant of the evidence is not known")]
    Variant(#[source] VariantError),
    /// The evidence is empty or too long.
    #[error("the evidence cannot be taken")]
    Evidence(#[source] EvidenceError),
    /// Neither accepted nor refused.
    #[error("the verdict has outcome {outcome} and code {code}")]
    Verdict {
        /// Outcome on the wire.
        outcome: u32,
        /// Code on the wire.
        code: u32,
    },
}

/// Who a side says it is and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) nonce: [u8; NONCE],
    pub(crate) role: Role,
    /// Variants this side can appraise, by name: the peer may know ones that we do not. Empty if it asks for nothing.
    pub(crate) accepts: Vec<String>,
}

/// What a verifier says to an attester: coarse, for the peer may be anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Accepted,
    /// `None`: a code of a later release.
    Refused(Option<RefusalCode>),
}

#[derive(Clone, PartialEq, Message)]
struct HelloWire {
    #[prost(bytes = "vec", tag = "1")]
    nonce: Vec<u8>,
    #[prost(uint32, tag = "2")]
    role: u32,
    #[prost(string, repeated, tag = "3")]
    accepts: Vec<String>,
    #[prost(bool, tag = "4")]
    asks_for_evidence: bool,
}

#[derive(Clone, PartialEq, Message)]
struct EvidenceWire {
    #[prost(string, tag = "1")]
    variant: String,
    #[prost(bytes = "vec", tag = "2")]
    document: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct VerdictWire {
    #[prost(uint32, tag = "1")]
    outcome: u32,
    #[prost(uint32, tag = "2")]
    code: u32,
}

/// Outcome 0 does not exist: an empty frame is no verdict.
const ACCEPTED: u32 = 1;
const REFUSED: u32 = 2;

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        HelloWire {
            nonce: self.nonce.to_vec(),
            role: u32::from(self.role.number()),
            accepts: self.accepts.clone(),
            asks_for_evidence: self.asks_for_evidence(),
        }
        .encode_to_vec()
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, MessageError> {
        let wire: HelloWire = decode(Kind::Hello, body)?;
        let nonce = wire
            .nonce
            .as_slice()
            .try_into()
            .map_err(|_| MessageError::Nonce(wire.nonce.len()))?;
        let role = Role::from_number(wire.role).map_err(MessageError::Role)?;
        let fits = wire.accepts.len() <= MAX_VARIANTS
            && wire
                .accepts
                .iter()
                .all(|name| !name.is_empty() && name.len() <= MAX_VARIANT_NAME)
            && wire.asks_for_evidence != wire.accepts.is_empty();
        if !fits {
            return Err(MessageError::Accepts);
        }
        Ok(Self {
            nonce,
            role,
            accepts: wire.accepts,
        })
    }

    pub(crate) fn asks_for_evidence(&self) -> bool {
        !self.accepts.is_empty()
    }

    pub(crate) fn accepts(&self, variant: Variant) -> bool {
        self.accepts.iter().any(|name| name == variant.as_str())
    }
}

pub(crate) fn encode_evidence(evidence: &Evidence) -> Vec<u8> {
    EvidenceWire {
        variant: evidence.variant().as_str().to_owned(),
        document: evidence.document().to_vec(),
    }
    .encode_to_vec()
}

pub(crate) fn parse_evidence(body: &[u8]) -> Result<Evidence, MessageError> {
    let wire: EvidenceWire = decode(Kind::Evidence, body)?;
    let variant = wire.variant.parse().map_err(MessageError::Variant)?;
    Evidence::new(variant, wire.document).map_err(MessageError::Evidence)
}

impl Verdict {
    pub(crate) fn encode(self) -> Vec<u8> {
        let (outcome, code) = match self {
            Self::Accepted => (ACCEPTED, 0),
            Self::Refused(code) => (REFUSED, code.unwrap_or(RefusalCode::NotAuthentic).number()),
        };
        VerdictWire { outcome, code }.encode_to_vec()
    }

    pub(crate) fn parse(body: &[u8]) -> Result<Self, MessageError> {
        let VerdictWire { outcome, code } = decode(Kind::Verdict, body)?;
        match (outcome, code) {
            (ACCEPTED, 0) => Ok(Self::Accepted),
            (REFUSED, 1..) => Ok(Self::Refused(RefusalCode::from_number(code))),
            _ => Err(MessageError::Verdict { outcome, code }),
        }
    }
}

fn decode<M: Message + Default>(kind: Kind, body: &[u8]) -> Result<M, MessageError> {
    let message = M::decode(body).map_err(|source| MessageError::Decode { kind, source })?;
    if message.encode_to_vec() == body {
        Ok(message)
    } else {
        Err(MessageError::NotCanonical(kind))
    }
}

/// Every parser of this module; what one accepts must have been its one encoding.
pub(crate) fn fuzz(body: &[u8]) {
    if let Ok(hello) = Hello::parse(body) {
        assert_eq!(hello.encode(), body);
    }
    if let Ok(evidence) = parse_evidence(body) {
        assert_eq!(encode_evidence(&evidence), body);
    }
    if let Ok(Verdict::Accepted) = Verdict::parse(body) {
        assert_eq!(Verdict::Accepted.encode(), body);
    }
}

#[cfg(test)]
mod tests;
