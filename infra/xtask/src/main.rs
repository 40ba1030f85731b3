//! The program `cargo xtask` runs; all of it is in the library.

fn main() -> std::process::ExitCode {
    xtask::main()
}
