//! The HTTP API, the releaser, the projector and the node registry.
