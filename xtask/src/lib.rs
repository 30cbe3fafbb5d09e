//! The project's own commands: `ci` runs every check, `torture` kills and cuts the real binary, `bench` measures it.

pub mod bench;
pub mod cargo;
pub mod ci;
pub mod environment;
pub mod failure;
pub mod say;
pub mod tidy;
pub mod time;
pub mod torture;
pub mod volatile_disk;
