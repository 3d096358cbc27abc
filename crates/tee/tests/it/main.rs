//! Against real TPMs and what stands in for the devices and services of clouds.

#[cfg(test)]
mod activation;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod issuers;
#[cfg(test)]
mod nitro;
#[cfg(test)]
mod sources;
#[cfg(test)]
mod tsm;
