use super::*;

const GOOD: &str = r#"version: v1
infrastructure:
  uid: mini
  clusterEndpoint: 127.42.1.10
  inClusterEndpoint: 10.42.1.10
  initSecret: "10112233445566778899aabbccddeeff10112233445566778899aabbccddeeff"
  apiServerCertSANs: ["127.42.1.10", "*.example.org"]
  name: mini
  ipCidrNode: 10.42.0.0/16
clusterValues:
  clusterID: "0101010101010101010101010101010101010101010101010101010101010101"
  ownerID: ""
  measurementSalt: "0202020202020202020202020202020202020202020202020202020202020202"
"#;

#[test]
fn a_file_is_read_and_written_back() {
    let state = State::parse("s.yaml", GOOD).unwrap();
    let infrastructure = state.infrastructure.as_ref().unwrap();
    assert_eq!(infrastructure.cluster_endpoint, "127.42.1.10");
    assert_eq!(
        infrastructure.api_server_cert_sans,
        ["127.42.1.10", "*.example.org"]
    );
    assert_eq!(infrastructure.init_secret.expose_bytes().len(), 32);
    assert_eq!(State::parse("s.yaml", &state.expose_yaml()).unwrap(), state);
    assert_eq!(
        State::parse("s.yaml", &State::default().expose_yaml()).unwrap(),
        State::default()
    );
}

#[test]
fn the_secret_is_not_printed() {
    let state = State::parse("s.yaml", GOOD).unwrap();
    assert!(!format!("{state:?}").contains("101122"));
    let text = GOOD.replace("10112233", "1011223x");
    let error = State::parse("s.yaml", &text).unwrap_err().to_string();
    assert!(
        error.contains("infrastructure.initSecret: not hexadecimal") && !error.contains("4455"),
        "{error}"
    );
}

#[test]
fn empty_cluster_values_are_none() {
    let start = GOOD.find("clusterValues").unwrap();
    let text = format!(
        "{}clusterValues:\n  clusterID: \"\"\n  ownerID: \"\"\n  measurementSalt: \"\"\n",
        &GOOD[..start]
    );
    assert_eq!(State::parse("s.yaml", &text).unwrap().cluster_values, None);
    assert_eq!(
        State::parse("s.yaml", &GOOD[..start])
            .unwrap()
            .cluster_values,
        None
    );
}

#[test]
fn every_field_and_section_has_its_bad_cases() {
    let optional = [
        "infrastructure",
        "infrastructure.uid",
        "infrastructure.inClusterEndpoint",
        "infrastructure.apiServerCertSANs",
        "infrastructure.name",
        "infrastructure.ipCidrNode",
        "clusterValues",
        "clusterValues.ownerID",
    ];
    yaml::cases::check(
        GOOD,
        &optional,
        |_| false,
        |text| State::parse("s.yaml", text).err(),
    );
}

#[test]
fn every_field_that_is_wrong_is_named() {
    for (from, to, expected) in [
        (
            "version: v1",
            "version: v2",
            "s.yaml:1:10: version: \"v2\" is not known; allowed: v1",
        ),
        ("version: v1", "", "version: missing; allowed: v1"),
        (
            "clusterEndpoint: 127.42.1.10",
            "clusterEndpoint: 127.42.1.10:6443",
            "infrastructure.clusterEndpoint: ",
        ),
        (
            "  clusterEndpoint: 127.42.1.10\n",
            "",
            "infrastructure.clusterEndpoint: missing; allowed: an address or a DNS name",
        ),
        (
            "inClusterEndpoint: 10.42.1.10",
            "inClusterEndpoint: a b",
            "infrastructure.inClusterEndpoint: ",
        ),
        (
            "initSecret: \"",
            "initSecret: \"0",
            "infrastructure.initSecret: ",
        ),
        (
            "  initSecret",
            "  initSecrets",
            "infrastructure.initSecrets: unknown field; did you mean initSecret?",
        ),
        (
            "\"*.example.org\"",
            "\"*.*.org\"",
            "infrastructure.apiServerCertSANs[1]: ",
        ),
        (
            "ipCidrNode: 10.42.0.0/16",
            "ipCidrNode: 10.42.0.0",
            "infrastructure.ipCidrNode: ",
        ),
        (
            "uid: mini",
            "uid: 7",
            "infrastructure.uid: the number 7 must be in quotes",
        ),
        (
            "  name: mini",
            "  azure: {}",
            "infrastructure.azure: provider azure is not in this release; allowed: nothing: remove this section",
        ),
        (
            "clusterID: \"01",
            "clusterID: \"0",
            "clusterValues.clusterID: ",
        ),
        (
            "  clusterID:",
            "  clusterId:",
            "clusterValues.clusterId: unknown field; did you mean clusterID?",
        ),
        (
            "measurementSalt: \"0202",
            "measurementSalt: \"02",
            "clusterValues.measurementSalt: ",
        ),
    ] {
        assert!(GOOD.contains(from));
        let text = GOOD.replacen(from, to, 1);
        let error = State::parse("s.yaml", &text).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}
