//! Control plane on a node: PKI, units, components, custom resources, API helpers
