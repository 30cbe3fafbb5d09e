//! The project's own commands: `ci` runs every check, `torture` kills and cuts the real binary, `bench` measures it, `cluster`
//! runs NATS servers for it.

pub mod bench;
pub mod cargo;
mod certificates;
pub mod ci;
pub mod cluster;
pub mod environment;
pub mod failure;
pub mod postgres;
pub mod say;
pub mod tidy;
pub mod time;
mod tools;
pub mod torture;
pub mod volatile_disk;
