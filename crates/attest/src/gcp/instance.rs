//! `GCEInstanceInformation`, an extension of the certificates of Google's virtual TPMs.
//!
//! ```text
//! SEQUENCE { zone UTF8String, projectNumber INTEGER, projectId UTF8String, instanceId INTEGER, instanceName UTF8String,
//!            [0] SEQUENCE { [0] securityVersion INTEGER OPTIONAL, [1] isProduction BOOLEAN OPTIONAL, ... } OPTIONAL }
//! ```

use thiserror::Error;

use crate::x509::DerError;
use crate::x509::der::{Reader, tag};

/// The extension.
pub const INSTANCE_INFO_OID: &str = "1.3.6.1.4.1.11129.2.1.21";

/// Longer than any name that Google allows: 63 characters, and a project's domain before it.
const MAX_NAME: usize = 256;

/// The instance that a key is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceInfo {
    /// The zone, such as `us-central1-a`.
    pub zone: String,
    /// The number of the project.
    pub project_number: u64,
    /// The id of the project, with its domain if it has one.
    pub project_id: String,
    /// The id of the instance, which no other ever has.
    pub instance_id: u64,
    /// The name of the instance, which another may have later.
    pub instance_name: String,
    /// Whether it ran in Google's production environment, where Google's engineers cannot reach into it at will.
    pub is_production: bool,
}

/// Why an extension does not say which instance.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InstanceInfoError {
    /// There is none.
    #[error("the certificate has no extension {INSTANCE_INFO_OID}")]
    Missing,
    /// Not the structure it should be.
    #[error(transparent)]
    Der(#[from] DerError),
    /// A name that is not one.
    #[error("{0} is empty, longer than {MAX_NAME} bytes, or not printable")]
    Name(&'static str),
    /// A number beyond 64 bits.
    #[error("{0} has more than 64 bits")]
    Number(&'static str),
}

impl InstanceInfo {
    /// Reads the value of the extension.
    ///
    /// # Errors
    /// When it is not exactly the structure of the module's head. Further security properties may follow the known ones.
    pub fn parse(value: &[u8]) -> Result<Self, InstanceInfoError> {
        const FIELD: &str = "the instance information";
        let mut outer = Reader::new(value);
        let mut fields = outer.sequence(FIELD)?;
        outer.finish(FIELD)?;
        let zone = name(&mut fields, "the zone")?;
        let project_number = number(&mut fields, "the project number")?;
        let project_id = name(&mut fields, "the project id")?;
        let instance_id = number(&mut fields, "the instance id")?;
        let instance_name = name(&mut fields, "the instance name")?;
        let is_production = match fields.optional(FIELD, tag::context_constructed(0))? {
            Some(properties) => is_production(properties)?,
            None => false,
        };
        fields.finish(FIELD)?;
        Ok(Self {
            zone,
            project_number,
            project_id,
            instance_id,
            instance_name,
            is_production,
        })
    }
}

fn is_production(explicit: &[u8]) -> Result<bool, InstanceInfoError> {
    const FIELD: &str = "the security properties";
    let mut outer = Reader::new(explicit);
    let mut properties = outer.sequence(FIELD)?;
    outer.finish(FIELD)?;
    properties.optional(FIELD, tag::context_constructed(0))?;
    let Some(explicit) = properties.optional(FIELD, tag::context_constructed(1))? else {
        return Ok(false);
    };
    let mut inner = Reader::new(explicit);
    let is_production = inner.boolean_or_false(FIELD)?;
    inner.finish(FIELD)?;
    // what follows are properties that nothing here depends on; they must be DER, and no known one again
    while !properties.is_empty() {
        let property = properties.any(FIELD)?;
        if property.tag <= tag::context_constructed(1) {
            return Err(InstanceInfoError::Der(DerError::Value {
                field: FIELD,
                kind: "list in order",
            }));
        }
    }
    Ok(is_production)
}

fn name(reader: &mut Reader<'_>, field: &'static str) -> Result<String, InstanceInfoError> {
    let bytes = reader.contents(field, tag::UTF8_STRING)?;
    let is_name = (1..=MAX_NAME).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
    String::from_utf8(bytes.to_vec())
        .ok()
        .filter(|_| is_name)
        .ok_or(InstanceInfoError::Name(field))
}

fn number(reader: &mut Reader<'_>, field: &'static str) -> Result<u64, InstanceInfoError> {
    let digits = reader.positive_integer(field)?;
    if digits.len() > 8 {
        return Err(InstanceInfoError::Number(field));
    }
    Ok(digits
        .iter()
        .fold(0, |number, digit| number << 8 | u64::from(*digit)))
}
