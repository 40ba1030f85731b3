//! What every binary starts with: configuration layers, telemetry, clock, objects, graceful stop.
