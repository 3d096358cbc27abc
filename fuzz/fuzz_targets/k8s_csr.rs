//! The certificate request that a kubelet sends.
#![cfg_attr(fuzzing, no_main)]

use k8s::api::csr::KubeletRequest;

fuzz::fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = KubeletRequest::parse(bytes) {
        assert!(
            !request.node.as_str().is_empty(),
            "a request that passes names a node"
        );
    }
});
