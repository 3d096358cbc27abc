//! `collateral`: the binary against a server that behaves as the vendors' services do.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testkit::vendors::{BadDay, Vendors};

use crate::harness::{Lab, Ran};

const VCEK: &str =
    "/vcek/v1/Turin/59790fb1c39f35c1?fmcSPL=01&blSPL=01&teeSPL=01&snpSPL=04&ucodeSPL=81";
const CRL: &str = "/vcek/v1/Turin/crl";
const CHAIN: &str = "/vcek/v1/Turin/cert_chain";

fn evidence(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../attest/testdata/evidence")
        .join(name)
}

struct Site {
    lab: Lab,
    vendors: Vendors,
}

impl Site {
    /// With the vendor's certificate of a real chip. A list of Turin's root and a chain in PEM are in no sample folder.
    async fn new() -> Self {
        let site = Self {
            lab: Lab::new(),
            vendors: Vendors::start().await.unwrap(),
        };
        let vcek = std::fs::read(evidence("snp-vcek/tav/turin-v5/vek.der")).unwrap();
        site.vendors
            .publish(VCEK, "application/octet-stream", &[], &vcek);
        site.publish_milan_crl();
        site
    }

    fn publish_milan_crl(&self) {
        let crl = std::fs::read(evidence("roots/amd-crl/crl-milan-2022-05-09.der")).unwrap();
        self.vendors
            .publish("/vcek/v1/Milan/crl", "application/pkix-crl", &[], &crl);
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = self.lab.command(&["collateral"]);
        command.args(arguments);
        let output = tokio::task::spawn_blocking(move || command.output());
        output.await.unwrap().unwrap().into()
    }

    async fn fetch(&self, arguments: &[&str]) -> Ran {
        let url = self.vendors.url();
        let mut all = vec!["fetch", "--amd", &url, "--intel", &url];
        all.extend(arguments);
        self.run(&all).await
    }
}

fn json(ran: &Ran) -> Vec<Value> {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn items(ran: &Ran) -> Vec<String> {
    let name = |row: &Value| row["item"].as_str().unwrap().to_owned();
    json(ran).iter().map(name).collect()
}

const TURIN_VCEK: &str = "amd-vcek/turin/59790fb1c39f35c1/fmc=1,bl=1,tee=1,snp=4,ucode=81";
const MILAN_CRL: &str = "amd-crl/milan/vcek";

#[tokio::test(flavor = "multi_thread")]
async fn items_are_fetched_listed_exported_and_imported() {
    let site = Site::new().await;
    let ran = site
        .fetch(&["--item", TURIN_VCEK, "--item", MILAN_CRL, "-o", "json"])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(items(&ran), [TURIN_VCEK, MILAN_CRL]);
    assert_eq!(json(&ran)[0]["fetchedNow"], true);
    assert_eq!(json(&ran)[0]["validUntil"], "2033-02-05T01:04:33Z");
    // the list's next update was in 2023
    assert_eq!(json(&ran)[1]["state"], "stale");

    let listed = site.run(&["list", "-o", "json"]).await;
    assert_eq!(items(&listed), [TURIN_VCEK, MILAN_CRL]);
    assert_eq!(json(&listed)[0]["state"], "fresh");
    let table = site.run(&["list"]).await;
    assert!(table.stdout.contains("VALID UNTIL"), "{table:?}");
    assert!(table.stdout.contains("2033-02-05 01:04Z"), "{table:?}");
    // where the user's caches are
    let place = site.lab.path().join(".cache/constellation/collateral");
    let mode = std::fs::metadata(&place).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o700);

    let file = site.lab.path().join("bundle.tar");
    let file = file.to_str().unwrap();
    let ran = site.run(&["export", file, "amd-vcek/turin"]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.starts_with("Wrote 1 item(s) to "), "{ran:?}");
    let other = site.lab.path().join("other");
    let other = other.to_str().unwrap();
    let ran = site.run(&["import", file, "--dir", other]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stderr.starts_with("Took 1 item(s) of "), "{ran:?}");
    let listed = site.run(&["list", "-o", "json", "--dir", other]).await;
    assert_eq!(items(&listed), [TURIN_VCEK]);
    // again, and without the network
    let ran = site.run(&["import", file, "--dir", other]).await;
    assert!(ran.stderr.contains("1 were as new here already"), "{ran:?}");
    let ran = site
        .run(&["fetch", "--offline", "--dir", other, "--item", TURIN_VCEK])
        .await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(site.vendors.count(VCEK), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn evidence_asks_for_what_it_needs() {
    let site = Site::new().await;
    let report = evidence("snp-vcek/tav/turin-v5/report.bin");
    let ran = site.fetch(&[report.to_str().unwrap()]).await;
    // the service of this test has neither chain nor list
    assert_eq!(ran.code, Some(5), "{ran:?}");
    let asked: Vec<_> = site
        .vendors
        .requests()
        .into_iter()
        .map(|r| r.target)
        .collect();
    for target in [VCEK, CRL, CHAIN] {
        assert!(
            asked.iter().any(|asked| asked == target),
            "{target}: {asked:?}"
        );
    }
    assert_eq!(asked.len(), 3);
    assert!(ran.stdout.contains("fetched"), "{ran:?}");
    assert!(
        ran.stderr.contains("error: 2 item(s) are missing: amd-chain/turin/vcek could not be had from AMD's key distribution service: the service does not know it (status 404)\nhint: "),
        "{ran:?}"
    );
    // a directory with the certificate does not need it again
    let folder = evidence("snp-vcek/tav/turin-v5");
    let ran = site.fetch(&["--refresh", folder.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert_eq!(site.vendors.count(VCEK), 1);
    // an old report does not say its product line
    let old = evidence("snp-vcek/virtee-sev/milan-v2/report.bin");
    let ran = site.fetch(&[old.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("hint: name it with --product"),
        "{ran:?}"
    );
    // what is no evidence
    let nothing = evidence("manifest.json");
    let ran = site.fetch(&[nothing.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_items_are_had_only_when_that_is_asked_for() {
    let site = Site::new().await;
    let ran = site.fetch(&["--item", MILAN_CRL]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let page = || BadDay::Page;
    site.vendors.spoil("/vcek/v1/Milan/crl", [page(), page()]);
    let ran = site.fetch(&["--item", MILAN_CRL]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(
        ran.stderr.contains("hint: a captive portal or a proxy"),
        "{ran:?}"
    );
    let ran = site.fetch(&["--allow-stale", "--item", MILAN_CRL]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.stdout.contains("stale"), "{ran:?}");
    assert!(ran.stderr.contains("not refreshed"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_none_is_taken_in_no_part() {
    let site = Site::new().await;
    site.fetch(&["--item", TURIN_VCEK]).await;
    let file = site.lab.path().join("bundle.tar");
    let name = file.to_str().unwrap();
    assert_eq!(site.run(&["export", name]).await.code, Some(0));
    let mut bytes = std::fs::read(&file).unwrap();
    // within the certificate
    let at = bytes.len() - 1024 - 300;
    bytes[at] ^= 1;
    std::fs::write(&file, &bytes).unwrap();
    let other = site.lab.path().join("other");
    let other = other.to_str().unwrap();
    let ran = site.run(&["import", name, "--dir", other]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr
            .contains("has another hash than the manifest says"),
        "{ran:?}"
    );
    let listed = site.run(&["list", "-o", "json", "--dir", other]).await;
    assert_eq!(items(&listed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_neither_takes_back_nor_forges() {
    let site = Site::new().await;
    let list = |set: &str| {
        let path = format!("tdx-collateral/{set}/root_ca_crl.der");
        std::fs::read(evidence(&path)).unwrap()
    };
    let entry = |item: &str, der: &[u8]| {
        let at = "2026-06-15T00:00:00Z".parse().unwrap();
        collateral::Entry::new(item.parse().unwrap(), at, der, None).unwrap()
    };
    let bundle = |name: &str, entries: Vec<collateral::Entry>| {
        let at = "2026-06-15T00:00:00Z".parse().unwrap();
        let bundle = collateral::Bundle::new(at, entries).unwrap();
        let path = site.lab.path().join(name);
        std::fs::write(&path, bundle.to_bytes().unwrap()).unwrap();
        path.to_str().unwrap().to_owned()
    };
    // issued in 2026, and in 2025
    let newer = list("90c06f-2026-06-flashbots");
    let older = list("90c06f-2026-02-dcap-qvl");
    let newer_bundle = bundle("newer.tar", vec![entry("intel-root-crl", &newer)]);
    let older_bundle = bundle("older.tar", vec![entry("intel-root-crl", &older)]);
    let ran = site.run(&["import", &newer_bundle]).await;
    assert!(ran.stderr.starts_with("Took 1 item(s) of "), "{ran:?}");
    let ran = site.run(&["import", &older_bundle]).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let words = "intel-root-crl: not taken: its publisher has replaced it by what is here";
    assert!(ran.stderr.contains(words), "{ran:?}");
    assert!(ran.stderr.contains("Took 0 item(s) of "), "{ran:?}");
    let listed = site.run(&["list", "-o", "json"]).await;
    assert_eq!(json(&listed)[0]["validUntil"], "2027-02-26T13:04:00Z");

    // one that is forged, and before it one that is not
    let milan = std::fs::read(evidence("roots/amd-crl/crl-milan-2022-05-09.der")).unwrap();
    let mut forged = newer.clone();
    *forged.last_mut().unwrap() ^= 1;
    let entries = vec![entry(MILAN_CRL, &milan), entry("intel-root-crl", &forged)];
    let forged = bundle("forged.tar", entries);
    let ran = site.run(&["import", &forged, "--dir", "other"]).await;
    assert_eq!(ran.code, Some(4), "{ran:?}");
    assert!(
        ran.stderr.contains("the CRL is not signed by its issuer"),
        "{ran:?}"
    );
    let listed = site.run(&["list", "-o", "json", "--dir", "other"]).await;
    assert_eq!(items(&listed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_names_and_places_say_what_is_right() {
    let site = Site::new().await;
    for (arguments, code, words) in [
        (&["fetch"][..], 2, "<EVIDENCE>"),
        (
            &["fetch", "--item", "amd-crl/rome/vcek"],
            2,
            "milan, genoa, turin",
        ),
        (
            &["fetch", "--item", MILAN_CRL, "--allow-crl", "host"],
            2,
            "http[s]://host",
        ),
        (
            &["export", "x.tar", "amd-crl"],
            2,
            "`constellation collateral list`",
        ),
        (&["export", "x.tar"], 5, "`constellation collateral fetch`"),
        (&["import", "/nowhere"], 4, "read /nowhere"),
    ] {
        let ran = site.run(arguments).await;
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.stderr.contains(words), "{arguments:?}: {ran:?}");
    }
    let open = site.lab.path().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ran = site.run(&["list", "--dir", open.to_str().unwrap()]).await;
    assert_eq!(ran.code, Some(5), "{ran:?}");
    assert!(ran.stderr.contains("hint: `chmod 700 "), "{ran:?}");
}
