//! The vendors on this host with real collateral, a cache, a clock that a test sets.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use collateral::{
    Ambient, Bounds, Cache, Collateral, CrlOrigin, CrlUrl, Demand, Endpoints, Entry, Fmspc, Item,
    OnFailure, Pace, PckCa, Product, Refresh, Retries, Settings, Signer, TcbVersion, Update, Vcek,
};
use jiff::Timestamp;
use tempfile::TempDir;
use testkit::vendors::Vendors;

/// Within the validity of everything that [`Lab`] publishes.
pub(crate) const NOW: &str = "2026-06-15T00:00:00Z";

pub(crate) fn evidence(name: &str) -> Vec<u8> {
    std::fs::read(evidence_path(name)).unwrap()
}

pub(crate) fn evidence_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../attest/testdata/evidence")
        .join(name)
}

pub(crate) fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// The key of a real chip: Turin, of `snp-vcek/tav/turin-v5`.
pub(crate) fn vcek() -> Item {
    let tcb = TcbVersion::from_raw(Product::Turin, 0x5100_0000_0401_0101);
    let chip = hex::decode("59790fb1c39f35c1").unwrap();
    Item::AmdVcek(Vcek::new(Product::Turin, &chip, tcb).unwrap())
}

pub(crate) fn vcek_bytes() -> Vec<u8> {
    evidence("snp-vcek/tav/turin-v5/vek.der")
}

pub(crate) const VCEK_TARGET: &str =
    "/vcek/v1/Turin/59790fb1c39f35c1?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81";

/// The revocation list of a real root.
pub(crate) const MILAN_CRL: Item = Item::AmdCrl {
    product: Product::Milan,
    signer: Signer::Vcek,
};
pub(crate) const MILAN_CRL_TARGET: &str = "/vcek/v1/Milan/crl";

pub(crate) const QE_IDENTITY: Item = Item::IntelQeIdentity {
    update: Update::Standard,
};
pub(crate) const QE_IDENTITY_TARGET: &str = "/tdx/certification/v4/qe/identity?update=standard";

pub(crate) fn tcb_info() -> Item {
    Item::IntelTcbInfo {
        fmspc: Fmspc::new([0x90, 0xc0, 0x6f, 0, 0, 0]),
        update: Update::Standard,
    }
}
pub(crate) const TCB_INFO_TARGET: &str =
    "/tdx/certification/v4/tcb?fmspc=90C06F000000&update=standard";

pub(crate) fn pem(certificates: &[&str]) -> Vec<u8> {
    let mut text = String::new();
    for name in certificates {
        let base64 = base64::engine::general_purpose::STANDARD.encode(evidence(name));
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        for line in base64.as_bytes().chunks(64) {
            text.push_str(std::str::from_utf8(line).unwrap());
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text.into_bytes()
}

fn escaped(text: &[u8]) -> String {
    let mut escaped = String::new();
    for byte in text {
        if byte.is_ascii_alphanumeric() {
            escaped.push(char::from(*byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

pub(crate) const SET: &str = "tdx-collateral/90c06f-2026-06-flashbots";

pub(crate) fn of_set(name: &str) -> Vec<u8> {
    evidence(&format!("{SET}/{name}"))
}

pub(crate) struct Lab {
    pub(crate) vendors: Vendors,
    pub(crate) directory: TempDir,
    clock: Arc<Mutex<Timestamp>>,
    pub(crate) settings: Settings,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let vendors = Vendors::start().await.unwrap();
        let mut settings = Settings {
            endpoints: Endpoints {
                amd: vendors.url(),
                intel: vendors.url(),
                intel_root_crl: format!("{}/IntelSGXRootCA.der", vendors.url()),
            },
            pace: Pace {
                amd_vcek: Duration::ZERO,
                amd: Duration::ZERO,
                intel: Duration::ZERO,
                crl: Duration::ZERO,
                longest_queue: 64,
            },
            retries: Retries {
                attempts: 3,
                first_wait: Duration::from_millis(5),
                longest_wait: Duration::from_millis(20),
                ..Retries::default()
            },
            ..Settings::default()
        };
        settings
            .crl_origins
            .push(CrlOrigin::new(&format!("{}/lists/", vendors.url())).unwrap());
        let lab = Self {
            vendors,
            directory: tempfile::tempdir().unwrap(),
            clock: Arc::new(Mutex::new(time(NOW))),
            settings,
        };
        lab.publish();
        lab
    }

    fn publish(&self) {
        let vendors = &self.vendors;
        let octets = "application/octet-stream";
        vendors.publish(VCEK_TARGET, octets, &[], &vcek_bytes());
        for (line, product) in [("milan", "Milan"), ("genoa", "Genoa"), ("turin", "Turin")] {
            for (path, signing) in [("vcek", "ask"), ("vlek", "asvk")] {
                let chain = pem(&[
                    &format!("roots/amd/{signing}-{line}.der"),
                    &format!("roots/amd/ark-{line}.der"),
                ]);
                let target = format!("/{path}/v1/{product}/cert_chain");
                vendors.publish(&target, "application/x-pem-file", &[], &chain);
            }
        }
        let crl = evidence("roots/amd-crl/crl-milan-2022-05-09.der");
        vendors.publish(MILAN_CRL_TARGET, "application/pkix-crl", &[], &crl);
        let chain = |name| escaped(&of_set(name));
        vendors.publish(
            TCB_INFO_TARGET,
            "application/json",
            &[("TCB-Info-Issuer-Chain", chain("tcb_signing_chain.pem"))],
            &of_set("tcb_info.json"),
        );
        vendors.publish(
            QE_IDENTITY_TARGET,
            "application/json",
            &[(
                "SGX-Enclave-Identity-Issuer-Chain",
                chain("qe_identity_signing_chain.pem"),
            )],
            &of_set("qe_identity.json"),
        );
        vendors.publish(
            "/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
            "application/pkix-crl",
            &[(
                "SGX-PCK-CRL-Issuer-Chain",
                chain("pck_crl_issuer_chain.pem"),
            )],
            &of_set("pck_crl.der"),
        );
        let root = of_set("root_ca_crl.der");
        vendors.publish("/IntelSGXRootCA.der", octets, &[], &root);
        let google = evidence("roots/google/gcp-ek-ak-ca-intermediate.crl");
        vendors.publish("/lists/a.crl", octets, &[], &google);
    }

    /// A revocation list by URL, of a place that this lab allows.
    pub(crate) fn listed(&self, path: &str) -> Item {
        Item::Crl(CrlUrl::parse(&format!("{}{path}", self.vendors.url())).unwrap())
    }

    pub(crate) fn cache_path(&self) -> PathBuf {
        self.directory.path().join("collateral")
    }

    pub(crate) fn cache(&self) -> Cache {
        Cache::open(&self.cache_path(), Bounds::default()).unwrap()
    }

    pub(crate) fn collateral(&self) -> Collateral {
        let clock = Arc::clone(&self.clock);
        let ambient = Ambient::new(move || *clock.lock().unwrap(), || 0.5);
        Collateral::new(self.settings.clone(), ambient, self.cache()).unwrap()
    }

    pub(crate) fn set_clock(&self, now: &str) {
        *self.clock.lock().unwrap() = time(now);
    }
}

pub(crate) const DEMAND: Demand = Demand {
    refresh: Refresh::WhenStale,
    on_failure: OnFailure::Fail,
    deadline: Duration::from_secs(60),
};

/// One entry of each kind, as the vendors have published them.
pub(crate) fn entries() -> Vec<Entry> {
    let at = time(NOW);
    let entry =
        |item, body: &[u8], chain: Option<&[u8]>| Entry::new(item, at, body, chain).unwrap();
    let milan = Item::AmdChain {
        product: Product::Milan,
        signer: Signer::Vlek,
    };
    let url = CrlUrl::parse("http://pki.goog/cloud_integrity/a.crl").unwrap();
    vec![
        entry(vcek(), &vcek_bytes(), None),
        entry(
            milan,
            &pem(&["roots/amd/asvk-milan.der", "roots/amd/ark-milan.der"]),
            None,
        ),
        entry(
            MILAN_CRL,
            &evidence("roots/amd-crl/crl-milan-2022-05-09.der"),
            None,
        ),
        entry(
            tcb_info(),
            &of_set("tcb_info.json"),
            Some(&of_set("tcb_signing_chain.pem")),
        ),
        entry(
            QE_IDENTITY,
            &of_set("qe_identity.json"),
            Some(&of_set("qe_identity_signing_chain.pem")),
        ),
        entry(
            Item::IntelPckCrl {
                ca: PckCa::Platform,
            },
            &of_set("pck_crl.der"),
            Some(&of_set("pck_crl_issuer_chain.pem")),
        ),
        entry(Item::IntelRootCrl, &of_set("root_ca_crl.der"), None),
        entry(
            Item::Crl(url),
            &evidence("roots/google/gcp-ek-ak-ca-intermediate.crl"),
            None,
        ),
    ]
}
