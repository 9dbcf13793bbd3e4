//! The program `mqs`. All of it is in the library: see its tour in `lib.rs`, and the verbs in `command`.

fn main() -> std::process::ExitCode {
    mqs::command::main()
}
