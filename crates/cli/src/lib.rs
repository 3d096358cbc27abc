//! The command line of Constellation
