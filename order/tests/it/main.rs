//! Integration tests of the order domain: bodies in, items and summaries out.

#[cfg(test)]
mod b2c;
#[cfg(test)]
mod cards;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod forebay;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod pinned;
#[cfg(test)]
mod real;
#[cfg(test)]
mod salesforce;
