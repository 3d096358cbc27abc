//! A machine with a TPM of its own.

use std::io::Write;
use std::sync::{Arc, Mutex};

use keys::{ClusterId, MeasurementSalt, MeasurementSecret};
use node::bootstrapper::machine::MeasuredMachine;
use node::console::Console;
use tee::TpmAddress;
use testkit::boot::Image;
use testkit::swtpm::Swtpm;

/// A booted machine.
pub(super) struct Machine {
    pub(super) image: Image,
    pub(super) measured: MeasuredMachine,
    pub(super) heard: Heard,
    _tpm: Swtpm,
}

impl Machine {
    pub(super) fn boot(image: Image) -> Self {
        let tpm = Swtpm::boot(&image).unwrap();
        let log = tpm.write_event_log(&image).unwrap();
        let measured = MeasuredMachine::new(TpmAddress::Unix(tpm.socket()), log);
        Self {
            image,
            measured,
            heard: Heard::default(),
            _tpm: tpm,
        }
    }

    pub(super) fn console(&self) -> Console {
        Console::to(Box::new(self.heard.clone()))
    }

    pub(super) async fn pcr15(&self) -> [u8; 32] {
        self.measured.pcr15().await.unwrap()
    }
}

pub(super) fn cluster_id(byte: u8) -> ClusterId {
    let secret = MeasurementSecret::from_slice(&[byte; 32]).unwrap();
    ClusterId::derive(&secret, &MeasurementSalt::from_slice(&[byte; 32]).unwrap())
}

/// A console that a test reads.
#[derive(Clone, Default)]
pub(super) struct Heard(Arc<Mutex<Vec<u8>>>);

impl Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Heard {
    pub(super) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
