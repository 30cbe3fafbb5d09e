//! The door over real sockets on loopback, with the memory backend behind it.

mod answers;
mod bad_input;
mod batches;
mod connections;
mod faults;
mod graphs;
mod looks;
mod orders;
mod support;
