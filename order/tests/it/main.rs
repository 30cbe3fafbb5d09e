//! Integration tests of the order domain.

#[cfg(test)]
mod real;
