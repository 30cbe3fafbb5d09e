//! What the journal promises, tested through its interface.

mod basic;
mod carry;
mod crash;
mod damage;
pub(in crate::embedded) mod disk;
mod fixture;
mod fuzz;
mod index;
mod look;
pub(in crate::embedded) mod support;
