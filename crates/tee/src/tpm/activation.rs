//! Credential activation in the TPM: the other half of `attest::tpm::ek::Challenge`.

use attest::tpm::ek::{Challenge, Template};
use tpm2_protocol::TpmUnmarshal as _;
use tpm2_protocol::basic::{TpmHandle, TpmInt32};
use tpm2_protocol::data::{
    Tpm2bData, Tpm2bDigest, Tpm2bEncryptedSecret, Tpm2bIdObject, Tpm2bNonce, Tpm2bPublic,
    Tpm2bSensitiveCreate, TpmAlgId, TpmRh, TpmSe, TpmlPcrSelection, TpmsAuthCommand,
    TpmtSymDefObject,
};
use tpm2_protocol::frame::{
    TpmActivateCredentialCommand, TpmActivateCredentialResponse, TpmCreatePrimaryCommand,
    TpmCreatePrimaryResponse, TpmPolicySecretCommand, TpmPolicySecretResponse,
    TpmStartAuthSessionCommand, TpmStartAuthSessionResponse,
};

use super::{AttestationKey, Tpm, TpmError, format_error, marshalled, password};

/// An endorsement key that lives in the TPM until it is flushed.
#[derive(Debug)]
pub struct LoadedEk {
    handle: TpmHandle,
    template: Template,
    /// `TPM2B_PUBLIC`.
    pub public: Vec<u8>,
}

/// As long as a session's nonce must be at least.
const NONCE: usize = 16;

impl Tpm {
    /// Makes the endorsement key of a template: the same TPM makes the same key each time, until its owner changes the
    /// endorsement seed.
    ///
    /// # Errors
    /// When the TPM fails, or has no such kind of key.
    pub fn create_endorsement_key(&mut self, template: Template) -> Result<LoadedEk, TpmError> {
        const COMMAND: &str = "TPM2_CreatePrimary";
        let area = template.public_area();
        let length = u16::try_from(area.len()).unwrap_or(u16::MAX).to_be_bytes();
        let (in_public, _) = Tpm2bPublic::unmarshal(&[&length[..], &area].concat())
            .map_err(format_error(COMMAND))?;
        let command = TpmCreatePrimaryCommand {
            handles: [TpmHandle::new(TpmRh::Endorsement as u32)],
            in_sensitive: Tpm2bSensitiveCreate::default(),
            in_public,
            outside_info: Tpm2bData::default(),
            creation_pcr: TpmlPcrSelection::default(),
        };
        let answer: TpmCreatePrimaryResponse = self.run(COMMAND, &command, true)?;
        let [handle] = answer.handles;
        match marshalled(COMMAND, &answer.out_public) {
            Ok(public) => Ok(LoadedEk {
                handle,
                template,
                public,
            }),
            Err(error) => {
                self.flush(handle)?;
                Err(error)
            }
        }
    }

    /// Decrypts the secret of a challenge, if it was made for these two keys.
    ///
    /// # Errors
    /// When the TPM fails, or the challenge is for other keys.
    pub fn activate(
        &mut self,
        ek: &LoadedEk,
        ak: &AttestationKey,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Vec<u8>, TpmError> {
        const COMMAND: &str = "TPM2_ActivateCredential";
        let (credential_blob, _) =
            Tpm2bIdObject::unmarshal(credential_blob).map_err(format_error(COMMAND))?;
        let (secret, _) =
            Tpm2bEncryptedSecret::unmarshal(encrypted_secret).map_err(format_error(COMMAND))?;
        let command = TpmActivateCredentialCommand {
            handles: [ak.handle, ek.handle],
            credential_blob,
            secret,
        };
        let session = if ek.template.needs_policy() {
            Some(self.endorsement_session()?)
        } else {
            None
        };
        let for_ek = session.map_or_else(password, |handle| TpmsAuthCommand {
            session_handle: handle,
            ..TpmsAuthCommand::default()
        });
        let answer: Result<TpmActivateCredentialResponse, TpmError> =
            self.run_with(COMMAND, &command, &[password(), for_ek]);
        match (answer, session) {
            // the TPM ends a session that is used once
            (Ok(answer), _) => Ok(answer.cert_info.as_ref().to_vec()),
            (Err(error), None) => Err(error),
            (Err(error), Some(session)) => {
                // what went wrong first is what matters
                drop(self.flush(session));
                Err(error)
            }
        }
    }

    /// As [`Tpm::activate`], with the challenge itself: for a verifier on the same machine, when a machine is enrolled.
    ///
    /// # Errors
    /// As [`Tpm::activate`].
    pub fn activate_challenge(
        &mut self,
        ek: &LoadedEk,
        ak: &AttestationKey,
        challenge: &Challenge,
    ) -> Result<Vec<u8>, TpmError> {
        self.activate(
            ek,
            ak,
            challenge.credential_blob(),
            challenge.encrypted_secret(),
        )
    }

    /// Removes an endorsement key from the TPM's few slots.
    ///
    /// # Errors
    /// When the TPM fails.
    pub fn flush_endorsement_key(&mut self, key: LoadedEk) -> Result<(), TpmError> {
        self.flush(key.handle)
    }

    /// A session that fulfils policy A of the EK Credential Profile: whoever knows the password of the endorsement
    /// hierarchy, which is empty.
    fn endorsement_session(&mut self) -> Result<TpmHandle, TpmError> {
        const START: &str = "TPM2_StartAuthSession";
        const POLICY: &str = "TPM2_PolicySecret";
        let null = TpmHandle::new(TpmRh::Null as u32);
        let command = TpmStartAuthSessionCommand {
            handles: [null, null],
            // the session keeps nothing secret and is bound to nothing, so its nonce protects nothing
            nonce_caller: Tpm2bNonce::try_from([0; NONCE].as_slice())
                .map_err(format_error(START))?,
            encrypted_salt: Tpm2bEncryptedSecret::default(),
            session_type: TpmSe::Policy,
            symmetric: TpmtSymDefObject::default(),
            auth_hash: TpmAlgId::Sha256,
        };
        let answer: TpmStartAuthSessionResponse = self.run(START, &command, false)?;
        let [session] = answer.handles;
        let command = TpmPolicySecretCommand {
            handles: [TpmHandle::new(TpmRh::Endorsement as u32), session],
            nonce_tpm: Tpm2bNonce::default(),
            cp_hash_a: Tpm2bDigest::default(),
            policy_ref: Tpm2bNonce::default(),
            expiration: TpmInt32::default(),
        };
        let answer: Result<TpmPolicySecretResponse, TpmError> = self.run(POLICY, &command, true);
        match answer {
            Ok(_) => Ok(session),
            Err(error) => {
                drop(self.flush(session));
                Err(error)
            }
        }
    }
}
