//! etcd's API as far as it is used here, generated from `proto/etcd.proto` (`cargo xtask codegen`).

#![expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    reason = "generated code"
)]

include!("generated/etcdserverpb.rs");
