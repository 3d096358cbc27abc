//! What a host tells a node about itself and its peers.
#![cfg_attr(fuzzing, no_main)]

use cluster::InstanceMetadata;
use cluster::metadata::Endpoint;

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(instances) = serde_json::from_slice::<Vec<InstanceMetadata>>(bytes) {
        for instance in instances {
            if instance.check().is_ok() {
                assert!(!instance.vpc_ip.is_loopback(), "a checked address is one");
            }
        }
    }
    serde_json::from_slice::<InstanceMetadata>(bytes).ok();
    serde_json::from_slice::<Endpoint>(bytes).ok();
});
