//! The order domain from outside: bodies in, items and summaries out.

mod b2c;
mod expected;
mod forebay;
mod real;
mod salesforce;
