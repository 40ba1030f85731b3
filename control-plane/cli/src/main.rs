//! The user's binary: the whole of Springtide on a laptop, and the client commands.

fn main() {}
