//! The processor against real OMSs and a real buffer.
// `cfg(test)` on each module tells clippy that helpers are test code, too.

#[cfg(test)]
mod brakes;
#[cfg(test)]
mod claim;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod described;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod governor;
#[cfg(test)]
mod hearing;
#[cfg(test)]
mod http;
#[cfg(test)]
mod http_claim;
#[cfg(test)]
mod http_session;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod read_back;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod sale;
#[cfg(test)]
mod scripted;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod support;
#[cfg(test)]
mod tickets;
#[cfg(test)]
mod unasked;
#[cfg(test)]
mod unruly;
