//! Endorsement keys: the key by which a maker, or whoever enrolled a machine, knows one TPM; and credential activation,
//! by which that TPM vouches for an attestation key.
//!
//! Three steps, each of which demands what the one before it returned:
//! 1. a certificate leads to a root of the TPM's maker ([`appraise_certificate`]), or a public area is one that was
//!    enrolled ([`Enrolled::admit`]): an [`EndorsementKey`],
//! 2. a secret is encrypted to that key and to the name of an attestation key ([`Challenge`]): only a TPM that holds
//!    both can decrypt it,
//! 3. the answer is the secret: an [`ActivatedAk`], which becomes the key that quotes are verified with
//!    ([`ActivatedAk::trusted`]).
//!
//! No maker is built in, because there is no list of makers that is right for everybody: whoever asks brings the roots
//! of the makers it accepts. What a chain shows is that the maker says it made the TPM that holds the key. It does not
//! show whose machine the TPM is in, nor that the bus between them is quiet (`docs/attestation.md`).
//!
//! Specification: TCG, "EK Credential Profile for TPM Family 2.0", and "TPM 2.0 Library, Part 1", annexes B.10 and C.6
//! and section 24.

mod activation;
mod certificate;
mod check_name;
mod kdf;
mod key;
mod public;

pub use activation::{ActivatedAk, Challenge, ChallengeError, Randomness, WrongAnswer};
pub use certificate::{
    MAX_CERTIFICATE_AREA, Purpose, Roots, TpmCertificate, TpmCertificateError, TpmIdentity,
    appraise_certificate,
};
pub use check_name::CheckName;
pub use key::{EndorsementKey, EndorsementKeyError, Enrolled, NotEnrolled, Trust};
pub use public::{EkName, EkPublic, Template};
