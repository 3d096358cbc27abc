//! Clouds of a test: virtual TPMs with RSA keys, authorities with the shape of Azure's and Google's that certify them, and HCL reports. No
//! production root leads to any of it.

mod authority;
mod hcl;
mod machine;
mod tpm;

pub use authority::{AkCertificate, Authority, InstanceParts};
pub use hcl::{HclParts, RuntimeParts, snp_report_over, td_report_over};
pub use machine::{Machine, Makers, NOW};
pub use tpm::{CloudTpm, Quoted, public_area};
