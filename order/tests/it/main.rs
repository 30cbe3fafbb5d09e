//! The order domain from outside: bodies in, items and summaries out.

mod b2c;
mod expected;
mod forebay;
#[cfg(test)]
mod real;
mod salesforce;
