//! A module per provider: metadata, machines, network; qemu first
