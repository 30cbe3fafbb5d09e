//! What the journal promises, tested through its interface.

mod basic;
mod carry;
mod crash;
mod damage;
mod disk;
mod fixture;
mod fuzz;
mod index;
mod look;
mod support;
