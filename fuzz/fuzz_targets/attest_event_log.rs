//! The event logs in a peer's evidence: of TPMs, old and new, and of TDs.
#![cfg_attr(fuzzing, no_main)]

use attest::event_log::{
    Bank, BankLog, DevicePath, EventLog, Explained, Form, GoogleFirmware, Log, PartitionTable,
    Quoted, ReferenceManifest, Register, Rtmr, SecureBoot, SignatureDatabase, TdFirmware, Variable,
};
use attest::{PcrIndex, PcrValues, Policy, Variant};

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(log) = EventLog::parse(bytes) {
        let pcrs = log.replay();
        assert!(
            log.unexplained(&pcrs).is_empty(),
            "a log leads to where it leads"
        );
        drop(log.unexplained(&PcrValues::at_reset()));
        drop(Policy::from_own_measurements(
            Variant::QemuVtpm,
            &pcrs,
            bytes,
        ));
    }
    for log in [Log::parse(bytes), Log::parse_ccel(bytes)]
        .into_iter()
        .flatten()
    {
        assert!(log.length() <= bytes.len());
        log.claimed_manifests().for_each(drop);
        for bank in Bank::ALL {
            if let Ok(bank) = log.bank(bank) {
                one_bank(bank);
            }
        }
    }
    drop(Variable::parse(bytes));
    drop(SignatureDatabase::parse(bytes));
    drop(DevicePath::parse(bytes));
    drop(PartitionTable::parse(bytes));
    drop(ReferenceManifest::parse(bytes));
});

fn one_bank(log: BankLog<'_>) {
    drop(attest::component::of_td_log(&log));
    let values = log.replay();
    let (quoted, registers) = match log.form() {
        Form::Ccel => {
            let mut rtmrs = [[0; 48]; 4];
            for (rtmr, slot) in Rtmr::ALL.into_iter().zip(&mut rtmrs) {
                if let Ok(value) = values[&Register::Rtmr(rtmr)].as_bytes().try_into() {
                    *slot = value;
                }
            }
            let registers = Rtmr::ALL.map(Register::Rtmr).to_vec();
            (Quoted::rtmrs(&rtmrs), registers)
        }
        Form::Legacy | Form::CryptoAgile => {
            let pcrs = PcrIndex::all().map(|index| {
                let value = &values[&Register::Pcr(index)];
                (index, value.as_bytes())
            });
            let quoted = Quoted::pcrs(log.bank(), pcrs).expect("values of the bank");
            (quoted, PcrIndex::all().map(Register::Pcr).collect())
        }
    };
    match log.explain(&quoted, &registers) {
        Ok(log) => facts(&log),
        Err(error) => panic!("a log leads to where it leads: {error}"),
    }
}

fn facts(log: &Explained<'_>) {
    drop(SecureBoot::of(log));
    if let Ok(firmware) = GoogleFirmware::of(log) {
        assert_eq!(
            firmware.demand(firmware.version, firmware.technology),
            Ok(())
        );
    }
    drop(TdFirmware::of(log));
    drop(log.loader_events());
    drop(log.partition_tables());
    for application in log.applications() {
        drop(application.claimed_path.map(|path| path.to_string()));
    }
}
