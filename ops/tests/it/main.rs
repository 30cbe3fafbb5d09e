//! The webhooks against receivers over real HTTP and TLS.
// `cfg(test)` on each module tells clippy that helpers are test code, too.

#[cfg(test)]
#[path = "../../../xtask/src/certificates.rs"]
mod certificates;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod order;
#[cfg(test)]
mod receiver;
#[cfg(test)]
mod support;
#[cfg(test)]
mod trouble;
