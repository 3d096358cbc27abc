//! What Intel writes into a PCK certificate about its platform (Intel SGX PCK Certificate and CRL Profile, 1.5, section 3.6.4).

use thiserror::Error;

use crate::x509::Certificate;
use crate::x509::der::{DerError, Reader, tag};

/// The extension that holds all of it.
const SGX_EXTENSIONS: &str = "1.2.840.113741.1.13.1";
/// Its object identifier as contents octets: those inside begin with it.
const SGX_ARC: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01];
const ENUMERATED: u8 = 0x0a;

const PPID: u8 = 1;
const TCB: u8 = 2;
const PCE_ID: u8 = 3;
const FMSPC: u8 = 4;
const SGX_TYPE: u8 = 5;
const PLATFORM_INSTANCE_ID: u8 = 6;
const CONFIGURATION: u8 = 7;

const COMPONENTS: u8 = 16;
const PCE_SVN: u8 = 17;
const CPU_SVN: u8 = 18;

/// Why a certificate does not say which platform it is for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PckError {
    /// It is not a PCK certificate.
    #[error("the certificate has no SGX extension: it is not of a platform")]
    NotPck,
    /// A field that must be there.
    #[error("the SGX extension has no {field}")]
    Missing {
        /// Which.
        field: &'static str,
    },
    /// A field that is there twice.
    #[error("the SGX extension has {field} twice")]
    Twice {
        /// Which.
        field: &'static str,
    },
    /// A value that its field does not allow.
    #[error("{field} of the SGX extension is not a valid value")]
    Value {
        /// Which.
        field: &'static str,
    },
    /// Not DER.
    #[error(transparent)]
    Der(#[from] DerError),
}

/// How a platform guards its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SgxType {
    /// With an integrity tree, in a small memory.
    Standard,
    /// Encrypted only.
    Scalable,
    /// Encrypted, with integrity.
    ScalableWithIntegrity,
    /// A number that this release does not know.
    Unknown(u8),
}

/// What a certificate of a platform CA says about the platform's making.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformFlags {
    /// Packages can be added.
    pub dynamic_platform: bool,
    /// Intel keeps the platform's keys.
    pub cached_keys: bool,
    /// Hyper-threading is on.
    pub smt_enabled: bool,
}

/// The platform that a PCK certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PckExtensions {
    /// Family, model, stepping, platform type, custom SKU.
    pub fmspc: [u8; 6],
    /// The provisioning certification enclave.
    pub pce_id: [u8; 2],
    /// SVN of the provisioning certification enclave.
    pub pce_svn: u16,
    /// SVNs of the platform's components.
    pub component_svns: [u8; 16],
    /// The CPU's SVN as it reports it.
    pub cpu_svn: [u8; 16],
    /// Provisioning id of the processor package: names the machine.
    pub ppid: [u8; 16],
    /// Memory protection of the platform.
    pub sgx_type: SgxType,
    /// Names a platform of several packages; nothing on one that the processor CA vouches for.
    pub platform_instance_id: Option<[u8; 16]>,
    /// How it is made; nothing on one that the processor CA vouches for.
    pub flags: Option<PlatformFlags>,
}

impl PckExtensions {
    /// Reads the extension of a PCK certificate. Object identifiers that this release does not know are passed over.
    ///
    /// # Errors
    /// When the certificate has no such extension, or one without the fields that name a platform and its TCB.
    pub fn of(certificate: &Certificate) -> Result<Self, PckError> {
        let bytes = certificate
            .extension(SGX_EXTENSIONS)
            .ok_or(PckError::NotPck)?;
        Self::parse(bytes)
    }

    /// Reads the value octets of the extension.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PckError> {
        let mut outer = Reader::new(bytes);
        let mut fields = outer.sequence("the SGX extension")?;
        outer.finish("the SGX extension")?;

        let mut ppid = Field::new("PPID");
        let mut tcb = Field::new("TCB");
        let mut pce_id = Field::new("PCEID");
        let mut fmspc = Field::new("FMSPC");
        let mut sgx_type = Field::new("SGX type");
        let mut platform_instance_id = Field::new("platform instance id");
        let mut configuration = Field::new("configuration");
        while !fields.is_empty() {
            let (arc, mut value) = entry(&mut fields)?;
            match arc {
                [PPID] => ppid.set(octets(&mut value, "PPID")?)?,
                [TCB] => tcb.set(Tcb::read(&mut value)?)?,
                [PCE_ID] => pce_id.set(octets(&mut value, "PCEID")?)?,
                [FMSPC] => fmspc.set(octets(&mut value, "FMSPC")?)?,
                [SGX_TYPE] => sgx_type.set(read_sgx_type(&mut value)?)?,
                [PLATFORM_INSTANCE_ID] => {
                    platform_instance_id.set(octets(&mut value, "platform instance id")?)?;
                }
                [CONFIGURATION] => configuration.set(read_flags(&mut value)?)?,
                _ => {
                    value.any("an unknown field of the SGX extension")?;
                }
            }
            value.finish("a field of the SGX extension")?;
        }
        let tcb = tcb.take()?;
        Ok(Self {
            fmspc: fmspc.take()?,
            pce_id: pce_id.take()?,
            pce_svn: tcb.pce_svn,
            component_svns: tcb.component_svns,
            cpu_svn: tcb.cpu_svn,
            ppid: ppid.take()?,
            sgx_type: sgx_type.take()?,
            platform_instance_id: platform_instance_id.value,
            flags: configuration.value,
        })
    }
}

/// A field that is there once.
struct Field<T> {
    name: &'static str,
    value: Option<T>,
}

impl<T> Field<T> {
    const fn new(name: &'static str) -> Self {
        Self { name, value: None }
    }

    fn set(&mut self, value: T) -> Result<(), PckError> {
        match self.value.replace(value) {
            None => Ok(()),
            Some(_) => Err(PckError::Twice { field: self.name }),
        }
    }

    fn take(self) -> Result<T, PckError> {
        self.value.ok_or(PckError::Missing { field: self.name })
    }
}

struct Tcb {
    component_svns: [u8; 16],
    pce_svn: u16,
    cpu_svn: [u8; 16],
}

impl Tcb {
    fn read(value: &mut Reader<'_>) -> Result<Self, PckError> {
        let mut fields = value.sequence("TCB")?;
        let mut components = [const { None }; COMPONENTS as usize];
        let mut pce_svn = Field::new("PCESVN");
        let mut cpu_svn = Field::new("CPUSVN");
        while !fields.is_empty() {
            let (arc, mut value) = entry(&mut fields)?;
            match arc {
                [TCB, number @ 1..=COMPONENTS] => {
                    let svn = small(&mut value, "a component's SVN")?;
                    let slot = components
                        .get_mut(usize::from(*number) - 1)
                        .ok_or(PckError::Value { field: "TCB" })?;
                    if slot.replace(svn).is_some() {
                        return Err(PckError::Twice {
                            field: "a component's SVN",
                        });
                    }
                }
                [TCB, PCE_SVN] => pce_svn.set(small(&mut value, "PCESVN")?)?,
                [TCB, CPU_SVN] => cpu_svn.set(octets(&mut value, "CPUSVN")?)?,
                _ => {
                    value.any("an unknown field of the TCB")?;
                }
            }
            value.finish("a field of the TCB")?;
        }
        let mut component_svns = [0; COMPONENTS as usize];
        for (to, from) in component_svns.iter_mut().zip(components) {
            *to = from.ok_or(PckError::Missing {
                field: "a component's SVN",
            })?;
        }
        Ok(Self {
            component_svns,
            pce_svn: pce_svn.take()?,
            cpu_svn: cpu_svn.take()?,
        })
    }
}

/// An object identifier below [`SGX_ARC`], without it, and a cursor at its value.
fn entry<'a>(fields: &mut Reader<'a>) -> Result<(&'a [u8], Reader<'a>), PckError> {
    let mut entry = fields.sequence("a field of the SGX extension")?;
    let oid = entry.oid("a field of the SGX extension")?.contents();
    Ok((oid.strip_prefix(&SGX_ARC).unwrap_or_default(), entry))
}

fn octets<const N: usize>(
    value: &mut Reader<'_>,
    field: &'static str,
) -> Result<[u8; N], PckError> {
    value
        .contents(field, tag::OCTET_STRING)?
        .try_into()
        .map_err(|_| PckError::Value { field })
}

fn small<T: TryFrom<u32>>(value: &mut Reader<'_>, field: &'static str) -> Result<T, PckError> {
    T::try_from(value.small_integer(field)?).map_err(|_| PckError::Value { field })
}

fn read_sgx_type(value: &mut Reader<'_>) -> Result<SgxType, PckError> {
    match value.contents("SGX type", ENUMERATED)? {
        [0] => Ok(SgxType::Standard),
        [1] => Ok(SgxType::Scalable),
        [2] => Ok(SgxType::ScalableWithIntegrity),
        [other] => Ok(SgxType::Unknown(*other)),
        _ => Err(PckError::Value { field: "SGX type" }),
    }
}

fn read_flags(value: &mut Reader<'_>) -> Result<PlatformFlags, PckError> {
    let mut fields = value.sequence("configuration")?;
    let mut flags = PlatformFlags {
        dynamic_platform: false,
        cached_keys: false,
        smt_enabled: false,
    };
    while !fields.is_empty() {
        let (arc, mut value) = entry(&mut fields)?;
        match arc {
            [CONFIGURATION, 1] => {
                flags.dynamic_platform = value.boolean_or_false("dynamic platform")?
            }
            [CONFIGURATION, 2] => flags.cached_keys = value.boolean_or_false("cached keys")?,
            [CONFIGURATION, 3] => flags.smt_enabled = value.boolean_or_false("SMT enabled")?,
            _ => {
                value.any("an unknown field of the configuration")?;
            }
        }
        value.finish("a field of the configuration")?;
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_sgx_have_a_number_each() {
        let read = |contents: &[u8]| {
            let length = u8::try_from(contents.len()).unwrap();
            read_sgx_type(&mut Reader::new(
                &[&[ENUMERATED, length], contents].concat(),
            ))
        };
        for (number, expected) in [
            (0, SgxType::Standard),
            (1, SgxType::Scalable),
            (2, SgxType::ScalableWithIntegrity),
            (3, SgxType::Unknown(3)),
            (0xff, SgxType::Unknown(0xff)),
        ] {
            assert_eq!(read(&[number]), Ok(expected));
        }
        for contents in [&[][..], &[0, 0]] {
            assert_eq!(read(contents), Err(PckError::Value { field: "SGX type" }));
        }
    }

    #[test]
    fn each_flag_of_a_platform_is_its_own() {
        let none = PlatformFlags {
            dynamic_platform: false,
            cached_keys: false,
            smt_enabled: false,
        };
        for (number, expected) in [
            (
                1,
                PlatformFlags {
                    dynamic_platform: true,
                    ..none
                },
            ),
            (
                2,
                PlatformFlags {
                    cached_keys: true,
                    ..none
                },
            ),
            (
                3,
                PlatformFlags {
                    smt_enabled: true,
                    ..none
                },
            ),
            // a field that this release does not know
            (4, none),
        ] {
            let mut oid = vec![tag::OID, u8::try_from(SGX_ARC.len()).unwrap() + 2];
            oid.extend(SGX_ARC);
            oid.extend([CONFIGURATION, number]);
            let field = [&oid[..], &[tag::BOOLEAN, 1, 0xff]].concat();
            let length = u8::try_from(field.len()).unwrap();
            let field = [&[tag::SEQUENCE, length][..], &field].concat();
            let length = u8::try_from(field.len()).unwrap();
            let fields = [&[tag::SEQUENCE, length][..], &field].concat();
            assert_eq!(read_flags(&mut Reader::new(&fields)), Ok(expected));
        }
    }
}
