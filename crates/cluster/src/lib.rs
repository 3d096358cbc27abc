//! Nouns of a cluster: node, role, version, config and state files, component catalogue
