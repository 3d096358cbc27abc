//! Captures the evidence of an swtpm that booted the test image, for `crates/attest/testdata/qemu-vtpm`:
//! `cargo run -p tee --example capture > crates/attest/testdata/qemu-vtpm/swtpm.json`.

use std::io::Write as _;

use attest::{Binding, Issue as _, Role};
use tee::{TpmAddress, TpmIssuer};
use testkit::boot::Image;
use testkit::swtpm::Swtpm;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let image = Image::default();
    let tpm = Swtpm::boot(&image)?;
    let issuer = TpmIssuer::new(TpmAddress::Unix(tpm.socket()), tpm.write_event_log(&image)?);
    let binding = Binding::for_channel(
        Role::Node,
        &[1; 64],
        &[2; 32],
        b"server spki",
        Some(b"client spki"),
    );
    std::io::stdout().write_all(issuer.issue(&binding)?.document())?;
    Ok(())
}
