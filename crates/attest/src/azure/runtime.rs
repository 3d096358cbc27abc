//! The runtime data of an HCL report: JSON that the paravisor composes, and that the processor's report covers.
//!
//! Fields that are not read here may be anything. Of those that are, none may be there twice: one set of bytes has one reading.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tpm::{PublicKey, RsaKeyError};

/// More than any paravisor has: an attestation key and an endorsement key are known.
const MAX_KEYS: usize = 8;
const AK: &str = "HCLAkPub";
const EK: &str = "HCLEkPub";
const USER_DATA: usize = 64;

/// What the runtime data say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeClaims {
    ak: PublicKey,
    ek: Option<PublicKey>,
    configuration: Option<VmConfiguration>,
    user_data: Option<[u8; USER_DATA]>,
}

/// How the host set up the machine, as far as it told the paravisor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case")]
pub struct VmConfiguration {
    /// Secure Boot is on.
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub secure_boot: Option<bool>,
    /// The paravisor runs a TPM.
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub tpm_enabled: Option<bool>,
    /// The TPM keeps its state when the machine stops.
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub tpm_persisted: Option<bool>,
    /// The guest has a serial console on the host.
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub console_enabled: Option<bool>,
    /// Devices that are assigned to the guest may bypass the paravisor's filter.
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub filtered_vpci_devices_allowed: Option<bool>,
    /// Seconds since 1970, by the host.
    #[serde(
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub current_time: Option<i64>,
    /// The machine's identity in Azure.
    #[serde(
        rename = "vmUniqueId",
        default,
        deserialize_with = "crate::strict::present",
        skip_serializing_if = "Option::is_none"
    )]
    pub vm_unique_id: Option<String>,
}

/// Why bytes are not runtime data.
#[derive(Debug, Error)]
pub enum RuntimeError {
    /// Not JSON of this form.
    #[error("not the JSON of runtime data: {0}")]
    Json(String),
    /// A key that is not there once.
    #[error("there is no key {0}")]
    Missing(&'static str),
    /// Two keys of one name.
    #[error("the key {0} is given twice")]
    Twice(&'static str),
    /// More keys than any paravisor has.
    #[error("there are {0} keys, more than {MAX_KEYS}")]
    TooManyKeys(usize),
    /// A key that is no RSA key in JWK's form.
    #[error("{field} of the key {key} is missing or not as RFC 7518 has it")]
    Jwk {
        /// The key's name.
        key: &'static str,
        /// The parameter.
        field: &'static str,
    },
    /// Numbers that are no key of a TPM.
    #[error("the key {key} is no RSA key of a TPM")]
    Key {
        /// The key's name.
        key: &'static str,
        /// Why.
        #[source]
        source: RsaKeyError,
    },
    /// User data of another length, or not hexadecimal.
    #[error("user-data is not {USER_DATA} bytes in hexadecimal")]
    UserData,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Self", rename_all = "kebab-case")]
struct Json {
    keys: Vec<Jwk>,
    #[serde(default, deserialize_with = "crate::strict::present")]
    vm_configuration: Option<VmConfiguration>,
    #[serde(default, deserialize_with = "crate::strict::present")]
    user_data: Option<String>,
}

/// The members of a JSON Web Key that an RSA key needs (RFC 7518, 6.3.1).
#[derive(Serialize, Deserialize)]
#[serde(remote = "Self")]
struct Jwk {
    kid: String,
    kty: String,
    #[serde(default, deserialize_with = "crate::strict::present")]
    n: Option<String>,
    #[serde(default, deserialize_with = "crate::strict::present")]
    e: Option<String>,
}

crate::strict::objects!(Json, Jwk, VmConfiguration);

impl RuntimeClaims {
    /// Reads runtime data, which end with their JSON.
    ///
    /// # Errors
    /// When they are no such JSON, a field that is read is there twice, or there is not exactly one RSA key `HCLAkPub`.
    pub fn parse(bytes: &[u8]) -> Result<Self, RuntimeError> {
        let json: Json =
            serde_json::from_slice(bytes).map_err(|error| RuntimeError::Json(error.to_string()))?;
        if json.keys.len() > MAX_KEYS {
            return Err(RuntimeError::TooManyKeys(json.keys.len()));
        }
        let ak = named(&json.keys, AK)?.ok_or(RuntimeError::Missing(AK))?;
        Ok(Self {
            ak,
            ek: named(&json.keys, EK)?,
            configuration: json.vm_configuration,
            user_data: json.user_data.map(|text| user_data(&text)).transpose()?,
        })
    }

    /// The attestation key.
    #[must_use]
    pub const fn ak(&self) -> &PublicKey {
        &self.ak
    }

    /// The endorsement key; the first generation has none.
    #[must_use]
    pub const fn ek(&self) -> Option<&PublicKey> {
        self.ek.as_ref()
    }

    /// How the machine was set up.
    #[must_use]
    pub const fn configuration(&self) -> Option<&VmConfiguration> {
        self.configuration.as_ref()
    }

    /// What the guest wrote into NV index 0x01400002 before the report was made; zeros if nothing.
    #[must_use]
    pub const fn user_data(&self) -> Option<&[u8; USER_DATA]> {
        self.user_data.as_ref()
    }
}

fn named(keys: &[Jwk], name: &'static str) -> Result<Option<PublicKey>, RuntimeError> {
    let mut found = keys.iter().filter(|key| key.kid == name);
    let Some(key) = found.next() else {
        return Ok(None);
    };
    if found.next().is_some() {
        return Err(RuntimeError::Twice(name));
    }
    let refused = |field| RuntimeError::Jwk { key: name, field };
    if key.kty != "RSA" {
        return Err(refused("kty"));
    }
    let number = |text: &Option<String>, field| {
        let text = text.as_deref().ok_or_else(|| refused(field))?;
        let number = URL_SAFE_NO_PAD.decode(text);
        number.map_err(|_| refused(field))
    };
    let modulus = number(&key.n, "n")?;
    let exponent = number(&key.e, "e")?;
    if exponent.is_empty() || exponent.len() > 4 {
        return Err(refused("e"));
    }
    let exponent = exponent
        .iter()
        .fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
    PublicKey::rsa(&modulus, exponent)
        .map(Some)
        .map_err(|source| RuntimeError::Key { key: name, source })
}

fn user_data(text: &str) -> Result<[u8; USER_DATA], RuntimeError> {
    let mut bytes = [0; USER_DATA];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| RuntimeError::UserData)?;
    Ok(bytes)
}
