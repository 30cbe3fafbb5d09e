//! The project's own commands: `ci` runs every check, `torture` kills and cuts the real binary.

pub mod failure;
pub mod time;
pub mod volatile_disk;
