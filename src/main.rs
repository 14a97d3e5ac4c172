//! The `tandem` program: starts the runtime, prints the error chain, sets the exit code.

fn main() {}
