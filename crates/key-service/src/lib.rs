//! Derives data keys for callers it knows
