//! LUKS2 header guard, dm devices, mounts
