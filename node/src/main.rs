//! The `hale` binary.

fn main() -> std::process::ExitCode {
    hale_node::main()
}
